//! The attempt that an event tells of.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{ChunkId, JobName, WorkerId},
    pipeline::TierNum,
    time::Millis,
    units::UnitSet,
};

/// The circumstances of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = EventAttempt))]
pub struct Attempt {
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// Which attempt of these units it was, from 1.
    pub number: u32,
    /// The chunk in which it was made.
    pub chunk: ChunkId,
    /// Who made it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Time spent in the handler on what the report speaks of; only on the first event that came of a report.
    #[serde(default)]
    pub busy: Millis,
    /// Time spent reading documents and inputs; only on the first event that came of a report.
    #[serde(default, skip_serializing_if = "Millis::is_zero")]
    pub loading: Millis,
    /// Time from the report to this event; only on the first event that came of a report.
    #[serde(default, skip_serializing_if = "Millis::is_zero")]
    pub writing: Millis,
    /// The most memory that an execution of these units used, in bytes, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
}

/// Units of one job that are to be executed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Selected {
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// The units.
    pub units: UnitSet,
}
