//! The everyday tools: `doctor`, `workers`, `top`, `config`, `completions`, `man`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod support;

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use redrive_broker::{
    Broker, Message,
    nats::{ConnectOptions, NatsBroker},
};
use redrive_nats_server::testing::TestServer;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use support::{Home, SOON, finish, free_port, signal, until};

/// Something to do until the test lets it go, or is gone itself.
const WAIT: &str = "#!/bin/sh\nuntil [ -e go ] || ! [ -e wait.sh ]; do sleep 0.1; done\n";

/// Asks the JetStream API behind Redrive's back.
fn jetstream(url: &str, subject: &str, body: &Value) -> Value {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let broker = NatsBroker::connect(ConnectOptions::new(url)).await.unwrap();
        let message = Message {
            subject: format!("$JS.API.{subject}"),
            payload: serde_json::to_vec(body).unwrap().into(),
            trace: None,
        };
        let answer = broker.request(message, SOON).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["error"], Value::Null, "{subject}");
        answer
    })
}

/// The checks with that mark, each with what was seen and the remedy.
fn marked(findings: &Value, mark: &str) -> Vec<(String, String, String)> {
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let all = findings.as_array().unwrap().iter();
    all.filter(|one| one["mark"] == mark)
        .map(|one| (text(one, "check"), text(one, "seen"), text(one, "remedy")))
        .collect()
}

fn checks(findings: &Value, mark: &str) -> Vec<String> {
    let found = marked(findings, mark).into_iter();
    found.map(|(check, ..)| check).collect()
}

/// Lets doctor look again until it finds this; roles need a while to come and to go.
#[track_caller]
fn doctor_finds(home: &Home, args: &[&str], what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, 2 * SOON, || {
        let ended = home.run(["doctor", "-o", "json"].iter().chain(args));
        let findings = ended.json();
        // The exit code says the same.
        let problem = !checks(&findings, "problem").is_empty();
        assert_eq!(ended.code, Some(i32::from(problem)), "{findings:#}");
        if is_so(&findings) {
            return Some(findings);
        }
        eprintln!("not yet {what}: {findings:#}");
        None
    })
}

#[test]
fn doctor_looks_at_a_whole_system_and_puts_a_stream_right() {
    let server = TestServer::start().unwrap();
    let home = Home::with_broker(&server.client_url());
    let _one = home.start("one", ["coordinator", "--name", "one"]);
    let _two = home.start("two", ["coordinator", "--name", "two"]);
    let _projector = home.start("projector", ["projector"]);
    let _worker = home.start("worker", ["worker", "-j", "2", "--name", "w1"]);
    let _gateway = home.start("gateway", ["gateway", "--listen", "127.0.0.1:0"]);
    let well = doctor_finds(&home, &[], "all is well", |findings| {
        let ok = marked(findings, "ok");
        let has = |word: &str| ok.iter().any(|(_, seen, _)| seen.contains(word));
        checks(findings, "problem").is_empty() && has("standing by: ") && has("http://127.0.0.1:")
    });
    // How the server flushes is all that cannot be seen.
    assert_eq!(checks(&well, "note"), ["fsync"]);
    let ok = marked(&well, "ok");
    let streams = ok.iter().filter(|(check, ..)| check == "stream").count();
    assert_eq!(streams, 5);
    assert!(
        ok.iter()
            .any(|(_, seen, _)| seen.starts_with("1 live, 2 slots"))
    );

    let url = server.client_url();
    let mut config = jetstream(&url, "STREAM.INFO.RD_EVENTS_0", &json!({}))["config"].clone();
    config["max_age"] = json!(3_600_000_000_000_u64);
    config["max_msgs"] = json!(1_000);
    jetstream(&url, "STREAM.UPDATE.RD_EVENTS_0", &config);
    let altered = doctor_finds(&home, &[], "an altered stream", |findings| {
        !checks(findings, "problem").is_empty()
    });
    let problems = marked(&altered, "problem");
    let [(check, seen, remedy)] = &problems[..] else {
        panic!("{altered:#}");
    };
    assert_eq!(check, "stream");
    assert_eq!(
        seen,
        "RD_EVENTS_0 has max_age 3600000000000 instead of 0, max_msgs 1000 instead of -1"
    );
    assert_eq!(remedy, "redrive doctor --repair");
    doctor_finds(&home, &["--repair"], "all is put right", |findings| {
        checks(findings, "problem").is_empty()
    });
    let config = jetstream(&url, "STREAM.INFO.RD_EVENTS_0", &json!({}))["config"].clone();
    assert_eq!(config["max_msgs"], -1);
}

