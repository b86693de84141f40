//! A `nats-server` that this process owns.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::config::{ServerConfig, SyncInterval};
use crate::error::StartError;
use crate::obtain::binary_version;
use crate::process::Child;
use crate::ready::{NotReady, Ready, log_tail, reachable, wait_ready};
use crate::stale::{lock_store, read_pid, stop_left_over};

/// A running `nats-server` child with JetStream.
///
/// It ends with its owner: on drop it is stopped, and on Linux the kernel
/// kills it when this process dies in any other way. It runs in a process
/// group of its own, so that a terminal's Ctrl-C does not reach it.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    files: Files,
    running: Option<Running>,
    port: u16,
    version: String,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Held for as long as the child may run.
    _lock: File,
}

/// The server's files in its store; JetStream adds a folder `jetstream`.
#[derive(Debug)]
struct Files {
    store_dir: PathBuf,
    config: PathBuf,
    pid: PathBuf,
    lock: PathBuf,
    ports: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Starts a server and waits until it takes clients and serves JetStream.
    ///
    /// A server that a process which is now dead left over on the same store
    /// is stopped first.
    ///
    /// # Errors
    /// If the store is unusable or in use by a live process, or if the
    /// server does not get ready; the error then holds the end of its log.
    pub fn start(config: ServerConfig) -> Result<Self, StartError> {
        let files = Files::in_store(&config)?;
        let mut server = Self {
            config,
            files,
            running: None,
            port: 0,
            version: String::new(),
        };
        server.launch()?;
        Ok(server)
    }

    /// The URL for clients, such as `nats://127.0.0.1:4222`.
    pub fn client_url(&self) -> String {
        client_url(&self.config.host, self.port)
    }

    /// The port for clients; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of the server's process; `None` once it was stopped or killed.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// Whether the server's process is there; `false` also after it ended by
    /// itself.
    pub fn is_running(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.child.ended().is_none())
    }

    /// The version that the server gave when it started, such as `2.15.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The folder that holds the data, as an absolute path.
    pub fn store_dir(&self) -> &Path {
        &self.files.store_dir
    }

    /// The file that holds the server's log.
    pub fn log_file(&self) -> &Path {
        &self.files.log
    }

    /// Ends the server by force (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// If the process is still there after a bounded wait.
    pub fn kill(&mut self) -> io::Result<()> {
        self.end(Child::kill)
    }

    /// Stops the server in order (SIGTERM), by force at
    /// [`ServerConfig::stop_timeout`], and waits until it is gone.
    ///
    /// # Errors
    /// If the process is still there after SIGKILL and a bounded wait.
    pub fn stop(&mut self) -> io::Result<()> {
        let bound = self.config.stop_timeout;
        self.end(|child| child.stop(bound))
    }

    /// Stops the server if it runs, and starts it on the same store and port.
    ///
    /// # Errors
    /// Those of [`Server::start`].
    pub fn restart(&mut self) -> Result<(), StartError> {
        let store_dir = self.files.store_dir.clone();
        let pid = self.pid().unwrap_or_default();
        self.stop()
            .map_err(|_| StartError::StaleServer { store_dir, pid })?;
        // Nobody keeps the port between the two servers: a client that tries
        // to reconnect on the loopback can even be given it as its own.
        let end = Instant::now() + self.config.ready_timeout;
        loop {
            match self.launch() {
                Err(StartError::Exited { log, .. })
                    if log.contains("address already in use") && Instant::now() < end =>
                {
                    thread::sleep(Duration::from_millis(50));
                }
                done => return done,
            }
        }
    }

    /// Halts the server's process (SIGSTOP), and waits until it has halted:
    /// connections stay open, and nothing is answered.
    ///
    /// # Errors
    /// If the server does not run.
    pub fn pause(&self) -> io::Result<()> {
        self.alive(Child::pause)
    }

    /// Lets a paused server go on (SIGCONT).
    ///
    /// # Errors
    /// If the server does not run.
    pub fn resume(&self) -> io::Result<()> {
        self.alive(|child| child.signal(Signal::CONT))
    }

    /// Does what only a running child can take part in.
    fn alive(&self, act: impl FnOnce(&Child) -> io::Result<bool>) -> io::Result<()> {
        match &self.running {
            Some(running) if act(&running.child)? => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "nats-server does not run",
            )),
        }
    }

    fn end(&mut self, how: impl FnOnce(&Child) -> io::Result<()>) -> io::Result<()> {
        if let Some(running) = &self.running {
            how(&running.child)?;
            let _ = fs::remove_file(&self.files.pid);
            // Last, since it lets go of the lock.
            self.running = None;
        }
        Ok(())
    }

    fn launch(&mut self) -> Result<(), StartError> {
        let files = &self.files;
        let Some(lock) = lock_store(&files.lock).map_err(store(&files.lock))? else {
            return Err(StartError::StoreInUse {
                store_dir: files.store_dir.clone(),
                pid: read_pid(&files.pid),
            });
        };
        stop_left_over(&files.pid, &files.config, self.config.stop_timeout).map_err(|pid| {
            StartError::StaleServer {
                store_dir: files.store_dir.clone(),
                pid,
            }
        })?;
        self.check_sync_interval()?;
        files.prepare(&self.config)?;

        let log_start = fs::metadata(&files.log).map_or(0, |meta| meta.len());
        let child = Child::spawn(self.command()?).map_err(|source| StartError::Spawn {
            binary: self.config.binary.clone(),
            source,
        })?;
        let running = Running { child, _lock: lock };
        match self.settle(&running.child, log_start) {
            Ok(ready) => {
                tracing::debug!(
                    pid = running.child.id(),
                    port = ready.port,
                    version = ready.version,
                    store = %self.files.store_dir.display(),
                    "nats-server is ready"
                );
                self.port = ready.port;
                self.config.port = Some(ready.port);
                self.version = ready.version;
                self.running = Some(running);
                Ok(())
            }
            Err(error) => {
                if let Err(error) = running.child.kill() {
                    tracing::warn!(%error, "a nats-server that did not get ready is left");
                } else {
                    let _ = fs::remove_file(&self.files.pid);
                }
                Err(error)
            }
        }
    }

    /// From the spawned child to one that is fit for use.
    fn settle(&self, child: &Child, log_start: u64) -> Result<Ready, StartError> {
        let files = &self.files;
        fs::write(&files.pid, format!("{}\n", child.id())).map_err(store(&files.pid))?;
        let bound = self.config.ready_timeout;
        let ready = wait_ready(child, &self.config.host, &files.ports, bound).map_err(|error| {
            let log = log_tail(&files.log, log_start);
            match error {
                NotReady::Exited(status) => StartError::Exited { status, log },
                NotReady::TimedOut(reason) => StartError::NotReady {
                    waited: bound,
                    reason,
                    log,
                },
            }
        })?;
        if is_older(&ready.version, (2, 9)) {
            return Err(StartError::TooOld {
                binary: self.config.binary.clone(),
                version: ready.version,
            });
        }
        Ok(ready)
    }

    /// A server before 2.10 refuses the setting with a parser's message; and
    /// to leave it out would quietly weaken what the caller asked for.
    fn check_sync_interval(&self) -> Result<(), StartError> {
        if self.config.sync_interval == SyncInterval::Default {
            return Ok(());
        }
        match binary_version(&self.config.binary) {
            Some(version) if is_older(&version, (2, 10)) => Err(StartError::Setting {
                setting: "sync_interval",
                reason: format!("it needs nats-server 2.10 or newer, and this is {version}"),
            }),
            _ => Ok(()),
        }
    }

    fn command(&self) -> Result<Command, StartError> {
        let log_file = &self.files.log;
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_file)
            .map_err(store(log_file))?;
        let both = log.try_clone().map_err(store(log_file))?;
        let mut command = Command::new(&self.config.binary);
        // The server's own log setting would miss what it says before it has
        // read its configuration, and its last words in a crash.
        command
            .arg("-c")
            .arg(&self.files.config)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(both);
        Ok(command)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "nats-server could not be stopped");
        }
    }
}

