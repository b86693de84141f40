//! Values of every shape for property tests, sensible or not.

use proptest::{collection::vec, option, prelude::*};
use uuid::Uuid;

use crate::{
    canary::Part,
    command::{Excluded, RetryMode, Start, Verb},
    credits::Month,
    document::Output,
    event::{Cause, Envelope, Event, Selected},
    heal::{Execution, StuckReason},
    ids::{BatchId, Bucket, ChunkId, CommandId, EventId, KeyId, KeyName, Namespace, WorkerId},
    keys::{NewKey, Scope, Scopes, SecretHash},
    packed::Packed,
    pause::{JobRef, Outage, PauseReason},
    pipeline::{MaxFailed, SubmissionChange},
    time::{Millis, Timestamp},
};

mod values;

pub(crate) use values::unit_set;
use values::{
    attempt, class, document, failed, failure, job_name, kind, pipeline, refusal, segmented, share,
    status, tier, timestamp,
};

fn documents_event() -> impl Strategy<Value = Event> {
    let numbers = prop_oneof![
        3 => (Just(0u32), 0u32..50),
        3 => (0u32..60, 0u32..50),
        1 => (any::<u32>(), any::<u32>()),
        1 => (Just(0u32), 60_000u32..140_000),
    ];
    (numbers, vec(document(), 0..3)).prop_map(|((first, count), documents)| Event::DocumentsAdded {
        first,
        count,
        documents: Packed::new(&documents).unwrap(),
    })
}

fn work_event() -> impl Strategy<Value = Event> {
    let outputs = option::of(vec((any::<u32>(), ".{0,9}"), 0..3));
    prop_oneof![
        3 => (attempt(), unit_set(), unit_set(), outputs, segmented()).prop_map(
            |(attempt, units, skipped, outputs, segments)| Event::DocumentsCompleted {
                attempt,
                units,
                skipped,
                outputs: outputs.map(|all| {
                    let all = all.into_iter().map(|(unit, text)| (unit, Output::text(text)));
                    Packed::new(&all.collect()).unwrap()
                }),
                segments,
            }
        ),
        1 => (attempt(), class(), kind(), failed(), timestamp(), any::<bool>()).prop_map(
            |(attempt, class, kind, units, retry_at, counted)| Event::AttemptFailed {
                attempt,
                class,
                kind,
                units,
                retry_at,
                counted,
            }
        ),
        2 => (attempt(), class(), kind(), failed()).prop_map(|(attempt, class, kind, units)| {
            Event::DocumentsFailed {
                attempt,
                class,
                kind,
                units,
            }
        }),
        1 => (attempt(), unit_set()).prop_map(|(attempt, units)| Event::WorkerLost { attempt, units }),
    ]
}

fn canary_part() -> impl Strategy<Value = Option<Part>> {
    let rest = (tier(), job_name(), unit_set()).prop_map(|(tier, job, units)| Selected {
        tier,
        job,
        units,
    });
    let sample =
        (share(), share(), vec(rest, 0..3)).prop_map(|(share, success, rest)| Part::Sample {
            share,
            success,
            rest,
        });
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(Part::Rest)),
        2 => sample.prop_map(Some),
    ]
}

fn outage_event() -> impl Strategy<Value = Event> {
    let max_failed = prop_oneof![
        any::<u32>().prop_map(MaxFailed::Count),
        share().prop_map(MaxFailed::Share),
    ];
    let job = (tier(), job_name()).prop_map(|(tier, job)| JobRef { tier, job });
    prop_oneof![
        (any::<u64>(), max_failed, any::<u64>()).prop_map(|(failed, max_failed, open)| {
            Event::BatchAborted {
                failed,
                max_failed,
                open,
            }
        }),
        (any::<u64>(), any::<u64>(), share(), any::<bool>()).prop_map(
            |(succeeded, sample, success, passed)| Event::CanaryJudged {
                succeeded,
                sample,
                success,
                passed,
            }
        ),
        (job, option::of(any::<u32>()), kind()).prop_map(|(job, concurrency, kind)| {
            Event::DispatchLimited {
                job,
                concurrency,
                kind,
            }
        }),
    ]
}

