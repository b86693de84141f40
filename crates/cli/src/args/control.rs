//! Commands that change what becomes of a batch.

use clap::{Args, ValueEnum};
use redrive_domain::pipeline::TierNum;

use super::{BatchArg, parse_tier};

/// Which failures to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Only failures that pass by themselves
    #[default]
    TransientOnly,
    /// All failures
    All,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Which failures
    #[arg(long, value_enum, default_value_t)]
    pub(crate) mode: Mode,
    /// Only failures of this tier; may be given several times
    #[arg(long, value_name = "N", value_parser = parse_tier)]
    pub(crate) tier: Vec<TierNum>,
    /// Leave out documents that have been retried this often
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=10), value_name = "1..10")]
    pub(crate) max_retry_count: u8,
    /// Attempts in this round [default: as the job says]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3), value_name = "1..3")]
    pub(crate) max_retries: Option<u8>,
    /// Follow the batch until it is over
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Where the batch runs in this terminal: documents to work on at once [default: the number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroU32>,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Why, for the history
    #[arg(long)]
    pub(crate) reason: Option<String>,
}
