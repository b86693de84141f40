//! Redrive as a system: roles that are processes of their own, on a nats-server; and `dev`, all of it in one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use redrive_nats_server::testing::TestServer;
use serde_json::{Value, json};
use support::{Home, Running, SOON, count_lines, free_port, is_alive, until};

/// A nats-server, a home whose commands use it, and the roles that were started.
struct System {
    roles: Vec<Running>,
    home: Home,
    _server: TestServer,
}

impl System {
    fn start(roles: &[(&str, &[&str])]) -> Self {
        let server = TestServer::start().unwrap();
        let home = Home::with_broker(&server.client_url());
        let mut system = Self {
            roles: Vec::new(),
            home,
            _server: server,
        };
        for (name, args) in roles {
            let role = system.role(name, args);
            system.roles.push(role);
        }
        system
    }

    fn role(&self, name: &str, args: &[&str]) -> Running {
        self.home.start(name, args)
    }

    /// A coordinator, a projector, and two workers.
    fn whole() -> Self {
        Self::start(&[
            ("coordinator", &["coordinator"]),
            ("projector", &["projector"]),
            ("worker-1", &["worker", "-j", "2"]),
            ("worker-2", &["worker", "-j", "2"]),
        ])
    }

    fn status(&self) -> Value {
        self.home
            .run(["status", "last", "-o", "json"])
            .exits(0)
            .json()
    }
}

const TEXTS: &str = r#"
name = "texts"

[[tiers]]
name = "fetch"
jobs = [{ name = "fetch", handler = "fetch", max_attempts = 1 }]

[[tiers]]
name = "extract"
[[tiers.jobs]]
name = "words"
handler = "exec"
params = { command = "wc -w" }
[[tiers.jobs]]
name = "shout"
handler = "exec"
params = { command = "./shout.sh" }
max_attempts = 1

[[tiers]]
name = "index"
[[tiers.jobs]]
name = "index"
handler = "exec"
params = { command = "./index.sh" }
"#;

/// Reads a text; the lights are out where a file says so.
const SHOUT: &str = r#"#!/bin/sh
mkdir -p ran
echo x >> "ran/shout-${REDRIVE_DOCUMENT_ID##*/}"
[ -e dark ] && case $REDRIVE_DOCUMENT_ID in *1.txt) exit 75 ;; esac
tr a-z A-Z
"#;

const INDEX: &str = r#"#!/bin/sh
mkdir -p ran
echo x >> "ran/index-${REDRIVE_DOCUMENT_ID##*/}"
cat
"#;