fn retry_event() -> impl Strategy<Value = Event> {
    let selected = (tier(), job_name(), unit_set()).prop_map(|(tier, job, units)| Selected {
        tier,
        job,
        units,
    });
    let excluded =
        (option::of(class()), any::<u64>(), any::<u64>()).prop_map(|(class, retry_limit, tier)| {
            Excluded {
                class: class.map(|class| (class, 3)).into_iter().collect(),
                retry_limit,
                tier,
                kind: tier % 3,
                fingerprint: tier % 5,
                job: tier % 2,
                cancelled: tier % 5,
            }
        });
    let mode = prop_oneof![Just(RetryMode::All), Just(RetryMode::TransientOnly)];
    let lists = (vec(tier(), 0..3), vec(selected, 0..3));
    (
        mode,
        any::<u8>(),
        option::of(any::<u8>()),
        lists,
        excluded,
        (any::<bool>(), canary_part()),
    )
        .prop_map(
            |(
                mode,
                max_retry_count,
                max_retries,
                (tier_nums, selected),
                excluded,
                (last, part),
            )| {
                Event::RetryScheduled {
                    mode,
                    tier_nums,
                    fingerprints: Vec::new(),
                    max_retry_count,
                    max_retries,
                    selected,
                    kinds: Vec::new(),
                    plan_seq: last.then_some(excluded.tier),
                    not_before: None,
                    canary: part,
                    jobs: Vec::new(),
                    excluded,
                    last,
                }
            },
        )
}

fn pause_event() -> impl Strategy<Value = Event> {
    let job = (tier(), job_name()).prop_map(|(tier, job)| JobRef { tier, job });
    let reason = prop_oneof![
        option::of(".{0,9}").prop_map(PauseReason::Asked),
        failure().prop_map(PauseReason::Misconfigured),
        (kind(), any::<u64>(), timestamp(), any::<u32>()).prop_map(|(kind, of, until, probes)| {
            PauseReason::Breaker(Outage {
                failed: of / 2,
                of,
                window: Millis(of % 9),
                until,
                probes,
                kind,
                message: "away".to_owned(),
            })
        }),
    ];
    (vec(job, 0..4), option::of(reason)).prop_map(|(jobs, reason)| match reason {
        Some(reason) => Event::DispatchPaused { jobs, reason },
        None => Event::DispatchResumed { jobs },
    })
}

fn heal_event() -> impl Strategy<Value = Event> {
    let reason = proptest::sample::select(vec![
        StuckReason::NoOwner,
        StuckReason::PastDeadline,
        StuckReason::NoSignOfLife,
    ]);
    let execution = (any::<u128>(), any::<u32>()).prop_map(|(chunk, attempt)| Execution {
        worker: WorkerId::new("w").unwrap(),
        chunk: ChunkId(Uuid::from_u128(chunk)),
        attempt,
    });
    let flags = (any::<bool>(), any::<bool>());
    let jobs = || {
        let job = (tier(), job_name()).prop_map(|(tier, job)| JobRef { tier, job });
        vec(job, 0..4)
    };
    prop_oneof![
        (
            attempt(),
            unit_set(),
            unit_set(),
            reason,
            timestamp(),
            flags
        )
            .prop_map(|(attempt, units, counted, reason, since, (fixed, last))| {
                Event::StuckDetected {
                    attempt,
                    units,
                    counted,
                    reason,
                    since,
                    fixed,
                    last,
                }
            }),
        (
            tier(),
            job_name(),
            unit_set(),
            option::of(execution.clone()),
            vec(execution, 0..3)
        )
            .prop_map(
                |(tier, job, units, kept, superseded)| Event::DuplicatesKilled {
                    last: superseded.len() % 2 == 0,
                    tier,
                    job,
                    units,
                    kept,
                    superseded,
                }
            ),
        (jobs(), timestamp()).prop_map(|(jobs, since)| Event::DispatchOrphaned { jobs, since }),
        jobs().prop_map(|jobs| Event::DispatchServed { jobs }),
    ]
}

fn credits_event() -> impl Strategy<Value = Event> {
    let month = (0i64..3).prop_map(|month| Month::of(Timestamp(month * 31 * 86_400_000)));
    let amount = prop_oneof![9 => 0u64..500, 1 => any::<u64>()];
    (month, amount, unit_set(), 0u8..4).prop_map(|(month, amount, documents, which)| match which {
        0 => Event::CreditsLimitSet {
            limit: (amount % 2 == 0).then_some(amount),
        },
        1 => Event::CreditsReserved {
            month,
            amount,
            documents,
        },
        2 => Event::CreditsSettled {
            month,
            amount,
            documents,
        },
        _ => Event::CreditsReleased {
            month,
            amount,
            documents,
        },
    })
}

