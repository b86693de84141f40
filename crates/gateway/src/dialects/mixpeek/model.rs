//! How a batch, its tiers and their jobs look.

use std::collections::BTreeMap;

use redrive_domain::{
    failure::{FailureClass, FailureKind},
    ids::{BatchId, JobName},
    pipeline::{Submission, TierNum},
    query::{BatchView, JobView, TierView},
    state::DocumentCounts,
    time::{Millis, Timestamp},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::words::{ErrorCategory, TaskStatus};

/// Objects that failed alike in a job.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = mixpeek::BatchErrorDetail)]
pub(super) struct ErrorDetail {
    /// What sort of error it is.
    error_type: ErrorCategory,
    /// For people.
    message: String,
    /// The job.
    component: String,
    /// The tier's name.
    stage: String,
    /// When anything last happened in the job.
    timestamp: Option<Timestamp>,
    /// How many.
    affected_count: u64,
    /// Redrive's own words for it.
    metadata: ErrorMetadata,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = mixpeek::ErrorMetadata)]
struct ErrorMetadata {
    class: FailureClass,
    kind: FailureKind,
}

/// A part of what is done with an object.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = mixpeek::Stage)]
pub(super) struct Stage {
    /// `loading`, `processing` or `writing`.
    name: &'static str,
    /// Seconds, summed over all objects.
    duration_seconds: f64,
}

/// The time that jobs took, stage by stage; nothing where nothing was done yet.
fn stages<'a>(jobs: impl Iterator<Item = &'a JobView>) -> Vec<Stage> {
    let [mut loading, mut processing, mut writing] = [0_u64; 3];
    let mut attempts = 0_u64;
    for job in jobs {
        attempts = attempts.saturating_add(job.attempts);
        loading = loading.saturating_add(job.loading_ms.0);
        processing = processing.saturating_add(job.busy_ms.0);
        writing = writing.saturating_add(job.writing_ms.0);
    }
    if attempts == 0 {
        return Vec::new();
    }
    [
        ("loading", loading),
        ("processing", processing),
        ("writing", writing),
    ]
    .map(|(name, ms)| Stage {
        name,
        duration_seconds: seconds(Millis(ms)),
    })
    .into()
}

#[allow(clippy::cast_precision_loss)] // Milliseconds of some thousand years fit.
pub(super) fn seconds(span: Millis) -> f64 {
    span.0 as f64 / 1_000.0
}

/// The id of a job of a batch. It says all that a cancellation of it has to know.
pub(super) fn ray_job_id(batch: BatchId, tier: TierNum, job: &JobName) -> String {
    format!("raysubmit_{batch}_{tier}_{job}")
}

/// A job of a tier.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = mixpeek::ExtractorJobInfo)]
pub(super) struct ExtractorJob {
    /// The handler.
    extractor_type: String,
    /// The job's name.
    name: String,
    /// Collections are not known here.
    collection_ids: Vec<String>,
    /// Names the job where it is to be cancelled.
    ray_job_id: String,
    /// How it is doing.
    status: TaskStatus,
    /// Objects that succeeded, or for which there was nothing to do.
    documents_written: u64,
    /// Objects that failed.
    documents_failed: u64,
    /// Objects that are worked on, or wait for it.
    documents_open: u64,
    /// How its objects failed.
    errors: Vec<ErrorDetail>,
    /// Why nothing more of it is handed out, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<String>,
    /// When anything last happened in it.
    last_activity_at: Option<Timestamp>,
    /// With what it is submitted.
    submission_params: Submission,
    /// The time that its objects took.
    stage_history: Vec<Stage>,
}

impl ExtractorJob {
    pub(super) fn of(batch: BatchId, tier: &TierView, job: &JobView) -> Self {
        Self {
            extractor_type: job.handler.to_string(),
            name: job.job.to_string(),
            collection_ids: Vec::new(),
            ray_job_id: ray_job_id(batch, tier.tier, &job.job),
            status: TaskStatus::of(job.status),
            documents_written: job.completed.saturating_add(job.skipped),
            documents_failed: job.failed,
            documents_open: job.open,
            errors: errors(tier, job),
            paused: job.paused.as_ref().map(|paused| paused.reason.to_string()),
            last_activity_at: job.last_activity_at,
            submission_params: job.submission.clone(),
            stage_history: stages(std::iter::once(job)),
        }
    }
}

