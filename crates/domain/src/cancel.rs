//! Jobs that were stopped while their batch goes on, and what that means for documents.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What the cancellation of a job means for the documents of its tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CancelEffect {
    /// They go on without what this job would have made: the other jobs of the tier decide.
    Waived,
    /// Those that were not through the tier stay there.
    Stopped,
}

impl fmt::Display for CancelEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waived => "documents go on without it",
            Self::Stopped => "documents stop there",
        })
    }
}

/// That a job is cancelled. It stays so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Cancellation {
    /// What that means.
    pub effect: CancelEffect,
    /// Why, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    pub at: Timestamp,
    /// The log sequence that says so.
    pub seq: u64,
}