fn key_event() -> impl Strategy<Value = Event> {
    let scopes = vec(proptest::sample::select(Scope::ALL.to_vec()), 1..4);
    let hash = any::<[u8; 32]>();
    let expires_at = option::of(timestamp());
    // Few keys, so that some are made twice, and revoked.
    (0u128..12, scopes, hash, expires_at, any::<bool>()).prop_map(
        |(key, scopes, hash, expires_at, revoked)| {
            let key = KeyId(Uuid::from_u128(key));
            match revoked {
                true => Event::KeyRevoked { key },
                false => Event::KeyCreated(NewKey {
                    key,
                    name: KeyName::new("ci").unwrap(),
                    scopes: Scopes::new(scopes).unwrap(),
                    hash: SecretHash(hash),
                    expires_at,
                }),
            }
        },
    )
}

fn change() -> impl Strategy<Value = SubmissionChange> {
    let text = || option::of(".{0,9}");
    let numbers = (
        option::of(any::<u8>()),
        option::of(any::<u64>()),
        option::of(any::<u32>()),
        option::of(0u32..9_999),
    );
    (option::of(any::<bool>()), numbers, text(), text()).prop_map(
        |(requires_gpu, (priority, memory_bytes, num_cpus, rate), entrypoint, archive)| {
            SubmissionChange {
                requires_gpu,
                priority,
                memory_bytes,
                num_cpus,
                timeout: rate.map(|n| Millis(u64::from(n))),
                max_attempts: num_cpus,
                rate_limit: rate.map(|n| f64::from(n) / 8.0),
                max_concurrency: rate,
                deployment_mode: entrypoint.clone(),
                entrypoint,
                plugin_archives: archive.map(|archive| vec![archive]),
                ..SubmissionChange::default()
            }
        },
    )
}

fn control_event() -> impl Strategy<Value = Event> {
    let reason = || option::of(".{0,9}");
    prop_oneof![
        (tier(), vec(job_name(), 0..3), change())
            .prop_map(|(tier, jobs, change)| { Event::TierResubmitted { tier, jobs, change } }),
        (tier(), any::<u64>(), reason()).prop_map(|(tier, documents, reason)| {
            Event::TierCancelled {
                tier,
                documents,
                reason,
            }
        }),
        (tier(), job_name(), any::<bool>(), any::<u64>(), reason()).prop_map(
            |(tier, job, waived, units, reason)| Event::JobCancelled {
                tier,
                job,
                waived,
                units,
                reason,
            }
        ),
    ]
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let start = prop_oneof![Just(Start::OnSubmit), Just(Start::AtOnce)];
    let over = (status(), any::<u64>(), any::<u64>());
    prop_oneof![
        1 => (pipeline(), start).prop_map(|(pipeline, start)| Event::BatchCreated {
            bucket: Bucket::new("inbox").unwrap(),
            pipeline,
            start,
        }),
        4 => documents_event(),
        1 => any::<u32>().prop_map(|documents| Event::BatchSubmitted { documents }),
        2 => over.clone().prop_map(|(status, completed, failed)| Event::BatchCompleted {
            status,
            completed,
            failed,
            cancelled: failed % 3,
        }),
        1 => (option::of(".{0,9}"), any::<u64>())
            .prop_map(|(reason, documents)| Event::BatchCancelled { reason, documents }),
        2 => tier().prop_map(|tier| Event::TierStarted { tier }),
        3 => (tier(), over).prop_map(|(tier, (status, completed, failed))| Event::TierCompleted {
            tier,
            status,
            completed,
            failed,
        }),
        16 => work_event(),
        4 => retry_event(),
        2 => pause_event(),
        3 => heal_event(),
        4 => credits_event(),
        2 => outage_event(),
        2 => control_event(),
        2 => key_event(),
        1 => (proptest::option::of(proptest::sample::select(Verb::ALL.to_vec())), refusal()).prop_map(
            |(verb, refusal)| Event::CommandRefused {
                verb,
                message: refusal.to_string(),
                refusal,
            }
        ),
    ]
}

pub(crate) fn envelope() -> impl Strategy<Value = Envelope> {
    let cause = prop_oneof![
        any::<u128>().prop_map(|id| Cause::Command(CommandId(Uuid::from_u128(id)))),
        any::<u128>().prop_map(|id| Cause::Chunk(ChunkId(Uuid::from_u128(id)))),
        Just(Cause::State),
    ];
    let text = option::of(".{0,9}");
    (
        any::<u128>(),
        timestamp(),
        cause,
        text.clone(),
        text,
        event(),
    )
        .prop_map(|(id, at, cause, actor, trace, event)| Envelope {
            v: 1,
            id: EventId(Uuid::from_u128(id)),
            at,
            namespace: Namespace::new("tests").unwrap(),
            batch: BatchId(Uuid::from_u128(1)),
            cause,
            actor,
            trace,
            event,
        })
}
