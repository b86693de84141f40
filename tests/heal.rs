//! What is stuck, what is executed twice, and what nobody serves: with real processes that really hang.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{fs, path::Path, process::Command, time::Duration};

use redrive_nats_server::testing::TestServer;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Ended, Home, Running, is_alive, python, signal, until};

/// How long anything may take on a slow and busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// A coordinator, a projector, and the workers that a test starts.
struct System {
    workers: Vec<Running>,
    _roles: [Running; 2],
    home: Home,
    server: TestServer,
}

impl System {
    /// Its coordinator heals by itself as often as this says.
    fn start(heal_every: &str) -> Self {
        let server = TestServer::start().unwrap();
        let home = Home::with_broker(&server.client_url());
        let coordinator = ["coordinator", "--heal-every", heal_every];
        Self {
            workers: Vec::new(),
            _roles: [
                home.start("coordinator", coordinator),
                home.start("projector", ["projector"]),
            ],
            home,
            server,
        }
    }

    fn worker(&mut self, name: &str, args: &[&str]) {
        let args = [&["worker", "--name", name], args].concat();
        self.workers.push(self.home.start(name, args));
    }

    fn submit(&self, job: &Value, documents: &[&str]) {
        let pipeline = json!({ "name": "heal", "tiers": [{ "name": "work", "jobs": [job] }] });
        let text = toml::to_string(&pipeline).unwrap();
        self.home.file("heal.toml", &text);
        let args = [&["submit", "-f", "heal.toml"], documents].concat();
        self.home.run(args).exits(0);
    }

    fn heal(&self, args: &[&str]) -> Ended {
        self.home
            .run([&["heal", "last", "--tier", "0"], args].concat())
    }

    fn healed(&self, args: &[&str]) -> Value {
        let ended = self.heal(&[args, &["-o", "json"]].concat()).exits(0);
        ended.json()["heal"].clone()
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        let args = ["events", "last", "--type", kind];
        self.home.run(args).exits(0).lines()
    }

    /// The process that a document's script has written down under this name, once it has.
    fn process(&self, name: &str) -> u32 {
        let path = self.home.work().join("pids").join(name);
        until("a script has begun", BOUND, || {
            fs::read_to_string(&path).ok()?.trim().parse().ok()
        })
    }

    fn is_over(&self) {
        self.home
            .run(["watch", "last", "--timeout", "60s"])
            .exits(0);
    }
}

/// A job that runs a script for each document, in the test's folder.
fn script(system: &System, text: &str) -> Value {
    let path = system.home.script("work.sh", text);
    let cwd = system.home.work();
    json!({
        "name": "work", "handler": "exec", "timeout": "10m",
        "params": { "command": path.to_str().unwrap(), "cwd": cwd.to_str().unwrap() },
    })
}

/// In its first attempt it hangs: `deaf` ignores all that can be ignored, `frozen` waits for whoever stops it.
const HANGS: &str = r#"#!/bin/sh
mkdir -p pids
[ "$REDRIVE_ATTEMPT" = 1 ] || exit 0
[ "$REDRIVE_DOCUMENT_ID" = deaf ] && trap '' TERM INT HUP QUIT USR1 USR2
echo $$ > "pids/$REDRIVE_DOCUMENT_ID.new"
mv "pids/$REDRIVE_DOCUMENT_ID.new" "pids/$REDRIVE_DOCUMENT_ID"
while :; do sleep 1; done
"#;

#[test]
fn processes_that_are_really_stuck_are_shown_and_with_fix_executed_again() {
    let mut system = System::start("0s");
    system.worker("one", &["-j", "2"]);
    let job = script(&system, HANGS);
    system.submit(&job, &["frozen", "deaf"]);
    let (frozen, deaf) = (system.process("frozen"), system.process("deaf"));
    signal(frozen, Signal::STOP);

    // Neither has had the minute that is its due unless somebody says otherwise.
    system
        .heal(&["--action", "detect_stuck", "--fix"])
        .exits(0)
        .says("Nothing is stuck: 2 chunks are in progress.");
    let shown = until("both show no sign of life", BOUND, || {
        let shown = system.healed(&["--idle", "1s"]);
        (shown["stuck"].as_array()?.len() == 2).then_some(shown)
    });
    for found in shown["stuck"].as_array().unwrap() {
        assert_eq!(found["reason"], "no_sign_of_life", "{found}");
        assert_eq!(found["worker"], "one");
        assert_eq!(
            (&found["attempt"], &found["fixed"]),
            (&json!(1), &json!(false))
        );
    }
    assert!(is_alive(frozen) && is_alive(deaf), "a look changes nothing");
    let told = system.heal(&["--idle", "1s"]).exits(0);
    assert!(told.stdout.contains("no sign of life"), "{}", told.stdout);
    let told = told.says("2 of 2 chunks in progress are stuck; none handed out again.");
    // What it says to do is what is done.
    let hint = told
        .stderr
        .lines()
        .find_map(|line| line.split_once("redrive ")?.1.split_once("heal "))
        .map(|(_, rest)| format!("heal {rest}"))
        .expect("a command to paste");
    system
        .home
        .run(hint.split_whitespace())
        .exits(0)
        .says("2 of 2 chunks in progress are stuck; all handed out again.");

    system.is_over();
    until("they have ended", BOUND, || {
        (!is_alive(frozen) && !is_alive(deaf)).then_some(())
    });
    let status = system.home.run(["status", "-o", "json"]).exits(0).json();
    let job = &status["tiers"][0]["jobs"][0];
    assert_eq!(
        (&job["completed"], &job["superseded_attempts"]),
        (&json!(2), &json!(2))
    );
    let fixed = system
        .events("heal.stuck_detected")
        .iter()
        .filter(|line| line["event"]["fixed"] == true)
        .count();
    assert_eq!(fixed, 2);
    system.home.run(["replay", "last", "--verify"]).exits(0);
}

