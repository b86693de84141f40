//! What is stuck, and what is executed twice: what a leader sees of it, and what it finds.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{ChunkId, JobName, WorkerId},
    pipeline::TierNum,
    time::{Millis, Timestamp},
    units::{UnitSet, as_ranges},
};

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealAction {
    /// Units that are in progress and of which nothing comes.
    DetectStuck,
    /// Units that are executed twice at once.
    KillDuplicates,
}

/// Why units in progress count as stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StuckReason {
    /// Nobody alive has them: their worker is silent, or whoever took them never said so while others that could do them
    /// are idle.
    NoOwner,
    /// They have run for longer than their timeout allows, and their worker has not ended them.
    PastDeadline,
    /// No unit has ended and no handler has said that it is alive for as long as was asked about. They may be well: it
    /// is for who asks to know.
    NoSignOfLife,
}

impl fmt::Display for StuckReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoOwner => "no live worker has it",
            Self::PastDeadline => "past its deadline",
            Self::NoSignOfLife => "no sign of life",
        })
    }
}

/// An execution: a worker that has a chunk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Execution {
    /// Who.
    pub worker: WorkerId,
    /// The chunk.
    pub chunk: ChunkId,
    /// The attempt.
    pub attempt: u32,
}

/// What a leader sees of a batch at a moment: nothing of this is in the log. All times are by the leader's clock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The moment.
    pub at: Timestamp,
    /// How long a worker may be silent.
    pub silence: Millis,
    /// The chunks that are out.
    pub out: Vec<Out>,
    /// Executions that do not count, and are alive.
    pub duplicates: Vec<Superseded>,
}

/// A chunk that is out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Out {
    /// Its tier.
    pub tier: TierNum,
    /// Its job.
    pub job: JobName,
    /// Its attempt.
    pub attempt: u32,
    /// Which.
    pub chunk: ChunkId,
    /// Its units that are not reported.
    pub units: UnitSet,
    /// Since when a live worker that could do it has been idle while nobody had it, where that is so.
    pub passed_over_since: Option<Timestamp>,
    /// Who has it, where somebody does.
    pub holder: Option<Holder>,
}

/// Who has a chunk, and what of it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub worker: WorkerId,
    /// When it last said anything, where it is not forgotten.
    pub heard_at: Option<Timestamp>,
    /// When it took the chunk.
    pub taken_at: Timestamp,
    /// When it last showed that it gets on with it: a unit ended, a handler said that it is alive.
    pub alive_at: Timestamp,
    /// What runs, where it says what runs.
    pub running: Option<Running>,
}

/// Units that have all been running without an end since a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Which.
    pub units: UnitSet,
    /// Since when at least.
    pub since: Timestamp,
}

/// An execution whose outcome does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// The units.
    pub units: UnitSet,
    /// Which.
    pub execution: Execution,
    /// The one that counts, where somebody is at it.
    pub kept: Option<Execution>,
    /// When it was first seen.
    pub since: Timestamp,
    /// Whether the log says so already.
    pub told: bool,
}

/// Units that are stuck, with what shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StuckFinding {
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// The chunk.
    pub chunk: ChunkId,
    /// The attempt.
    pub attempt: u32,
    /// The units.
    #[serde(with = "as_ranges")]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub units: UnitSet,
    /// Why.
    pub reason: StuckReason,
    /// Since when.
    pub since: Timestamp,
    /// Who has it, where somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// When it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// When it last showed that it gets on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive_at: Option<Timestamp>,
    /// Whether it is handed out again.
    pub fixed: bool,
}

/// Units that were executed twice at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DuplicateFinding {
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// The units.
    #[serde(with = "as_ranges")]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub units: UnitSet,
    /// The execution that counts, where somebody is at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Execution>,
    /// Those that were told to stop.
    pub superseded: Vec<Execution>,
    /// Since when the first of them is known.
    pub since: Timestamp,
}

/// What came of a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Healed {
    /// What was looked for.
    pub action: HealAction,
    /// Chunks in progress that were looked at.
    pub chunks: u64,
    /// What is stuck.
    #[serde(default)]
    pub stuck: Vec<StuckFinding>,
    /// What was executed twice.
    #[serde(default)]
    pub duplicates: Vec<DuplicateFinding>,
    /// Findings beyond those that one look tells and deals with: look again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}
