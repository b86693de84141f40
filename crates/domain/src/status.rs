//! How a batch is doing, in the words that people and programs are shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The status of a batch, a tier or a job.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// It has not begun.
    #[default]
    Pending,
    /// It is going on.
    Running,
    /// All of it succeeded.
    Completed,
    /// It is over; some of it failed.
    CompletedWithFailures,
    /// It is over; nothing of it succeeded.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl BatchStatus {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::CompletedWithFailures => "completed_with_failures",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing goes on by itself any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The status of something that is over, by how many succeeded and failed.
    #[must_use]
    pub const fn of(succeeded: u64, failed: u64) -> Self {
        match (succeeded, failed) {
            (_, 0) => Self::Completed,
            (0, _) => Self::Failed,
            _ => Self::CompletedWithFailures,
        }
    }
}

impl fmt::Display for BatchStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