fn errors(tier: &TierView, job: &JobView) -> Vec<ErrorDetail> {
    let kinds = job.failures.iter().flat_map(|(class, kinds)| {
        let of_class = |(kind, count)| (*class, kind, count);
        kinds.iter().map(of_class)
    });
    kinds
        .map(
            |(class, kind, count): (_, &FailureKind, &u64)| ErrorDetail {
                error_type: ErrorCategory::of(kind, class),
                message: format!("{kind} ({class}): {count} failed"),
                component: job.job.to_string(),
                stage: tier.name.clone(),
                timestamp: job.last_activity_at,
                affected_count: *count,
                metadata: ErrorMetadata {
                    class,
                    kind: kind.clone(),
                },
            },
        )
        .collect()
}

fn summary<'a>(
    errors: impl Iterator<Item = &'a ErrorDetail>,
) -> Option<BTreeMap<ErrorCategory, u64>> {
    let mut counts = BTreeMap::new();
    for error in errors {
        *counts.entry(error.error_type).or_insert(0) += error.affected_count;
    }
    (!counts.is_empty()).then_some(counts)
}

/// A tier of a batch. What is said of one job is said of its first.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = mixpeek::TierTaskInfo)]
pub(super) struct TierTask {
    /// Its number, from 0.
    tier_num: TierNum,
    /// Its name.
    name: String,
    /// Its id.
    task_id: String,
    /// How it is doing.
    status: TaskStatus,
    /// Where its objects come from: `bucket`, or `collection` where a tier before made them.
    source_type: &'static str,
    /// Collections are not known here.
    collection_ids: Vec<String>,
    /// Names its job where that is to be cancelled.
    ray_job_id: Option<String>,
    /// With what its job is submitted.
    submission_params: Option<Submission>,
    /// Its jobs.
    extractor_jobs: Vec<ExtractorJob>,
    /// When it began.
    started_at: Option<Timestamp>,
    /// When it was over.
    completed_at: Option<Timestamp>,
    /// How long that took.
    duration_ms: Option<u64>,
    /// When anything last happened in it.
    last_activity_at: Option<Timestamp>,
    /// Objects that have come in.
    documents_submitted_to_engine: u64,
    /// Objects that are through.
    documents_written: u64,
    /// Objects that failed.
    documents_failed: u64,
    /// How they failed.
    errors: Vec<ErrorDetail>,
    /// How many failed of each sort.
    #[schema(value_type = Option<BTreeMap<String, u64>>)]
    error_summary: Option<BTreeMap<ErrorCategory, u64>>,
    /// The time that its objects took.
    stage_history: Vec<Stage>,
}

impl TierTask {
    fn of(batch: BatchId, tier: &TierView) -> Self {
        let jobs = tier.jobs.iter();
        let jobs: Vec<ExtractorJob> = jobs.map(|job| ExtractorJob::of(batch, tier, job)).collect();
        let errors: Vec<_> = jobs.iter().flat_map(|job| job.errors.clone()).collect();
        let over = tier.status.is_over();
        let completed_at = tier.ended_at.filter(|_| over);
        let took = tier.started_at.zip(completed_at);
        let first = tier.jobs.first();
        Self {
            tier_num: tier.tier,
            name: tier.name.clone(),
            task_id: task_id(batch, Some(tier.tier)),
            status: TaskStatus::of(tier.status),
            source_type: match tier.tier {
                0 => "bucket",
                _ => "collection",
            },
            collection_ids: Vec::new(),
            ray_job_id: first.map(|job| ray_job_id(batch, tier.tier, &job.job)),
            submission_params: first.map(|job| job.submission.clone()),
            started_at: tier.started_at,
            completed_at,
            duration_ms: took.map(|(start, end)| end.since(start).0),
            last_activity_at: tier.last_activity_at,
            documents_submitted_to_engine: tier.entered,
            documents_written: tier.completed,
            documents_failed: tier.failed,
            error_summary: summary(errors.iter()),
            errors,
            stage_history: stages(tier.jobs.iter()),
            extractor_jobs: jobs,
        }
    }
}

/// The id of what is done for a batch, or for a tier of it.
pub(super) fn task_id(batch: BatchId, tier: Option<TierNum>) -> String {
    match tier {
        None => format!("task_{batch}"),
        Some(tier) => format!("task_{batch}_{tier}"),
    }
}

