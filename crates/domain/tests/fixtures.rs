//! Messages as version 1 wrote them. They must be read for ever: never write an existing file of `fixtures/` again.
//!
//! `REDRIVE_BLESS=1 cargo test -p redrive-domain --test fixtures` writes the files that are missing, and only those.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::{fs, path::PathBuf};

use redrive_domain::{
    canary::Part,
    command::{
        AddDocuments, Cancel, Command, Create, CreateKey, Excluded, Heal, Pause, Refusal, Resume,
        Retry, RetryMode, RevokeKey, SetCredits, Start, Submit, Verb, Written,
    },
    credits::Month,
    document::{Document, Output},
    event::{Attempt, Cause, Envelope, Event, Selected},
    failure::{Failure, FailureClass, FailureKind},
    heal::{Execution, HealAction, StuckReason},
    ids::{
        BatchId, BatchKey, Bucket, ChunkId, CommandId, EventId, HandlerName, JobName, KeyId,
        KeyName, Namespace, ResourceClass, WorkerId,
    },
    keys::{NewKey, Scope, Scopes, Token},
    limits::SEGMENTS_FROM,
    packed::Packed,
    pause::{JobRef, Outage, PauseReason},
    pipeline::{MaxFailed, Pipeline, SubmissionChange},
    presence::{CoordinatorStanding, Presence, ProjectorStanding, Standing},
    segments::Segmented,
    status::BatchStatus,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{
        Chunk, FailedUnits, Heartbeat, InFlight, Input, Join, Outcome, Outputs, SegmentRun, Signal,
        Source,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn jobs() -> Vec<JobRef> {
    let tier = 1;
    vec![JobRef { tier, job: job() }]
}

/// What stands in the file, which is written first where it is missing and that was asked for.
fn kept(name: &str, fresh: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = folder().join(name);
    if !path.exists() && std::env::var_os("REDRIVE_BLESS").is_some() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(&path, fresh()).unwrap();
    }
    fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}; REDRIVE_BLESS=1 writes it"))
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap();
    text.push(b'\n');
    text
}

/// The MessagePack of the file is this value, and the JSON beside it is the same value.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, sample: &T) {
    let bytes = kept(&format!("{name}.msgpack"), || {
        rmp_serde::to_vec_named(sample).unwrap()
    });
    let json = kept(&format!("{name}.json"), || pretty(sample));
    let read: T = rmp_serde::from_slice(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(read, *sample, "{name}");
    let read: T = serde_json::from_slice(&json).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(read, *sample, "{name}");
}

fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0000 + n)
}

fn at() -> Timestamp {
    "2026-01-31T12:00:00.250Z".parse().unwrap()
}

fn namespace() -> Namespace {
    Namespace::new("default").unwrap()
}

fn bucket() -> Bucket {
    Bucket::new("inbox").unwrap()
}

fn job() -> JobName {
    JobName::new("fetch").unwrap()
}

fn worker() -> WorkerId {
    WorkerId::new("worker-1").unwrap()
}

fn execution(worker: &str) -> Execution {
    Execution {
        worker: WorkerId::new(worker).unwrap(),
        chunk: ChunkId(uuid(7)),
        attempt: 2,
    }
}

fn units() -> UnitSet {
    (0..10)
        .chain([12, 70_000])
        .chain(100_000..200_000)
        .collect()
}

fn documents() -> Vec<Document> {
    vec![
        Document::new("a"),
        Document {
            id: "b/ü".to_owned(),
            uri: Some("https://example.com/b".to_owned()),
            data: Some(json!({ "n": [1, -2, 0.5, null, true] })),
        },
    ]
}

fn pipeline() -> Value {
    json!({
        "name": "two tiers",
        "tiers": [
            { "name": "get", "jobs": [{
                "handler": "fetch",
                "params": { "url": "{uri}" },
                "timeout": "30s",
                "max_attempts": 5,
                "memory_bytes": 1_073_741_824,
                "num_cpus": 2,
                "priority": 70,
                "backoff": { "base": "250ms", "factor": 3, "max": "1m", "jitter": 0.25 },
                "rate_limit": { "per_second": 12.5, "burst": 5 },
                "max_output_bytes": 1000,
            }] },
            { "barrier": true, "jobs": [{ "handler": "ocr", "requires_gpu": true }, { "handler": "exec", "class": "big" }] },
        ],
    })
}

