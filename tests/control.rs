//! A tier is retried on other workers, one job of a tier is cancelled, a tier is cancelled: with everything real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;

use redrive_nats_server::testing::TestServer;
use serde_json::Value;
use support::{Home, Running, SOON, until};

/// A system of real processes, with a worker of class cpu.
struct System {
    // Dropped in this order: the processes first, then the home that looks for what is left of them.
    running: Vec<Running>,
    home: Home,
    _server: TestServer,
}

impl System {
    fn start() -> Self {
        let server = TestServer::start().unwrap();
        let home = Home::with_broker(&server.client_url());
        let running = vec![
            home.start("coordinator", ["coordinator"]),
            home.start("projector", ["projector"]),
            home.start("cpu", ["worker", "--name", "cpu", "-j", "2"]),
        ];
        Self {
            running,
            home,
            _server: server,
        }
    }

    /// A worker of class gpu, whose programs know it by their environment.
    fn add_gpu(&mut self) {
        let mut command = self
            .home
            .command(["worker", "--name", "gpu", "--class", "gpu"]);
        command.env("GPU", "a-gpu");
        self.running.push(self.home.launch("gpu", &mut command));
    }

    fn submit(&self, pipeline: &str, documents: &[&str]) {
        self.home.file("pipeline.toml", pipeline);
        let args = [&["submit", "-f", "pipeline.toml"], documents].concat();
        self.home.run(args).exits(0);
    }

    fn status(&self) -> Value {
        self.home.run(["status", "-o", "json"]).exits(0).json()
    }

    fn wait_for_file(&self, name: &str) {
        until(&format!("{name} is there"), SOON, || {
            self.home.work().join(name).exists().then_some(())
        });
    }

    fn has_process(&self, part: &str) -> bool {
        let processes = self.home.processes();
        processes.iter().any(|(_, line)| line.contains(part))
    }

    /// What replaying the log gives is what the projector has.
    fn verify(&self) {
        self.home.run(["replay", "last", "--verify"]).exits(0);
    }
}

const OCR: &str = r#"
name = "ocr"
[[tiers]]
jobs = [{ name = "read", handler = "exec", params = { command = "echo {}" } }]
[[tiers]]
jobs = [{ name = "ocr", handler = "exec", params = { command = "./ocr.sh {}" } }]
"#;

/// Needs a GPU, and something that is mended later.
const OCR_SH: &str = r#"#!/bin/sh
[ -n "$GPU" ] || { echo "there is no GPU" >&2; exit 65; }
[ ! -e "bad-$1" ] || { echo "it is broken" >&2; exit 65; }
echo "$1 on $GPU with $REDRIVE_ENTRYPOINT"
"#;

#[test]
fn a_tier_is_retried_with_other_resources_on_other_workers_and_keeps_them() {
    let mut system = System::start();
    system.home.script("ocr.sh", OCR_SH);
    system.home.file("bad-b", "");
    system.submit(OCR, &["a", "b"]);
    let home = &system.home;
    home.run(["watch"]).exits(3);
    let job = |system: &System| system.status()["tiers"][1]["jobs"][0].clone();
    let before = job(&system);
    assert_eq!(
        (&before["class"], &before["failed"]),
        (&"cpu".into(), &2.into())
    );
    assert_eq!(before["submission"]["requires_gpu"], false);
    assert_eq!(before["submission"]["memory_bytes"], Value::Null);
    assert_eq!(before["submission"]["extractor_name"], "exec");

    // What cannot be is said before anything is done.
    home.run(["retry", "--set", "requires_gpu=true"])
        .exits(2)
        .says("name it with --tier");
    home.run(["retry", "--tier", "1", "--set", "memory_bytes=lots"])
        .exits(2)
        .says("it takes bytes");
    home.run(["retry", "--tier", "1", "--set", "priority=101"])
        .exits(2)
        .says("set.priority: is 101: it takes a whole number from 0 to 100");

    let set = [
        "retry",
        "--tier",
        "1",
        "--mode",
        "all",
        "--set",
        "requires_gpu=true",
        "--set",
        "memory_bytes=1GiB",
        "--set",
        "entrypoint=main.py",
    ];
    let preview = home.run([&set[..], &["--dry-run", "-o", "json"]].concat());
    let plan = preview.exits(0).json()["plan"].as_str().unwrap().to_owned();
    assert_eq!(job(&system), before, "a preview changes nothing");

    system.add_gpu();
    let home = &system.home;
    home.run(["retry", "--plan", &plan, "--watch"])
        .exits(3)
        .says("Retrying 2 documents")
        .says(
            "with: requires_gpu=true memory_bytes=1GiB entrypoint=main.py, also in later retries",
        );
    let after = job(&system);
    assert_eq!(after["class"], "gpu");
    assert_eq!(after["submission"]["requires_gpu"], true);
    assert_eq!(after["submission"]["memory_bytes"], 1 << 30);
    assert_eq!(after["submission"]["entrypoint"], "main.py");
    let shown = home.run(["status"]).exits(0).stdout;
    let line = "submitted now: ocr in tier 1: requires_gpu=true class=gpu memory_bytes=1GiB";
    assert!(shown.contains(line), "{shown}");

    // A later retry names nothing, and has them all the same.
    fs::remove_file(home.work().join("bad-b")).unwrap();
    home.run(["retry", "--mode", "all", "--watch"]).exits(0);
    let rows = home.run(["results", "-o", "jsonl"]).exits(0).lines();
    let mut outputs: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["output"].as_str())
        .collect();
    outputs.sort_unstable();
    assert_eq!(
        outputs.iter().map(|text| text.trim()).collect::<Vec<_>>(),
        ["a on a-gpu with main.py", "b on a-gpu with main.py"]
    );
    let events = home.run(["events", "last"]).exits(0).stdout;
    assert_eq!(events.matches("tier.resubmitted").count(), 1, "{events}");
    system.verify();
}

