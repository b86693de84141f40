//! Coordinators with real workers on a broker in memory. Time is simulated: these take no time to speak of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redrive_broker::{Broker, Message, memory::Part};
use redrive_domain::{
    command::{Cancel, Command, Retry, RetryMode},
    event::{Cause, Envelope, Event, VERSION},
    failure::{Failure, FailureKind},
    ids::{BatchId, BatchKey, EventId},
    status::BatchStatus,
    subject,
    time::Timestamp,
};
use serde_json::json;
use support::{Sim, completions, done};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

#[tokio::test(start_paused = true)]
async fn a_batch_runs_to_its_end_and_only_what_failed_is_retried() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    let mended = Arc::new(AtomicU32::new(0));
    let is_mended = Arc::clone(&mended);
    sim.worker("w", 4, move |unit, _| {
        let mended = is_mended.load(Ordering::SeqCst) == 1;
        async move {
            match unit.ordinal % 10 {
                3 if !mended => Err(Failure::new(FailureKind::RATE_LIMITED, "slow down")),
                7 => Err(Failure::new(FailureKind::INVALID_DATA, "broken")),
                _ => done(),
            }
        }
    });
    let key = sim.submit(json!({ "max_attempts": 2 }), 100).await;
    let state = sim.over(&key).await;
    assert_eq!(state.status, BatchStatus::CompletedWithFailures);
    assert_eq!((state.counts().completed, state.counts().failed), (80, 20));
    mended.store(1, Ordering::SeqCst);
    let accepted = sim.command(&key, Command::Retry(Retry::default())).await;
    let retried = accepted.retry.unwrap();
    assert_eq!((retried.documents, retried.excluded.total()), (10, 10));
    assert_eq!(accepted.status, BatchStatus::Running);
    let state = sim.over(&key).await;
    assert_eq!((state.counts().completed, state.counts().failed), (90, 10));
    let completions = completions(&sim.events(&key).await);
    assert!(completions.values().all(|count| *count == 1));
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_and_nothing_is_lost_or_done_twice() {
    let mut sim = Sim::new().await;
    let leader = sim.coordinator("a");
    let executed = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&executed);
    sim.worker("w", 4, move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        async {
            sleep(Duration::from_millis(500)).await;
            done()
        }
    });
    let key = sim.submit(json!({}), 60).await;
    let _standby = sim.coordinator("b");
    sim.until(&key, "some are through", |state| {
        state.counts().completed >= 8
    })
    .await;
    leader.abort();
    let (before, at) = (sim.broker.last_seq().await.unwrap(), Instant::now());
    sim.until(&key, "another decides", |state| state.last_seq > before)
        .await;
    assert!(at.elapsed() <= Duration::from_secs(5), "{:?}", at.elapsed());
    let state = sim.over(&key).await;
    assert_eq!(state.counts().completed, 60);
    // What the worker held at the takeover was adopted, not handed out again.
    assert_eq!(executed.load(Ordering::SeqCst), 60);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_append_is_refused_folds_the_log_afresh() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    let (_worker, _) = sim.worker("w", 2, |_, _| async {
        sleep(Duration::from_millis(300)).await;
        done()
    });
    let key = sim.submit(json!({}), 20).await;
    sim.until(&key, "some are through", |state| {
        state.counts().completed >= 4
    })
    .await;
    // Somebody else writes: whoever led before must not go on from what it believes.
    let stranger = BatchKey {
        namespace: "default".parse().unwrap(),
        batch: BatchId(Uuid::from_u128(9)),
    };
    let envelope = Envelope {
        v: VERSION,
        id: EventId(Uuid::from_u128(10)),
        at: Timestamp(0),
        namespace: stranger.namespace.clone(),
        batch: stranger.batch,
        cause: Cause::State,
        actor: None,
        trace: None,
        event: Event::TierStarted { tier: 0 },
    };
    let message = Message {
        subject: subject::event(0, &stranger, "tier.started"),
        payload: envelope.encode().unwrap().into(),
        trace: None,
    };
    loop {
        let last = sim.broker.last_seq().await.unwrap();
        if sim.broker.append(vec![message.clone()], last).await.is_ok() {
            break;
        }
    }
    let state = sim.over(&key).await;
    assert_eq!(state.counts().completed, 20);
    assert!(
        completions(&sim.events(&key).await)
            .values()
            .all(|count| *count == 1)
    );
}