fn change() -> SubmissionChange {
    let change = json!({
        "requires_gpu": true,
        "priority": 70,
        "memory_bytes": 4_294_967_296u64,
        "num_cpus": 4,
        "class": "big",
        "timeout": "10m",
        "max_attempts": 5,
        "rate_limit": 2.5,
        "max_concurrency": 8,
        "entrypoint": "python -m engine",
        "deployment_mode": "gke",
        "plugin_archives": ["a.zip", "b.zip"],
    });
    serde_json::from_value(change).unwrap()
}

fn attempt() -> Attempt {
    Attempt {
        tier: 0,
        job: job(),
        number: 2,
        chunk: ChunkId(uuid(7)),
        worker: Some(worker()),
        busy: Millis(1_234),
        loading: Millis(0),
        writing: Millis(0),
        peak_memory: None,
    }
}

fn outputs() -> Packed<Outputs> {
    let page = json!({ "pages": 3 });
    Packed::new(&vec![(0, Output::text("grüße")), (12, Output::json(&page))]).unwrap()
}

fn failed() -> Vec<FailedUnits> {
    let failure = Failure::new(FailureKind::RATE_LIMITED, "too many requests")
        .with_code(429)
        .with_detail("first line\nsecond line")
        .with_retry_after(Millis::seconds(30));
    vec![
        FailedUnits {
            units: [3, 4].into(),
            failure,
        },
        FailedUnits {
            units: [9].into(),
            failure: Failure::new(FailureKind::RATE_LIMITED, "again"),
        },
    ]
}

fn events() -> Vec<Event> {
    let (completed, failed_count) = (99_000, 12);
    let status = BatchStatus::CompletedWithFailures;
    let (class, kind) = (FailureClass::Transient, FailureKind::RATE_LIMITED);
    let excluded =
        serde_json::from_value(json!({ "class": { "permanent": 3 }, "retry_limit": 2, "tier": 1 }));
    vec![
        Event::BatchCreated {
            bucket: bucket(),
            pipeline: Pipeline::from_value(&pipeline()).unwrap(),
            start: Start::AtOnce,
        },
        Event::DocumentsAdded {
            first: 10,
            count: 2,
            documents: Packed::new(&documents()).unwrap(),
        },
        Event::BatchSubmitted { documents: 12 },
        Event::BatchCompleted {
            status,
            completed,
            failed: failed_count,
            cancelled: 0,
        },
        Event::BatchCancelled {
            reason: Some("a mistake".to_owned()),
            documents: 7,
        },
        Event::TierStarted { tier: 1 },
        Event::TierCompleted {
            tier: 1,
            status,
            completed,
            failed: failed_count,
        },
        Event::DocumentsCompleted {
            attempt: attempt(),
            units: units(),
            skipped: [11].into(),
            outputs: Some(outputs()),
            segments: None,
        },
        Event::AttemptFailed {
            attempt: attempt(),
            class,
            kind: kind.clone(),
            units: failed(),
            retry_at: at().plus(Millis::seconds(30)),
            counted: true,
        },
        Event::DocumentsFailed {
            attempt: attempt(),
            class,
            kind,
            units: failed(),
        },
        Event::RetryScheduled {
            mode: RetryMode::All,
            tier_nums: vec![0, 1],
            kinds: Vec::new(),
            fingerprints: Vec::new(),
            max_retry_count: 3,
            max_retries: Some(2),
            selected: vec![Selected {
                tier: 0,
                job: job(),
                units: units(),
            }],
            excluded: excluded.unwrap(),
            last: true,
            plan_seq: None,
            not_before: None,
            canary: None,
            jobs: Vec::new(),
        },
        Event::WorkerLost {
            attempt: Attempt {
                worker: None,
                ..attempt()
            },
            units: units(),
        },
        Event::CommandRefused {
            verb: Some(Verb::Retry),
            refusal: Refusal::invalid("max_retries", "is 4: it takes 1 to 3"),
            message: "the command is not valid".to_owned(),
        },
        Event::DispatchPaused {
            jobs: jobs(),
            reason: PauseReason::Misconfigured(failed()[0].failure.clone()),
        },
        Event::DispatchResumed { jobs: jobs() },
        Event::StuckDetected {
            attempt: attempt(),
            units: units(),
            counted: [12].into(),
            reason: StuckReason::PastDeadline,
            since: at(),
            fixed: true,
            last: true,
        },
        Event::DuplicatesKilled {
            tier: 1,
            job: job(),
            units: units(),
            kept: Some(execution("worker-1")),
            superseded: vec![execution("worker-2")],
            last: true,
        },
        Event::DispatchOrphaned {
            jobs: jobs(),
            since: at(),
        },
        Event::DispatchServed { jobs: jobs() },
        Event::CreditsLimitSet { limit: Some(1_000) },
        Event::CreditsReserved {
            month: month(),
            amount: 300,
            documents: units(),
        },
        Event::CreditsSettled {
            month: month(),
            amount: 200,
            documents: units(),
        },
        Event::CreditsReleased {
            month: month(),
            amount: 100,
            documents: units(),
        },
        Event::BatchAborted {
            failed: 12,
            max_failed: MaxFailed::Share("5%".parse().unwrap()),
            open: 7,
        },
        Event::CanaryJudged {
            succeeded: 9,
            sample: 10,
            success: "90%".parse().unwrap(),
            passed: true,
        },
        Event::DispatchLimited {
            job: jobs().remove(0),
            concurrency: Some(4),
            kind: FailureKind::RATE_LIMITED,
        },
        Event::TierResubmitted {
            tier: 1,
            jobs: vec![job()],
            change: change(),
        },
        Event::TierCancelled {
            tier: 1,
            documents: 7,
            reason: Some("it is stuck".to_owned()),
        },
        Event::JobCancelled {
            tier: 1,
            job: job(),
            waived: true,
            units: 7,
            reason: Some("its siblings are fine".to_owned()),
        },
        Event::KeyCreated(NewKey {
            key: KeyId(uuid(11)),
            name: KeyName::new("ci").unwrap(),
            scopes: scopes(),
            hash: token().hash(),
            expires_at: Some(at()),
        }),
        Event::KeyRevoked {
            key: KeyId(uuid(11)),
        },
    ]
}

