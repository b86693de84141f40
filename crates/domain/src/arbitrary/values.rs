//! What events are made of.

use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    command::{Refusal, Shortage, Stale},
    credits::Month,
    document::Document,
    event::Attempt,
    failure::{Failure, FailureClass, FailureKind},
    ids::{ChunkId, JobName, WorkerId},
    limits::SEGMENTS_FROM,
    pipeline::{MaxFailed, Pipeline, SpecError},
    segments::Segmented,
    share::Share,
    status::BatchStatus,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::FailedUnits,
};

pub(crate) fn unit_set() -> impl Strategy<Value = UnitSet> {
    let run = prop_oneof![
        8 => (0u32..40, 1u32..20),
        1 => (0u32..200_000, 1u32..70_000),
        1 => (u32::MAX - 100..=u32::MAX, 1u32..200),
        3 => (SEGMENTS_FROM..SEGMENTS_FROM + 40, 1u32..20),
    ];
    let sparse = (0u32..100_000, 2u32..5, 0u32..9_000)
        .prop_map(|(first, step, n)| (0..n).map(|i| first + i * step).collect());
    let runs = vec(run, 0..4).prop_map(|runs| {
        runs.into_iter()
            .fold(UnitSet::new(), |mut set, (first, n)| {
                set.add(&UnitSet::run(first, n));
                set
            })
    });
    prop_oneof![9 => runs, 1 => sparse]
}

pub(super) fn status() -> impl Strategy<Value = BatchStatus> + Clone {
    proptest::sample::select(vec![
        BatchStatus::Pending,
        BatchStatus::Running,
        BatchStatus::Completed,
        BatchStatus::CompletedWithFailures,
        BatchStatus::Failed,
        BatchStatus::Cancelled,
    ])
}

pub(super) fn class() -> impl Strategy<Value = FailureClass> {
    proptest::sample::select(FailureClass::ALL.to_vec())
}

pub(super) fn kind() -> impl Strategy<Value = FailureKind> {
    prop_oneof![
        Just(FailureKind::NETWORK),
        Just(FailureKind::REJECTED),
        "[a-z]{1,3}".prop_map(|word| FailureKind::new(word).unwrap()),
    ]
}

pub(super) fn failure() -> impl Strategy<Value = Failure> {
    let text = option::of("(?s).{0,20}");
    (
        class(),
        kind(),
        "(?s).{0,20}",
        text.clone(),
        text,
        option::of(any::<u64>()),
    )
        .prop_map(|(class, kind, message, code, detail, wait)| {
            let mut failure = Failure::new(kind, message).with_class(class);
            failure.retry_after = wait.map(Millis);
            if let Some(code) = code {
                failure = failure.with_code(code);
            }
            match detail {
                Some(detail) => failure.with_detail(detail),
                None => failure,
            }
        })
}

pub(super) fn failed() -> impl Strategy<Value = Vec<FailedUnits>> {
    let one = (unit_set(), failure()).prop_map(|(units, failure)| FailedUnits { units, failure });
    vec(one, 0..3)
}

pub(super) fn job_name() -> impl Strategy<Value = JobName> {
    proptest::sample::select(vec!["a", "b", "z"]).prop_map(|name| JobName::new(name).unwrap())
}

pub(super) fn attempt() -> impl Strategy<Value = Attempt> {
    let busy = prop_oneof![0u64..9, Just(u64::MAX)];
    (
        0u16..5,
        job_name(),
        any::<u32>(),
        any::<u128>(),
        any::<bool>(),
        busy,
    )
        .prop_map(|(tier, job, number, chunk, known, busy)| Attempt {
            tier: if tier == 4 { u16::MAX } else { tier },
            job,
            number,
            chunk: ChunkId(Uuid::from_u128(chunk)),
            worker: known.then(|| WorkerId::new("w").unwrap()),
            busy: Millis(busy),
            loading: Millis(busy / 3),
            writing: Millis(busy % 5),
            peak_memory: known.then_some(busy),
        })
}

