//! Commands that read the log.

use std::{convert::Infallible, path::PathBuf};

use clap::{Args, ValueEnum};
use redrive_domain::query::{At, BatchRef};

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// The batch: its id, or the word last [default: all of the namespace]
    pub(crate) batch: Option<BatchRef>,
    /// Go on with what happens
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only of this type or its subtypes, for instance documents.failed or tier
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The batch: its id, or the word last; or a file that `redrive export` wrote [default: all of the namespace]
    #[arg(value_name = "BATCH|FILE", value_parser = parse_of)]
    pub(crate) of: Option<Of>,
    /// Stop after this log sequence or point in time
    #[arg(long, visible_alias = "at", value_name = "SEQ|TIME")]
    pub(crate) until: Option<At>,
    /// Compare the state with the projector's, field by field; of a file, with what it says of itself
    #[arg(long)]
    pub(crate) verify: bool,
    /// Of a file, print this [default: the status and the first failures; as JSON, the diagnosis too]
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "verify")]
    pub(crate) show: Option<Show>,
}

/// What is replayed.
#[derive(Debug, Clone)]
pub(crate) enum Of {
    Batch(BatchRef),
    File(PathBuf),
}

/// What is printed of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Show {
    /// How the batch was doing
    Status,
    /// All failures
    Failures,
    /// What happened, line by line
    Timeline,
    /// The whole state
    State,
    /// What was wrong, and what there was to do about it
    Diagnosis,
}

impl ReplayArgs {
    /// The batch of the system that is meant.
    pub(crate) fn batch(&self) -> Option<BatchRef> {
        match self.of {
            Some(Of::Batch(batch)) => Some(batch),
            Some(Of::File(_)) | None => None,
        }
    }

    /// The file that is meant: then no system is needed.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match &self.of {
            Some(Of::File(path)) => Some(path.clone()),
            Some(Of::Batch(_)) | None => None,
        }
    }
}

/// What names no batch is a file.
fn parse_of(text: &str) -> Result<Of, Infallible> {
    Ok(text
        .parse()
        .map_or_else(|_| Of::File(PathBuf::from(text)), Of::Batch))
}