#[test]
fn a_batch_runs_through_three_tiers_fails_and_is_retried() {
    let system = System::whole();
    let home = &system.home;
    home.file("texts.toml", TEXTS);
    home.script("shout.sh", SHOUT);
    home.script("index.sh", INDEX);
    home.file("dark", "");
    let mut inputs = Vec::new();
    for n in 1..=6 {
        home.file(&format!("in/{n}.txt"), &format!("text number {n}\n"));
        inputs.push(format!("in/{n}.txt"));
    }
    inputs.extend(["in/gone.txt".to_owned(), "in/late.txt".to_owned()]);
    let submit = ["submit", "-f", "texts.toml", "--watch"].map(str::to_owned);
    let submitted = home.run(submit.iter().chain(&inputs)).exits(3);
    let batch = submitted.stdout.trim().to_owned();
    assert_eq!(
        submitted.stdout,
        format!("{batch}\n"),
        "the id and nothing else"
    );
    submitted.says("5 of 8 documents completed, 3 failed");

    let status = system.status();
    assert_eq!(status["batch"], batch.as_str());
    let of = |status: &Value, tier: usize| {
        let tier = &status["tiers"][tier];
        (
            tier["entered"].as_u64().unwrap(),
            tier["completed"].as_u64().unwrap(),
            tier["failed"].as_u64().unwrap(),
        )
    };
    assert_eq!(of(&status, 0), (8, 6, 2));
    assert_eq!(of(&status, 1), (6, 5, 1));
    assert_eq!(of(&status, 2), (5, 5, 0));

    // Only tier 0, and by then one of its two files is there.
    home.file("in/late.txt", "better late\n");
    home.run(["retry", "--mode", "all", "--tier", "0", "--watch"])
        .exits(3)
        .says("Retrying 2 documents")
        .says("left alone: 1 failure in other tiers");
    let status = system.status();
    assert_eq!(of(&status, 0), (8, 7, 1));
    assert_eq!(of(&status, 2), (6, 6, 0));

    fs::remove_file(home.work().join("dark")).unwrap();
    home.run(["retry", "--watch"])
        .exits(3)
        .says("7 of 8 documents completed, 1 failed, 2 retries");
    let runs = |name: &str| count_lines(&home.work().join("ran").join(name));
    assert_eq!(runs("shout-1.txt"), 2, "the one that failed");
    for n in 2..=6 {
        assert_eq!(runs(&format!("shout-{n}.txt")), 1);
        assert_eq!(runs(&format!("index-{n}.txt")), 1);
    }
    let failures = home.run(["failures", "-o", "json"]).exits(0).json();
    assert_eq!(failures.as_array().unwrap().len(), 1);
    assert_eq!(
        (&failures[0]["tier"], &failures[0]["retry_count"]),
        (&json!(0), &json!(1))
    );
    let index = home.run(["results", "-o", "jsonl"]).exits(0).lines();
    assert_eq!(index.len(), 7);
    let first = index
        .iter()
        .find(|row| row["document"] == "in/1.txt")
        .unwrap();
    let input: Value = match &first["output"] {
        Value::String(text) => serde_json::from_str(text).unwrap(),
        value => value.clone(),
    };
    assert_eq!(
        input["shout"], "TEXT NUMBER 1\n",
        "both extractors' outputs came in"
    );
    assert!(input["words"].to_string().contains('3'));
    home.run(["replay", "last", "--verify"]).exits(0);
}

const SLEEPERS: &str = r#"
name = "sleepers"
[[tiers]]
name = "sleep"
[[tiers.jobs]]
handler = "exec"
params = { command = "./sleeper.sh", cwd = "WORK" }
"#;

/// Notes its process and that of a child, and sleeps.
const SLEEPER: &str = r#"#!/bin/sh
mkdir -p pids
trap '' TERM
sleep 600 &
echo "$! $$" > "pids/$REDRIVE_DOCUMENT_ID.new"
mv "pids/$REDRIVE_DOCUMENT_ID.new" "pids/$REDRIVE_DOCUMENT_ID"
wait
sleep 600
"#;

