//! What can be asked of a projector, and what it answers. All of it travels as JSON: requests on
//! `rd.qry.<namespace>.<query>`, answers as [`crate::command::Answer`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    failure::{Failure, FailureClass, FailureKind},
    ids::{BatchId, Bucket, HandlerName, JobName, ResourceClass, WorkerId},
    pipeline::TierNum,
    state::{BatchState, DocumentCounts, JobState},
    status::BatchStatus,
    time::{Millis, Timestamp},
    units::{Ordinal, UnitSet},
};

/// Entries on a page, unless the asker says otherwise.
pub const PAGE: u32 = 100;
/// Entries on a page at most.
pub const PAGE_MAX: u32 = 1_000;
/// Bytes of a page at most, about; a page ends early where its entries are large.
pub const PAGE_BYTES: usize = 512 * 1024;

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

/// A question, by the last token of its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// `batches`: the namespace's batches, the last one first.
    Batches(ListBatches),
    /// `status`: how a batch is doing.
    Status(OfBatch),
    /// `failures`: the units of a batch that are failed now.
    Failures(ListFailures),
    /// `results`: what the jobs of a batch made of its documents.
    Results(ListResults),
    /// `documents`: the documents of some ordinals.
    Documents(ListDocuments),
    /// `state`: the canonical bytes of a batch's state, piece by piece.
    State(ReadState),
}

/// Asks for a list of batches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListBatches {
    /// Only of this bucket.
    pub bucket: Option<Bucket>,
    /// Only with this status.
    pub status: Option<BatchStatus>,
    /// At most so many, 1 to 1,000; 100 unless said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub after: Option<String>,
    /// See [`OfBatch::min_seq`].
    pub min_seq: Option<u64>,
}

/// Asks about one batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfBatch {
    /// Which.
    pub batch: BatchRef,
    /// The answer has to include this log sequence. Without it, the answer includes all that stood in the log when the
    /// question came, so that a read after a command sees it; 0 takes what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
}

/// Asks for failed units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListFailures {
    /// Of which batch.
    pub batch: BatchRef,
    /// Only of this tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierNum>,
    /// Only of this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// Only of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<FailureKind>,
    /// At most so many, 1 to 1,000; 100 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// See [`OfBatch::min_seq`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
}

/// Asks for outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListResults {
    /// Of which batch.
    pub batch: BatchRef,
    /// Of which tier; the last one unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierNum>,
    /// Of which job; all of the tier unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// At most so many, 1 to 1,000; 100 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// See [`OfBatch::min_seq`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
}

/// Asks for documents by their ordinals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListDocuments {
    /// Of which batch.
    pub batch: BatchRef,
    /// Which, as inclusive ranges; the answer has the first of them that fit on a page.
    pub units: UnitSet,
    /// At most so many, 1 to 1,000; 100 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// See [`OfBatch::min_seq`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
}

/// Asks for the bytes of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadState {
    /// Of which batch.
    pub batch: BatchRef,
    /// From which byte.
    #[serde(default)]
    pub offset: u64,
    /// See [`OfBatch::min_seq`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
}

/// A piece of a state's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePiece {
    /// The batch.
    pub batch: BatchId,
    /// The state is that after this event of the batch. Where it changes from piece to piece, begin again.
    pub last_seq: u64,
    /// How many bytes there are in all.
    pub total: u64,
    /// The piece, in base 16 (RFC 4648).
    pub hex: String,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page begins; none where this was the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The log sequence that the answer includes.
    pub as_of: u64,
}

/// A batch in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSummary {
    /// Its id.
    pub batch: BatchId,
    /// Its bucket.
    pub bucket: Bucket,
    /// The pipeline's name.
    pub pipeline: String,
    /// How it is doing.
    pub status: BatchStatus,
    /// How many documents it has.
    pub documents: u32,
    /// How many of them are where.
    pub counts: DocumentCounts,
    /// When it was made.
    pub created_at: Timestamp,
    /// When anything last happened.
    pub last_activity_at: Timestamp,
}

impl BatchSummary {
    /// The summary of a state.
    #[must_use]
    pub fn of(batch: &BatchState) -> Self {
        Self {
            batch: batch.key.batch,
            bucket: batch.bucket.clone(),
            pipeline: batch.pipeline.name.clone(),
            status: batch.status,
            documents: batch.documents,
            counts: batch.counts(),
            created_at: batch.created_at,
            last_activity_at: batch.last_at,
        }
    }
}

/// How a batch is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchView {
    /// What a list shows.
    #[serde(flatten)]
    pub summary: BatchSummary,
    /// Whether it has all its documents.
    pub submitted: bool,
    /// When it had all its documents.
    pub submitted_at: Option<Timestamp>,
    /// When it was last over.
    pub ended_at: Option<Timestamp>,
    /// Retries that were decided.
    pub retries: u32,
    /// The tiers.
    pub tiers: Vec<TierView>,
    /// The log sequence of the batch's last event.
    pub last_seq: u64,
    /// The log sequence that the answer includes.
    #[serde(default)]
    pub as_of: u64,
}

