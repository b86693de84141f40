//! What the end-to-end tests share: a home of one's own, commands with bounds, and a look at what is left running.
//!
//! Nothing here sleeps for luck: [`until`] waits for a condition and fails loudly when its bound is over. A [`Home`] that
//! is dropped checks that no process which belongs to it is left, and ends by its id whatever is.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub
)]

pub mod python;

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long one command may take, on a slow and busy machine.
pub const COMMAND: Duration = Duration::from_secs(60);
/// How long to wait for what is to happen soon.
pub const SOON: Duration = Duration::from_secs(30);

/// Looks again and again until there is something to see.
#[track_caller]
pub fn until<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "not within {bound:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// How a command ended, and what it wrote.
#[derive(Debug, Clone)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Checks the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        let read = serde_json::from_str(&self.stdout);
        read.unwrap_or_else(|error| panic!("not JSON: {error}\n{}", self.stdout))
    }

    /// Standard output as a JSON value a line.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let read = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON: {error}\n{line}"))
        };
        self.stdout.lines().map(read).collect()
    }

    /// Checks that standard error says this.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "standard error does not say {text:?}:\n{}",
            self.stderr
        );
        self
    }
}

/// A folder that is home, working directory and data folder of the commands of one test.
pub struct Home {
    dir: TempDir,
    broker: Option<String>,
}

fn nats_server() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| redrive_nats_server::obtain(None).expect("a nats-server"))
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("redrive-e2e-")
            .tempdir()
            .unwrap();
        for folder in ["work", "config/redrive", "share", "cache"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        Self { dir, broker: None }
    }

    /// One whose commands use this broker instead of an embedded system.
    pub fn with_broker(url: &str) -> Self {
        let mut home = Self::new();
        home.broker = Some(url.to_owned());
        home
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The working directory.
    pub fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    /// The data folder of the embedded system.
    pub fn data(&self) -> PathBuf {
        self.root().join("share/redrive")
    }

    /// Writes a file in the working directory.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes a program in the working directory.
    pub fn script(&self, name: &str, content: &str) -> PathBuf {
        let path = self.file(name, content);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A command in this home, which knows nothing of the one outside.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redrive"));
        self.settle(&mut command);
        command.args(args);
        command
    }

    /// Lets a command live in this home.
    pub fn settle(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.root())
            .env("XDG_CONFIG_HOME", self.root().join("config"))
            .env("XDG_DATA_HOME", self.root().join("share"))
            .env("XDG_CACHE_HOME", self.root().join("cache"))
            .env("TMPDIR", self.root())
            .env("USER", "ann")
            .env("REDRIVE_NATS_SERVER", nats_server())
            .current_dir(self.work())
            .stdin(Stdio::null());
        if let Some(url) = &self.broker {
            command.env("REDRIVE_NATS_URL", url);
        }
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        finish(&mut self.command(args), None)
    }

    /// Runs a command with something to read.
    #[track_caller]
    pub fn feed<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        stdin: impl AsRef<[u8]>,
    ) -> Ended {
        finish(&mut self.command(args), Some(stdin.as_ref().to_vec()))
    }

    /// Starts a command and lets it run.
    pub fn start<S: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> Running {
        Running::start(
            &mut self.command(args),
            &self.root().join(format!("{name}.log")),
        )
    }

    /// Starts a program that is not Redrive, and that was [settled](Home::settle) in this home.
    pub fn launch(&self, name: &str, command: &mut Command) -> Running {
        Running::start(command, &self.root().join(format!("{name}.log")))
    }

    /// Puts the examples of the repository into the working directory.
    pub fn examples(&self) {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        for entry in fs::read_dir(examples).unwrap().flatten() {
            if entry.path().is_file() {
                let name = format!("examples/{}", entry.file_name().to_string_lossy());
                self.file(&name, &fs::read_to_string(entry.path()).unwrap());
            }
        }
    }

    /// Keeps the embedded system up from one command to the next, as a second terminal would.
    pub fn keep(&self) -> Running {
        let keeper = self.start("keep", ["events", "--follow"]);
        until("the embedded system is up", SOON, || {
            self.data().join("system.json").exists().then_some(())
        });
        keeper
    }

    /// The process that runs the embedded system, where there is one.
    pub fn system_pid(&self) -> Option<u32> {
        let text = fs::read(self.data().join("system.json")).ok()?;
        let value: Value = serde_json::from_slice(&text).ok()?;
        u32::try_from(value["pid"].as_u64()?).ok()
    }

    /// The processes that belong to this home: by their command line or their working directory.
    pub fn processes(&self) -> Vec<(u32, String)> {
        processes_of(self.root())
    }

    /// Those of them that are nats-servers.
    pub fn brokers(&self) -> Vec<u32> {
        self.processes()
            .into_iter()
            .filter(|(_, line)| {
                line.split(' ')
                    .next()
                    .is_some_and(|p| p.ends_with("nats-server"))
            })
            .map(|(pid, _)| pid)
            .collect()
    }

    /// Waits until nothing of this home runs any more.
    #[track_caller]
    pub fn quiet(&self) {
        until("all processes have ended", SOON, || {
            self.processes().is_empty().then_some(())
        });
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        let mut left = self.processes();
        while !left.is_empty() && !thread::panicking() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
            left = self.processes();
        }
        for (pid, _) in &left {
            signal(*pid, rustix::process::Signal::KILL);
        }
        if !left.is_empty() && !thread::panicking() {
            panic!("processes were left behind: {left:#?}");
        }
    }
}

