//! Commands that look at batches.

use clap::Args;
use redrive_domain::{
    failure::{FailureClass, FailureKind, Fingerprint},
    ids::{Bucket, JobName},
    pipeline::TierNum,
    query::{At, DocumentStatus},
    status::BatchStatus,
};

use super::{BatchArg, parse_tier};

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// As it was at this log sequence or point in time [default: now]
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) at: Option<At>,
}

#[derive(Debug, Args)]
pub(crate) struct FailuresArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Only of this tier
    #[arg(long, value_name = "N", value_parser = parse_tier)]
    pub(crate) tier: Option<TierNum>,
    /// Only of this class: transient, permanent or unknown
    #[arg(long)]
    pub(crate) class: Option<FailureClass>,
    /// Only of this kind, for instance timeout
    #[arg(long)]
    pub(crate) kind: Option<FailureKind>,
    /// Only of those that are alike, as `diagnose` groups them
    #[arg(long)]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Print at most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// As it was at this log sequence or point in time [default: now]
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) at: Option<At>,
}

#[derive(Debug, Args)]
pub(crate) struct DocumentsArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Only with this status: open, completed, failed or cancelled
    #[arg(long)]
    pub(crate) status: Option<DocumentStatus>,
    /// Only those that came to this tier last, or failed in it
    #[arg(long, value_name = "N", value_parser = parse_tier)]
    pub(crate) tier: Option<TierNum>,
    /// Only those that failed with this class: transient, permanent or unknown
    #[arg(long)]
    pub(crate) class: Option<FailureClass>,
    /// Only those that failed with this kind, for instance timeout
    #[arg(long)]
    pub(crate) kind: Option<FailureKind>,
    /// Only those that failed alike, as `diagnose` groups them
    #[arg(long)]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Tell what the last tier made of them as well
    #[arg(long)]
    pub(crate) outputs: bool,
    /// Print at most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// As it was at this log sequence or point in time [default: now]
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) at: Option<At>,
}

#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Of this tier [default: the last]
    #[arg(long, value_name = "N", value_parser = parse_tier)]
    pub(crate) tier: Option<TierNum>,
    /// Of this job
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<JobName>,
    /// Print at most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// As it was at this log sequence or point in time [default: now]
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) at: Option<At>,
}

#[derive(Debug, Args)]
pub(crate) struct BatchesArgs {
    /// Only of this bucket
    #[arg(long, value_name = "NAME")]
    pub(crate) bucket: Option<Bucket>,
    /// Only with this status
    #[arg(long, value_parser = parse_status)]
    pub(crate) status: Option<BatchStatus>,
    /// Print at most so many
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: usize,
    /// As they were at this log sequence or point in time [default: now]
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) at: Option<At>,
}

fn parse_status(text: &str) -> Result<BatchStatus, String> {
    serde_json::from_value(text.into()).map_err(|_| {
        "use pending, running, completed, completed_with_failures, failed or cancelled".to_owned()
    })
}
