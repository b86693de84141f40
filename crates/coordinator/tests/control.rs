//! What is handed out when jobs are limited, cancelled, or given other parameters. Time is simulated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redrive_broker::Broker;
use redrive_domain::{
    command::{Cancel, Command, Retry},
    pipeline::SubmissionChange,
    status::BatchStatus,
};
use serde_json::json;
use support::{Sim, completions, done};
use tokio::time::sleep;

fn set(settings: &[&str]) -> Command {
    let mut change = SubmissionChange::default();
    for setting in settings {
        change.set(setting).unwrap();
    }
    Command::Retry(Retry {
        tier_nums: Some(vec![0]),
        set: Some(Box::new(change)),
        ..Retry::default()
    })
}

#[tokio::test(start_paused = true)]
async fn no_more_units_are_out_at_once_than_a_job_allows() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    sim.worker("w", 8, move |_, _| {
        let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(100)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            done()
        }
    });
    let key = sim.submit(json!({ "max_concurrency": 3 }), 60).await;
    let state = sim.over(&key).await;
    assert_eq!(state.counts().completed, 60);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_took_goes_to_the_workers_that_the_job_asks_for_now() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    sim.worker("w", 2, |_, _| async { done() });
    let key = sim.submit(json!({ "class": "gpu" }), 20).await;
    sleep(Duration::from_secs(10)).await;
    assert!(!sim.broker.offered().await.unwrap().is_empty());
    assert_eq!(sim.state(&key).await.counts().open, 20);
    sim.command(&key, set(&["class=cpu"])).await;
    let state = sim.over(&key).await;
    assert_eq!(state.status, BatchStatus::Completed);
    assert_eq!(sim.broker.offered().await.unwrap(), Vec::<String>::new());
    let completions = completions(&sim.events(&key).await);
    assert!(completions.values().all(|count| *count == 1));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_stops_what_runs_and_another_leader_leaves_it_alone() {
    let mut sim = Sim::new().await;
    let leader = sim.coordinator("a");
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
    let cancel = Command::Cancel(Cancel {
        tier: Some(0),
        ..Cancel::default()
    });
    let accepted = sim.command(&key, cancel.clone()).await;
    assert_eq!(accepted.cancelled_documents, Some(10));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(stopped.load(Ordering::SeqCst), 2);
    assert_eq!(sim.broker.offered().await.unwrap(), Vec::<String>::new());
    leader.abort();
    let _next = sim.coordinator("b");
    sleep(Duration::from_secs(30)).await;
    let again = sim.command(&key, cancel).await;
    assert_eq!(again.status, BatchStatus::Cancelled);
    let state = sim.state(&key).await;
    assert_eq!((state.counts().cancelled, state.counts().open), (10, 0));
}