/// Goes on for ever for documents that are named so.
const WAIT_SH: &str = r#"#!/bin/sh
case "$2" in
    "$1"*) touch "begun-$2"; while :; do sleep 0.1; done ;;
esac
echo "$2"
"#;

#[test]
fn one_job_is_cancelled_and_its_siblings_go_on() {
    let system = System::start();
    system.home.script("wait.sh", WAIT_SH);
    // Both slots of the worker are taken by what hangs: nothing goes on unless that is stopped.
    let pipeline = r#"
name = "siblings"
[[tiers]]
jobs = [
    { name = "hangs", handler = "exec", priority = 100, params = { command = "./wait.sh doc {}" } },
    { name = "fine", handler = "exec", priority = 0, params = { command = "echo {}" } },
]
[[tiers]]
jobs = [{ name = "after", handler = "exec", params = { command = "echo {}" } }]
"#;
    system.submit(pipeline, &["doc-1", "doc-2"]);
    system.wait_for_file("begun-doc-1");
    let home = &system.home;
    home.run(["cancel", "--job", "nobody"])
        .exits(2)
        .says("job: is nobody: the batch has no such job");
    home.run([
        "cancel", "--tier", "0", "--job", "hangs", "--reason", "it hangs",
    ])
    .exits(0)
    .says("Cancelled: hangs in tier 0")
    .says("documents go on without it");
    home.run(["watch"]).exits(0);
    until("what hung has ended", SOON, || {
        (!system.has_process("wait.sh")).then_some(())
    });
    let status = system.status();
    assert_eq!(status["status"], "completed");
    assert_eq!(status["counts"]["completed"], 2);
    let jobs = &status["tiers"][0]["jobs"];
    assert_eq!(
        (&jobs[0]["status"], &jobs[0]["cancelled"]),
        (&"cancelled".into(), &2.into())
    );
    assert_eq!(jobs[0]["cancellation"]["effect"], "waived");
    assert_eq!(
        (&jobs[1]["status"], &jobs[1]["completed"]),
        (&"completed".into(), &2.into())
    );
    let shown = home.run(["status"]).exits(0).stdout;
    assert!(shown.contains("cancelled: hangs in tier 0 at "), "{shown}");
    assert!(
        shown.contains("documents go on without it: it hangs"),
        "{shown}"
    );
    home.run(["cancel", "--job", "hangs"])
        .exits(0)
        .says("cancelled already");
    system.verify();
}

#[test]
fn a_tier_is_cancelled_and_what_is_beyond_it_goes_on() {
    let system = System::start();
    system.home.script("wait.sh", WAIT_SH);
    let pipeline = r#"
name = "stuck"
[[tiers]]
jobs = [{ name = "read", handler = "exec", params = { command = "echo {}" } }]
[[tiers]]
jobs = [{ name = "stuck", handler = "exec", params = { command = "./wait.sh slow {}" } }]
[[tiers]]
jobs = [{ name = "after", handler = "exec", params = { command = "echo {}" } }]
"#;
    system.submit(pipeline, &["quick", "slow"]);
    system.wait_for_file("begun-slow");
    until("the other document is through", SOON, || {
        (system.status()["counts"]["completed"] == 1).then_some(())
    });
    let home = &system.home;
    home.run(["cancel", "--tier", "1"])
        .exits(0)
        .says("Cancelled: stuck in tier 1. 1 document stop");
    home.run(["watch"])
        .exits(3)
        .says("1 of 2 documents completed, 0 failed, 1 cancelled");
    until("what hung has ended", SOON, || {
        (!system.has_process("wait.sh")).then_some(())
    });
    let status = system.status();
    assert_eq!(status["status"], "completed_with_failures");
    assert_eq!(status["tiers"][1]["status"], "cancelled");
    assert_eq!(status["tiers"][1]["cancelled"], 1);
    assert_eq!(
        status["tiers"][1]["jobs"][0]["cancellation"]["effect"],
        "stopped"
    );
    home.run(["retry", "--mode", "all"])
        .exits(0)
        .says("Retrying 0 documents");
    home.run(["cancel", "--tier", "1"])
        .exits(0)
        .says("cancelled already");
    home.run(["cancel", "--tier", "2"])
        .exits(5)
        .says("there is nothing to cancel");
    system.verify();
}
