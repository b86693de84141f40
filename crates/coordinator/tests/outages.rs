//! What an outage costs. Time is simulated: these take no time to speak of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use redrive_domain::{
    event::Event,
    failure::{Failure, FailureKind},
    ids::BatchKey,
    pause::{Outage, PauseReason},
    state::BatchState,
    status::BatchStatus,
};
use serde_json::json;
use support::{Sim, done};
use tokio::time::{Instant, sleep};

/// The other side of a handler: it is there or away, and counts what it is asked.
#[derive(Clone, Default)]
struct Other {
    away: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl Other {
    fn is_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    fn worker(&self, sim: &Sim, name: &str) {
        let other = self.clone();
        sim.worker(name, 4, move |_, _| {
            other.asked.fetch_add(1, Ordering::SeqCst);
            let away = other.away.load(Ordering::SeqCst);
            async move {
                sleep(Duration::from_millis(10)).await;
                match away {
                    true => Err(Failure::new(FailureKind::UNAVAILABLE, "nobody there")),
                    false => done(),
                }
            }
        });
    }
}

fn outage(state: &BatchState) -> Option<Outage> {
    let job = state.jobs().next().expect("there is a job").2;
    job.paused.as_ref()?.outage().cloned()
}

/// The probes of each outage that the log tells of that failed, and how many of them ended.
async fn outages(sim: &Sim, key: &BatchKey) -> (Vec<u32>, usize) {
    let (mut probes, mut resumed) = (Vec::new(), 0);
    for (_, envelope) in sim.events(key).await {
        match envelope.event {
            Event::DispatchPaused {
                reason: PauseReason::Breaker(outage),
                ..
            } => match probes.last_mut() {
                Some(last) if outage.probes > 0 => *last = outage.probes,
                _ => probes.push(outage.probes),
            },
            Event::DispatchResumed { .. } => resumed += 1,
            _ => {}
        }
    }
    (probes, resumed)
}

#[tokio::test(start_paused = true)]
async fn an_outage_opens_the_breaker_costs_few_attempts_and_ends_by_itself() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    let other = Other::default();
    other.is_away(true);
    other.worker(&sim, "w");
    let key = sim.submit(json!({ "max_attempts": 3 }), 1_000).await;
    let began = Instant::now();
    sim.until(&key, "a probe failed", |state| {
        outage(state).is_some_and(|it| it.probes == 1)
    })
    .await;
    let before = other.asked();
    let state = sim
        .until(&key, "two probes failed", |state| {
            outage(state).is_some_and(|it| it.probes == 2)
        })
        .await;
    // 15 and 30 seconds, and what it took to notice.
    assert!(
        began.elapsed() >= Duration::from_secs(45),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(state.counts().open, 1_000, "nothing has failed for good");
    let burnt = other.asked();
    assert_eq!(burnt, before + 1, "one probe at a time");
    assert!(burnt < 500, "{burnt} attempts were made in vain");
    other.is_away(false);
    let state = sim.over(&key).await;
    assert_eq!(state.status, BatchStatus::Completed);
    assert_eq!(outages(&sim, &key).await, (vec![2], 1));
    assert_eq!(other.asked(), burnt + 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_waits_as_long_and_probes_as_well() {
    let mut sim = Sim::new().await;
    let leader = sim.coordinator("a");
    let other = Other::default();
    other.is_away(true);
    other.worker(&sim, "w");
    let key = sim.submit(json!({ "max_attempts": 1 }), 1_000).await;
    let state = sim
        .until(&key, "it is open", |state| outage(state).is_some())
        .await;
    let until = outage(&state).unwrap().until;
    let _standby = sim.coordinator("b");
    leader.abort();
    let state = sim
        .until(&key, "a probe failed", |state| {
            outage(state).is_some_and(|it| it.probes == 1)
        })
        .await;
    assert!(state.last_at >= until);
    other.is_away(false);
    let state = sim.over(&key).await;
    let failed = state.counts().failed;
    assert!(failed < 200, "{failed} failed before it opened");
    assert_eq!(outages(&sim, &key).await, (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn an_outage_in_the_middle_is_noticed_whatever_went_well_before() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    let other = Other::default();
    other.worker(&sim, "w");
    let key = sim.submit(json!({}), 2_000).await;
    sim.until(&key, "half of it is done", |state| {
        state.counts().completed > 500
    })
    .await;
    other.is_away(true);
    sim.until(&key, "it is open", |state| outage(state).is_some())
        .await;
    assert!(other.asked() < 1_500, "{}", other.asked());
    other.is_away(false);
    let state = sim.over(&key).await;
    assert_eq!(state.status, BatchStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn less_is_out_at_once_where_the_other_side_cannot_keep_up() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    let (at_once, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (counted, seen) = (at_once.clone(), most.clone());
    // It bears four at once.
    sim.worker("w", 32, move |_, _| {
        let now = counted.fetch_add(1, Ordering::SeqCst) + 1;
        seen.fetch_max(now, Ordering::SeqCst);
        let counted = counted.clone();
        async move {
            sleep(Duration::from_millis(100)).await;
            counted.fetch_sub(1, Ordering::SeqCst);
            match now > 4 {
                true => Err(Failure::new(FailureKind::RATE_LIMITED, "slow down")),
                false => done(),
            }
        }
    });
    let job = json!({ "max_attempts": 20, "breaker": { "min_attempts": 1_000_000 } });
    let key = sim.submit(job, 1_000).await;
    sim.until(&key, "the log is told", |state| {
        let job = state.jobs().next().expect("there is a job").2;
        job.concurrency.is_some_and(|most| most <= 8)
    })
    .await;
    most.store(0, Ordering::SeqCst);
    let state = sim.over(&key).await;
    assert_eq!(state.status, BatchStatus::Completed);
    let most = most.load(Ordering::SeqCst);
    assert!(
        most < 20,
        "{most} at once, of 32 that there could have been"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_breaker_every_attempt_is_burnt() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    let other = Other::default();
    other.is_away(true);
    other.worker(&sim, "w");
    let job = json!({ "max_attempts": 3, "breaker": false });
    let key = sim.submit(job, 300).await;
    let state = sim.over(&key).await;
    assert_eq!(state.status, BatchStatus::Failed);
    assert_eq!(
        (other.asked(), outages(&sim, &key).await),
        (900, (vec![], 0))
    );
}