/// How a tier is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierView {
    /// Its number.
    pub tier: TierNum,
    /// Its name.
    pub name: String,
    /// How it is doing.
    pub status: BatchStatus,
    /// Documents that have come in.
    pub entered: u64,
    /// Documents for which all its jobs succeeded.
    pub completed: u64,
    /// Documents for which one of its jobs failed.
    pub failed: u64,
    /// When it first had something to do.
    pub started_at: Option<Timestamp>,
    /// When it last had nothing left to do.
    pub ended_at: Option<Timestamp>,
    /// When anything last happened in it.
    pub last_activity_at: Option<Timestamp>,
    /// The jobs.
    pub jobs: Vec<JobView>,
}

/// How a job is doing, in units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its name.
    pub job: JobName,
    /// Its handler.
    pub handler: HandlerName,
    /// The workers it goes to.
    pub class: ResourceClass,
    /// How it is doing.
    pub status: BatchStatus,
    /// Units to be executed, or being executed.
    pub open: u64,
    /// Of these, units that wait for their next attempt.
    pub waiting: u64,
    /// Units that succeeded.
    pub completed: u64,
    /// Units for which there was nothing to do.
    pub skipped: u64,
    /// Units that failed.
    pub failed: u64,
    /// Units that were stopped.
    pub cancelled: u64,
    /// The failed units by class and kind.
    pub failures: BTreeMap<FailureClass, BTreeMap<FailureKind, u64>>,
    /// Attempts that have ended.
    pub attempts: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Attempts that were lost with their worker.
    pub lost_attempts: u64,
    /// Time spent in the handler, in milliseconds.
    pub busy_ms: Millis,
    /// When anything last happened in it.
    pub last_activity_at: Option<Timestamp>,
}

impl BatchView {
    /// The view of a state; `now` decides which units still wait.
    #[must_use]
    pub fn of(batch: &BatchState, now: Timestamp) -> Self {
        let tiers = batch
            .pipeline
            .tiers
            .iter()
            .zip(&batch.tiers)
            .zip(0..)
            .map(|((spec, tier), num)| TierView {
                tier: num,
                name: spec.name.clone(),
                status: tier.status,
                entered: tier.entered.len(),
                completed: tier.done().len(),
                failed: tier.failed().len(),
                started_at: tier.started_at,
                ended_at: tier.ended_at,
                last_activity_at: tier.last_at,
                jobs: spec
                    .jobs
                    .iter()
                    .zip(&tier.jobs)
                    .map(|(spec, job)| JobView {
                        job: spec.name.clone(),
                        handler: spec.handler.clone(),
                        class: spec.class.clone(),
                        status: job_status(job, tier.status),
                        open: job.open.len(),
                        waiting: job.open.len() - job.ready(now).len(),
                        completed: job.completed.len(),
                        skipped: job.skipped.len(),
                        failed: job.all_failed().len(),
                        cancelled: job.cancelled.len(),
                        failures: job
                            .failed
                            .iter()
                            .map(|(class, kinds)| {
                                let count = |(kind, units): (&FailureKind, &UnitSet)| {
                                    (kind.clone(), units.len())
                                };
                                (*class, kinds.iter().map(count).collect())
                            })
                            .collect(),
                        attempts: job.executed + job.lost,
                        failed_attempts: job.failed_attempts,
                        lost_attempts: job.lost,
                        busy_ms: job.busy,
                        last_activity_at: job.last_at,
                    })
                    .collect(),
            })
            .collect();
        Self {
            summary: BatchSummary::of(batch),
            submitted: batch.submitted,
            submitted_at: batch.submitted_at,
            ended_at: batch.ended_at,
            retries: batch.rounds,
            tiers,
            last_seq: batch.last_seq,
            as_of: batch.last_seq,
        }
    }
}

fn job_status(job: &JobState, tier: BatchStatus) -> BatchStatus {
    let succeeded = job.completed.len() + job.skipped.len();
    match tier {
        BatchStatus::Pending | BatchStatus::Cancelled => tier,
        _ if !job.open.is_empty() || tier == BatchStatus::Running => BatchStatus::Running,
        _ => BatchStatus::of(succeeded, job.all_failed().len()),
    }
}

/// A failed unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRow {
    /// The document's id.
    pub document: String,
    /// The document's URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its place in the batch.
    pub ordinal: Ordinal,
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// Why.
    #[serde(flatten)]
    pub failure: Failure,
    /// Attempts that ended, in all rounds.
    pub attempts: u32,
    /// How often the document has been retried.
    pub retry_count: u32,
    /// Who made the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// When it failed.
    pub at: Timestamp,
    /// The log sequence that says so.
    pub seq: u64,
}

/// What a job made of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    /// The document's id.
    pub document: String,
    /// The document's URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its place in the batch.
    pub ordinal: Ordinal,
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// Whether there was nothing to do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// The output's media type, where there is an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The output: JSON as itself, text as a string; absent where it is neither, see `hex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// An output that is neither JSON nor text, in base 16 (RFC 4648).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

/// A document with its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DocumentRow {
    /// Its place in the batch.
    pub ordinal: Ordinal,
    /// Its id.
    pub id: String,
    /// Its URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}
