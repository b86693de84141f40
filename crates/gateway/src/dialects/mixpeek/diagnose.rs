//! What is wrong with a batch, and what to do about it.

use redrive_domain::{
    diagnosis::{Diagnosis, FailureCategory, Recommendation, TaskDiagnosis, TierDiagnosis},
    failure::{FailureClass, FailureKind},
    ids::BatchId,
    pipeline::{Submission, TierNum},
    query::{BatchView, FailureRow},
    state::InfrastructureEvent,
    time::Timestamp,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    model::ray_job_id,
    words::{ErrorCategory, TaskStatus, infrastructure},
};

/// What is wrong with a batch, and what to do about it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::BatchDiagnosis)]
pub(super) struct BatchDiagnosis {
    /// The batch.
    batch_id: String,
    /// Its bucket.
    bucket_id: String,
    /// How it is doing.
    status: TaskStatus,
    /// What most of its failures come from: `infrastructure`, `timeout`, `orphaned` or `pipeline`; null where nothing
    /// failed.
    failure_category: Option<FailureCategory>,
    /// Objects.
    total_document_count: u32,
    /// Objects that failed.
    failed_document_count: u64,
    /// What happened to machines and processes, the last 100 of it.
    infrastructure_events: Vec<Event>,
    /// Its tiers.
    per_tier: Vec<Tier>,
    /// The first 10 objects that failed.
    failed_documents_sample: Vec<FailedDocument>,
    /// What to do, the most urgent first.
    recommendations: Vec<String>,
    /// When anything last happened.
    last_activity_at: Timestamp,
}

/// Something that happened to a machine or a process.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::InfrastructureEvent)]
struct Event {
    /// `oom`, `preemption`, `node_failure`, `crash` or `poison`.
    #[serde(rename = "type")]
    kind: String,
    /// When.
    timestamp: Timestamp,
    /// The tier.
    tier_num: TierNum,
    /// The job.
    ray_job_id: String,
    /// Who worked on it, where that is known.
    worker: Option<String>,
    /// Objects whose attempt it cost.
    affected_count: u64,
    /// What was said of the first of them.
    message: Option<String>,
}

impl Event {
    fn of(batch: BatchId, event: InfrastructureEvent) -> Self {
        Self {
            kind: infrastructure(&event.kind).to_owned(),
            timestamp: event.at,
            tier_num: event.tier,
            ray_job_id: ray_job_id(batch, event.tier, &event.job),
            worker: event.worker.map(|worker| worker.to_string()),
            affected_count: event.units,
            message: event.message,
        }
    }
}

/// An object that failed in a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::FailedDocument)]
pub(super) struct FailedDocument {
    /// Its id.
    document_id: String,
    /// The same.
    object_id: String,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    /// Which of its segments, where it has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<u32>,
    /// In which tier.
    tier_num: TierNum,
    /// In which job.
    ray_job_id: String,
    /// What sort of error it is.
    error_type: ErrorCategory,
    /// Whether it may pass by itself: `transient`, `permanent` or `unknown`.
    error_class: FailureClass,
    /// What went wrong, as one word.
    error_kind: FailureKind,
    /// What went wrong, for people.
    error: String,
    /// A code of the extractor's.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    /// Attempts that ended.
    attempts: u32,
    /// How often it was retried.
    retry_count: u32,
    /// When it failed.
    failed_at: Timestamp,
}

impl FailedDocument {
    pub(super) fn of(batch: BatchId, row: FailureRow) -> Self {
        Self {
            object_id: row.document.clone(),
            document_id: row.document,
            uri: row.uri,
            segment: row.segment,
            tier_num: row.tier,
            ray_job_id: ray_job_id(batch, row.tier, &row.job),
            error_type: ErrorCategory::of(&row.failure.kind, row.failure.class),
            error_class: row.failure.class,
            error_kind: row.failure.kind,
            error: row.failure.message,
            error_code: row.failure.code,
            attempts: row.attempts,
            retry_count: row.retry_count,
            failed_at: row.at,
        }
    }
}

/// How a tier has been doing. What is said of one job is said of its first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::TierDiagnosis)]
struct Tier {
    /// Its number, from 0.
    tier_num: TierNum,
    /// Its name.
    name: String,
    /// How it is doing.
    status: TaskStatus,
    /// From when to when.
    timing: Timing,
    /// When anything last happened in it.
    last_activity_at: Option<Timestamp>,
    /// With what its job is submitted.
    submission_params: Option<Submission>,
    /// What its job may use, and what it used.
    resources: Option<Resources>,
    /// The time that its objects took, stage by stage.
    stage_history: Vec<Stage>,
    /// Its jobs.
    extractor_jobs: Vec<Job>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::Timing)]