/// Pipelines of up to three tiers, among them some that nobody could have made.
pub(super) fn pipeline() -> impl Strategy<Value = Pipeline> {
    let tier = (
        any::<bool>(),
        proptest::sample::select(vec!["a", "a b", "b", "a b", "a a", "", "*a", "&a"]),
    );
    vec(tier, 0..4).prop_map(|tiers| {
        let job = json!({ "handler": "x", "name": "a" });
        let one = json!({ "tiers": [{ "jobs": [job] }] });
        let mut pipeline = Pipeline::from_value(&one).unwrap();
        let usual = pipeline.tiers[0].clone();
        pipeline.max_failed = (tiers.len() == 3).then_some(MaxFailed::Count(0));
        pipeline.tiers = tiers
            .into_iter()
            .map(|(barrier, jobs)| {
                let mut tier = usual.clone();
                tier.barrier = barrier;
                tier.join = jobs.starts_with('&');
                tier.jobs = jobs
                    .split_whitespace()
                    .map(|name| {
                        let mut job = usual.jobs[0].clone();
                        job.segments = name.starts_with('*');
                        let name = name.trim_start_matches(['*', '&']);
                        job.name = JobName::new(name).unwrap();
                        job
                    })
                    .collect();
                tier
            })
            .collect();
        pipeline
    })
}

fn data() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({ "b": [1, -2, 3.5], "a": null })),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // JSON texts are read to within one last digit, so only numbers with short ones come back the same.
        (-9_999i32..9_999).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        ".{0,9}".prop_map(Value::from),
    ]
}

pub(super) fn document() -> impl Strategy<Value = Document> {
    (".{1,9}", option::of(".{0,9}"), option::of(data())).prop_map(|(id, uri, data)| Document {
        id,
        uri,
        data,
    })
}

pub(super) fn tier() -> impl Strategy<Value = u16> {
    prop_oneof![9 => 0u16..4, 1 => any::<u16>()]
}

pub(super) fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        vec(("[a-z]{0,5}", ".{0,9}"), 0..3).prop_map(|errors| Refusal::Invalid {
            errors: errors
                .into_iter()
                .map(|(path, message)| SpecError { path, message })
                .collect(),
        }),
        ".{0,9}".prop_map(|what| Refusal::NotFound { what }),
        ".{0,9}".prop_map(|message| Refusal::Conflict { message }),
        ".{0,9}".prop_map(|message| Refusal::NotAllowed { message }),
        (any::<u64>(), any::<u64>(), unit_set(), unit_set()).prop_map(
            |(plan_seq, seq, gone_documents, added_documents)| {
                Refusal::Stale(Stale {
                    plan_seq,
                    seq,
                    gone: gone_documents.len(),
                    added: added_documents.len(),
                    gone_documents,
                    added_documents,
                })
            }
        ),
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(limit, left, takes)| {
            Refusal::Credits(Shortage {
                month: Month::of(Timestamp(0)),
                limit,
                left,
                takes,
                missing: takes.saturating_sub(left),
            })
        }),
        Just(Refusal::KeyReused),
    ]
}

pub(super) fn segmented() -> impl Strategy<Value = Option<Segmented>> {
    let first = prop_oneof![
        4 => Just(SEGMENTS_FROM),
        1 => SEGMENTS_FROM..SEGMENTS_FROM + 50,
        1 => any::<u32>(),
    ];
    let count = prop_oneof![9 => 1u32..9, 1 => any::<u32>()];
    let counts = proptest::collection::btree_map(0u32..40, count, 0..9);
    option::of((first, counts).prop_map(|(first, counts)| Segmented {
        first,
        counts: counts.into_iter().collect(),
    }))
}

pub(super) fn share() -> impl Strategy<Value = Share> {
    (1u16..=100).prop_map(|percent| Share::percent(percent).unwrap())
}

/// Within the years that can be written.
pub(super) fn timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        (0i64..10_000).prop_map(Timestamp),
        (-300_000_000_000_000i64..Timestamp::MAX.0).prop_map(Timestamp),
    ]
}