/// A worker that forgets all about timeouts: in its first attempt it goes on for ever.
const FORGETFUL: &str = r#"
import asyncio, sys
sys.path.insert(0, "examples")
from worker import Worker

class Forgetful(Worker):
    async def attempt(self, handler, chunk, unit):
        if chunk["attempt"] == 1:
            await asyncio.Event().wait()
        return "completed", None

asyncio.run(Forgetful({"forgets": None}, "cpu", 1).run(sys.argv[1]))
"#;

#[test]
fn what_a_worker_does_not_end_is_handed_out_again_past_its_deadline_by_itself() {
    let requirements =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/requirements.txt");
    let packages = python::packages(&requirements.canonicalize().unwrap());
    let mut system = System::start("1s");
    system.home.examples();
    system.home.file("forgetful.py", FORGETFUL);
    let mut command = Command::new("python3");
    command.args(["forgetful.py", &system.server.client_url()]);
    system.home.settle(&mut command);
    let worker = command.env("PYTHONPATH", &packages);
    system.workers.push(system.home.launch("python", worker));
    let job = json!({ "name": "work", "handler": "forgets", "timeout": "500ms" });
    system.submit(&job, &["a"]);
    system.is_over();
    let told = system.events("heal.stuck_detected");
    assert_eq!(told.len(), 1, "{told:#?}");
    let event = &told[0]["event"];
    assert_eq!(
        (&event["reason"], &event["fixed"]),
        (&json!("past_deadline"), &json!(true))
    );
    // It had its time: that is an attempt.
    assert_eq!(event["counted"], json!([[0, 0]]));
    let done = system.events("documents.completed");
    assert_eq!(done.len(), 1);
    assert_eq!(done[0]["event"]["attempt"]["number"], 2);
    signal(system.workers[0].pid(), Signal::TERM);
    system.workers[0].end();
}

/// Writes down its process by attempt, and waits until it may end.
const WAITS: &str = r#"#!/bin/sh
mkdir -p pids
echo $$ > "pids/$REDRIVE_ATTEMPT.new"
mv "pids/$REDRIVE_ATTEMPT.new" "pids/$REDRIVE_ATTEMPT"
while [ ! -e go ]; do sleep 0.1; done
echo "attempt $REDRIVE_ATTEMPT"
"#;

#[test]
fn a_worker_that_was_stopped_and_goes_on_is_told_to_stop_what_another_one_does() {
    let mut system = System::start("1s");
    system.worker("first", &["-j", "1"]);
    let job = script(&system, WAITS);
    system.submit(&job, &["a"]);
    let before = system.process("1");
    let stopped = system.workers[0].pid();
    signal(stopped, Signal::STOP);
    system.worker("second", &["-j", "1"]);
    let after = system.process("2");
    assert!(is_alive(before), "it goes on without its worker");
    signal(stopped, Signal::CONT);
    let told = until("both executions are seen", BOUND, || {
        system.events("heal.duplicates_killed").into_iter().next()
    });
    let told = &told["event"];
    assert_eq!(told["kept"]["worker"], "second", "{told}");
    assert_eq!(told["kept"]["attempt"], 2);
    assert_eq!(told["superseded"][0]["worker"], "first");
    assert_eq!(told["superseded"][0]["attempt"], 1);
    until("the superseded one has ended", BOUND, || {
        (!is_alive(before)).then_some(())
    });
    assert!(is_alive(after), "the other one goes on");
    until("nothing is executed twice any more", BOUND, || {
        let found = system.healed(&["--action", "kill_duplicates"]);
        found["duplicates"].as_array()?.is_empty().then_some(())
    });
    system
        .heal(&["--action", "kill_duplicates"])
        .exits(0)
        .says("Nothing is executed twice: 1 chunk is in progress.");
    system.home.file("go", "");
    system.is_over();
    let results = system.home.run(["results", "-o", "json"]).exits(0).json();
    assert_eq!(results[0]["output"], "attempt 2\n");
    system
        .heal(&["--action", "kill_duplicates", "--fix"])
        .exits(2)
        .says("fix: belongs to detect_stuck");
    system.home.run(["replay", "last", "--verify"]).exits(0);
}

#[test]
fn work_that_nobody_serves_is_told_of_until_somebody_comes() {
    let mut system = System::start("30s");
    let mut job = script(&system, "#!/bin/sh\n");
    job["class"] = "gpu".into();
    system.submit(&job, &["a", "b"]);
    let orphaned = || system.events("dispatch.orphaned").into_iter().next();
    let event = until("it is orphaned", BOUND, orphaned);
    assert_eq!(
        event["event"]["jobs"],
        json!([{ "tier": 0, "job": "work" }])
    );
    let status = system.home.run(["status", "last"]).exits(0);
    assert!(
        status
            .stdout
            .contains("no live worker serves handler exec with class gpu"),
        "{}",
        status.stdout
    );
    system.worker("gpu", &["--class", "gpu", "-j", "1"]);
    system.is_over();
    let status = system.home.run(["status", "-o", "json"]).exits(0).json();
    assert!(status["tiers"][0]["jobs"][0].get("orphaned").is_none());
}