/// How far a batch is.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = mixpeek::Progress)]
struct Progress {
    /// Objects that are through or failed.
    processed_documents: u64,
    /// Objects.
    total_documents: u64,
    /// The part that is processed, 0 to 100.
    percentage: f64,
    /// The time that objects took, stage by stage.
    stage_history: Vec<Stage>,
}

/// Objects by where they are.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = mixpeek::DocumentCounts)]
struct Counts {
    /// Through all tiers.
    completed: u64,
    /// Failed in some job.
    failed: u64,
    /// Stopped on the way.
    canceled: u64,
    /// Still on the way.
    open: u64,
}

/// A batch.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = mixpeek::BatchModel)]
pub(super) struct BatchModel {
    /// Its id.
    batch_id: String,
    /// Its bucket.
    bucket_id: String,
    /// How it is doing.
    status: TaskStatus,
    /// Where its objects come from: always `BUCKET`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The pipeline's name.
    pipeline: String,
    /// The first 1,000 of its objects; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ids: Option<Vec<String>>,
    /// How many objects it has.
    object_count: u64,
    /// How many of them are where.
    document_counts: Counts,
    /// Collections are not known here.
    collection_ids: Vec<String>,
    /// What is wrong, for people.
    error: Option<String>,
    /// How many units failed of each sort.
    #[schema(value_type = Option<BTreeMap<String, u64>>)]
    error_summary: Option<BTreeMap<ErrorCategory, u64>>,
    /// The id of what is done for it.
    task_id: String,
    /// Its tiers.
    tier_tasks: Vec<TierTask>,
    /// The tier that is furthest of those that have begun.
    current_tier: Option<TierNum>,
    /// How many tiers it has.
    total_tiers: usize,
    /// How far it is.
    progress: Progress,
    /// How often failures of it were retried.
    retries: u32,
    /// When it was made.
    created_at: Timestamp,
    /// When it was submitted.
    submitted_at: Option<Timestamp>,
    /// When anything last happened.
    updated_at: Timestamp,
    /// The same.
    last_activity_at: Timestamp,
    /// When it was over.
    completed_at: Option<Timestamp>,
}

impl BatchModel {
    pub(super) fn of(view: &BatchView, object_ids: Option<Vec<String>>) -> Self {
        let summary_of = &view.summary;
        let batch = summary_of.batch;
        let tiers = view.tiers.iter();
        let tier_tasks: Vec<_> = tiers.map(|tier| TierTask::of(batch, tier)).collect();
        let counts @ DocumentCounts {
            completed, failed, ..
        } = summary_of.counts;
        let over = summary_of.status.is_over();
        let documents = u64::from(summary_of.documents);
        let processed = documents.saturating_sub(counts.open);
        Self {
            batch_id: batch.to_string(),
            bucket_id: summary_of.bucket.to_string(),
            status: TaskStatus::of_batch(summary_of.status, view.submitted),
            kind: "BUCKET",
            pipeline: summary_of.pipeline.clone(),
            object_ids,
            object_count: documents,
            document_counts: Counts {
                completed,
                failed,
                canceled: counts.cancelled,
                open: counts.open,
            },
            collection_ids: Vec::new(),
            error: (over && failed > 0).then(|| format!("{failed} of {documents} objects failed")),
            error_summary: summary(tier_tasks.iter().flat_map(|tier| &tier.errors)),
            task_id: task_id(batch, None),
            current_tier: view
                .tiers
                .iter()
                .rev()
                .find_map(|tier| tier.started_at.map(|_| tier.tier)),
            total_tiers: view.tiers.len(),
            progress: Progress {
                processed_documents: processed,
                total_documents: documents,
                percentage: percentage(processed, documents),
                stage_history: stages(view.tiers.iter().flat_map(|tier| &tier.jobs)),
            },
            tier_tasks,
            retries: view.retries,
            created_at: summary_of.created_at,
            submitted_at: view.submitted_at,
            updated_at: summary_of.last_activity_at,
            last_activity_at: summary_of.last_activity_at,
            completed_at: view.ended_at.filter(|_| over),
        }
    }
}

/// A part of a whole, 0 to 100, to a tenth.
#[allow(clippy::cast_precision_loss)] // Documents of a batch fit.
fn percentage(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => (part as f64 * 1_000.0 / whole as f64).round() / 10.0,
    }
}