/// The processes that were noted.
fn noted(home: &Home) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(home.work().join("pids")) else {
        return Vec::new();
    };
    let read = |entry: fs::DirEntry| fs::read_to_string(entry.path()).unwrap_or_default();
    let files = entries.flatten().filter(|e| e.path().extension().is_none());
    let text: Vec<String> = files.map(read).collect();
    let words = text.iter().flat_map(|text| text.split_whitespace());
    words.map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_cancelled_batch_stops_at_once_and_for_good() {
    let system = System::whole();
    let home = &system.home;
    let work = home.work().to_string_lossy().into_owned();
    home.file("sleepers.toml", &SLEEPERS.replace("WORK", &work));
    home.script("sleeper.sh", SLEEPER);
    let inputs: Vec<String> = (0..12).map(|n| format!("doc-{n}")).collect();
    let submit = ["submit", "-f", "sleepers.toml"].map(str::to_owned);
    home.run(submit.iter().chain(&inputs)).exits(0);
    let running = until("all slots are at work", SOON, || {
        let pids = noted(home);
        (pids.len() == 8).then_some(pids)
    });
    // A process that is just becoming another program has no command line for a moment.
    until("all of them run", SOON, || {
        running.iter().all(|pid| is_alive(*pid)).then_some(())
    });
    home.run(["cancel", "last", "--reason", "wrong folder"])
        .exits(0)
        .says("12 documents had not come through");
    until("what ran has been killed", SOON, || {
        running.iter().all(|pid| !is_alive(*pid)).then_some(())
    });

    let cancelled = system.status();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["counts"]["cancelled"], 12);
    // The workers are free for others, and take nothing of it any more.
    home.file(
        "quick.toml",
        &SLEEPERS
            .replace("./sleeper.sh", "true")
            .replace("WORK", &work),
    );
    home.run([
        "submit",
        "-f",
        "quick.toml",
        "--watch",
        "a",
        "b",
        "c",
        "d",
        "e",
    ])
    .exits(0);
    assert_eq!(noted(home), running, "nothing has started since");
    let batch = cancelled["batch"].as_str().unwrap();
    let after = home.run(["status", batch, "-o", "json"]).exits(0).json();
    assert_eq!(
        after["last_seq"], cancelled["last_seq"],
        "late outcomes are no events"
    );
    assert_eq!(after["tiers"], cancelled["tiers"]);
    let events = home.run(["events", batch]).exits(0).lines();
    let last = events.last().unwrap();
    assert_eq!(
        (&last["type"], &last["event"]["reason"]),
        (&json!("batch.cancelled"), &json!("wrong folder"))
    );
    home.run(["retry", batch, "--mode", "all"]).exits(5);
    home.run(["watch", batch]).exits(5).says("cancelled");
}

const QUICK: &str = r#"
name = "quick"
[[tiers]]
name = "echo"
[[tiers.jobs]]
handler = "exec"
params = { command = "echo {}" }
"#;

#[test]
fn a_standby_takes_over_from_a_coordinator_that_was_killed() {
    let mut system = System::start(&[
        ("projector", &["projector"]),
        ("worker", &["worker"]),
        ("first", &["coordinator", "--name", "first"]),
    ]);
    system.roles[2].wait_for("leading");
    let second = system.role("second", &["coordinator", "--name", "second"]);
    system.roles.push(second);
    system.home.file("quick.toml", QUICK);
    system
        .home
        .run(["submit", "-f", "quick.toml", "--watch", "a"])
        .exits(0);
    assert!(!system.roles[3].log().contains("leading"), "it stands by");
    system.roles[2].kill();
    let killed = Instant::now();
    system
        .home
        .run(["submit", "-f", "quick.toml", "--watch", "b", "c"])
        .exits(0)
        .says("2 of 2 documents completed");
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(8), "it took {took:?}");
    system.roles[3].wait_for("leading");
    system.home.run(["replay", "--verify"]).exits(0);
}

#[test]
fn a_projector_that_was_lost_with_its_store_comes_back_the_same() {
    let mut system = System::start(&[
        ("coordinator", &["coordinator"]),
        ("worker", &["worker"]),
        ("projector", &["projector", "--store", "store"]),
    ]);
    let home = &system.home;
    home.file(
        "quick.toml",
        &QUICK
            .replace("echo {}", "test {} != b")
            .replace("handler", "max_attempts = 1\nhandler"),
    );
    home.run(["submit", "-f", "quick.toml", "--watch", "a", "b", "c"])
        .exits(3);
    let ask = |home: &Home| {
        ["status", "failures", "results", "batches"]
            .map(|verb| home.run([verb, "-o", "json"]).exits(0).stdout)
    };
    let before = ask(home);
    assert!(before[1].contains("\"b\""), "{}", before[1]);
    let store = home.work().join("store");
    assert!(store.exists());
    system.roles[2].kill();
    fs::remove_dir_all(&store).unwrap();
    let again = system.role("projector-again", &["projector", "--store", "store"]);
    system.roles.push(again);
    assert_eq!(ask(&system.home), before);
    system.home.run(["replay", "last", "--verify"]).exits(0);
}