#[test]
fn doctor_finds_who_is_missing_and_work_that_nobody_does() {
    let server = TestServer::start().unwrap();
    let home = Home::with_broker(&server.client_url());
    let empty = doctor_finds(&home, &[], "nothing is there", |_| true);
    let expected = [
        "stream",
        "stream",
        "stream",
        "stream",
        "stream",
        "coordinator",
        "projector",
        "worker",
    ];
    assert_eq!(checks(&empty, "problem"), expected);
    for (check, _, remedy) in marked(&empty, "problem") {
        let role = if check == "stream" {
            "coordinator"
        } else {
            &check
        };
        assert!(remedy.ends_with(&format!("redrive {role}")), "{remedy}");
    }

    let _coordinator = home.start("coordinator", ["coordinator"]);
    let led = doctor_finds(&home, &[], "a coordinator leads", |findings| {
        !checks(findings, "problem").contains(&"coordinator".to_owned())
            && marked(findings, "note")
                .iter()
                .any(|(_, seen, _)| seen.ends_with("nobody stands by"))
    });
    assert_eq!(checks(&led, "problem"), ["projector", "worker"]);

    let _projector = home.start("projector", ["projector"]);
    let _worker = home.start("worker", ["worker"]);
    home.file(
        "gpu.toml",
        "name = \"gpu\"\n[[tiers]]\nname = \"t\"\njobs = [{ handler = \"exec\", class = \"gpu\", params = { command = \"true\" } }]\n",
    );
    home.run(["submit", "-f", "gpu.toml", "a", "b"]).exits(0);
    let waits = doctor_finds(&home, &[], "only work waits", |findings| {
        checks(findings, "problem") == ["work"]
    });
    let (_, seen, remedy) = marked(&waits, "problem").remove(0);
    assert!(seen.starts_with("2 units, some of batch "), "{seen}");
    assert_eq!(remedy, "redrive worker --handler exec --class gpu");
}

#[test]
fn doctor_says_that_there_is_no_broker_and_no_jetstream() {
    let home = Home::new();
    let url = format!("nats://ann:s3cret@127.0.0.1:{}", free_port());
    let ended = home.run(["doctor", "--nats-url", &url]).exits(1);
    assert!(
        ended.stdout.starts_with("PROBLEM  broker "),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("cannot be reached\n"),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("s3cret") && ended.stdout.contains("-> start it"));
    assert_eq!(ended.stderr, "1 problem, 0 notes.\n");
}

#[test]
fn doctor_is_content_with_the_system_of_a_data_folder() {
    let home = Home::new();
    let well = doctor_finds(&home, &[], "all is well", |findings| {
        checks(findings, "problem").is_empty() && checks(findings, "note").is_empty()
    });
    let ok = marked(&well, "ok");
    assert!(
        ok.iter()
            .any(|(_, seen, _)| seen.contains("`redrive run` does its work itself"))
    );
    home.quiet();
}

