//! What a diagnosis recommends is what the command line takes: word for word, and with the same plan.

use clap::Parser;
use redrive_domain::{
    command::{self, Retry},
    decide::{self, ANY_BUCKET, Now},
    diagnosis::{Cause, Recommendation, diagnose},
    event::{Envelope, Event, VERSION},
    evolve::evolve,
    failure::{Failure, FailureClass, FailureKind},
    ids::{BatchId, BatchKey, Bucket, ChunkId, CommandId, EventId, JobName, Namespace, WorkerId},
    state::BatchState,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{FailedUnits, Outcome},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    args::{Cli, Command},
    commands::control::asked,
};

struct Log {
    state: Option<BatchState>,
    seq: u64,
    at: Timestamp,
}

fn key() -> BatchKey {
    BatchKey {
        namespace: Namespace::new("tests").unwrap(),
        batch: BatchId(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001)),
    }
}

impl Log {
    /// A batch of so many documents.
    fn of(pipeline: serde_json::Value, documents: usize) -> Self {
        let mut log = Self {
            state: None,
            seq: 0,
            at: Timestamp(1_790_000_000_000),
        };
        let documents: Vec<_> = (0..documents)
            .map(|n| json!({ "id": n.to_string() }))
            .collect();
        for (verb, body) in [
            ("create", json!({ "pipeline": pipeline })),
            ("add_documents", json!({ "documents": documents })),
            ("submit", json!({})),
        ] {
            let body = body.to_string();
            let read = command::Command::read_body(verb.parse().unwrap(), body.as_bytes());
            log.give(&read.unwrap().command);
        }
        log
    }

    fn give(&mut self, command: &command::Command) {
        let id = CommandId(Uuid::from_u128(u128::from(self.seq) + 1));
        let bucket = Bucket::new("inbox").unwrap();
        let decided = decide::command(self.state.as_ref(), &key(), &bucket, id, command);
        self.append(decided.unwrap().events);
    }

    fn append(&mut self, events: Vec<Event>) {
        events.into_iter().for_each(|event| self.fold(event));
        while let Some(event) = self.state.as_ref().and_then(decide::settle) {
            self.fold(event);
        }
    }

    fn fold(&mut self, event: Event) {
        self.seq += 1;
        let envelope = Envelope {
            v: VERSION,
            id: EventId(Uuid::from_u128(u128::from(self.seq))),
            at: self.at,
            namespace: key().namespace,
            batch: key().batch,
            cause: redrive_domain::event::Cause::State,
            actor: None,
            trace: None,
            event,
        };
        evolve(&mut self.state, self.seq, &envelope);
    }

    /// Each of these failures for one unit after the other, until nothing more is tried; the rest succeeds.
    fn fail(&mut self, job: &str, failures: &[Failure], units: u32) {
        let count = u32::try_from(failures.len()).unwrap();
        for attempt in 1..=3 {
            self.at = self.at.plus(Millis::seconds(120));
            let failed = (0..)
                .zip(failures)
                .map(|(unit, failure): (u32, _)| FailedUnits {
                    units: [unit].into(),
                    failure: failure.clone(),
                });
            let outcome = Outcome {
                chunk: ChunkId(Uuid::from_u128(7)),
                namespace: key().namespace,
                batch: key().batch,
                tier: 0,
                job: JobName::new(job).unwrap(),
                attempt,
                worker: WorkerId::new("w1").unwrap(),
                completed: (count..units).collect(),
                skipped: UnitSet::new(),
                outputs: None,
                failures: failed.collect(),
                returned: UnitSet::new(),
                busy: Millis(5_000),
                loading: Millis(0),
                peak_memory: None,
                segments: Vec::new(),
                at: self.at,
            };
            let now = Now {
                at: self.at,
                random: 0,
            };
            let events = decide::outcome(self.state.as_ref(), &outcome, now).events;
            self.append(events);
        }
    }

    fn advice(&self) -> Vec<Recommendation> {
        diagnose(self.state.as_ref().unwrap(), self.at).recommendations
    }

