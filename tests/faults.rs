//! What machines and memory do to a batch: real processes that take too much, and workers that are really ended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use redrive_nats_server::testing::TestServer;
use rustix::process::Signal;
use serde_json::Value;
use support::{Home, Running, SOON, count_lines, signal, until};

struct System {
    // Ended before the server.
    _roles: Vec<Running>,
    home: Home,
    _server: TestServer,
}

impl System {
    /// A coordinator that soon misses a worker, and a projector.
    fn start() -> Self {
        let server = TestServer::start().unwrap();
        let home = Home::with_broker(&server.client_url());
        let coordinator = ["coordinator", "--worker-timeout", "2s"];
        let roles = vec![
            home.start("coordinator", coordinator),
            home.start("projector", ["projector"]),
        ];
        Self {
            _roles: roles,
            home,
            _server: server,
        }
    }

    fn worker(&self, name: &str) -> Running {
        let args = ["worker", "--name", name, "-j", "1", "--drain", "1s"];
        self.home.start(name, args)
    }

    fn status(&self) -> Value {
        let status = self.home.run(["status", "last", "-o", "json"]);
        status.exits(0).json()
    }

    #[track_caller]
    fn over(&self) -> Value {
        until("the batch is over", Duration::from_secs(60), || {
            let status = self.status();
            let over = !["pending", "running"].contains(&status["status"].as_str().unwrap());
            over.then_some(status)
        })
    }

    /// The events of the last batch of this type, or of one below it.
    fn events(&self, of: &str) -> Vec<Value> {
        let events = self.home.run(["events", "last", "--type", of]);
        events.exits(0).lines()
    }

    /// Submits a pipeline with one job, which runs a script.
    fn submit(&self, script: &str, more: &str, inputs: &[String]) {
        let program = self.home.script("handler.sh", script);
        let pipeline = format!(
            "[[tiers]]\njobs = [{{ handler = \"exec\", params = {{ command = [\"{}\"], cwd = \"{}\" }}, {more} }}]\n",
            program.display(),
            self.home.work().display()
        );
        self.home.file("pipeline.toml", &pipeline);
        let submit = ["submit", "-f", "pipeline.toml"].map(str::to_owned);
        self.home.run(submit.iter().chain(inputs)).exits(0);
    }
}

fn documents(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("doc-{n}")).collect()
}

/// Notes that it runs, and waits until it may end.
const WAITS: &str = r#"#!/bin/sh
echo x >> "began"
while [ ! -e open ]; do sleep 0.05; done
"#;

#[test]
fn a_document_that_needs_too_much_memory_is_out_of_memory_and_nothing_else_is() {
    let home = Home::new();
    home.script(
        "handler.py",
        "#!/usr/bin/env python3
import os, time
large = os.environ['REDRIVE_DOCUMENT_ID'] == 'large'
kept = b'x' * ((200 if large else 20) << 20)
time.sleep(60 if large else 0.2)
",
    );
    home.file(
        "pipeline.toml",
        r#"[[tiers]]
jobs = [{ handler = "exec", params = { command = ["./handler.py"] }, memory_bytes = 67108864, max_attempts = 1, backoff = { base = "10ms", max = "10ms" } }]
"#,
    );
    let _keeper = home.keep();
    home.run(["run", "-f", "pipeline.toml", "small", "large", "other"])
        .exits(3);
    let failures = home.run(["failures", "-o", "json"]).exits(0).json();
    assert_eq!(failures.as_array().unwrap().len(), 1, "{failures}");
    let row = failures[0].to_string();
    for says in [
        "\"large\"",
        "out_of_memory",
        "transient",
        "was killed: the job allows 64.0 MiB (memory_bytes = 67108864)",
    ] {
        assert!(row.contains(says), "{row} does not say {says}");
    }
    let status = home.run(["status", "-o", "json"]).exits(0).json();
    let job = &status["tiers"][0]["jobs"][0];
    // Three attempts, none of which counts against the one that the job allows.
    assert_eq!(job["failed_attempts"], 3, "{job}");
    let peak = job["peak_memory"].as_u64().unwrap();
    assert!((20 << 20..64 << 20).contains(&peak), "{peak}");
}