#[test]
fn workers_are_listed_with_what_they_do() {
    let server = TestServer::start().unwrap();
    let home = Home::with_broker(&server.client_url());
    let none = home.run(["workers", "--wait", "200ms"]).exits(0);
    assert_eq!(none.stdout, "");
    let none = none.says("No worker was heard of within 200ms: start one with `redrive worker`.");
    drop(none);
    let _coordinator = home.start("coordinator", ["coordinator"]);
    let _worker = home.start(
        "worker",
        [
            "worker",
            "-j",
            "3",
            "--name",
            "w1",
            "--handler",
            "exec",
            "--class",
            "cpu,big",
        ],
    );
    home.file(
        "wait.toml",
        "name = \"wait\"\n[[tiers]]\nname = \"t\"\njobs = [{ handler = \"exec\", params = { command = \"./wait.sh\" } }]\n",
    );
    home.script("wait.sh", WAIT);
    home.run(["submit", "-f", "wait.toml", "a"]).exits(0);
    let row = until("a worker holds a chunk", SOON, || {
        let rows = home.run(["workers", "-o", "json"]).exits(0).json();
        (rows[0]["chunks"] == 1).then(|| rows[0].clone())
    });
    for (key, value) in [
        ("worker", json!("w1")),
        ("handlers", json!(["exec"])),
        ("classes", json!(["cpu", "big"])),
        ("slots", json!(3)),
        ("units", json!(1)),
        ("draining", json!(false)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(row[key], value, "{key} in {row:#}");
    }
    let table = home.run(["workers"]).exits(0).stdout;
    assert!(
        table.starts_with("WORKER ") && table.contains("\nw1 "),
        "{table}"
    );
    home.file("go", "");
}

#[test]
fn settings_are_shown_with_where_they_were_made() {
    let home = Home::new();
    home.file(
        "mine.toml",
        "namespace = \"by-file\"\nhttp = \"127.0.0.1:9464\"\n",
    );
    let mut command = home.command([
        "config",
        "show",
        "--origin",
        "--config",
        "mine.toml",
        "--output",
        "table",
        "--namespace",
        "by-flag",
    ]);
    command.env("REDRIVE_NATS_URL", "nats://ann:s3cret@host:4222");
    let shown = finish(&mut command, None).exits(0).stdout;
    let row = |name: &str| -> Vec<String> {
        let row = shown.lines().find(|line| line.starts_with(name)).unwrap();
        row.split("  ")
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(
        row("nats_url"),
        [
            "nats_url",
            "nats://***@host:4222",
            "variable REDRIVE_NATS_URL"
        ]
    );
    assert_eq!(
        row("namespace"),
        ["namespace", "by-flag", "flag --namespace"]
    );
    assert_eq!(row("output"), ["output", "table", "flag --output"]);
    assert_eq!(row("creds"), ["creds", "-", "default"]);
    assert_eq!(row("config"), ["config", "mine.toml", "flag --config"]);
    let http = row("http");
    assert_eq!(http[1], "127.0.0.1:9464");
    assert!(
        http[2].starts_with("file ") && http[2].ends_with("mine.toml"),
        "{http:?}"
    );
    assert!(!shown.contains("s3cret"));
    let json = home.run(["config", "show", "-o", "json"]).exits(0).json();
    let output = json
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "output");
    assert_eq!(
        output.unwrap()["origin"],
        json!({ "kind": "flag", "at": "--output" })
    );
}

#[test]
fn completions_and_pages_are_made_whatever_the_settings() {
    let home = Home::new();
    home.file("../config/redrive/config.toml", "nonsense = 1\n");
    home.run(["config", "show"]).exits(2);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.run(["completions", shell]).exits(0).stdout;
        assert!(
            script.contains("redrive") && script.contains("max-retry-count"),
            "{shell}"
        );
    }
    let script = home.run(["completions", "bash"]).stdout;
    let checked = finish(
        Command::new("bash").arg("-n").current_dir(home.work()),
        Some(script.into_bytes()),
    );
    checked.exits(0);
    home.run(["man", "--dir", "pages"]).exits(0);
    let page = |name: &str| std::fs::read_to_string(home.work().join("pages").join(name));
    for name in [
        "redrive.1",
        "redrive-run.1",
        "redrive-doctor.1",
        "redrive-config-show.1",
    ] {
        assert!(page(name).unwrap().starts_with(".ie \\n(.g"), "{name}");
    }
    assert!(page("redrive-embedded.1").is_err());
    assert_eq!(
        home.run(["man"]).exits(0).stdout,
        page("redrive.1").unwrap()
    );
}

