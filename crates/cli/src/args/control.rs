//! Commands that change what becomes of a batch.

use clap::{Args, ValueEnum};
use redrive_domain::{
    failure::{FailureKind, Fingerprint},
    ids::JobName,
    pipeline::TierNum,
    plan::Plan,
    share::Share,
    time::{Millis, Timestamp},
};

use super::{BatchArg, parse_tier};

/// Which failures to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Only failures that pass by themselves
    TransientOnly,
    /// All failures
    All,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Which failures [default: transient_only, or all that --kind or --fingerprint names]
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Mode>,
    /// Only failures of this tier; may be given several times
    #[arg(long, value_name = "N", value_parser = parse_tier)]
    pub(crate) tier: Vec<TierNum>,
    /// Only failures of this kind, for instance timeout; may be given several times
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<FailureKind>,
    /// Only failures that are alike, as `diagnose` groups them; may be given several times
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) fingerprint: Vec<Fingerprint>,
    /// Only failures of this job; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Vec<JobName>,
    /// Another parameter for the tiers that --tier names, kept for later retries; may be given several times. NAME is requires_gpu, class, memory_bytes, num_cpus, timeout, max_attempts, rate_limit, max_concurrency, priority, entrypoint, deployment_mode or plugin_archives
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Wait until this time before anything is executed, for instance 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) not_before: Option<Timestamp>,
    /// Wait this long before anything is executed, for instance 30s
    #[arg(long, value_name = "SPAN", conflicts_with = "not_before")]
    pub(crate) after: Option<Millis>,
    /// Leave out documents that have been retried this often
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=10), value_name = "1..10")]
    pub(crate) max_retry_count: u8,
    /// Attempts in this round [default: as the job says]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3), value_name = "1..3")]
    pub(crate) max_retries: Option<u8>,
    /// Try this part of the documents first, and the rest only if they succeed: for instance 1%
    #[arg(long, value_name = "SHARE")]
    pub(crate) canary: Option<Share>,
    /// The part of that sample that has to succeed [default: 90%]
    #[arg(long, value_name = "SHARE", requires = "canary")]
    pub(crate) canary_success: Option<Share>,
    /// Do nothing: say what would be retried, and print a plan of it
    #[arg(long, conflicts_with_all = ["watch", "jobs"])]
    pub(crate) dry_run: bool,
    /// Do just what a dry run planned; refused (exit 5) where that has become something else
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["mode", "tier", "kind", "fingerprint", "job", "set", "not_before", "after", "max_retry_count", "max_retries", "canary", "canary_success", "dry_run"])]
    pub(crate) plan: Option<Plan>,
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
    #[command(flatten)]
    pub(crate) of: JobsArg,
    /// Why, for the history
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

/// Jobs of a batch.
#[derive(Debug, Args)]
pub(crate) struct JobsArg {
    /// Only jobs of this tier
    #[arg(long, value_name = "N", value_parser = parse_tier)]
    pub(crate) tier: Option<TierNum>,
    /// Only jobs of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<JobName>,
}

#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    #[command(flatten)]
    pub(crate) of: JobsArg,
    /// Why, for the history
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    #[command(flatten)]
    pub(crate) of: JobsArg,
    /// Where the batch runs in this terminal: documents to work on at once [default: the number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroU32>,
}
