//! Seeds of the simulation, each a run of its own. Without the environment these are the first 500.
//!
//! `REDRIVE_SIM_SEED=17` runs one, with all of its story; `REDRIVE_SIM_SEEDS=10000` runs so many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use redrive_simulation::{Report, simulate};

/// How long one seed may take by the wall clock: who runs in a circle uses no time of the simulation.
const STUCK: Duration = Duration::from_secs(120);

fn run(seed: u64, all: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(simulate(seed, all))
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

fn fail(report: &Report) -> ! {
    panic!(
        "{}\n\nseed {seed}:\n  {}\n\nAgain, with all that happened: just sim --seed {seed} --story",
        report.lines.join("\n"),
        report.violations.join("\n  "),
        seed = report.seed,
    );
}

/// Runs seeds on all processors, and says of each what it came to. A seed that never ends is named.
fn run_all(seeds: std::ops::Range<u64>, each: impl Fn(u64) -> Report + Send + Sync + 'static) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, each) = (Arc::new(AtomicU64::new(seeds.start)), Arc::new(each));
    let (tell, hear) = mpsc::channel();
    for _ in 0..threads {
        let (next, each, tell) = (Arc::clone(&next), Arc::clone(&each), tell.clone());
        std::thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end || tell.send((seed, None)).is_err() {
                    return;
                }
                if tell.send((seed, Some(each(seed)))).is_err() {
                    return;
                }
            }
        });
    }
    drop(tell);
    let mut running = BTreeSet::new();
    loop {
        match hear.recv_timeout(STUCK) {
            Ok((seed, None)) => {
                running.insert(seed);
            }
            Ok((seed, Some(report))) => {
                running.remove(&seed);
                if !report.violations.is_empty() {
                    fail(&report);
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("one of these never ends: {running:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    assert!(running.is_empty(), "these broke off: {running:?}");
}

#[test]
fn whatever_goes_wrong_the_invariants_hold_and_everything_settles() {
    if let Some(seed) = number("REDRIVE_SIM_SEED") {
        let report = run(seed, true);
        println!("{}", report.lines.join("\n"));
        if !report.violations.is_empty() {
            fail(&report);
        }
        return;
    }
    run_all(0..number("REDRIVE_SIM_SEEDS").unwrap_or(500), |seed| {
        run(seed, false)
    });
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    run_all(0..12, |seed| {
        let (first, mut second) = (run(seed, true), run(seed, true));
        for (line, (one, two)) in first.lines.iter().zip(&second.lines).enumerate() {
            assert_eq!(one, two, "seed {seed} parts at line {line}");
        }
        if first != second {
            second
                .violations
                .push("the same seed gave two runs".to_owned());
        }
        second
    });
    assert_ne!(run(0, false).log, run(1, false).log);
}