    /// Every command parses; what it asks for has the plan that stands beside it; and that plan is accepted.
    fn pasted(&self) -> Vec<Cause> {
        let state = self.state.as_ref().unwrap();
        let decide = |retry: Retry| {
            let bucket = Bucket::new(ANY_BUCKET).unwrap();
            let id = CommandId(Uuid::from_u128(999));
            let command = command::Command::Retry(retry);
            decide::command(Some(state), &key(), &bucket, id, &command).unwrap()
        };
        let mut causes = Vec::new();
        for one in self.advice() {
            causes.push(one.cause);
            let Some(line) = &one.command else { continue };
            let words = shell_words::split(line).unwrap();
            let cli = Cli::try_parse_from(&words).unwrap_or_else(|e| panic!("{line}: {e}"));
            let Command::Retry(args) = cli.command else {
                assert!(one.plan.is_none(), "{one:?}");
                continue;
            };
            let changes = [Cause::Timeout, Cause::RateLimited];
            assert!(
                !changes.contains(&one.cause) || line.contains(" --set "),
                "{line}"
            );
            let plan = one.plan.clone().unwrap();
            let asked = asked(args).unwrap();
            assert_eq!(plan.retry(), asked, "{line}");
            let dry = Retry {
                dry_run: true,
                ..asked.clone()
            };
            assert_eq!(decide(dry).accepted.plan.as_ref(), Some(&plan), "{line}");
            let word = plan.to_string();
            let batch = key().batch.to_string();
            let words = ["redrive", "retry", &batch, "--plan", &word];
            let Command::Retry(args) = Cli::try_parse_from(words).unwrap().command else {
                panic!("{words:?}");
            };
            let by_plan = decide(super::super::control::asked(args).unwrap())
                .accepted
                .retry
                .unwrap();
            let by_flags = decide(asked).accepted.retry.unwrap();
            assert_eq!(by_plan, by_flags, "{line}");
            assert!(by_plan.units > 0, "{line}");
        }
        causes
    }
}

fn failures() -> Vec<Failure> {
    let mut all: Vec<Failure> = FailureKind::KNOWN
        .iter()
        .filter(|kind| **kind != FailureKind::MISCONFIGURED)
        .map(|kind| Failure::new(kind.clone(), "it hurt").with_code(7))
        .map(|failure| match failure.kind.as_str() {
            // These go out again without end.
            "preempted" | "worker_lost" => failure.with_class(FailureClass::Permanent),
            _ => failure,
        })
        .collect();
    all.push(
        Failure::new(FailureKind::new("paywall").unwrap(), "pay")
            .with_class(FailureClass::Permanent),
    );
    all
}

#[test]
fn every_command_parses_and_has_its_own_plan() {
    for job in [
        json!({ "handler": "exec" }),
        json!({ "handler": "exec", "memory_bytes": 67_108_864, "timeout": "10s",
            "rate_limit": { "per_second": 8 } }),
    ] {
        let mut log = Log::of(json!({ "tiers": [{ "jobs": [job] }] }), 40);
        log.fail("exec", &failures(), 40);
        let causes = log.pasted();
        for cause in [
            Cause::OutOfMemory,
            Cause::Timeout,
            Cause::RateLimited,
            Cause::Lost,
            Cause::Transient,
            Cause::Crashed,
            Cause::Permanent,
            Cause::Unknown,
        ] {
            assert!(causes.contains(&cause), "{cause:?} is not among {causes:?}");
        }
    }
}

#[test]
fn a_command_means_one_job_of_several() {
    let jobs = json!([{ "handler": "exec" }, { "handler": "fetch" }]);
    let mut log = Log::of(json!({ "tiers": [{ "jobs": jobs }] }), 40);
    log.fail("exec", &failures(), 40);
    log.fail("fetch", &failures(), 40);
    log.pasted();
}

#[test]
fn what_holds_a_batch_up_has_a_command_that_parses() {
    let pipeline = json!({ "tiers": [{ "jobs": [{ "handler": "exec" }] }] });
    let mut log = Log::of(pipeline.clone(), 3);
    log.fail(
        "exec",
        &[Failure::new(FailureKind::MISCONFIGURED, "no such program")],
        1,
    );
    assert_eq!(log.pasted(), [Cause::Misconfigured]);

    let mut log = Log::of(pipeline.clone(), 3);
    log.give(&command::Command::Pause(command::Pause::default()));
    assert_eq!(log.pasted(), [Cause::Paused]);

    let mut few = pipeline.clone();
    few["max_failed"] = json!(0);
    let mut log = Log::of(few, 3);
    let bad = Failure::new(FailureKind::INVALID_DATA, "no title");
    log.fail("exec", &[bad], 1);
    assert_eq!(log.pasted(), [Cause::Aborted, Cause::Permanent]);

    let mut log = Log::of(pipeline, 3);
    log.fail("exec", &[], 1);
    log.at = log.at.plus(Millis::seconds(3_600));
    assert_eq!(log.pasted(), [Cause::Stuck]);
}