fn processes_of(root: &Path) -> Vec<(u32, String)> {
    let root = root.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        // One that has ended, and that nobody has asked about yet, has no command line.
        if line.is_empty() || pid == std::process::id() {
            continue;
        }
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let here = fs::read_link(entry.path().join("cwd"))
            .is_ok_and(|cwd| cwd.to_string_lossy().starts_with(&root));
        if here || line.contains(&root) {
            found.push((pid, line));
        }
    }
    found
}

/// Whether there is such a process, and it has not ended.
pub fn is_alive(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let _ = rustix::process::kill_process(pid.expect("a process id"), signal);
}

/// Runs a command to its end, within bounds.
#[track_caller]
pub fn finish(command: &mut Command, stdin: Option<Vec<u8>>) -> Ended {
    finish_within(command, stdin, COMMAND)
}

/// Runs a command to its end, within a bound.
#[track_caller]
pub fn finish_within(command: &mut Command, stdin: Option<Vec<u8>>, bound: Duration) -> Ended {
    if stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), stdin) {
        // One that does not read is no fault of the test's.
        thread::spawn(move || pipe.write_all(&bytes));
    }
    let mut read = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let stdout = thread::spawn(move || text(&mut read.0));
    let stderr = thread::spawn(move || text(&mut read.1));
    let status = wait(&mut child, bound);
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    assert!(
        status.is_some(),
        "{command:?} did not end within {bound:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
    );
    Ended {
        code: status.and_then(|status| status.code()),
        stdout,
        stderr,
    }
}

fn text(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wait(child: &mut Child, bound: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + bound;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A command that runs beside the test. It is killed when this is dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
    out: PathBuf,
}

impl Running {
    fn start(command: &mut Command, log: &Path) -> Self {
        let out = log.with_extension("out");
        let piped = |path: &Path| Stdio::from(fs::File::create(path).unwrap());
        let child = command
            .stdout(piped(&out))
            .stderr(piped(log))
            .spawn()
            .unwrap();
        Self {
            child,
            log: log.to_owned(),
            out,
        }
    }

    /// One that reads from the test: see [`Running::write`].
    pub fn reading(home: &Home, name: &str, args: &[&str]) -> Self {
        let mut command = home.command(args);
        command.stdin(Stdio::piped());
        Self::start(&mut command, &home.root().join(format!("{name}.log")))
    }

    pub fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    pub fn close(&mut self) {
        drop(self.child.stdin.take());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written on standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it has written on standard output.
    pub fn out(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has written this on standard error.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + SOON;
        while !self.log().contains(text) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < end,
                "it did not say {text:?} ({ended:?}):\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it by force, at once.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        signal(self.pid(), rustix::process::Signal::INT);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self) -> Ended {
        let status = wait(&mut self.child, COMMAND);
        assert!(status.is_some(), "it did not end:\n{}", self.log());
        Ended {
            code: status.and_then(|status| status.code()),
            stdout: self.out(),
            stderr: self.log(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody uses just now.
pub fn free_port() -> String {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port().to_string()
}

/// Lines of a file; none where there is no file.
pub fn count_lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}