fn scopes() -> Scopes {
    Scopes::new([Scope::Read, Scope::Operate]).unwrap()
}

fn token() -> Token {
    Token::new(namespace(), KeyId(uuid(11)), [7; 32])
}

fn month() -> Month {
    Month::of(at())
}

#[test]
fn every_event_is_read_as_it_was_written() {
    let causes = [
        Cause::State,
        Cause::Command(CommandId(uuid(5))),
        Cause::Chunk(ChunkId(uuid(7))),
    ];
    for (event, cause) in events().into_iter().zip(causes.into_iter().cycle()) {
        let name = event.name().to_owned();
        let whole = cause != Cause::State;
        let envelope = Envelope {
            v: 1,
            id: EventId(uuid(9)),
            at: at(),
            namespace: namespace(),
            batch: BatchId(uuid(1)),
            cause,
            actor: whole.then(|| "ann".to_owned()),
            trace: whole
                .then(|| "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            event,
        };
        check(&name, &envelope);
    }
}

#[test]
fn there_is_a_fixture_of_every_event() {
    // A new variant makes this fail to compile, or the next line fail.
    let known = |event: &Event| match event {
        Event::BatchCreated { .. } => 0,
        Event::DocumentsAdded { .. } => 1,
        Event::BatchSubmitted { .. } => 2,
        Event::BatchCompleted { .. } => 3,
        Event::BatchCancelled { .. } => 4,
        Event::TierStarted { .. } => 5,
        Event::TierCompleted { .. } => 6,
        Event::DocumentsCompleted { .. } => 7,
        Event::AttemptFailed { .. } => 8,
        Event::DocumentsFailed { .. } => 9,
        Event::RetryScheduled { .. } => 10,
        Event::WorkerLost { .. } => 11,
        Event::CommandRefused { .. } => 12,
        Event::DispatchPaused { .. } => 13,
        Event::DispatchResumed { .. } => 14,
        Event::StuckDetected { .. } => 15,
        Event::DuplicatesKilled { .. } => 16,
        Event::DispatchOrphaned { .. } => 17,
        Event::DispatchServed { .. } => 18,
        Event::CreditsLimitSet { .. } => 19,
        Event::CreditsReserved { .. } => 20,
        Event::CreditsSettled { .. } => 21,
        Event::CreditsReleased { .. } => 22,
        Event::BatchAborted { .. } => 23,
        Event::CanaryJudged { .. } => 24,
        Event::DispatchLimited { .. } => 25,
        Event::TierResubmitted { .. } => 26,
        Event::TierCancelled { .. } => 27,
        Event::JobCancelled { .. } => 28,
        Event::KeyCreated(_) => 29,
        Event::KeyRevoked { .. } => 30,
    };
    let all: Vec<i32> = events().iter().map(known).collect();
    assert_eq!(all, (0..31).collect::<Vec<i32>>());
}

#[test]
fn fields_that_a_later_version_adds_do_no_harm() {
    let event = Event::BatchSubmitted { documents: 12 };
    let sample = Envelope {
        v: 1,
        id: EventId(uuid(9)),
        at: at(),
        namespace: namespace(),
        batch: BatchId(uuid(1)),
        cause: Cause::State,
        actor: None,
        trace: None,
        event,
    };
    let mut bytes = sample.encode().unwrap();
    // Both the envelope and the event are maps of a few entries whose last one ends the message: one more each.
    let key = b"\xa9documents";
    let inner = bytes
        .windows(key.len())
        .position(|part| part == key)
        .unwrap()
        - 1;
    for map in [inner, 0] {
        assert_eq!(bytes[map] & 0xf0, 0x80, "a map of at most 15 entries");
        bytes[map] += 1;
        bytes.extend_from_slice(b"\xa5later\x91\xc3");
    }
    assert_eq!(Envelope::decode(&bytes), Ok(sample));
}

#[test]
fn every_command_is_read_as_it_was_written() {
    let commands = [
        Command::Create(Create {
            pipeline: pipeline(),
            start: Start::AtOnce,
        }),
        Command::AddDocuments(AddDocuments {
            first: Some(10),
            documents: documents(),
        }),
        Command::Submit(Submit {
            documents: Some(12),
        }),
        Command::Retry(Retry {
            retry_mode: RetryMode::All,
            tier_nums: Some(vec![0, 1]),
            max_retry_count: 5,
            max_retries: Some(2),
            ..Retry::default()
        }),
        Command::Cancel(Cancel {
            reason: Some("a mistake".to_owned()),
            ..Cancel::default()
        }),
        Command::Pause(Pause {
            tier: Some(1),
            job: Some(job()),
            reason: Some("the index moves".to_owned()),
        }),
        Command::Resume(Resume {
            tier: Some(1),
            job: Some(job()),
        }),
        Command::Heal(Heal {
            tier: Some(1),
            fix: true,
            idle_seconds: Some(90),
            ..Heal::new(HealAction::DetectStuck)
        }),
        Command::SetCredits(SetCredits { limit: Some(1_000) }),
        Command::CreateKey(CreateKey {
            key: KeyId(uuid(11)),
            name: KeyName::new("ci").unwrap(),
            scopes: scopes(),
            hash: token().hash(),
            expires_at: Some(at()),
        }),
        Command::RevokeKey(RevokeKey {
            key: KeyId(uuid(11)),
        }),
    ];
    for command in commands {
        let id = Some(CommandId(uuid(5)));
        let written = Written {
            id,
            actor: Some("ann"),
            command: &command,
        };
        let verb = command.verb();
        let json = kept(&format!("command.{verb}.json"), || pretty(&written));
        let kept = Command::read_body(verb, &json).unwrap();
        let fresh = Command::read_body(verb, &serde_json::to_vec(&written).unwrap());
        assert_eq!(fresh, Ok(kept.clone()));
        assert_eq!((kept.id, kept.actor.as_deref()), (id, Some("ann")));
        assert_eq!(kept.command, command);
    }
    let short = Command::read_body(Verb::Retry, b"").unwrap();
    assert_eq!(short.command, Command::Retry(Retry::default()));
}

#[test]
fn every_message_between_coordinator_and_worker_is_read_as_it_was_written() {
    let held: UnitSet = (0..10).chain([12]).collect();
    let key = BatchKey {
        namespace: namespace(),
        batch: BatchId(uuid(1)),
    };
    check(
        "chunk",
        &Chunk {
            id: ChunkId(uuid(7)),
            namespace: namespace(),
            bucket: bucket(),
            batch: key.batch,
            tier: 1,
            job: job(),
            handler: HandlerName::new("fetch").unwrap(),
            params: json!({ "url": "{uri}" }),
            attempt: 2,
            timeout: Millis::seconds(30),
            memory_bytes: Some(1 << 30),
            num_cpus: 2,
            max_output_bytes: 65_536,
            units: held.clone(),
            documents: vec![Source {
                seq: 2,
                units: held.clone(),
            }],
            inputs: vec![Input {
                job: job(),
                seq: 17,
                units: held.clone(),
                lines: false,
            }],
            at: at(),
            strikes: 0,
            entrypoint: None,
            deployment_mode: None,
            plugin_archives: Vec::new(),
            trace: None,
            splits: false,
            segments: Vec::new(),
            joins: Vec::new(),
        },
    );
    check(
        "outcome",
        &Outcome {
            chunk: ChunkId(uuid(7)),
            namespace: namespace(),
            batch: key.batch,
            tier: 1,
            job: job(),
            attempt: 2,
            worker: worker(),
            completed: [0, 12].into(),
            skipped: [1].into(),
            outputs: Some(outputs()),
            failures: failed(),
            returned: [10].into(),
            busy: Millis(1_234),
            loading: Millis(0),
            peak_memory: None,
            segments: Vec::new(),
            at: at(),
        },
    );
    check(
        "heartbeat",
        &Heartbeat {
            worker: worker(),
            host: "host-1".to_owned(),
            pid: 4_321,
            version: None,
            handlers: vec![HandlerName::new("fetch").unwrap()],
            classes: vec![ResourceClass::new("cpu").unwrap()],
            slots: 8,
            draining: false,
            in_flight: vec![InFlight {
                chunk: ChunkId(uuid(7)),
                namespace: namespace(),
                batch: key.batch,
                tier: 1,
                job: job(),
                attempt: 2,
                units: held,
                running: UnitSet::new(),
                taken_at: None,
                alive_at: None,
            }],
            limits: None,
            started_at: at(),
            at: at(),
        },
    );
    let presence = |standing| Presence {
        name: "one".to_owned(),
        host: "host-1".to_owned(),
        pid: 4_321,
        version: "0.1.0".to_owned(),
        standing,
        started_at: at(),
        at: at(),
    };
    for (name, standing) in [
        ("seeking", CoordinatorStanding::Seeking),
        (
            "standing_by",
            CoordinatorStanding::StandingBy {
                leader: "two".to_owned(),
            },
        ),
        ("taking_over", CoordinatorStanding::TakingOver),
        ("leading", CoordinatorStanding::Leading),
    ] {
        let standing = Standing::Coordinator(standing);
        check(&format!("presence.{name}"), &presence(standing));
    }
    let following = ProjectorStanding {
        serving: true,
        applied: 10,
        last_seq: Some(12),
    };
    check(
        "presence.projector",
        &presence(Standing::Projector(following)),
    );
    check("signal.stop_batch", &Signal::StopBatch(key));
    check("signal.stop_chunk", &Signal::StopChunk(ChunkId(uuid(7))));
    let (worker, chunk) = (worker(), ChunkId(uuid(7)));
    check(
        "signal.stop_execution",
        &Signal::StopExecution { worker, chunk },
    );
}

#[test]
fn a_retry_that_is_tried_on_a_sample_is_read_as_it_was_written() {
    let selected = |units: UnitSet| Selected {
        tier: 0,
        job: job(),
        units,
    };
    let event = |selected, canary| Event::RetryScheduled {
        mode: RetryMode::All,
        tier_nums: Vec::new(),
        kinds: Vec::new(),
        fingerprints: Vec::new(),
        max_retry_count: 3,
        max_retries: None,
        selected: vec![selected],
        excluded: Excluded::default(),
        last: true,
        plan_seq: None,
        jobs: Vec::new(),
        not_before: None,
        canary: Some(canary),
    };
    let sample = Part::Sample {
        share: "1%".parse().unwrap(),
        success: "90%".parse().unwrap(),
        rest: vec![selected(units())],
    };
    check("retry.sample", &event(selected([11].into()), sample));
    check("retry.rest", &event(selected(units()), Part::Rest));
    let retry = Retry {
        canary: Some("1%".parse().unwrap()),
        canary_success: Some("99.5%".parse().unwrap()),
        ..Retry::default()
    };
    check("retry.canary", &retry);
}

#[test]
fn why_a_breaker_is_open_is_read_as_it_was_written() {
    check(
        "pause.breaker",
        &PauseReason::Breaker(Outage {
            failed: 100,
            of: 104,
            window: Millis::seconds(30),
            until: at(),
            probes: 2,
            kind: FailureKind::UNAVAILABLE,
            message: "nobody there".to_owned(),
        }),
    );
}

#[test]
fn segments_are_read_as_they_were_written() {
    let from = SEGMENTS_FROM;
    let event = Event::DocumentsCompleted {
        attempt: attempt(),
        units: [0, 11, 12].into(),
        skipped: UnitSet::new(),
        outputs: Some(outputs()),
        segments: Some(Segmented {
            first: from,
            counts: vec![(0, 3), (12, 70)],
        }),
    };
    let sample = Envelope {
        v: 1,
        id: EventId(uuid(9)),
        at: at(),
        namespace: namespace(),
        batch: BatchId(uuid(1)),
        cause: Cause::Chunk(ChunkId(uuid(7))),
        actor: None,
        trace: None,
        event,
    };
    check("documents.completed.segments", &sample);
    let chunk = |tier, units: UnitSet| Chunk {
        id: ChunkId(uuid(7)),
        namespace: namespace(),
        bucket: bucket(),
        batch: BatchId(uuid(1)),
        tier,
        job: job(),
        handler: HandlerName::new("fetch").unwrap(),
        params: Value::Null,
        attempt: 1,
        entrypoint: None,
        deployment_mode: None,
        plugin_archives: Vec::new(),
        strikes: 0,
        timeout: Millis::seconds(30),
        memory_bytes: None,
        num_cpus: 1,
        max_output_bytes: 65_536,
        units,
        documents: vec![Source {
            seq: 2,
            units: [0, 12].into(),
        }],
        inputs: Vec::new(),
        at: at(),
        trace: None,
        splits: false,
        segments: Vec::new(),
        joins: Vec::new(),
    };
    check(
        "chunk.segments",
        &Chunk {
            inputs: vec![Input {
                job: job(),
                seq: 17,
                units: [0, 12].into(),
                lines: true,
            }],
            segments: [(from + 1, from + 2, 0, 1), (from + 3, from + 9, 12, 0)]
                .map(SegmentRun::from)
                .to_vec(),
            ..chunk(1, (from + 1..from + 10).collect())
        },
    );
    let join = |document, first, places: &[(u64, u32)]| Join {
        document,
        job: job(),
        first,
        places: places.to_vec(),
    };
    check(
        "chunk.join",
        &Chunk {
            joins: vec![
                join(0, from, &[(20, 2), (0, 1)]),
                join(12, from + 3, &[(21, 70)]),
            ],
            ..chunk(2, [0, 12].into())
        },
    );
    check(
        "outcome.segments",
        &Outcome {
            chunk: ChunkId(uuid(7)),
            namespace: namespace(),
            batch: BatchId(uuid(1)),
            tier: 0,
            job: job(),
            attempt: 1,
            worker: worker(),
            completed: [0, 11, 12].into(),
            skipped: UnitSet::new(),
            outputs: Some(outputs()),
            failures: Vec::new(),
            returned: UnitSet::new(),
            busy: Millis(5),
            loading: Millis(0),
            peak_memory: None,
            segments: vec![(0, 3), (12, 70)],
            at: at(),
        },
    );
}
