//! What travels between the coordinator and workers. Programs in other languages read and write these too, so sets are
//! lists of ranges here and nothing needs Redrive's own code to be understood.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    document::Output,
    failure::Failure,
    ids::{
        BatchId, BatchKey, Bucket, ChunkId, HandlerName, JobName, Namespace, ResourceClass,
        WorkerId,
    },
    packed::Packed,
    pipeline::TierNum,
    segments::SegmentCounts,
    time::{Millis, Timestamp},
    units::{Ordinal, UnitSet, as_ranges},
};

/// A run of units handed to a worker together. It holds references into the log, not documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Chunk {
    /// Its id; what becomes of it is reported under this.
    pub id: ChunkId,
    /// The tenant.
    pub namespace: Namespace,
    /// The source of the documents.
    pub bucket: Bucket,
    /// The batch.
    pub batch: BatchId,
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// The handler to run.
    pub handler: HandlerName,
    /// The handler's parameters.
    pub params: Value,
    /// Which attempt of these units this is, from 1. An outcome counts only while this attempt is outstanding.
    pub attempt: u32,
    /// How long one unit may take.
    pub timeout: Millis,
    /// Memory that one execution may use.
    pub memory_bytes: Option<u64>,
    /// CPUs that one execution needs.
    pub num_cpus: u32,
    /// The largest output that is kept, in bytes.
    pub max_output_bytes: u64,
    /// The units.
    #[serde(with = "as_ranges")]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub units: UnitSet,
    /// Where their documents stand in the log, as events `batch.documents_added`.
    pub documents: Vec<Source>,
    /// Where the outputs of the tier before stand, as events `documents.completed`.
    pub inputs: Vec<Input>,
    /// When it was handed out.
    pub at: Timestamp,
    /// The strikes that each of its units has: executions in this round whose worker was lost or that ran out of memory.
    /// Where it is not 0, a worker names the chunk in a heartbeat before it begins it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub strikes: u32,
    /// What is to be started, for handlers that want to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
    /// Where it is to run, for handlers that want to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_mode: Option<String>,
    /// Archives to be loaded, for handlers that want to know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugin_archives: Vec<String>,
    /// W3C trace context (`traceparent`) of what caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Whether the output of a unit is its segments, to be counted: one JSON value a line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub splits: bool,
    /// Which segments the units are; empty where they are documents. The `documents` are named by their own ordinals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentRun>,
    /// Where the outputs of all segments of each unit stand, where the tier joins them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<Join>,
}

/// Units that are segments of one document, one after the other: `[first, last, document, index]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    from = "(Ordinal, Ordinal, Ordinal, u32)",
    into = "(Ordinal, Ordinal, Ordinal, u32)"
)]
pub struct SegmentRun {
    /// The first unit.
    pub first: Ordinal,
    /// The last unit.
    pub last: Ordinal,
    /// The document.
    pub document: Ordinal,
    /// Which of the document's segments the first unit is, from 0.
    pub index: u32,
}

impl From<(Ordinal, Ordinal, Ordinal, u32)> for SegmentRun {
    fn from((first, last, document, index): (Ordinal, Ordinal, Ordinal, u32)) -> Self {
        Self {
            first,
            last,
            document,
            index,
        }
    }
}

impl From<SegmentRun> for (Ordinal, Ordinal, Ordinal, u32) {
    fn from(run: SegmentRun) -> Self {
        (run.first, run.last, run.document, run.index)
    }
}

/// What a job of the tier before made of the segments of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = ChunkJoin))]
pub struct Join {
    /// The document.
    pub document: Ordinal,
    /// The job.
    pub job: JobName,
    /// The unit that is its first segment; the others follow without gaps.
    pub first: Ordinal,
    /// Where the outputs stand, in the order of the segments: a sequence, and for how many in a row it is so; 0 for
    /// segments without an output.
    pub places: Vec<(u64, u32)>,
}

impl Chunk {
    /// The batch with its place.
    #[must_use]
    pub fn key(&self) -> BatchKey {
        BatchKey {
            namespace: self.namespace.clone(),
            batch: self.batch,
        }
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Units whose data stands in one event of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = ChunkSource))]
pub struct Source {
    /// The event's sequence.
    pub seq: u64,
    /// The units.
    #[serde(with = "as_ranges")]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub units: UnitSet,
}

