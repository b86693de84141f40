//! Jobs that are held up, and retries that are planned first. Time is simulated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redrive_domain::{
    command::{Command, Refusal, Retry, RetryMode},
    failure::{Failure, FailureKind},
    state::BatchState,
    status::BatchStatus,
};
use serde_json::json;
use support::{Sim, done};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_misconfigured_handler_is_tried_a_few_times_and_not_a_hundred_thousand() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    let mended = Arc::new(AtomicU32::new(0));
    let is_mended = Arc::clone(&mended);
    sim.worker("w", 2, move |_, _| {
        let mended = is_mended.load(Ordering::SeqCst) == 1;
        async move {
            match mended {
                true => done(),
                false => Err(Failure::new(FailureKind::MISCONFIGURED, "no key")),
            }
        }
    });
    let key = sim.submit(json!({}), 100_000).await;
    for round in 1..=3 {
        let still = |state: &BatchState| state.jobs().all(|(_, _, job)| job.paused.is_some());
        sim.until(&key, "it is paused", still).await;
        // Time enough to hand everything out, were it not paused.
        sleep(Duration::from_secs(30)).await;
        let state = sim.state(&key).await;
        assert!(
            (1..=8).contains(&state.counts().failed),
            "{:?}",
            state.counts()
        );
        assert_eq!(state.status, BatchStatus::Running);
        if round == 3 {
            mended.store(1, Ordering::SeqCst);
        }
        let retry = Retry {
            retry_mode: RetryMode::All,
            kinds: Some(vec![FailureKind::MISCONFIGURED]),
            ..Retry::default()
        };
        sim.command(&key, Command::Retry(retry)).await;
    }
    assert_eq!(sim.over(&key).await.status, BatchStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_stale_plan_is_refused_with_what_has_changed() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    sim.worker("w", 4, |unit, ctx| async move {
        match unit.ordinal % 2 == 0 && ctx.attempt == 1 {
            true => Err(Failure::new(FailureKind::REJECTED, "no")),
            false => done(),
        }
    });
    let key = sim.submit(json!({}), 10).await;
    sim.over(&key).await;
    let all = Retry {
        retry_mode: RetryMode::All,
        ..Retry::default()
    };
    let preview = Retry {
        dry_run: true,
        ..all.clone()
    };
    let before = sim.events(&key).await.len();
    let plan = sim.command(&key, Command::Retry(preview)).await.plan;
    assert_eq!(
        sim.events(&key).await.len(),
        before,
        "a preview is no event"
    );
    let planned = Command::Retry(Retry {
        plan,
        ..Retry::default()
    });
    sim.command(&key, Command::Retry(all)).await;
    sim.over(&key).await;
    let refusal = sim.refused(&key, planned).await;
    let Refusal::Stale(stale) = refusal else {
        panic!("{refusal}");
    };
    assert_eq!((stale.gone, stale.added), (5, 0));
    assert_eq!(stale.gone_documents, [0, 2, 4, 6, 8].into());
}
