//! How a worker takes chunks and lets go of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use common::{DONE, Rig, handler, sum, until};
use futures::{FutureExt, StreamExt};
use redrive_broker::{Broker, memory::Part};
use redrive_domain::{
    failure::{Failure, FailureKind},
    ids::BatchId,
    time::Millis,
    units::UnitSet,
    work::Signal,
};
use redrive_worker::{Config, WorkerError, handler::Handler, run};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A handler that is done at once with units below the limit, and never with the others; and how many were begun.
fn stuck_from(limit: u32) -> (Arc<dyn Handler>, Arc<AtomicU32>) {
    let begun = Arc::new(AtomicU32::new(0));
    let handler = handler({
        let begun = begun.clone();
        move |unit, _| {
            begun.fetch_add(1, Ordering::SeqCst);
            async move {
                if unit.ordinal >= limit {
                    pending::<()>().await;
                }
                DONE
            }
        }
    });
    (handler, begun)
}

/// A handler that takes a while, and how often it was begun.
fn slow(time: Duration) -> (Arc<dyn Handler>, Arc<AtomicU32>) {
    let begun = Arc::new(AtomicU32::new(0));
    let handler = handler({
        let begun = begun.clone();
        move |_, _| {
            begun.fetch_add(1, Ordering::SeqCst);
            async move {
                sleep(time).await;
                DONE
            }
        }
    });
    (handler, begun)
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_is_stopped_reports_what_was_done_and_no_more() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 10).await;
    let (handler, begun) = stuck_from(4);
    for stop_batch in [false, true] {
        begun.store(0, Ordering::SeqCst);
        rig.key.batch = BatchId(Uuid::from_u128(7));
        let chunk = rig.chunk(1, &source);
        rig.offer(&chunk).await;
        let worker = rig.start("w", 2, vec![handler.clone()]);
        until("it is stuck", async || begun.load(Ordering::SeqCst) == 6).await;
        // What is said of others changes nothing.
        let mut other = chunk.key();
        other.batch = BatchId(Uuid::from_u128(9));
        rig.signal(Signal::StopBatch(other)).await;
        rig.signal(Signal::StopChunk(rig.chunk(2, &source).id))
            .await;
        sleep(Duration::from_millis(100)).await;
        assert_eq!(rig.broker.offered().await.unwrap().len(), 1);
        let at = Instant::now();
        rig.signal(match stop_batch {
            true => Signal::StopBatch(chunk.key()),
            false => Signal::StopChunk(chunk.id),
        })
        .await;
        let sum = sum(&rig.settled().await);
        // The handler did not heed the token and had its grace.
        assert_eq!(at.elapsed().as_secs(), 2);
        assert_eq!(sum.completed, UnitSet::run(0, 4));
        assert!(sum.returned.is_empty() && sum.failed.is_empty());
        assert_eq!(begun.load(Ordering::SeqCst), 6);
        worker.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_gives_back_what_it_had_not_begun() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 10).await;
    rig.offer(&rig.chunk(1, &source)).await;
    let (handler, begun) = slow(Duration::from_secs(10));
    let worker = rig.start("w", 3, vec![handler]);
    until("it is full", async || begun.load(Ordering::SeqCst) == 3).await;
    let at = Instant::now();
    worker.shutdown.cancel();
    sleep(Duration::from_millis(10)).await;
    // At once: somebody else can have them.
    assert_eq!(sum(&rig.outcomes().await).returned, UnitSet::run(3, 7));
    let late = sum(&rig.settled().await);
    assert_eq!(late.completed, UnitSet::run(0, 3));
    assert!(late.returned.is_empty());
    worker.leave().await;
    assert!(
        (9_900..10_100).contains(&at.elapsed().as_millis()),
        "{:?}",
        at.elapsed()
    );
    assert_eq!(begun.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_misconfigured_handler_gets_no_more_units_of_the_chunk() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 100).await;
    rig.offer(&rig.chunk(1, &source)).await;
    let worker = rig.start(
        "w",
        1,
        vec![handler(|unit, _| async move {
            match unit.ordinal {
                3 => Err(Failure::new(FailureKind::MISCONFIGURED, "no key")),
                _ => DONE,
            }
        })],
    );
    let outcomes = rig.settled().await;
    let sum = sum(&outcomes);
    assert_eq!(sum.completed, UnitSet::run(0, 3));
    assert_eq!(sum.failed.len(), 1);
    assert_eq!(sum.returned, UnitSet::run(4, 96));
    // In one report, so that nobody hands out again what comes back before the failure is known.
    let last = outcomes.last().unwrap();
    assert!(!last.failures.is_empty() && !last.returned.is_empty());
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_wait_ends_what_still_runs_and_gives_back_the_rest() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 6).await;
    let mut chunk = rig.chunk(1, &source);
    chunk.timeout = Millis::seconds(600);
    rig.offer(&chunk).await;
    let (handler, begun) = stuck_from(1);
    let worker = rig.start("w", 3, vec![handler]);
    until("it is stuck", async || begun.load(Ordering::SeqCst) == 4).await;
    let at = Instant::now();
    worker.leave().await;
    assert_eq!(at.elapsed().as_secs(), 32);
    let sum = sum(&rig.settled().await);
    assert_eq!(sum.completed, UnitSet::run(0, 1));
    assert_eq!(sum.returned, UnitSet::run(4, 2));
    let [(units, failure)] = &sum.failed[..] else {
        panic!("{sum:?}");
    };
    assert_eq!(*units, UnitSet::run(1, 3));
    assert_eq!(failure.kind, FailureKind::PREEMPTED);
    assert!(failure.message.contains("30s later"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_the_stop_counts_only_for_a_worker_that_leaves() {
    for leaves in [false, true] {
        let mut rig = Rig::new().await;
        let source = rig.documents(0, 3).await;
        let mut chunk = rig.chunk(1, &source);
        chunk.timeout = Millis::seconds(600);
        rig.offer(&chunk).await;
        let begun = Arc::new(AtomicU32::new(0));
        let worker = rig.start("w", 3, {
            let begun = begun.clone();
            vec![handler(move |unit, ctx| {
                begun.fetch_add(1, Ordering::SeqCst);
                async move {
                    ctx.cancelled.cancelled().await;
                    match unit.ordinal {
                        0 => DONE,
                        1 => Err(Failure::new(FailureKind::CRASHED, "killed")),
                        _ => pending().await,
                    }
                }
            })]
        });
        until("it runs", async || begun.load(Ordering::SeqCst) == 3).await;
        match leaves {
            true => worker.leave().await,
            false => rig.signal(Signal::StopChunk(chunk.id)).await,
        }
        let sum = sum(&rig.settled().await);
        let mut preempted = UnitSet::new();
        for (units, failure) in &sum.failed {
            assert_eq!(failure.kind, FailureKind::PREEMPTED);
            preempted.add(units);
        }
        let (done, ended) = match leaves {
            true => (UnitSet::from([0]), UnitSet::from([1, 2])),
            false => (UnitSet::new(), UnitSet::new()),
        };
        assert_eq!((sum.completed, preempted), (done, ended));
        assert!(sum.returned.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_cannot_be_reported_is_not_acknowledged() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 5).await;
    rig.broker.fail_submits.store(3, Ordering::SeqCst);
    rig.offer(&rig.chunk(1, &source)).await;
    let (handler, begun) = slow(Duration::ZERO);
    let worker = rig.start("w", 1, vec![handler]);
    sleep(Duration::from_millis(1_500)).await;
    assert!(rig.outcomes().await.is_empty());
    assert_eq!(rig.broker.offered().await.unwrap().len(), 1);
    // It comes again as soon as it is given back, and each time it is done anew.
    assert_eq!(sum(&rig.settled().await).completed, UnitSet::run(0, 5));
    assert_eq!(begun.load(Ordering::SeqCst), 20);
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_worker_held_goes_to_another_and_counts_as_another_report() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 5).await;
    rig.offer(&rig.chunk(1, &source)).await;
    let (handler, begun) = stuck_from(3);
    let worker = rig.start("w", 1, vec![handler]);
    until("it is stuck", async || begun.load(Ordering::SeqCst) == 4).await;
    sleep(Duration::from_millis(1_100)).await;
    let early = rig.outcomes().await;
    assert_eq!(sum(&early).completed, UnitSet::run(0, 3));
    worker.kill().await;
    let (handler, _) = slow(Duration::ZERO);
    let worker = rig.start("w", 1, vec![handler]);
    let at = Instant::now();
    // Reports of the second execution are not taken for those of the first.
    assert_eq!(sum(&rig.settled().await).completed, UnitSet::run(0, 5));
    assert!(
        (25..31).contains(&at.elapsed().as_secs()),
        "{:?}",
        at.elapsed()
    );
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_takes_long_stays_with_its_worker() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 1).await;
    let mut chunk = rig.chunk(1, &source);
    chunk.timeout = Millis::seconds(600);
    rig.offer(&chunk).await;
    let (handler, begun) = slow(Duration::from_secs(95));
    let workers = [
        rig.start("v", 1, vec![handler.clone()]),
        rig.start("w", 1, vec![handler]),
    ];
    assert_eq!(rig.settled().await.len(), 1);
    assert_eq!(begun.load(Ordering::SeqCst), 1);
    for worker in workers {
        worker.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn workers_share_and_none_hoards() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 40).await;
    for part in 0..40 {
        let mut chunk = rig.chunk(u128::from(part) + 1, &source);
        chunk.units = UnitSet::from([part]);
        rig.offer(&chunk).await;
    }
    let (handler, begun) = slow(Duration::from_secs(5));
    let v = rig.start("v", 2, vec![handler.clone()]);
    until("it is full", async || begun.load(Ordering::SeqCst) == 2).await;
    sleep(Duration::from_secs(1)).await;
    // Two are taken; all others are there for somebody else.
    let class = "cpu".parse().unwrap();
    let mut others = rig.broker.take(&common::name("h"), &class).await.unwrap();
    let others = others.next(100, Duration::ZERO).await.unwrap();
    assert_eq!(others.len(), 38);
    for other in others {
        other.receipt.give_back().await.unwrap();
    }
    let w = rig.start("w", 2, vec![handler]);
    let outcomes = rig.settled().await;
    assert_eq!(sum(&outcomes).completed, UnitSet::run(0, 40));
    let by_v = outcomes.iter().filter(|o| o.worker.as_str() == "v").count();
    assert!((18..=22).contains(&by_v), "{by_v}");
    assert_eq!(begun.load(Ordering::SeqCst), 40);
    v.leave().await;
    w.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_cannot_be_read_is_thrown_away() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 2).await;
    rig.offer_raw(&rig.chunk(1, &source), b"\xc1 no chunk".to_vec())
        .await;
    rig.offer(&rig.chunk(2, &source)).await;
    let worker = rig.start("w", 1, vec![handler(|_, _| async { DONE })]);
    let outcomes = rig.settled().await;
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].chunk, rig.chunk(2, &source).id);
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn queues_that_are_lost_are_waited_for() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 3).await;
    let (handler, begun) = slow(Duration::from_secs(5));
    let worker = rig.start("w", 3, vec![handler]);
    sleep(Duration::from_secs(1)).await;
    rig.broker.inner.lose(Part::Work);
    sleep(Duration::from_secs(20)).await;
    // They are the coordinator's to make.
    assert!(rig.broker.offered().await.is_err());
    rig.broker.ensure().await.unwrap();
    rig.offer(&rig.chunk(1, &source)).await;
    until("it runs", async || begun.load(Ordering::SeqCst) == 3).await;
    rig.broker.inner.lose(Part::Inbox);
    // What it has done by then is not done again.
    sleep(Duration::from_secs(8)).await;
    rig.broker.ensure().await.unwrap();
    until("the chunk is acknowledged", async || {
        rig.broker.offered().await.unwrap().is_empty()
    })
    .await;
    rig.reopen_inbox().await;
    assert_eq!(sum(&rig.outcomes().await).completed, UnitSet::run(0, 3));
    assert_eq!(begun.load(Ordering::SeqCst), 3);
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_name_what_is_held_soon_after_it_is_taken() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 4).await;
    let mut beats = rig.heartbeats().await;
    let (handler, begun) = stuck_from(1);
    let worker = rig.start("w", 2, vec![handler]);
    let first = beats.next().await.unwrap();
    assert_eq!((first.worker.as_str(), first.slots), ("w", 2));
    assert!(first.in_flight.is_empty() && !first.draining);
    sleep(Duration::from_millis(1_500)).await;
    assert!(beats.next().now_or_never().is_some(), "every second");
    let mut chunk = rig.chunk(1, &source);
    chunk.timeout = Millis::seconds(600);
    rig.offer(&chunk).await;
    until("it is stuck", async || begun.load(Ordering::SeqCst) == 3).await;
    let at = Instant::now();
    let taken = beats.next().await.unwrap();
    assert!(at.elapsed() <= Duration::from_millis(100));
    assert_eq!(taken.in_flight.len(), 1);
    assert_eq!(taken.in_flight[0].units, UnitSet::run(0, 4));
    assert!(taken.in_flight[0].taken_at.is_some());
    // What is reported is not held any more.
    sleep(Duration::from_millis(2_500)).await;
    let mut last = taken;
    while let Some(beat) = beats.next().now_or_never().flatten() {
        last = beat;
    }
    assert_eq!(last.in_flight[0].units, UnitSet::run(1, 3));
    assert_eq!(last.in_flight[0].running, UnitSet::run(1, 2));
    assert!(last.in_flight[0].alive_at >= last.in_flight[0].taken_at);
    worker.shutdown.cancel();
    let leaving = beats.next().await.unwrap();
    assert!(leaving.draining);
    worker.leave().await;
    while let Some(beat) = beats.next().now_or_never().flatten() {
        assert!(beat.draining);
        last = beat;
    }
    assert!(last.in_flight.is_empty());
    // Two of them ran, and had to be ended.
    let sum = sum(&rig.settled().await);
    assert_eq!(sum.returned, UnitSet::from([3]));
    assert_eq!(sum.failed[0].0, UnitSet::run(1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_suspect_is_named_before_it_is_begun() {
    let rig = Rig::new().await;
    let source = rig.documents(0, 1).await;
    let mut beats = rig.heartbeats().await;
    let mut named = 0;
    let (handler, begun) = stuck_from(0);
    let worker = rig.start("w", 1, vec![handler]);
    // Just before the chunk comes, so that the next one is not due at once.
    beats.next().await.unwrap();
    let mut chunk = rig.chunk(1, &source);
    chunk.strikes = 1;
    rig.offer(&chunk).await;
    while named == 0 {
        assert_eq!(begun.load(Ordering::SeqCst), 0, "it was begun before");
        named = beats.next().await.unwrap().in_flight.len();
    }
    until("it is begun", async || begun.load(Ordering::SeqCst) == 1).await;
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_nothing_to_do_does_not_start() {
    let rig = Rig::new().await;
    let config = || Config::new(0, "w".parse().unwrap());
    let start = async |config, handlers| {
        run(
            rig.broker.clone(),
            config,
            handlers,
            CancellationToken::new(),
        )
        .await
    };
    let one = || handler(|_, _| async { DONE });
    assert_eq!(start(config(), vec![]).await, Err(WorkerError::NoHandlers));
    let same = start(config(), vec![one(), one()]).await;
    assert_eq!(same, Err(WorkerError::SameHandler(common::name("h"))));
    let mut classless = config();
    classless.classes.clear();
    assert_eq!(
        start(classless, vec![one()]).await,
        Err(WorkerError::NoClasses)
    );
}
