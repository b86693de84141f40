//! Jobs whose dispatch is held up, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, FailureKind},
    ids::JobName,
    pipeline::TierNum,
    time::{Millis, Timestamp},
};

/// A job of a batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobRef {
    /// Its tier.
    pub tier: TierNum,
    /// Its name.
    pub job: JobName,
}

/// Why a job is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// Somebody asked for it.
    Asked(Option<String>),
    /// A unit failed with `misconfigured`: every other would fail alike.
    Misconfigured(Failure),
    /// Its breaker is open: the other side seems to be away. It goes on by itself.
    Breaker(Outage),
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(None) => f.write_str("as was asked for"),
            Self::Asked(Some(reason)) => f.write_str(reason),
            Self::Misconfigured(failure) => write!(f, "misconfigured: {}", failure.message),
            Self::Breaker(outage) => outage.fmt(f),
        }
    }
}

/// Why a breaker is open, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Outage {
    /// Attempts that failed as the other side's fault.
    pub failed: u64,
    /// Of so many that ended.
    pub of: u64,
    /// Within this time, at most.
    pub window: Millis,
    /// From then on one unit at a time is tried.
    pub until: Timestamp,
    /// Probes that have failed since it opened.
    #[serde(default)]
    pub probes: u32,
    /// What the last of them failed with.
    pub kind: FailureKind,
    /// What it said.
    pub message: String,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            failed,
            of,
            window,
            until,
            probes,
            kind,
            message,
        } = self;
        write!(
            f,
            "outage: {failed} of {of} attempts failed within {window}"
        )?;
        match probes {
            0 => {}
            1 => write!(f, ", and so did a probe")?,
            n => write!(f, ", and so did {n} probes")?,
        }
        write!(
            f,
            "; tried again from {until} on, one at a time; the last failed with {kind}: {message}"
        )
    }
}

/// That a job is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Paused {
    /// Why.
    pub reason: PauseReason,
    /// Since when.
    pub at: Timestamp,
    /// The log sequence that says so.
    pub seq: u64,
}

impl Paused {
    /// The outage, where it is a breaker that holds the job up: that passes by itself.
    #[must_use]
    pub fn outage(&self) -> Option<&Outage> {
        match &self.reason {
            PauseReason::Breaker(outage) => Some(outage),
            PauseReason::Asked(_) | PauseReason::Misconfigured(_) => None,
        }
    }

    /// Whether it waits for somebody to resume it.
    #[must_use]
    pub fn waits_for_somebody(&self) -> bool {
        self.outage().is_none()
    }
}