/// A command on a terminal of its own.
struct OnTerminal {
    child: std::process::Child,
    terminal: File,
    /// The side of the command, to see how it left the terminal.
    other: OwnedFd,
    written: Arc<Mutex<Vec<u8>>>,
}

impl OnTerminal {
    fn start(home: &Home, args: &[&str]) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let name = std::path::PathBuf::from(name.into_string().unwrap());
        let side = || File::options().read(true).write(true).open(&name).unwrap();
        let size = rustix::termios::Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&terminal, size).unwrap();
        let mut command = home.command(args);
        command.env("TERM", "xterm-256color");
        command
            .stdin(Stdio::from(side()))
            .stdout(Stdio::from(side()))
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let terminal = File::from(terminal);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (mut reader, to) = (terminal.try_clone().unwrap(), Arc::clone(&written));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                to.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self {
            child,
            terminal,
            other: side().into(),
            written,
        }
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        until(&format!("the terminal shows {text:?}"), SOON, || {
            self.written().contains(text).then_some(())
        });
    }

    fn is_raw(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.other).unwrap().local_modes;
        !modes.contains(rustix::termios::LocalModes::ICANON)
    }

    /// Waits for its end, and looks whether the terminal is as it was.
    #[track_caller]
    fn ends(mut self, code: i32) {
        let status = until("it ends", SOON, || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(code), "{}", self.written());
        assert!(!self.is_raw(), "the terminal is left raw");
        self.wait_for("\x1b[?1049l");
        self.wait_for("\x1b[?25h");
    }
}

#[test]
fn top_shows_the_system_and_gives_the_terminal_back() {
    let server = TestServer::start().unwrap();
    let home = Home::with_broker(&server.client_url());
    let off = home.run(["top"]).exits(2);
    assert!(
        off.stdout.is_empty() && off.stderr.contains("status -o json"),
        "{}",
        off.stderr
    );

    // It shows what is there even where hardly anything is.
    let mut top = OnTerminal::start(&home, &["top"]);
    top.wait_for("NONE LEADS");
    top.wait_for("nobody is live");
    assert!(top.is_raw());
    top.terminal.write_all(b"q").unwrap();
    top.ends(0);

    let _coordinator = home.start("coordinator", ["coordinator", "--name", "the-leader"]);
    let _projector = home.start("projector", ["projector"]);
    let _worker = home.start("worker", ["worker", "-j", "1", "--name", "the-worker"]);
    home.file(
        "mixed.toml",
        "name = \"mixed\"\n[[tiers]]\nname = \"t\"\n[[tiers.jobs]]\nhandler = \"exec\"\nmax_attempts = 1\nparams = { command = \"case {} in bad) exit 65 ;; esac; ./wait.sh\", shell = true }\n",
    );
    home.script("wait.sh", WAIT);
    home.run(["submit", "-f", "mixed.toml", "bad", "good"])
        .exits(0);
    let top = OnTerminal::start(&home, &["top"]);
    for text in [
        "the-leader",
        "the-worker",
        "mixed",
        "1/2",
        "1 permanent invalid_data",
    ] {
        top.wait_for(text);
    }
    signal(top.child.id(), rustix::process::Signal::TERM);
    top.ends(130);
    let mut top = OnTerminal::start(&home, &["top"]);
    top.wait_for("the-worker");
    // Ctrl-C, as a terminal sends it.
    top.terminal.write_all(b"\x03").unwrap();
    top.ends(0);
    home.file("go", "");
}
