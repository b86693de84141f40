//! What can be asked of a projector, and what it answers. All of it travels as JSON: requests on
//! `rd.qry.<namespace>.<query>`, answers as [`crate::command::Answer`].

mod credits;
mod diff;
mod documents;
mod refer;
mod timeline;
mod view;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    failure::{Failure, FailureClass, FailureKind, Fingerprint},
    ids::{BatchId, Bucket, JobName, WorkerId},
    pipeline::TierNum,
    state::{BatchState, DocumentCounts},
    status::BatchStatus,
    time::Timestamp,
    units::{Ordinal, UnitSet},
};

pub use credits::{BatchCredits, CreditsView, MonthView, OfNamespace};
pub use diff::{
    Change, Changes, Diff, DocumentStatus, InvalidDocumentStatus, JobFailure, ListChanges,
    Standing, Transition,
};
pub use documents::{DocumentFailure, DocumentOutput, Documents};
pub use refer::{At, BatchRef, InvalidAt, InvalidBatchRef};
pub use timeline::{Chapters, ReadTimeline, TimelineRow};
pub(crate) use view::job_status;
pub use view::{BatchView, CanaryView, JobView, SegmentCounts, TierView};

/// Entries on a page, unless the asker says otherwise.
pub const PAGE: u32 = 100;
/// Entries on a page at most.
pub const PAGE_MAX: u32 = 1_000;
/// Bytes of a page at most, about; a page ends early where its entries are large.
pub const PAGE_BYTES: usize = 512 * 1024;

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
    /// `documents`: the documents of a batch, and where they stand.
    Documents(ListDocuments),
    /// `state`: the canonical bytes of a batch's state, piece by piece.
    State(ReadState),
    /// `diff`: what became of the documents between two moments.
    Diff(ListChanges),
    /// `timeline`: what happened to a batch, in few lines.
    Timeline(ReadTimeline),
    /// `credits`: what the namespace may spend a month, and what it has spent.
    Credits(OfNamespace),
    /// `diagnose`: what is wrong with a batch, and what to do about it.
    Diagnose(OfBatch),
}

impl Query {
    /// All of them, by the last token of their subjects.
    pub const NAMES: [&str; 10] = [
        "batches",
        "status",
        "failures",
        "results",
        "documents",
        "state",
        "diff",
        "timeline",
        "credits",
        "diagnose",
    ];
}

/// Asks for a list of batches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ListBatches {
    /// Only of this bucket.
    pub bucket: Option<Bucket>,
    /// Only with this status.
    pub status: Option<BatchStatus>,
    /// At most so many, 1 to 1,000; 100 unless said.
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 1_000))]
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub after: Option<String>,
    /// See [`OfBatch::min_seq`].
    pub min_seq: Option<u64>,
    /// As of this moment; as of now unless said. A page has fewer batches then: those that have changed since are folded
    /// from the log, one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
}

/// Asks about one batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OfBatch {
    /// Which.
    pub batch: BatchRef,
    /// The answer has to include this log sequence. Without it, the answer includes all that stood in the log when the
    /// question came, so that a read after a command sees it; 0 takes what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
    /// As of this moment; as of now unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
}

/// Asks for failed units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
    /// Only with this fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// At most so many, 1 to 1,000; 100 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 1_000))]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// See [`OfBatch::min_seq`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
    /// As of this moment; as of now unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
}

impl OfBatch {
    /// A batch as it is now.
    #[must_use]
    pub fn of(batch: BatchRef) -> Self {
        Self {
            batch,
            min_seq: None,
            at: None,
        }
    }
}

impl ListFailures {
    /// All of a batch, as of now.
    #[must_use]
    pub fn of(batch: BatchRef) -> Self {
        Self {
            batch,
            tier: None,
            class: None,
            kind: None,
            fingerprint: None,
            limit: None,
            after: None,
            min_seq: None,
            at: None,
        }
    }
}

/// Asks for outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 1_000))]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// See [`OfBatch::min_seq`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
    /// As of this moment; as of now unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
}

/// Asks for documents, in the order of their ordinals. What is said narrows it down: those are meant that all of it is
/// true of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ListDocuments {
    /// Of which batch.
    pub batch: BatchRef,
    /// Only these, as inclusive ranges of ordinals. Segments stand for their documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<UnitSet>,
    /// Only with this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<DocumentStatus>,
    /// Only those that came to this tier last, or failed in it. With a class, a kind or a fingerprint: that failed in it
    /// so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierNum>,
    /// Only those that failed with this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// Only those that failed with this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<FailureKind>,
    /// Only those that failed with this fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// Whether to tell what the last tier made of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outputs: bool,
    /// At most so many, 1 to 1,000; 100 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 1_000))]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// See [`OfBatch::min_seq`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
    /// As of this moment; as of now unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
}

impl ListDocuments {
    /// All of a batch, as of now, without their outputs.
    #[must_use]
    pub fn of(batch: BatchRef) -> Self {
        Self {
            batch,
            units: None,
            status: None,
            tier: None,
            class: None,
            kind: None,
            fingerprint: None,
            outputs: false,
            limit: None,
            after: None,
            min_seq: None,
            at: None,
        }
    }
}

/// Asks for the bytes of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
    /// As of this moment; as of now unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
}

/// A piece of a state's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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

/// A failed unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FailureRow {
    /// The document's id.
    pub document: String,
    /// The document's URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The document's place in the batch.
    pub ordinal: Ordinal,
    /// Which of the document's segments it is, from 0, where the tier works on segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<u32>,
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ResultRow {
    /// The document's id.
    pub document: String,
    /// The document's URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The document's place in the batch.
    pub ordinal: Ordinal,
    /// Which of the document's segments it is, from 0, where the tier works on segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<u32>,
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

/// A document, and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DocumentRow {
    /// Its place in the batch.
    pub ordinal: Ordinal,
    /// Its id.
    pub id: String,
    /// Its URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// How it is doing.
    pub status: DocumentStatus,
    /// The tier that it came to last.
    pub tier: TierNum,
    /// How often it has been retried.
    pub retry_count: u32,
    /// The jobs of that tier that it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<JobName>,
    /// Why it failed, in the order of tiers and jobs; where many of its units did, the first 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<DocumentFailure>,
    /// Units of it that are failed, in all tiers.
    #[serde(default)]
    pub failed_units: u64,
    /// What the last tier made of it, where that was asked for, in the order of jobs; where it is of many units, the
    /// first 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<DocumentOutput>>,
}