#[tokio::test(start_paused = true)]
async fn units_of_a_lost_worker_go_elsewhere_and_cost_no_attempt() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    let (dying, _) = sim.worker("dying", 2, |_, _| std::future::pending());
    let key = sim
        .submit(json!({ "max_attempts": 1, "timeout": "1h" }), 6)
        .await;
    // It has said what it holds.
    sleep(Duration::from_secs(3)).await;
    dying.abort();
    sim.worker("living", 2, |_, _| async { done() });
    let state = sim.over(&key).await;
    assert_eq!(state.status, BatchStatus::Completed);
    let lost = sim
        .names(&key)
        .await
        .iter()
        .filter(|name| **name == "infrastructure.worker_lost")
        .count();
    assert!(lost > 0);
}

#[tokio::test(start_paused = true)]
async fn whatever_is_deleted_is_made_again() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    sim.worker("w", 2, |_, _| async {
        sleep(Duration::from_millis(400)).await;
        done()
    });
    let key = sim.submit(json!({}), 40).await;
    for part in [Part::Work, Part::Inbox, Part::Leases] {
        let before = sim.state(&key).await.counts().completed;
        sim.until(&key, "it goes on", |state| {
            state.counts().completed >= before + 4
        })
        .await;
        sim.broker.lose(part);
    }
    let state = sim.over(&key).await;
    assert_eq!(state.counts().completed, 40);
}

#[tokio::test(start_paused = true)]
async fn work_that_is_there_and_does_not_work_is_made_anew() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    sim.worker("w", 2, |_, _| async {
        sleep(Duration::from_millis(100)).await;
        done()
    });
    let key = sim.submit(json!({}), 100).await;
    sim.until(&key, "some are through", |state| {
        state.counts().completed > 10
    })
    .await;
    sim.broker.break_work();
    assert_eq!(sim.over(&key).await.counts().completed, 100);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_batch_stops_what_runs_and_late_outcomes_change_nothing() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    let stopped = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&stopped);
    sim.worker("w", 2, move |_, ctx| {
        let count = Arc::clone(&count);
        async move {
            ctx.cancelled.cancelled().await;
            count.fetch_add(1, Ordering::SeqCst);
            done()
        }
    });
    let key = sim.submit(json!({ "timeout": "1h" }), 10).await;
    sleep(Duration::from_secs(3)).await;
    let accepted = sim.command(&key, Command::Cancel(Cancel::default())).await;
    assert_eq!(accepted.cancelled_documents, Some(10));
    sleep(Duration::from_secs(10)).await;
    let state = sim.state(&key).await;
    assert_eq!(
        (state.status, state.counts().cancelled),
        (BatchStatus::Cancelled, 10)
    );
    assert_eq!(stopped.load(Ordering::SeqCst), 2);
    assert_eq!(sim.broker.offered().await.unwrap(), Vec::<String>::new());
    assert_eq!(sim.names(&key).await.last(), Some(&"batch.cancelled"));
}

