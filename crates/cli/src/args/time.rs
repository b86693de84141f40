//! Commands about the past of a batch.

use clap::Args;
use redrive_domain::query::At;

use super::BatchArg;

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// The earlier moment: a log sequence, or a point in time; 0 is before the batch was made
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) from: At,
    /// The later moment [default: now]
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) to: Option<At>,
    /// Print at most so many documents
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct TimelineArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Up to this log sequence or point in time [default: now]
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) at: Option<At>,
    /// Print at most so many lines
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Leave out URIs and data of documents, outputs, parameters of jobs, and details of failures
    #[arg(long)]
    pub(crate) redact: bool,
    /// Up to this log sequence or point in time [default: now]
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) at: Option<At>,
}