impl Files {
    fn in_store(config: &ServerConfig) -> Result<Self, StartError> {
        let dir = &config.store_dir;
        fs::create_dir_all(dir).map_err(store(dir))?;
        // One store has one name, whatever path leads to it: the command line
        // of a left-over server is compared with it.
        let store_dir = fs::canonicalize(dir).map_err(store(dir))?;
        let log = match &config.log_file {
            Some(path) => path.clone(),
            None => store_dir.join("nats-server.log"),
        };
        Ok(Self {
            config: store_dir.join("nats-server.conf"),
            pid: store_dir.join("nats-server.pid"),
            lock: store_dir.join("nats-server.lock"),
            ports: store_dir.join("ports"),
            log,
            store_dir,
        })
    }

    fn prepare(&self, config: &ServerConfig) -> Result<(), StartError> {
        match fs::remove_dir_all(&self.ports) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(store(&self.ports)(error));
            }
            _ => fs::create_dir(&self.ports).map_err(store(&self.ports))?,
        }
        let text = config.render(&self.store_dir, &self.ports)?;
        // The caller's own lines may hold passwords.
        let private = Permissions::from_mode(0o600);
        File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(private.mode())
            .open(&self.config)
            .and_then(|mut file| {
                file.set_permissions(private)?;
                file.write_all(text.as_bytes())
            })
            .map_err(store(&self.config))
    }
}

fn client_url(host: &str, port: u16) -> String {
    let host = reachable(host);
    match host.contains(':') {
        true => format!("nats://[{host}]:{port}"),
        false => format!("nats://{host}:{port}"),
    }
}

fn store(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Store { path, source }
}

/// Whether a version such as `2.9.10` is before the given one. What cannot be
/// read counts as new: a development build has no number.
fn is_older(version: &str, than: (u32, u32)) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{client_url, is_older};

    #[test]
    fn a_client_is_sent_to_an_address_that_it_can_reach() {
        assert_eq!(client_url("127.0.0.1", 1), "nats://127.0.0.1:1");
        assert_eq!(client_url("0.0.0.0", 1), "nats://127.0.0.1:1");
        assert_eq!(client_url("::", 1), "nats://[::1]:1");
        assert_eq!(client_url("[::1]", 1), "nats://[::1]:1");
        assert_eq!(client_url("a.example", 1), "nats://a.example:1");
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(is_older("2.9.10", (2, 10)));
        assert!(is_older("1.4.1", (2, 9)));
        assert!(!is_older("2.9.0", (2, 9)));
        assert!(!is_older("2.15.1", (2, 10)));
        assert!(!is_older("2.10.0-RC.1", (2, 10)));
        assert!(!is_older("dev", (2, 9)));
    }
}
