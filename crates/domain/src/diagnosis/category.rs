//! What a batch's failures come from, as one word.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    failure::FailureKind,
    state::{BatchState, Infrastructure},
};

use super::parts;

/// What most of a batch's failures come from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailureCategory {
    /// Nothing failed.
    #[default]
    None,
    /// From documents, handlers, or what these talk to.
    Pipeline,
    /// From attempts that took longer than they may.
    Timeout,
    /// From machines and processes: memory, preemption, lost workers, crashes.
    Infrastructure,
    /// From work that no live worker does.
    Orphaned,
}

impl FailureCategory {
    /// The rule, in one place: what has work that nobody does comes first, since nothing goes on before that is put
    /// right. Else it is what most failed units come from, by their kinds; where as many come from each, infrastructure
    /// goes before timeout, and timeout before the pipeline.
    #[must_use]
    pub fn of(batch: &BatchState) -> Self {
        if batch
            .jobs()
            .any(|(_, _, job)| parts::is_orphaned(batch, job))
        {
            return Self::Orphaned;
        }
        let mut counts = [
            (Self::Pipeline, 0),
            (Self::Timeout, 0),
            (Self::Infrastructure, 0),
        ];
        for (_, _, job) in batch.jobs() {
            for (_, kind, units) in job.failed_by_kind() {
                let category = Self::of_kind(kind);
                let count = counts.iter_mut().find(|(of, _)| *of == category);
                if let Some((_, count)) = count {
                    *count += units.len();
                }
            }
        }
        // The last of those that are largest wins.
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.filter(|(_, count)| *count > 0)
            .map_or(Self::None, |(category, _)| category)
    }

    /// Where failures of a kind come from.
    #[must_use]
    pub fn of_kind(kind: &FailureKind) -> Self {
        if *kind == FailureKind::TIMEOUT {
            Self::Timeout
        } else if Infrastructure::is_kind(kind) {
            Self::Infrastructure
        } else {
            Self::Pipeline
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pipeline => "pipeline",
            Self::Timeout => "timeout",
            Self::Infrastructure => "infrastructure",
            Self::Orphaned => "orphaned",
        }
    }
}

impl fmt::Display for FailureCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
