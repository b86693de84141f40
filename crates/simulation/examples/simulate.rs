//! Runs seeds of the simulation, on all processors, until one shows what should never be.
//!
//! `cargo run -p redrive-simulation --example simulate -- 10000` runs so many; `-- --seed 17 --story` tells all of one.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use redrive_simulation::{Report, simulate};

/// Runs seeds of the simulation.
#[derive(Parser)]
struct Args {
    /// How many seeds.
    #[arg(default_value_t = 500)]
    count: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this one.
    #[arg(long)]
    seed: Option<u64>,
    /// Tell all that happened, on standard output.
    #[arg(long)]
    story: bool,
    /// Run each seed twice, and compare.
    #[arg(long)]
    twice: bool,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

fn run(seed: u64, all: bool) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    Ok(runtime.block_on(simulate(seed, all)))
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::builder()
                .with_default_directive(tracing_subscriber::filter::LevelFilter::OFF.into())
                .from_env_lossy(),
        )
        .with_writer(std::io::stderr)
        .init();
    let (from, count) = args.seed.map_or((args.from, args.count), |seed| (seed, 1));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let sums: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    let failed: Mutex<Vec<u64>> = Mutex::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(usize::try_from(count)?))
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    while !stop.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= from + count {
                            break;
                        }
                        let mut report = run(seed, args.story)?;
                        if args.twice && run(seed, args.story)? != report {
                            let two = "the same seed gave two different runs";
                            report.violations.push(two.to_owned());
                        }
                        if args.story {
                            report.lines.iter().for_each(|line| println!("{line}"));
                        }
                        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
                        for (what, often) in [
                            ("events", report.events),
                            ("executions", report.executions),
                            ("seconds", report.passed.as_secs()),
                        ]
                        .into_iter()
                        .chain(report.counts)
                        {
                            *sums.entry(what).or_default() += often;
                        }
                        if !report.violations.is_empty() {
                            eprintln!("seed {seed}:");
                            for problem in &report.violations {
                                eprintln!("  {problem}");
                            }
                            failed
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(seed);
                            stop.fetch_or(!args.keep_going, Ordering::Relaxed);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            match worker.join() {
                Ok(result) => result?,
                Err(_) => stop.store(true, Ordering::Relaxed),
            }
        }
        anyhow::Ok(())
    })?;
    let ran = next.into_inner().min(from + count) - from;
    eprintln!("{ran} seeds from {from} in {:.1?}", began.elapsed());
    for (what, often) in sums.into_inner().unwrap_or_else(PoisonError::into_inner) {
        eprintln!("{often:>12} {what}");
    }
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_unstable();
    if let Some(first) = failed.first() {
        eprintln!(
            "{} failed: {failed:?}. See one again: just sim --seed {first} --story",
            failed.len()
        );
    }
    Ok(match failed.is_empty() && !stop.into_inner() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
