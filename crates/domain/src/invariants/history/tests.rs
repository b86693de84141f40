use uuid::Uuid;

use super::*;
use crate::{
    command::{Retry, Start},
    event::{Attempt, VERSION},
    ids::{BatchId, Bucket, ChunkId, Namespace},
    limits::SEGMENTS_FROM,
    packed::Packed,
    pause::PauseReason,
    pipeline::Pipeline,
    plan::Plan,
    segments::Segmented,
    time::Millis,
    units::UnitSet,
};

struct Log {
    history: History,
    seq: u64,
}

impl Log {
    /// A batch of two tiers with four documents.
    fn new() -> Self {
        let mut log = Self {
            history: History::default(),
            seq: 0,
        };
        let job = serde_json::json!({ "jobs": [{ "handler": "x", "name": "a" }] });
        let tiers = serde_json::json!({ "tiers": [job, job] });
        log.fine(Event::BatchCreated {
            bucket: Bucket::new("docs").unwrap(),
            pipeline: Pipeline::from_value(&tiers).unwrap(),
            start: Start::OnSubmit,
        });
        log.fine(Event::DocumentsAdded {
            first: 0,
            count: 4,
            documents: Packed::new(&Vec::new()).unwrap(),
        });
        log.fine(Event::BatchSubmitted { documents: 4 });
        log
    }

    fn take(&mut self, cause: Cause, event: Event) -> Vec<String> {
        self.seq += 1;
        let envelope = Envelope {
            v: VERSION,
            id: EventId(Uuid::from_u128(self.seq.into())),
            at: Timestamp(1_000),
            namespace: Namespace::new("tests").unwrap(),
            batch: BatchId(Uuid::from_u128(1)),
            cause,
            actor: None,
            trace: None,
            event,
        };
        self.history.take(self.seq, &envelope)
    }

    fn fine(&mut self, event: Event) {
        assert_eq!(self.take(Cause::State, event), Vec::<String>::new());
    }

    #[track_caller]
    fn wrong(&mut self, event: Event, what: &str) {
        let found = self.take(Cause::State, event);
        assert!(
            found.iter().any(|problem| problem.contains(what)),
            "{found:?}"
        );
    }
}

fn attempt(tier: TierNum, number: u32) -> Attempt {
    Attempt {
        tier,
        job: JobName::new("a").unwrap(),
        number,
        chunk: ChunkId(Uuid::nil()),
        worker: None,
        busy: Millis(0),
        loading: Millis(0),
        writing: Millis(0),
        peak_memory: None,
    }
}

fn done(tier: TierNum, number: u32, unit: Ordinal) -> Event {
    Event::DocumentsCompleted {
        attempt: attempt(tier, number),
        units: UnitSet::from([unit]),
        skipped: UnitSet::new(),
        outputs: None,
        segments: None,
    }
}

fn lost(number: u32, unit: Ordinal) -> Event {
    Event::WorkerLost {
        attempt: attempt(0, number),
        units: UnitSet::from([unit]),
    }
}

#[test]
fn an_outcome_counts_once_and_in_its_turn() {
    let mut log = Log::new();
    log.fine(done(0, 1, 0));
    log.wrong(done(0, 1, 0), "was Done before");
    log.fine(lost(1, 1));
    log.wrong(done(0, 1, 1), "1 attempts have ended");
    log.wrong(done(0, 3, 2), "0 attempts have ended");
    log.wrong(done(1, 1, 1 << 20), "no such document");
    log.wrong(done(1, 1, 3), "the tier before");
    log.fine(done(1, 1, 0));
}

#[test]
fn no_unit_goes_on_with_three_strikes() {
    let mut log = Log::new();
    log.fine(lost(1, 0));
    log.fine(lost(2, 0));
    log.wrong(lost(3, 0), "it has 3 strikes and goes on");
}

#[test]
fn nothing_happens_after_a_cancellation() {
    let mut log = Log::new();
    log.fine(Event::BatchCancelled {
        reason: None,
        documents: 4,
    });
    log.wrong(done(0, 1, 0), "after its cancellation");
}

