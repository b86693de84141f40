//! How a job looks.

use redrive_domain::{
    failure::{FailureClass, FailureKind},
    pipeline::TierNum,
    query::{BatchView, FailureRow, SegmentCounts},
    status::BatchStatus,
    time::Timestamp,
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// How a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = feather::JobStatus)]
pub(super) enum JobStatus {
    /// It has not begun.
    Queued,
    /// It is going on.
    Processing,
    /// All of it succeeded.
    Completed,
    /// It is over, and some of its segments, or of its documents, failed.
    PartialFailure,
    /// It is over, and nothing of it succeeded.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl JobStatus {
    pub(super) fn of(view: &BatchView) -> Self {
        match view.summary.status {
            BatchStatus::Pending => Self::Queued,
            BatchStatus::Running => Self::Processing,
            BatchStatus::Completed => Self::Completed,
            BatchStatus::CompletedWithFailures => Self::PartialFailure,
            // A document of which a segment failed has failed. Of its segments others may have succeeded.
            BatchStatus::Failed if counted(view).is_some_and(|all| all.completed > 0) => {
                Self::PartialFailure
            }
            BatchStatus::Failed => Self::Failed,
            BatchStatus::Cancelled => Self::Cancelled,
        }
    }

    /// What batches of jobs with this status have as their own; for some there are two.
    pub(super) fn known_as(self) -> &'static [BatchStatus] {
        match self {
            Self::Queued => &[BatchStatus::Pending],
            Self::Processing => &[BatchStatus::Running],
            Self::Completed => &[BatchStatus::Completed],
            Self::PartialFailure => &[BatchStatus::CompletedWithFailures, BatchStatus::Failed],
            Self::Failed => &[BatchStatus::Failed],
            Self::Cancelled => &[BatchStatus::Cancelled],
        }
    }

    /// Whether a job can be retried.
    pub(super) fn is_retryable(self) -> bool {
        matches!(self, Self::PartialFailure | Self::Failed)
    }

    /// The word for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::PartialFailure => "partial_failure",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The segments of a job: those that came into the first tier that works on them, are through the last, or failed in any.
/// None where no tier does, or none came yet.
fn counted(view: &BatchView) -> Option<SegmentCounts> {
    let tiers = view.tiers.iter().filter_map(|tier| tier.segments);
    let all = tiers.reduce(|all, tier| SegmentCounts {
        entered: all.entered,
        completed: tier.completed,
        failed: all.failed.saturating_add(tier.failed),
    });
    all.filter(|all| all.entered > 0)
}

/// The segments of a job.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = feather::Segments)]
pub(super) struct Segments {
    /// How many there are.
    total: u64,
    /// How many are through.
    completed: u64,
    /// How many failed.
    failed: u64,
    /// The first 100 that failed; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_segments: Option<Vec<FailedSegment>>,
}

/// A segment that failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = feather::FailedSegment)]
pub(super) struct FailedSegment {
    /// Which, from 0.
    segment_index: u32,
    /// In which tier.
    tier: TierNum,
    /// In which job of it.
    job: String,
    /// What went wrong, as one word.
    error: FailureKind,
    /// Whether it may pass by itself: `transient`, `permanent` or `unknown`.
    error_class: FailureClass,
    /// What went wrong, for people.
    error_message: String,
    /// Attempts that ended.
    attempts: u32,
    /// When it failed.
    failed_at: Timestamp,
}

impl FailedSegment {
    fn of(row: &FailureRow) -> Option<Self> {
        Some(Self {
            segment_index: row.segment?,
            tier: row.tier,
            job: row.job.to_string(),
            error: row.failure.kind.clone(),
            error_class: row.failure.class,
            error_message: row.failure.message.clone(),
            attempts: row.attempts,
            failed_at: row.at,
        })
    }
}

/// A job.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = feather::IngestionJob)]
pub(super) struct Job {
    /// Its id.
    id: Uuid,
    /// What it is: always `document`.
    job_type: &'static str,
    /// How it is doing.
    status: JobStatus,
    /// Its knowledge base.
    knowledge_base_id: Option<Uuid>,
    /// Its document; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    item_title: Option<String>,
    /// Documents.
    total_documents: u32,
    /// Documents that are through or failed.
    processed_count: u64,
    /// What is done of it, 0 to 100.
    progress_pct: u64,
    /// Its segments; null where it has none, or none yet.
    segments: Option<Segments>,
    /// What went wrong, for people.
    error_message: Option<String>,
    /// How often it was retried.
    retry_count: u32,
    /// When it was made.
    created_at: Timestamp,
    /// When anything last happened.
    updated_at: Timestamp,
    /// When it began.
    started_at: Option<Timestamp>,
    /// When it was over.
    completed_at: Option<Timestamp>,
}

/// What is only told of one job.
pub(super) struct More {
    /// Its document's id.
    pub(super) title: Option<String>,
    /// The first of its failures.
    pub(super) failures: Vec<FailureRow>,
}

impl Job {
    pub(super) fn of(view: &BatchView, more: Option<&More>) -> Self {
        let summary = &view.summary;
        let over = summary.status.is_over();
        let open = summary.counts.open;
        let processed = u64::from(summary.documents).saturating_sub(open);
        let segments = counted(view);
        let failed = segments.map_or(0, |all| all.failed);
        let error_message = (over && summary.counts.failed > 0).then(|| {
            let first = more.and_then(|more| more.failures.first());
            let said = first.map_or_else(String::new, |row| {
                format!(": {}: {}", row.failure.kind, row.failure.message)
            });
            match segments {
                Some(all) if failed > 0 => {
                    format!("{failed} of {} segments failed{said}", all.entered)
                }
                _ => format!("the document failed{said}"),
            }
        });
        Self {
            id: summary.batch.0,
            job_type: "document",
            status: JobStatus::of(view),
            knowledge_base_id: Uuid::try_parse(summary.bucket.as_str()).ok(),
            item_title: more.and_then(|more| more.title.clone()),
            total_documents: summary.documents,
            processed_count: processed,
            progress_pct: match (over, segments) {
                (true, _) => 100,
                (false, Some(all)) => {
                    let done = all.completed.saturating_add(all.failed);
                    // What puts them together has still to come.
                    (done.saturating_mul(100) / all.entered.max(1)).min(99)
                }
                (false, None) => 0,
            },
            segments: segments.map(|all| Segments {
                total: all.entered,
                completed: all.completed,
                failed: all.failed,
                failed_segments: more
                    .map(|more| more.failures.iter().filter_map(FailedSegment::of).collect()),
            }),
            error_message,
            retry_count: view.retries,
            created_at: summary.created_at,
            updated_at: summary.last_activity_at,
            started_at: view.tiers.first().and_then(|tier| tier.started_at),
            completed_at: view.ended_at.filter(|_| over),
        }
    }
}
