//! What a worker makes of the units of a chunk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use common::{DONE, Rig, handler, job, name, sum};
use redrive_broker::{Broker, memory::MemoryOptions};
use redrive_domain::{
    document::Output,
    failure::{Failure, FailureClass, FailureKind},
    ids::BatchId,
    units::UnitSet,
};
use redrive_worker::handler::{Done, handler_fn};
use tokio::time::sleep;
use uuid::Uuid;

#[tokio::test(start_paused = true)]
async fn every_unit_gets_its_document_and_is_reported() {
    let mut rig = Rig::new().await;
    let (a, b) = (rig.documents(0, 700).await, rig.documents(700, 300).await);
    let mut chunk = rig.chunk(1, &a);
    chunk.units = UnitSet::run(0, 1_000);
    chunk.documents = vec![a, b];
    chunk.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    rig.offer(&chunk).await;
    let worker = rig.start(
        "w",
        2,
        vec![handler(|unit, ctx| async move {
            assert_eq!((ctx.attempt, ctx.params["x"].as_i64()), (1, Some(1)));
            assert!(unit.inputs.is_empty());
            Ok(Done::Completed(Some(Output::text(
                unit.document.id.clone(),
            ))))
        })],
    );
    let outcomes = rig.settled().await;
    let sum = sum(&outcomes);
    assert_eq!(sum.completed, UnitSet::run(0, 1_000));
    assert_eq!(sum.outputs.len(), 1_000);
    for (unit, output) in sum.outputs {
        assert_eq!(output, Output::text(format!("d{unit}")));
    }
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].chunk, chunk.id);
    assert_eq!(outcomes[0].worker.as_str(), "w");
    assert_eq!(rig.traces, vec![chunk.trace]);
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn failures_alike_are_reported_together() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 100).await;
    rig.offer(&rig.chunk(1, &source)).await;
    let worker = rig.start(
        "w",
        2,
        vec![handler(|unit, _| async move {
            match unit.ordinal % 4 {
                0 => DONE,
                1 => Ok(Done::Skipped),
                2 => Err(Failure::new(FailureKind::RATE_LIMITED, "slow down").with_code(429)),
                _ => Err(Failure::new(FailureKind::INVALID_DATA, "not a PDF")),
            }
        })],
    );
    let outcomes = rig.settled().await;
    assert_eq!(outcomes.len(), 1);
    let sum = sum(&outcomes);
    let every = |rest: u32| (0..100).filter(|n| n % 4 == rest).collect::<UnitSet>();
    assert_eq!((sum.completed, sum.skipped), (every(0), every(1)));
    assert_eq!(sum.failed.len(), 2);
    for (units, failure) in sum.failed {
        let rest = if failure.kind == FailureKind::RATE_LIMITED {
            2
        } else {
            3
        };
        assert_eq!(units, every(rest));
    }
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn large_outputs_are_spread_over_reports_that_the_broker_takes() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 24).await;
    let mut chunk = rig.chunk(1, &source);
    chunk.max_output_bytes = 512 * 1024;
    rig.offer(&chunk).await;
    let worker = rig.start(
        "w",
        2,
        vec![handler(|unit, _| async move {
            let size = if unit.ordinal == 5 { 512 } else { 60 } * 1024;
            Ok(Done::Completed(Some(Output::text("x".repeat(size)))))
        })],
    );
    let outcomes = rig.settled().await;
    let sum = sum(&outcomes);
    assert_eq!(sum.completed, UnitSet::run(0, 24));
    assert_eq!(sum.outputs.len(), 24);
    assert_eq!(sum.outputs[5].1.body.len(), 512 * 1024);
    let over = rig.sizes.iter().filter(|size| **size > 260 * 1024).count();
    assert_eq!(
        over, 1,
        "only the one that cannot be split: {:?}",
        rig.sizes
    );
    assert!((7..=9).contains(&outcomes.len()), "{:?}", rig.sizes);
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn many_long_failures_are_spread_too() {
    let mut rig = Rig::with(MemoryOptions {
        max_payload: 128 * 1024,
        ..MemoryOptions::default()
    })
    .await;
    let source = rig.documents(0, 100).await;
    rig.offer(&rig.chunk(1, &source)).await;
    let worker = rig.start(
        "w",
        2,
        vec![handler(|unit, _| async move {
            let failure = Failure::new(FailureKind::FAILED, format!("number {}", unit.ordinal));
            Err(failure.with_detail("y".repeat(8 * 1024)))
        })],
    );
    let outcomes = rig.settled().await;
    assert_eq!(sum(&outcomes).failed.len(), 100);
    assert!(
        rig.sizes.iter().all(|size| *size < 64 * 1024),
        "{:?}",
        rig.sizes
    );
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_too_large_is_a_failure_that_names_the_setting() {
    let mut rig = Rig::with(MemoryOptions {
        max_payload: 128 * 1024,
        ..MemoryOptions::default()
    })
    .await;
    let source = rig.documents(0, 2).await;
    let mut chunk = rig.chunk(1, &source);
    chunk.max_output_bytes = 200_000;
    rig.offer(&chunk).await;
    let worker = rig.start(
        "w",
        2,
        vec![handler(|unit, _| async move {
            let size = if unit.ordinal == 0 { 200_001 } else { 200_000 };
            Ok(Done::Completed(Some(Output::text("x".repeat(size)))))
        })],
    );
    let failed = sum(&rig.settled().await).failed;
    assert_eq!(failed.len(), 2);
    for (units, failure) in failed {
        assert_eq!(failure.kind, FailureKind::OUTPUT_TOO_LARGE);
        assert_eq!(failure.class, FailureClass::Permanent);
        if units.contains(0) {
            let said =
                "the output has 200001 bytes: the job keeps at most 200000 (max_output_bytes)";
            assert_eq!(failure.message, said);
        } else {
            assert!(
                failure.message.contains("max_payload"),
                "{}",
                failure.message
            );
        }
    }
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_takes_too_long_is_told_and_then_dropped() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 3).await;
    rig.offer(&rig.chunk(1, &source)).await;
    let told = Arc::new(AtomicU32::new(0));
    let begun = tokio::time::Instant::now();
    let worker = rig.start("w", 3, {
        let told = told.clone();
        vec![handler(move |unit, ctx| {
            let told = told.clone();
            async move {
                assert_eq!(ctx.deadline.duration_since(begun).as_secs(), 30);
                match unit.ordinal {
                    0 => pending().await,
                    1 => {
                        ctx.cancelled.cancelled().await;
                        told.fetch_add(1, Ordering::SeqCst);
                        let failure = Failure::new(FailureKind::CRASHED, "killed");
                        Err(failure.with_detail("stuck in frob()"))
                    }
                    _ => DONE,
                }
            }
        })]
    });
    let sum = sum(&rig.settled().await);
    assert_eq!(begun.elapsed().as_secs(), 32);
    assert_eq!(told.load(Ordering::SeqCst), 1);
    assert_eq!(sum.completed, UnitSet::from([2]));
    assert_eq!(sum.failed.len(), 2);
    for (units, failure) in sum.failed {
        assert_eq!(failure.kind, FailureKind::TIMEOUT);
        assert_eq!(failure.message, "took longer than 30s");
        let detail = units.contains(1).then(|| "stuck in frob()".to_owned());
        assert_eq!(failure.detail, detail);
    }
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_its_unit_alone() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 4).await;
    rig.offer(&rig.chunk(1, &source)).await;
    let worker = rig.start(
        "w",
        1,
        vec![handler(|unit, _| {
            assert!(unit.ordinal != 1, "at once");
            async move {
                if unit.ordinal == 2 {
                    sleep(Duration::from_millis(5)).await;
                    panic!("later");
                }
                DONE
            }
        })],
    );
    let sum = sum(&rig.settled().await);
    assert_eq!(sum.completed, UnitSet::from([0, 3]));
    let mut messages: Vec<_> = sum.failed.iter().map(|(_, f)| f.message.as_str()).collect();
    messages.sort_unstable();
    assert_eq!(
        messages,
        [
            "the handler panicked: at once",
            "the handler panicked: later"
        ]
    );
    for (_, failure) in &sum.failed {
        assert_eq!(failure.kind, FailureKind::CRASHED);
        assert_eq!(failure.class, FailureClass::Unknown);
    }
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn inputs_are_what_the_jobs_before_made() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 4).await;
    let text = |t: &str| Output::text(t);
    let (all, none) = (UnitSet::run(0, 4), UnitSet::new());
    let made = vec![(2, text("c")), (0, text("a"))];
    let a = rig
        .outputs("a", UnitSet::from([0, 1, 2]), UnitSet::from([3]), made)
        .await;
    let made = vec![(0, text("x")), (1, text("y"))];
    let b = rig.outputs("b", UnitSet::from([0, 1]), none, made).await;
    let mut chunk = rig.chunk(1, &source);
    chunk.tier = 1;
    chunk.units = all;
    chunk.inputs = vec![a, b];
    rig.offer(&chunk).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let worker = rig.start("w", 1, {
        let seen = seen.clone();
        vec![handler(move |unit, _| {
            let get = |of: &str| {
                let output = unit.inputs.get(&job(of))?;
                String::from_utf8(output.body.clone()).ok()
            };
            seen.lock()
                .unwrap()
                .push((unit.document.id.clone(), get("a"), get("b")));
            async { DONE }
        })]
    });
    assert_eq!(sum(&rig.settled().await).completed, UnitSet::run(0, 4));
    let some = |s: &str| Some(s.to_owned());
    let expected = [
        ("d0".to_owned(), some("a"), some("x")),
        ("d1".to_owned(), None, some("y")),
        ("d2".to_owned(), some("c"), None),
        ("d3".to_owned(), None, None),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_the_log_fails_for_a_while_and_says_where() {
    let mut rig = Rig::new().await;
    let here = rig.documents(0, 2).await;
    let mut not_there = here.clone();
    not_there.seq = 99;
    not_there.units = UnitSet::run(2, 3);
    let mut without = here.clone();
    without.units = UnitSet::from([0, 1, 7]);
    // An event of another batch is not this batch's document, whatever the chunk says.
    let own = std::mem::replace(&mut rig.key.batch, BatchId(Uuid::from_u128(8)));
    let mut other = rig.documents(8, 1).await;
    other.units = UnitSet::from([8]);
    rig.key.batch = own;
    let mut chunk = rig.chunk(1, &here);
    chunk.units = UnitSet::from([0, 1, 2, 3, 4, 7, 8, 9]);
    let other_seq = other.seq;
    chunk.documents = vec![without, not_there, other];
    rig.offer(&chunk).await;
    let worker = rig.start("w", 2, vec![handler(|_, _| async { DONE })]);
    let sum = sum(&rig.settled().await);
    assert_eq!(sum.completed, UnitSet::run(0, 2));
    let mut failed: Vec<_> = sum
        .failed
        .iter()
        .map(|(u, f)| (u.first(), u.len(), f))
        .collect();
    failed.sort();
    let messages: Vec<_> = failed
        .iter()
        .map(|(at, n, f)| (at.unwrap(), *n, f.message.clone()))
        .collect();
    assert_eq!(
        messages,
        [
            (2, 3, "the log has nothing at 99".to_owned()),
            (7, 1, "the log at 1 does not hold the document".to_owned()),
            (
                8,
                1,
                format!("the log at {other_seq} does not hold the document")
            ),
            (
                9,
                1,
                "the chunk does not say where the document stands".to_owned()
            ),
        ]
    );
    for (_, _, failure) in failed {
        assert_eq!(failure.kind, FailureKind::UNAVAILABLE);
        assert_eq!(failure.class, FailureClass::Transient);
    }
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_units_run_at_once_than_there_are_slots() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 40).await;
    for (id, handler) in [(1, "h"), (2, "i"), (3, "h"), (4, "i")] {
        let mut chunk = rig.chunk(id, &source);
        chunk.handler = name(handler);
        rig.offer(&chunk).await;
    }
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let make = |handler: &str| {
        let (now, most) = (now.clone(), most.clone());
        handler_fn(name(handler), move |_, _| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                let count = now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(count, Ordering::SeqCst);
                sleep(Duration::from_millis(100)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                DONE
            }
        })
    };
    let begun = tokio::time::Instant::now();
    let worker = rig.start("w", 5, vec![make("h"), make("i")]);
    let outcomes = rig.settled().await;
    let count: u64 = outcomes.iter().map(|o| o.completed.len()).sum();
    assert_eq!(count, 160);
    assert_eq!(most.load(Ordering::SeqCst), 5);
    // 160 units of 100 ms on 5 slots are 3.2 s; a good part of the slots is in use all the time.
    assert!(
        begun.elapsed() < Duration::from_millis(5_000),
        "{:?}",
        begun.elapsed()
    );
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_chunk_reports_as_it_goes() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 10).await;
    rig.offer(&rig.chunk(1, &source)).await;
    let worker = rig.start(
        "w",
        1,
        vec![handler(|_, ctx| async move {
            ctx.heartbeat();
            sleep(Duration::from_millis(700)).await;
            DONE
        })],
    );
    sleep(Duration::from_millis(3_200)).await;
    let early = rig.outcomes().await;
    assert!(early.len() >= 2, "{early:?}");
    let late = rig.settled().await;
    let all = [early, late].concat();
    assert_eq!(sum(&all).completed, UnitSet::run(0, 10));
    assert_eq!(all.iter().map(|o| o.busy.0).sum::<u64>(), 7_000);
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn chunks_that_need_the_same_event_read_it_once() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 100).await;
    for part in 0..10 {
        let mut chunk = rig.chunk(u128::from(part) + 1, &source);
        chunk.units = UnitSet::run(part * 10, 10);
        rig.offer(&chunk).await;
    }
    let worker = rig.start("w", 10, vec![handler(|_, _| async { DONE })]);
    assert_eq!(sum(&rig.settled().await).completed, UnitSet::run(0, 100));
    assert_eq!(rig.broker.gets.load(Ordering::SeqCst), 1);
    worker.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_chunk_has_all_slots_while_alone_and_shares_them_when_not() {
    let mut rig = Rig::new().await;
    let source = rig.documents(0, 40).await;
    let make = |handler: &str| {
        handler_fn(name(handler), |_, _| async {
            sleep(Duration::from_millis(100)).await;
            DONE
        })
    };
    let worker = rig.start("w", 2, vec![make("h"), make("i")]);
    sleep(Duration::from_millis(10)).await;
    let begun = tokio::time::Instant::now();
    rig.offer(&rig.chunk(1, &source)).await;
    assert_eq!(sum(&rig.settled().await).completed.len(), 40);
    // 40 units of 100 ms on 2 slots are 2 s; the first second, the other handler may wait for a chunk of its own.
    assert!(
        begun.elapsed() < Duration::from_millis(2_800),
        "{:?}",
        begun.elapsed()
    );

    rig.offer(&rig.chunk(2, &source)).await;
    sleep(Duration::from_millis(1_500)).await;
    let mut other = rig.chunk(3, &source);
    other.handler = name("i");
    other.units = UnitSet::from([0]);
    rig.offer(&other).await;
    sleep(Duration::from_millis(400)).await;
    let outcomes = rig.outcomes().await;
    assert!(outcomes.iter().any(|o| o.chunk == other.id), "{outcomes:?}");
    assert_eq!(
        rig.broker.offered().await.unwrap().len(),
        1,
        "the long one goes on"
    );
    rig.settled().await;
    worker.leave().await;
}