#[test]
fn namespaces_do_not_see_each_other() {
    let system = System::start(&[
        ("coordinator", &["coordinator"]),
        ("projector", &["projector"]),
        ("worker", &["worker"]),
    ]);
    let home = &system.home;
    home.file("quick.toml", QUICK);
    let batch = home
        .run([
            "submit",
            "-f",
            "quick.toml",
            "--watch",
            "--namespace",
            "ann",
            "secret",
        ])
        .exits(0)
        .stdout;
    let batch = batch.trim();
    for verb in [
        "status", "failures", "results", "events", "replay", "retry", "cancel", "watch",
    ] {
        for batch in [batch, "last"] {
            let ended = home.run([verb, batch, "--namespace", "bob"]).exits(4);
            assert!(!ended.stderr.contains("secret") && ended.stdout.is_empty());
        }
    }
    assert_eq!(
        home.run(["events", "--namespace", "bob"]).exits(0).stdout,
        ""
    );
    let batches = home
        .run(["batches", "--namespace", "bob", "-o", "json"])
        .exits(0);
    assert_eq!(batches.json(), json!([]));
    let batches = home
        .run(["batches", "--namespace", "ann", "-o", "json"])
        .exits(0);
    assert_eq!(batches.json()[0]["batch"], batch);
}

#[test]
fn dev_runs_everything_and_keeps_what_it_knows() {
    let home = Home::new();
    let port = free_port();
    let url = format!("nats://127.0.0.1:{port}");
    home.file("quick.toml", QUICK);
    let mut dev = home.start("dev", ["dev", "--port", &port]);
    dev.wait_for("Ctrl-C ends it");
    let submit = ["submit", "--nats-url", &url, "-f", "quick.toml", "--watch"];
    home.run(submit.iter().chain(&["a", "b"])).exits(0);
    let ask = || {
        let status = ["status", "--nats-url", &url, "-o", "json"];
        home.run(status).exits(0).json()
    };
    let before = ask();

    // A folder has one system. Who configures no broker shares it; a second one is refused.
    let shared = home.run(["status", "-o", "json"]).exits(0).json();
    assert_eq!(shared, before);
    let other = free_port();
    let refused = home.run(["dev", "--port", &other]).exits(5);
    let data = home.data().canonicalize().unwrap();
    let sentence = format!(
        "a system runs on the data folder {} already (process {})",
        data.display(),
        dev.pid()
    );
    refused.says(&sentence).says("--data");
    // Its port is taken for another folder too.
    let taken = home.run(["dev", "--port", &port, "--data", "elsewhere"]);
    assert_ne!(taken.code, Some(0));
    assert!(taken.stderr.contains(&port), "{}", taken.stderr);

    dev.interrupt();
    dev.end().exits(0);
    home.quiet();
    let mut dev = home.start("dev-again", ["dev", "--port", &port]);
    dev.wait_for("Ctrl-C ends it");
    assert_eq!(ask(), before);
    dev.interrupt();
    dev.end().exits(0);
    home.quiet();
}

#[test]
fn a_broker_that_is_not_there_is_named() {
    let home = Home::new();
    let url = format!("nats://127.0.0.1:{}", free_port());
    for args in [
        ["status", "last"].as_slice(),
        &["run", "--exec", "true", "x"],
        &["worker"],
        &["coordinator"],
        &["projector"],
    ] {
        let ended = home.run(["--nats-url", &url].iter().chain(args)).exits(7);
        ended.says(&format!("the broker at {url} cannot be reached"));
    }
}

#[test]
fn who_is_missing_is_named() {
    let system = System::start(&[]);
    system.home.file("quick.toml", QUICK);
    let mut asked = system.home.start("status", ["status", "last"]);
    let mut told = system
        .home
        .start("submit", ["submit", "-f", "quick.toml", "a"]);
    asked
        .end()
        .exits(7)
        .says("no projector is running: start one with `redrive projector`");
    told.end()
        .exits(7)
        .says("no coordinator is running: start one with `redrive coordinator`");
}
