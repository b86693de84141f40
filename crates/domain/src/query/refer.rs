//! Which batch is meant, and as of when.

use serde::{Deserialize, Serialize};

use crate::{ids::BatchId, time::Timestamp};

/// Which batch is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BatchRef {
    /// The namespace's last one.
    Last,
    /// This one.
    Id(BatchId),
}

impl std::fmt::Display for BatchRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// Neither `last` nor a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no batch: use its id (a UUID) or the word last")]
pub struct InvalidBatchRef(pub String);

impl std::str::FromStr for BatchRef {
    type Err = InvalidBatchRef;
    fn from_str(value: &str) -> Result<Self, InvalidBatchRef> {
        if value == "last" {
            return Ok(Self::Last);
        }
        let id = value.parse().map(Self::Id);
        id.map_err(|_| InvalidBatchRef(value.chars().take(80).collect()))
    }
}

impl TryFrom<String> for BatchRef {
    type Error = InvalidBatchRef;
    fn try_from(value: String) -> Result<Self, InvalidBatchRef> {
        value.parse()
    }
}

impl From<BatchRef> for String {
    fn from(value: BatchRef) -> String {
        value.to_string()
    }
}

/// A moment of the history. As text it is a log sequence such as `120`, or a time such as `2026-01-31T12:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum At {
    /// After the event of this log sequence.
    Seq(u64),
    /// After the last event that was decided by this time.
    Time(Timestamp),
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seq(seq) => seq.fmt(f),
            Self::Time(time) => time.fmt(f),
        }
    }
}

/// Neither a log sequence nor a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no moment: give a log sequence such as 120, or a time such as 2026-01-31T12:00:00Z"
)]
pub struct InvalidAt(pub String);

impl std::str::FromStr for At {
    type Err = InvalidAt;
    fn from_str(value: &str) -> Result<Self, InvalidAt> {
        let seq = value.parse().map(Self::Seq);
        seq.or_else(|_| value.parse().map(Self::Time))
            .map_err(|_| InvalidAt(value.chars().take(80).collect()))
    }
}

impl TryFrom<String> for At {
    type Error = InvalidAt;
    fn try_from(value: String) -> Result<Self, InvalidAt> {
        value.parse()
    }
}

impl From<At> for String {
    fn from(value: At) -> String {
        value.to_string()
    }
}
