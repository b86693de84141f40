//! What stands when anything is killed or deleted while it works: real processes, a real nats-server, and handlers that
//! write down each execution in a file of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "chaos/harness.rs"]
mod harness;
mod support;

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use harness::Chaos;
use redrive_broker::{
    Broker,
    nats::{ConnectOptions, NatsBroker},
};
use redrive_domain::{
    event::Event,
    failure::{Failure, FailureKind},
    ids::WorkerId,
    state::BatchState,
    status::BatchStatus,
};
use redrive_worker::handler::{Done, handler_fn};
use rustix::process::Signal;
use serde_json::json;
use support::signal;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long anything may take on a slow and busy machine.
const BOUND: Duration = Duration::from_secs(240);

const URL: &str = "REDRIVE_CHAOS_URL";
const NAME: &str = "REDRIVE_CHAOS_NAME";
const FOLDER: &str = "REDRIVE_CHAOS_FOLDER";

/// A worker that others start; see [`Chaos::worker`]. It serves `a`, `b`, `c` and `slow`, and notes each execution that
/// succeeds before it says so: `<tier> <document> <attempt>`, a line each.
#[tokio::test]
#[ignore = "runs as a process of its own, inside of other tests"]
async fn a_worker() {
    let (Ok(url), Ok(name), Ok(folder)) = (env::var(URL), env::var(NAME), env::var(FOLDER)) else {
        return;
    };
    let folder = PathBuf::from(folder);
    let broker = NatsBroker::connect(ConnectOptions::new(url)).await.unwrap();
    let mut config = redrive_worker::Config::new(0, WorkerId::new(name.clone()).unwrap());
    config.slots = 8.try_into().unwrap();
    let side = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join(format!("side-{name}-{}", std::process::id())))
        .unwrap();
    let side = Arc::new(side);
    let handlers = ["a", "b", "c", "slow"].map(|handler| {
        let (side, mended) = (Arc::clone(&side), folder.join("mended"));
        handler_fn(handler.parse().unwrap(), move |unit, ctx| {
            let (side, mended) = (Arc::clone(&side), mended.clone());
            async move {
                let takes = if ctx.job.as_str() == "slow" { 5_000 } else { 4 };
                sleep(Duration::from_millis(takes)).await;
                match (ctx.job.as_str(), unit.ordinal % 100, ctx.attempt) {
                    ("a", 10..15, 1) => {
                        return Err(Failure::new(FailureKind::NETWORK, "a blip"));
                    }
                    ("b", 7, _) if !mended.exists() => {
                        return Err(Failure::new(FailureKind::REJECTED, "broken"));
                    }
                    _ => {}
                }
                let line = format!("{} {} {}\n", ctx.tier, unit.document.id, ctx.attempt);
                (&*side).write_all(line.as_bytes()).unwrap();
                Ok(Done::Completed(None))
            }
        })
    });
    redrive_worker::run(broker, config, handlers.to_vec(), CancellationToken::new())
        .await
        .unwrap();
}