#[test]
fn what_a_worker_cannot_end_after_sigterm_is_preempted_and_costs_no_attempt() {
    let system = System::start();
    let mut first = system.worker("first");
    system.submit(WAITS, "max_attempts = 1", &documents(3));
    let began = system.home.work().join("began");
    until("it runs", SOON, || (count_lines(&began) > 0).then_some(()));
    signal(first.pid(), Signal::TERM);
    first.end();
    system.home.file("open", "");
    let _second = system.worker("second");
    let status = system.over();
    assert_eq!(status["status"], "completed", "{status}");
    assert_eq!(status["counts"]["completed"], 3);
    let job = &status["tiers"][0]["jobs"][0];
    assert_eq!(
        (&job["failed_attempts"], &job["lost_attempts"]),
        (&1.into(), &0.into())
    );
    let events = system.events("documents.attempt_failed");
    assert_eq!(events.len(), 1, "{events:?}");
    let event = events[0].to_string();
    assert!(
        event.contains("preempted") && event.contains("told to leave"),
        "{event}"
    );
    assert_eq!(count_lines(&began), 4, "only what ran was executed again");
}

#[test]
fn what_a_killed_worker_had_goes_elsewhere_within_seconds_and_costs_no_attempt() {
    let system = System::start();
    let mut first = system.worker("first");
    system.submit(WAITS, "max_attempts = 1", &documents(3));
    let began = system.home.work().join("began");
    until("it runs", SOON, || (count_lines(&began) > 0).then_some(()));
    // A coordinator learns from heartbeats who has what.
    until("the worker says that it has it", SOON, || {
        let workers = system.home.run(["workers", "-o", "json"]).exits(0).json();
        (workers[0]["units"].as_u64() > Some(0)).then_some(())
    });
    let _second = system.worker("second");
    first.kill();
    system.home.file("open", "");
    let status = system.over();
    assert_eq!(status["status"], "completed", "{status}");
    let job = &status["tiers"][0]["jobs"][0];
    assert_eq!(
        (&job["failed_attempts"], &job["lost_attempts"]),
        (&0.into(), &1.into())
    );
    let lost = system.events("infrastructure.worker_lost");
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].to_string().contains("first"), "{lost:?}");
}

#[test]
fn a_document_that_kills_its_workers_is_set_aside_and_all_others_complete() {
    let system = System::start();
    let mut inputs = documents(200);
    inputs.insert(70, "killer".to_owned());
    let script = "#!/bin/sh\n[ \"$REDRIVE_DOCUMENT_ID\" != killer ] || { echo x >> killed; kill -9 $PPID; }\n";
    let mut workers = vec![system.worker("worker-0")];
    system.submit(script, "max_attempts = 1", &inputs);
    // Whoever looks after machines starts another worker where one has died.
    let end = Instant::now() + Duration::from_secs(60);
    let status = loop {
        let status = system.status();
        if !["pending", "running"].contains(&status["status"].as_str().unwrap()) {
            break status;
        }
        assert!(Instant::now() < end, "it goes round for ever: {status}");
        if !workers.last_mut().unwrap().is_running() {
            workers.push(system.worker(&format!("worker-{}", workers.len())));
        }
    };
    assert_eq!(status["counts"]["completed"], 200, "{status}");
    assert_eq!(status["counts"]["failed"], 1);
    let job = &status["tiers"][0]["jobs"][0];
    assert_eq!(job["failures"]["permanent"]["poison"], 1, "{job}");
    let failures = system.home.run(["failures", "last", "-o", "json"]);
    let failures = failures.exits(0).json();
    assert_eq!(failures[0]["document"], "killer", "{failures}");
    assert!(
        failures[0].to_string().contains("3 executions in a row"),
        "{failures}"
    );
    // The first one may have killed before it was known who had it.
    let killed = count_lines(&system.home.work().join("killed"));
    assert!((3..=6).contains(&killed), "{killed} workers were killed");
}