/// Outputs of one job of the tier before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = ChunkInput))]
pub struct Input {
    /// The job that made them.
    pub job: JobName,
    /// The event's sequence.
    pub seq: u64,
    /// The units.
    #[serde(with = "as_ranges")]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub units: UnitSet,
    /// Whether these are the documents of the chunk's units, and a unit's input is the line that it is of their output.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lines: bool,
}

/// What became of units of a chunk. A chunk may be reported in several of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Outcome {
    /// The chunk.
    pub chunk: ChunkId,
    /// The tenant.
    pub namespace: Namespace,
    /// The batch.
    pub batch: BatchId,
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// The attempt, as in the chunk.
    pub attempt: u32,
    /// Who did it.
    pub worker: WorkerId,
    /// Units that succeeded.
    #[serde(with = "as_ranges", default)]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub completed: UnitSet,
    /// Units for which the handler had nothing to do; they go on like those that succeeded, without an output.
    #[serde(with = "as_ranges", default)]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub skipped: UnitSet,
    /// What those that succeeded made; a unit without an output is not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<crate::schema::PackedOutputs>))]
    pub outputs: Option<Packed<Outputs>>,
    /// Units that failed, those that failed alike together.
    #[serde(default)]
    pub failures: Vec<FailedUnits>,
    /// Units given back without having been tried, because the worker is leaving.
    #[serde(with = "as_ranges", default)]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub returned: UnitSet,
    /// Time spent in the handler, summed over the units of this report.
    pub busy: Millis,
    /// Time spent reading documents and inputs, summed over the units of this report.
    #[serde(default, skip_serializing_if = "Millis::is_zero")]
    pub loading: Millis,
    /// The most memory that the execution of a unit used that succeeded and is of this report, in bytes, where that was
    /// measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// How many segments those have that succeeded, where the job splits documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<(u32, u32)>))]
    pub segments: SegmentCounts,
    /// When the report was made, by the worker's clock.
    pub at: Timestamp,
}

impl Outcome {
    /// The batch with its place.
    #[must_use]
    pub fn key(&self) -> BatchKey {
        BatchKey {
            namespace: self.namespace.clone(),
            batch: self.batch,
        }
    }

    /// All units that it speaks of.
    #[must_use]
    pub fn units(&self) -> UnitSet {
        let mut all = self.completed.or(&self.skipped).or(&self.returned);
        for failed in &self.failures {
            all.add(&failed.units);
        }
        all
    }
}

/// The outputs of several units.
pub type Outputs = Vec<(Ordinal, Output)>;

/// Units that failed for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FailedUnits {
    /// The units.
    #[serde(with = "as_ranges")]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub units: UnitSet,
    /// Why.
    pub failure: Failure,
}

/// What a worker says of itself every second, on a subject that nobody has to listen to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// Who.
    pub worker: WorkerId,
    /// The machine that it runs on.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// The version of its program, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Handlers that it serves.
    pub handlers: Vec<HandlerName>,
    /// Resource classes that it serves.
    pub classes: Vec<ResourceClass>,
    /// Units that it runs at once.
    pub slots: u32,
    /// Whether it takes no more chunks.
    pub draining: bool,
    /// Chunks that it holds.
    pub in_flight: Vec<InFlight>,
    /// How it keeps the processes of its handlers within their memory and CPUs: `cgroup_v2`, `watch`, or a word of a
    /// worker's own. `None` where it has none or keeps them within nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<String>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it said this, by its own clock.
    pub at: Timestamp,
}

/// A chunk that a worker holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InFlight {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its tenant.
    pub namespace: Namespace,
    /// Its batch.
    pub batch: BatchId,
    /// Its tier.
    pub tier: TierNum,
    /// Its job.
    pub job: JobName,
    /// Its attempt.
    pub attempt: u32,
    /// Units not yet reported.
    #[serde(with = "as_ranges")]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub units: UnitSet,
    /// Of these, units that were begun and have not ended.
    #[serde(with = "as_ranges", default, skip_serializing_if = "UnitSet::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub running: UnitSet,
    /// When it was taken, by the worker's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// When a unit of it last ended, or its handler last said that it is alive, by the worker's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive_at: Option<Timestamp>,
}

/// What the coordinator tells workers, on a subject that nobody has to listen to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Stop whatever runs for this batch.
    StopBatch(BatchKey),
    /// Stop this chunk: it was cancelled or given to somebody else.
    StopChunk(ChunkId),
    /// Stop this chunk, if it is with this worker: another one is to go on with it.
    StopExecution {
        /// Who is to stop.
        worker: WorkerId,
        /// The chunk.
        chunk: ChunkId,
    },
}
