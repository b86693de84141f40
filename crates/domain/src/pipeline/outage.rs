//! What a pipeline says of outages: when a job is held up by itself, and how much may fail before a batch is given up.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{share::Share, time::Millis};

/// When a job is held up because the other side is away: as soon as so many of its latest attempts failed as the other
/// side's fault, nothing more of it is handed out for a while, and then one unit at a time until one succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Breaker {
    /// Only attempts that ended within this time count.
    pub window: Millis,
    /// Fewer attempts than this say nothing.
    pub min_attempts: u32,
    /// The part of them that has to have failed.
    pub failure_rate: Share,
    /// How long nothing is handed out at first. Each probe that fails doubles it, up to
    /// [`BREAKER_PAUSE_MS`](crate::limits::BREAKER_PAUSE_MS).
    pub pause: Millis,
}

impl Breaker {
    /// The usual one. What merely fails often does not open it: nine of ten attempts have to fail as the other side's
    /// fault, and a hundred have to have ended, so that a batch with few documents is over before it could do any good.
    pub const USUAL: Self = Self {
        window: Millis::seconds(30),
        min_attempts: 100,
        failure_rate: Share::NINE_OF_TEN,
        pause: Millis::seconds(15),
    };

    // Serde asks for a function.
    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn usual() -> Option<Self> {
        Some(Self::USUAL)
    }
}

/// How many documents of a batch may fail. With more, nothing more of it is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum MaxFailed {
    /// So many.
    Count(u32),
    /// So large a part of all its documents.
    Share(Share),
}

impl MaxFailed {
    /// The number of documents that may fail, of so many.
    #[must_use]
    pub fn of(self, documents: u32) -> u64 {
        match self {
            Self::Count(count) => u64::from(count),
            Self::Share(share) => share.of(u64::from(documents)),
        }
    }
}

impl fmt::Display for MaxFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}