#[tokio::test(start_paused = true)]
async fn a_command_handed_over_while_nobody_leads_is_carried_out_later_and_a_refusal_is_an_event() {
    let mut sim = Sim::new().await;
    let leader = sim.coordinator("a");
    sim.worker("w", 2, |_, _| async {
        Err(Failure::new(FailureKind::REJECTED, "no"))
    });
    let key = sim.submit(json!({}), 4).await;
    sim.over(&key).await;
    leader.abort();
    let publish = |verb: &str, batch: BatchId, body: &str| Message {
        subject: format!("rd.cmd.default.docs.{batch}.{verb}"),
        payload: Bytes::copy_from_slice(body.as_bytes()),
        trace: None,
    };
    let unknown = BatchId(Uuid::from_u128(77));
    for message in [
        publish("retry", key.batch, r#"{"retry_mode": "all"}"#),
        publish("retry", key.batch, r#"{"retry_mode": "some"}"#),
        publish("retry", unknown, "{}"),
        publish("explode", key.batch, "{}"),
    ] {
        sim.broker.submit(message, None).await.unwrap();
    }
    sim.coordinator("b");
    let state = sim
        .until(&key, "it is retried", |state| {
            state.rounds == 1 && state.status.is_over()
        })
        .await;
    assert_eq!(state.counts().failed, 4);
    let refused: Vec<String> = sim
        .events(&key)
        .await
        .into_iter()
        .filter_map(|(_, envelope)| match envelope.event {
            Event::CommandRefused { message, .. } => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].contains("unknown variant `some`"), "{refused:?}");
    let elsewhere = BatchKey {
        batch: unknown,
        ..key.clone()
    };
    assert_eq!(sim.names(&elsewhere).await, ["command.refused"]);
    let nil = BatchKey {
        batch: BatchId(Uuid::nil()),
        ..key
    };
    assert_eq!(sim.names(&nil).await, ["command.refused"]);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_over_all_workers() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    for name in ["v", "w"] {
        sim.worker(name, 8, |_, _| async { done() });
    }
    let started = tokio::time::Instant::now();
    let key = sim
        .submit(
            json!({ "rate_limit": { "per_second": 10.0, "burst": 5 } }),
            55,
        )
        .await;
    sim.over(&key).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(4_900), "{took:?}");
    assert!(took < Duration::from_secs(9), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_has_left_memory_comes_back_for_a_retry() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    sim.worker("w", 4, |_, _| async {
        Err(Failure::new(FailureKind::REJECTED, "no"))
    });
    let first = sim.submit(json!({}), 1).await;
    sim.over(&first).await;
    for _ in 0..140 {
        let key = sim.submit(json!({}), 1).await;
        sim.over(&key).await;
    }
    let retry = Retry {
        retry_mode: RetryMode::All,
        ..Retry::default()
    };
    let accepted = sim.command(&first, Command::Retry(retry)).await;
    assert_eq!(accepted.retry.unwrap().documents, 1);
    let state = sim.over(&first).await;
    assert_eq!(state.retries.get(0), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_user_sends_is_too_large_to_be_refused() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    sim.worker("w", 2, |_, _| async { done() });
    let key = sim.submit(json!({}), 2).await;
    sim.over(&key).await;
    let huge = json!({ "retry_mode": "x".repeat(900_000) });
    let fields: serde_json::Map<_, _> = (0..5_000)
        .map(|n| (format!("field-{n}"), json!(0)))
        .collect();
    let many = json!({ "pipeline": fields });
    let other = BatchId(Uuid::from_u128(78));
    for (batch, verb, body) in [(key.batch, "retry", huge), (other, "create", many)] {
        let message = Message {
            subject: format!("rd.cmd.default.docs.{batch}.{verb}"),
            payload: body.to_string().into(),
            trace: None,
        };
        sim.broker.submit(message, None).await.unwrap();
    }
    // The leader goes on with what comes after them.
    let next = sim.submit(json!({}), 2).await;
    assert_eq!(sim.over(&next).await.status, BatchStatus::Completed);
    assert_eq!(sim.names(&key).await.last(), Some(&"command.refused"));
    let other = BatchKey {
        batch: other,
        ..key
    };
    assert_eq!(sim.names(&other).await, ["command.refused"]);
}

#[tokio::test(start_paused = true)]
async fn a_trace_goes_from_the_command_into_the_log_and_on_to_the_workers() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    let (_worker, _) = sim.worker("w", 2, |_, _| async {
        Err(Failure::new(FailureKind::REJECTED, "no"))
    });
    let key = sim.submit(json!({}), 1).await;
    sim.over(&key).await;
    let message = Message {
        subject: format!("rd.cmd.default.docs.{}.retry", key.batch),
        payload: Bytes::from_static(br#"{"retry_mode": "all"}"#),
        trace: Some(TRACE.to_owned()),
    };
    sim.broker.submit(message, None).await.unwrap();
    sim.until(&key, "it is retried", |state| {
        state.rounds == 1 && state.status.is_over()
    })
    .await;
    let events = sim.events(&key).await;
    let traced: Vec<&str> = events
        .iter()
        .filter(|(_, envelope)| envelope.trace.as_deref() == Some(TRACE))
        .map(|(_, envelope)| envelope.event.name())
        .collect();
    // The failure's trace came back with the worker's report.
    assert_eq!(traced, ["documents.retry_scheduled", "documents.failed"]);
}