#[test]
fn a_command_acts_once_and_stands_in_the_log_when_it_is_acknowledged() {
    let mut log = Log::new();
    let id = CommandId(Uuid::from_u128(7));
    let cancel = || Event::BatchCancelled {
        reason: None,
        documents: 4,
    };
    let key = BatchKey {
        namespace: Namespace::new("tests").unwrap(),
        batch: BatchId(Uuid::from_u128(1)),
    };
    let accepted = |seq| Accepted {
        batch: key.batch,
        status: crate::status::BatchStatus::Running,
        seq,
        repeated: false,
        documents: 4,
        retry: None,
        plan: None,
        jobs: Vec::new(),
        cancelled_documents: None,
        heal: None,
        credits: None,
        added: None,
        cancelled_units: None,
    };
    let early = log.history.acknowledged(&key, id, &accepted(3));
    assert!(early.is_some_and(|problem| problem.contains("the log has None")));
    let first = log.take(Cause::Command(id), cancel());
    assert_eq!(first, Vec::<String>::new());
    assert_eq!(log.history.acknowledged(&key, id, &accepted(4)), None);
    assert!(log.history.acknowledged(&key, id, &accepted(5)).is_some());
    let again = log.take(Cause::Command(id), cancel());
    assert!(
        again
            .iter()
            .any(|problem| problem.contains("carried out twice"))
    );
}

#[test]
fn a_preview_does_nothing() {
    let mut log = Log::new();
    let id = CommandId(Uuid::from_u128(7));
    let key = BatchKey {
        namespace: Namespace::new("tests").unwrap(),
        batch: BatchId(Uuid::from_u128(1)),
    };
    let retry = Retry::default();
    let preview = Accepted {
        batch: key.batch,
        status: crate::status::BatchStatus::Running,
        seq: 3,
        repeated: false,
        documents: 4,
        retry: None,
        plan: Some(Plan::new(&key, 3, &retry, &[])),
        jobs: Vec::new(),
        cancelled_documents: None,
        heal: None,
        credits: None,
        added: None,
        cancelled_units: None,
    };
    assert_eq!(log.history.acknowledged(&key, id, &preview), None);
    let acted = Event::DispatchPaused {
        jobs: Vec::new(),
        reason: PauseReason::Asked(None),
    };
    assert_eq!(log.take(Cause::Command(id), acted), Vec::<String>::new());
    assert!(log.history.acknowledged(&key, id, &preview).is_some());
}

#[test]
fn a_job_is_paused_until_it_is_resumed_or_retried_or_its_tier_is_over() {
    let mut log = Log::new();
    let key = BatchKey {
        namespace: Namespace::new("tests").unwrap(),
        batch: BatchId(Uuid::from_u128(1)),
    };
    let job = |tier| JobRef {
        tier,
        job: JobName::new("a").unwrap(),
    };
    let pause = || Event::DispatchPaused {
        jobs: vec![job(0), job(1)],
        reason: PauseReason::Asked(None),
    };
    log.fine(pause());
    log.fine(pause());
    assert_eq!(log.history.paused_since(&key, &job(0)), Some((4, None)));
    log.fine(Event::DispatchResumed { jobs: vec![job(0)] });
    assert_eq!(log.history.paused_since(&key, &job(0)), None);
    assert_eq!(log.history.paused_since(&key, &job(1)), Some((4, None)));
    log.fine(Event::BatchCancelled {
        reason: None,
        documents: 4,
    });
    assert_eq!(log.history.paused_since(&key, &job(1)), None);
}

#[test]
fn segments_come_of_documents_that_were_split_and_are_joined_when_all_are_through() {
    let mut log = Log {
        history: History::default(),
        seq: 0,
    };
    let job = |segments| serde_json::json!([{ "handler": "x", "name": "a", "segments": segments }]);
    let tiers = serde_json::json!({ "tiers": [
        { "jobs": job(true) }, { "jobs": job(false) }, { "join": true, "jobs": job(false) },
    ] });
    log.fine(Event::BatchCreated {
        bucket: Bucket::new("docs").unwrap(),
        pipeline: Pipeline::from_value(&tiers).unwrap(),
        start: Start::OnSubmit,
    });
    log.fine(Event::DocumentsAdded {
        first: 0,
        count: 3,
        documents: Packed::new(&Vec::new()).unwrap(),
    });
    log.fine(Event::BatchSubmitted { documents: 3 });
    let split = |tier, unit, first, count| Event::DocumentsCompleted {
        attempt: attempt(tier, 1),
        units: UnitSet::from([unit]),
        skipped: UnitSet::new(),
        outputs: None,
        segments: Some(Segmented {
            first,
            counts: vec![(unit, count)],
        }),
    };
    log.fine(split(0, 1, SEGMENTS_FROM, 2));
    log.wrong(split(0, 2, SEGMENTS_FROM, 2), "is the next");
    log.wrong(split(1, SEGMENTS_FROM, SEGMENTS_FROM + 4, 2), "is not to");
    log.wrong(done(1, 1, 0), "no such document or segment");
    log.wrong(
        done(1, 1, SEGMENTS_FROM + 90),
        "no such document or segment",
    );
    log.wrong(done(2, 1, 1), "the tier before");
    log.fine(done(0, 1, 0));
    log.fine(done(2, 1, 0));
}
