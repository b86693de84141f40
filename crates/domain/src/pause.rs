//! Jobs whose dispatch is held up, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{failure::Failure, ids::JobName, pipeline::TierNum, time::Timestamp};

/// A job of a batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobRef {
    /// Its tier.
    pub tier: TierNum,
    /// Its name.
    pub job: JobName,
}

/// Why a job is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// Somebody asked for it.
    Asked(Option<String>),
    /// A unit failed with `misconfigured`: every other would fail alike.
    Misconfigured(Failure),
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(None) => f.write_str("as was asked for"),
            Self::Asked(Some(reason)) => f.write_str(reason),
            Self::Misconfigured(failure) => write!(f, "misconfigured: {}", failure.message),
        }
    }
}

/// That a job is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Why.
    pub reason: PauseReason,
    /// Since when.
    pub at: Timestamp,
    /// The log sequence that says so.
    pub seq: u64,
}