fn done(state: &BatchState) -> u64 {
    state.jobs().map(|(_, _, job)| job.completed.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_is_the_only_truth_and_each_document_is_accounted_for_once_whatever_is_killed_or_deleted()
 {
    const DOCUMENTS: u32 = 20_000;
    let mut chaos = Chaos::start().await;
    for role in [
        "coordinator-1",
        "coordinator-2",
        "projector",
        "worker-1",
        "worker-2",
    ] {
        chaos.up(role);
    }
    let tier = |handler: &str| json!({ "jobs": [{ "handler": handler, "backoff": { "base": "100ms", "max": "1s" } }] });
    let pipeline = json!({ "tiers": [tier("a"), tier("b"), tier("c")] });
    let key = chaos.submit(&pipeline, DOCUMENTS);
    let deeds: [&str; 10] = [
        "worker",
        "leader",
        "work",
        "broker",
        "projector",
        "inbox consumer",
        "leases",
        "store",
        "snapshots",
        "standby",
    ];
    let began = Instant::now();
    // Each while work goes on: some more has been done since the last one, and not all.
    let mut through = 0;
    for round in 0..2 {
        for deed in deeds {
            let more = through + 1_000;
            let state = chaos
                .until(&key, deed, |state| {
                    done(state) >= more || state.status.is_over()
                })
                .await;
            through = done(&state);
            println!("{:?} {deed}: {through} units are through", began.elapsed());
            if state.status.is_over() {
                assert!(round > 0, "it was over before {deed}");
                break;
            }
            commit(&mut chaos, deed).await;
        }
    }
    let over = |state: &BatchState| state.status.is_over();
    let state = chaos.until(&key, "it is over", over).await;
    let counts = state.counts();
    assert_eq!((counts.completed, counts.failed), (19_800, 200));

    // A retry, in the middle of which the leader is killed.
    fs::write(chaos.home.root().join("side/mended"), "").unwrap();
    let batch = key.batch.to_string();
    chaos.home.run(["retry", &batch, "--mode", "all"]).exits(0);
    commit(&mut chaos, "leader").await;
    let state = chaos
        .until(&key, "all are through", |state| {
            state.status == BatchStatus::Completed
        })
        .await;
    assert_eq!(state.counts().completed, u64::from(DOCUMENTS));

    // By the log each unit succeeded once, and it was executed: its handler says so itself.
    let side = chaos.side();
    let (_, events) = chaos.look(&key).await.unwrap();
    let mut accepted = 0;
    for envelope in &events {
        if let Event::DocumentsCompleted { attempt, units, .. } = &envelope.event {
            for unit in units.iter() {
                accepted += 1;
                let written = side.get(&(attempt.tier, format!("doc-{unit}")));
                assert!(
                    written.is_some_and(|attempts| attempts.contains(&attempt.number)),
                    "tier {} doc-{unit}: attempt {} counts, {written:?} were executed",
                    attempt.tier,
                    attempt.number
                );
            }
        }
    }
    assert_eq!(accepted, 3 * u64::from(DOCUMENTS));
    assert_eq!(side.len(), 3 * DOCUMENTS as usize);
    // The projector, rebuilt and killed, says the same as the log.
    chaos.home.run(["replay", &batch, "--verify"]).exits(0);
    let executed: usize = side.values().map(Vec::len).sum();
    println!("{accepted} units, {executed} executions");
}

async fn commit(chaos: &mut Chaos, deed: &str) {
    match deed {
        "worker" => {
            chaos.kill("worker-1");
            chaos.up("worker-1");
        }
        "leader" | "standby" => {
            let leader = chaos.leader().await;
            let other = match leader {
                "coordinator-1" => "coordinator-2",
                _ => "coordinator-1",
            };
            let killed = if deed == "leader" { leader } else { other };
            chaos.kill(killed);
            chaos.up(killed);
        }
        "projector" => {
            chaos.kill("projector");
            chaos.up("projector");
        }
        "broker" => {
            chaos.server.kill().unwrap();
            chaos.server.restart().unwrap();
        }
        "work" => {
            chaos.api("STREAM.DELETE.RD_WORK_0").await;
        }
        "inbox consumer" => {
            let names = chaos.api("CONSUMER.NAMES.RD_INBOX_0").await;
            for name in names["consumers"].as_array().unwrap() {
                let name = name.as_str().unwrap();
                chaos
                    .api(&format!("CONSUMER.DELETE.RD_INBOX_0.{name}"))
                    .await;
            }
        }
        "leases" => {
            chaos.api("STREAM.DELETE.KV_RD_LEASES_0").await;
        }
        "snapshots" => {
            chaos.api("STREAM.DELETE.RD_SNAPSHOTS_0").await;
        }
        "store" => delete(&chaos.store()),
        other => panic!("{other}"),
    }
}

/// Deletes a folder in which somebody still writes.
fn delete(folder: &Path) {
    while let Err(error) = fs::remove_dir_all(folder) {
        assert!(
            matches!(
                error.kind(),
                std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::NotFound
            ),
            "{error}"
        );
        if error.kind() == std::io::ErrorKind::NotFound {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writer_a_shard_a_coordinator_that_was_stopped_and_goes_on_cannot_write_and_stands_by()
{
    let mut chaos = Chaos::start().await;
    for role in ["coordinator-1", "coordinator-2", "projector", "worker-1"] {
        chaos.up(role);
    }
    let pipeline = json!({ "tiers": [{ "jobs": [{ "handler": "slow" }] }] });
    let key = chaos.submit(&pipeline, 24);
    // The worker holds eight for five seconds each; nothing of it is to be executed twice.
    let first = chaos.leader().await;
    chaos
        .until(&key, "the first are through", |state| done(state) >= 8)
        .await;
    let pid = chaos.roles[first].pid();
    signal(pid, Signal::STOP);
    let second = match first {
        "coordinator-1" => "coordinator-2",
        _ => "coordinator-1",
    };
    let before = chaos.broker.last_seq().await.unwrap();
    chaos
        .until(&key, "somebody else decides", |state| {
            state.last_seq > before
        })
        .await;
    signal(pid, Signal::CONT);
    chaos
        .roles
        .get_mut(first)
        .unwrap()
        .wait_for("no longer leading");
    let state = chaos
        .until(&key, "it is over", |state| state.status.is_over())
        .await;
    assert_eq!(state.counts().completed, 24);
    assert_eq!(chaos.leader().await, second);
    let side = chaos.side();
    assert_eq!(side.len(), 24);
    let twice: Vec<_> = side
        .iter()
        .filter(|(_, attempts)| attempts.len() != 1)
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(state.jobs().map(|(_, _, job)| job.lost).sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_kill_9_of_anything() {
    let mut chaos = Chaos::start().await;
    for role in ["coordinator-1", "projector", "worker-1"] {
        chaos.up(role);
    }
    let pipeline =
        json!({ "tiers": [{ "jobs": [{ "handler": "a" }] }, { "jobs": [{ "handler": "slow" }] }] });
    let key = chaos.submit(&pipeline, 8);
    chaos
        .until(&key, "all are in the slow tier", |state| done(state) == 8)
        .await;
    // A cancellation that was acknowledged, of another batch.
    let other = chaos.submit(&pipeline, 50);
    let id = other.batch.to_string();
    chaos.home.run(["cancel", &id]).exits(0);
    // Nobody decides while the worker reports; then nobody is left at all.
    chaos.kill("coordinator-1");
    let end = Instant::now() + BOUND;
    while chaos.side().keys().filter(|(tier, _)| *tier == 1).count() < 8 {
        assert!(Instant::now() < end, "{}", chaos.logs());
        sleep(Duration::from_millis(50)).await;
    }
    // All that it did is with the broker as soon as no chunk of it is left.
    while !chaos.broker.offered().await.unwrap().is_empty() {
        assert!(Instant::now() < end, "{}", chaos.logs());
        sleep(Duration::from_millis(50)).await;
    }
    for role in ["worker-1", "projector"] {
        chaos.kill(role);
    }
    chaos.server.kill().unwrap();
    chaos.server.restart().unwrap();
    chaos.up("coordinator-1");
    let state = chaos
        .until(&key, "what was reported is taken", |state| {
            state.status.is_over()
        })
        .await;
    assert_eq!(state.status, BatchStatus::Completed);
    assert_eq!(state.counts().completed, 8);
    let twice = chaos
        .side()
        .values()
        .filter(|attempts| attempts.len() > 1)
        .count();
    assert_eq!(twice, 0);
    let (state, _) = chaos.look(&other).await.unwrap();
    assert_eq!(state.status, BatchStatus::Cancelled);
}