struct Timing {
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    duration_seconds: f64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::DiagnosedStage)]
struct Stage {
    name: String,
    duration_seconds: f64,
}

/// What a job may use, and what it used.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = mixpeek::Resources)]
struct Resources {
    /// The workers it goes to.
    class: String,
    /// CPUs of one execution.
    num_cpus: u32,
    /// Memory of one execution, in bytes.
    memory_bytes: Option<u64>,
    /// The most memory that an execution used that succeeded, in bytes.
    peak_memory_bytes: Option<u64>,
    /// Seconds of one attempt.
    timeout_seconds: f64,
}

/// How a job has been doing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::JobDiagnosis)]
struct Job {
    name: String,
    ray_job_id: String,
    extractor_type: String,
    status: TaskStatus,
    submission_params: Submission,
    resources: Resources,
    documents_written: u64,
    documents_failed: u64,
    documents_open: u64,
    /// Attempts that ended.
    attempts: u64,
    /// Since when it has had work that no live worker does.
    orphaned_since: Option<Timestamp>,
    /// Why nothing more of it is handed out.
    paused: Option<String>,
    last_activity_at: Option<Timestamp>,
}

fn job(batch: BatchId, tier: TierNum, task: TaskDiagnosis) -> Job {
    Job {
        name: task.job.to_string(),
        ray_job_id: ray_job_id(batch, tier, &task.job),
        extractor_type: task.submission_params.extractor_name.to_string(),
        status: TaskStatus::of(task.status),
        submission_params: task.submission_params,
        resources: Resources {
            class: task.resources.class.to_string(),
            num_cpus: task.resources.num_cpus,
            memory_bytes: task.resources.memory_bytes,
            peak_memory_bytes: task.resources.peak_memory_bytes,
            timeout_seconds: super::model::seconds(task.resources.timeout_ms),
        },
        documents_written: task.succeeded,
        documents_failed: task.failed,
        documents_open: task.open,
        attempts: task.attempts,
        orphaned_since: task.orphaned_since,
        paused: task.paused,
        last_activity_at: task.last_activity_at,
    }
}

fn tier(batch: BatchId, tier: TierDiagnosis) -> Tier {
    let num = tier.tier;
    let jobs = tier.tasks.into_iter();
    let jobs: Vec<Job> = jobs.map(|task| job(batch, num, task)).collect();
    let over = tier.status.is_over();
    Tier {
        tier_num: num,
        name: tier.name,
        status: TaskStatus::of(tier.status),
        timing: Timing {
            started_at: tier.timing.started_at,
            completed_at: tier.timing.ended_at.filter(|_| over),
            duration_seconds: tier.timing.duration_seconds,
        },
        last_activity_at: tier.last_activity_at,
        submission_params: jobs.first().map(|job| job.submission_params.clone()),
        resources: jobs.first().map(|job| job.resources.clone()),
        stage_history: tier
            .stage_history
            .into_iter()
            .map(|stage| Stage {
                name: stage.name,
                duration_seconds: stage.duration_seconds,
            })
            .collect(),
        extractor_jobs: jobs,
    }
}

/// One recommendation as one text.
fn advice(recommendation: Recommendation) -> String {
    let Recommendation {
        sentence,
        reason,
        command,
        ..
    } = recommendation;
    let command = command.map_or_else(String::new, |command| format!(": {command}"));
    let sentence = match command.is_empty() {
        true => sentence,
        false => sentence.trim_end_matches(['.', ':']).to_owned(),
    };
    match reason.is_empty() {
        true => format!("{sentence}{command}"),
        false => format!("{sentence} ({}){command}", reason.trim_end_matches('.')),
    }
}

impl BatchDiagnosis {
    /// The diagnosis of a batch, of which `view` says whether it is submitted.
    pub(super) fn of(view: &BatchView, diagnosis: Diagnosis) -> Self {
        let batch = diagnosis.batch;
        let category = diagnosis.failure_category;
        Self {
            batch_id: batch.to_string(),
            bucket_id: view.summary.bucket.to_string(),
            status: TaskStatus::of_batch(diagnosis.status, view.submitted),
            failure_category: (category != FailureCategory::None).then_some(category),
            total_document_count: diagnosis.documents,
            failed_document_count: diagnosis.failed_document_count,
            infrastructure_events: diagnosis
                .infrastructure_events
                .into_iter()
                .map(|event| Event::of(batch, event))
                .collect(),
            per_tier: diagnosis
                .per_tier
                .into_iter()
                .map(|one| tier(batch, one))
                .collect(),
            failed_documents_sample: diagnosis
                .failed_documents_sample
                .into_iter()
                .map(|row| FailedDocument::of(batch, row))
                .collect(),
            recommendations: diagnosis.recommendations.into_iter().map(advice).collect(),
            last_activity_at: diagnosis.last_activity_at,
        }
    }
}
