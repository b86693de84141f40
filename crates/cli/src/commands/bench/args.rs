//! What `redrive bench` takes.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};
use redrive_domain::{
    limits::{DOCUMENTS_PER_BATCH, JOBS_PER_TIER, TIERS},
    units::Ordinal,
};
use serde::{Deserialize, Serialize};

use crate::login;

/// Documents hold at most so much text of the benchmark's: the limit of inline data is 64 KiB with its quotes.
const SIZE_MOST: u64 = 60 * 1024;

#[derive(Debug, Args)]
#[command(
    after_help = "It measures on a nats-server of its own, with a coordinator, a worker and a projector as processes of \
    their own, all with temporary stores. With --nats-url it uses that broker, which must be empty.\n\nExamples:\n  \
    redrive bench\n  redrive bench --failing 1% --runs 3 -o json > before.json\n  redrive bench --documents 100000 \
    --batches 10000 --compare before.json"
)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Batches of one document to time, one after the other
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=100_000), value_name = "N")]
    pub(crate) latency_samples: u32,
    /// Measure so often, each time from nothing, and tell medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "R")]
    pub(crate) runs: u32,
    /// Compare with what -o json printed before
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
    /// Be a role of a benchmark, until standard input ends
    #[arg(long, value_enum, hide = true)]
    pub(crate) role: Option<Role>,
    /// Where the role keeps its files
    #[arg(long, hide = true)]
    pub(crate) store: Option<PathBuf>,
}

/// What is worked on.
#[derive(Debug, Clone, PartialEq, Eq, Args, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// Documents in all
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(DOCUMENTS_PER_BATCH)), value_name = "N")]
    pub(crate) documents: u32,
    /// Batches that they are spread over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "B")]
    pub(crate) batches: u32,
    /// Tiers that each of them goes through
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=TIERS as i64), value_name = "T")]
    pub(crate) tiers: u32,
    /// Jobs in each tier
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=JOBS_PER_TIER as i64), value_name = "J")]
    pub(crate) jobs: u32,
    /// Documents that fail at first and succeed when they are retried
    #[arg(long, default_value = "0%", value_name = "SHARE")]
    pub(crate) failing: Share,
    /// Reads a second over HTTP while documents are worked on: status, documents, failures and lists
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000), value_name = "N")]
    #[serde(default)]
    pub(crate) reads: u32,
    /// Bytes of inline text in each document
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=SIZE_MOST), value_name = "BYTES")]
    pub(crate) size: u64,
}

impl Shape {
    /// How many documents the batch of that number has: they are spread evenly.
    pub(crate) fn documents_of(&self, batch: u32) -> u32 {
        self.documents / self.batches + u32::from(batch < self.documents % self.batches)
    }

    /// How many documents fail at first, over all batches.
    pub(crate) fn failing(&self) -> u64 {
        let of = |batch| u64::from(self.failing.of(self.documents_of(batch)));
        (0..self.batches).map(of).sum()
    }

    /// Executions that succeed: each document once in each job.
    pub(crate) fn units(&self) -> u64 {
        u64::from(self.documents) * u64::from(self.tiers) * u64::from(self.jobs)
    }
}

/// A part of a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Share(u32);

const MILLION: u32 = 1_000_000;

impl Share {
    pub(crate) fn per_million(self) -> u32 {
        self.0
    }

    /// Of so many per million; what is more than all is all.
    pub(crate) fn new(per_million: u64) -> Self {
        Self(u32::try_from(per_million).map_or(MILLION, |share| share.min(MILLION)))
    }

    /// How many of so many.
    pub(crate) fn of(self, count: u32) -> u32 {
        let exact = u64::from(count) * u64::from(self.0) / u64::from(MILLION);
        u32::try_from(exact).unwrap_or(u32::MAX)
    }

    /// Whether that one is among them. They are spread evenly.
    pub(crate) fn takes(self, ordinal: Ordinal) -> bool {
        self.of(ordinal.saturating_add(1)) > self.of(ordinal)
    }
}

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "give a share from 0% to 100%, such as 1% or 0.5%";
        let number = text.trim().strip_suffix('%').ok_or(wrong)?;
        let share: f64 = number.trim_end().parse().map_err(|_| wrong)?;
        if !(0.0..=100.0).contains(&share) {
            return Err(wrong);
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(Self::new(
            (share * f64::from(MILLION) / 100.0).round() as u64
        ))
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", f64::from(self.0) / f64::from(MILLION) * 100.0)
    }
}

impl TryFrom<String> for Share {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

/// A process of the measured system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Coordinator,
    Worker,
    Projector,
    Gateway,
}

impl Role {
    /// Those of every run; a gateway only where there is something to read.
    pub(crate) const ALWAYS: [Self; 3] = [Self::Coordinator, Self::Worker, Self::Projector];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Projector => "projector",
            Self::Gateway => "gateway",
        }
    }

    /// What it is to the broker.
    pub(super) const fn login(self) -> login::Role {
        match self {
            Self::Coordinator => login::Role::Coordinator,
            Self::Worker => login::Role::Worker,
            Self::Projector => login::Role::Projector,
            Self::Gateway => login::Role::Gateway,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_and_spread_evenly() {
        let share: Share = "1%".parse().unwrap();
        assert_eq!(share.to_string(), "1%");
        let taken: Vec<Ordinal> = (0..1_000).filter(|it| share.takes(*it)).collect();
        assert_eq!(taken.len() as u32, share.of(1_000));
        assert_eq!(taken, (1..=10).map(|it| it * 100 - 1).collect::<Vec<_>>());
        assert!((0..1_000).all(|it| Share::new(1_000_000).takes(it)));
        assert!(
            ["1", "-1%", "101%", "x%", ""]
                .iter()
                .all(|it| it.parse::<Share>().is_err())
        );
    }

    #[test]
    fn documents_are_spread_over_the_batches() {
        let shape = Shape {
            documents: 11,
            batches: 3,
            tiers: 2,
            jobs: 2,
            failing: Share::new(500_000),
            reads: 0,
            size: 0,
        };
        let counts: Vec<u32> = (0..3).map(|it| shape.documents_of(it)).collect();
        assert_eq!(counts, [4, 4, 3]);
        assert_eq!(shape.failing(), 2 + 2 + 1);
        assert_eq!(shape.units(), 44);
    }
}
