//! What is answered to commands.

use std::collections::BTreeMap;

use redrive_domain::{
    command::{Accepted, Excluded, Retried},
    failure::FailureKind,
    heal::{DuplicateFinding, Healed, StuckFinding, StuckReason},
    ids::BatchId,
    pipeline::TierNum,
    status::BatchStatus,
    time::Timestamp,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    model::{ray_job_id, task_id},
    words::TaskStatus,
};

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = mixpeek::TaskType)]
pub(super) enum TaskKind {
    /// It submits a batch.
    #[serde(rename = "api_buckets_batches_submit")]
    Submit,
    /// It executes a batch.
    #[serde(rename = "api_buckets_batches_process")]
    Process,
}

/// What is done for a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::TaskResponse)]
pub(super) struct TaskResponse {
    /// Its id.
    task_id: String,
    /// What it does.
    task_type: TaskKind,
    /// How it is doing.
    status: TaskStatus,
    /// The batch.
    inputs: Vec<String>,
    /// What it made: told by the batch.
    outputs: Vec<String>,
    /// The same, by name.
    additional_data: TaskData,
    /// What went wrong: told by the batch.
    error: Option<String>,
    /// The same.
    error_message: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::TaskData)]
struct TaskData {
    batch_id: String,
}

impl TaskResponse {
    /// What is done for a batch that was submitted.
    pub(super) fn of(task_type: TaskKind, batch: BatchId, status: BatchStatus) -> Self {
        Self {
            task_id: task_id(batch, None),
            task_type,
            status: TaskStatus::of(status),
            inputs: vec![batch.to_string()],
            outputs: Vec::new(),
            additional_data: TaskData {
                batch_id: batch.to_string(),
            },
            error: None,
            error_message: None,
        }
    }
}

/// What a retry does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::RetryBatchResponse)]
pub(super) struct RetryAnswer {
    /// The batch.
    batch_id: String,
    /// Its bucket.
    bucket_id: String,
    /// How the batch is doing now.
    status: TaskStatus,
    /// In words.
    message: String,
    /// Documents that are processed again.
    retried_documents: u64,
    /// What they failed in: a document that failed in two jobs counts twice.
    retried_units: u64,
    /// Those by tier.
    #[schema(value_type = BTreeMap<String, u64>)]
    retried_by_tier: BTreeMap<TierNum, u64>,
    /// Those by what went wrong.
    #[schema(value_type = BTreeMap<String, u64>)]
    retried_by_error: BTreeMap<FailureKind, u64>,
    /// What failed and is left alone, and why.
    excluded: Excluded,
    /// Tiers that were named and that the batch does not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown_tier_nums: Vec<i64>,
}

impl RetryAnswer {
    pub(super) fn of(
        bucket: String,
        batch: BatchId,
        status: TaskStatus,
        retried: Retried,
        unknown_tier_nums: Vec<i64>,
    ) -> Self {
        let left = retried.excluded.total();
        let mut message = match retried.documents {
            0 => "there is nothing to retry".to_owned(),
            1 => "1 document is retried".to_owned(),
            n => format!("{n} documents are retried"),
        };
        if left > 0 {
            message.push_str(&format!("; {left} failures are left alone"));
        }
        Self {
            batch_id: batch.to_string(),
            bucket_id: bucket,
            status,
            message,
            retried_documents: retried.documents,
            retried_units: retried.units,
            retried_by_tier: retried.by_tier,
            retried_by_error: retried.by_kind,
            excluded: retried.excluded,
            unknown_tier_nums,
        }
    }
}

/// What a cancellation stopped.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::CancelResponse)]
pub(super) struct CancelAnswer {
    /// The batch.
    batch_id: String,
    /// The tier.
    tier_num: TierNum,
    /// What was to be stopped is `CANCELED` now.
    status: TaskStatus,
    /// The jobs that were stopped; none where they were stopped before.
    canceled_jobs: Vec<String>,
    /// Documents that stay where they are. What was through goes on.
    canceled_documents: u64,
}

impl CancelAnswer {
    pub(super) fn of(batch: BatchId, tier: TierNum, accepted: &Accepted) -> Self {
        let jobs = accepted.jobs.iter();
        Self {
            batch_id: batch.to_string(),
            tier_num: tier,
            status: TaskStatus::Canceled,
            canceled_jobs: jobs.map(|at| ray_job_id(batch, at.tier, &at.job)).collect(),
            canceled_documents: accepted.cancelled_documents.unwrap_or(0),
        }
    }
}

/// What a look at a tier found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::HealResponse)]
pub(super) struct HealAnswer {
    /// The batch.
    batch_id: String,
    /// The tier.
    tier_num: TierNum,
    /// What was looked for.
    action: &'static str,
    /// In words.
    message: String,
    /// Pieces of work in progress that were looked at.
    checked: u64,
    /// What is stuck.
    stuck: Vec<Stuck>,
    /// What was executed twice, and is no more.
    duplicates: Vec<Duplicate>,
}

/// Work that is stuck.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::StuckJob)]
struct Stuck {
    /// The job.
    ray_job_id: String,
    /// Documents.
    document_count: u64,
    /// Who has it.
    worker: Option<String>,
    /// `no_owner`, `past_deadline` or `no_sign_of_life`.
    reason: StuckReason,
    /// Since when.
    since: Timestamp,
    /// When it last showed that it gets on.
    last_activity_at: Option<Timestamp>,
    /// Whether it is handed out again.
    fixed: bool,
}

/// Work that was executed twice.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::DuplicateJob)]
struct Duplicate {
    /// The job.
    ray_job_id: String,
    /// Documents.
    document_count: u64,
    /// Who goes on with it.
    kept: Option<String>,
    /// Who was told to stop.
    killed: Vec<String>,
}

impl HealAnswer {
    pub(super) fn of(
        batch: BatchId,
        tier: TierNum,
        action: &'static str,
        healed: Option<Healed>,
    ) -> Self {
        let (checked, stuck, duplicates) = healed.map_or_else(Default::default, |healed| {
            (healed.chunks, healed.stuck, healed.duplicates)
        });
        let stuck: Vec<Stuck> = stuck.into_iter().map(|one| found(batch, one)).collect();
        let duplicates: Vec<Duplicate> = duplicates
            .into_iter()
            .map(|one| killed(batch, one))
            .collect();
        let message = match (stuck.len(), duplicates.len()) {
            (0, 0) => "nothing was found".to_owned(),
            (0, n) => format!("{n} duplicates were stopped"),
            (n, _) => format!("{n} pieces of work are stuck"),
        };
        Self {
            batch_id: batch.to_string(),
            tier_num: tier,
            action,
            message,
            checked,
            stuck,
            duplicates,
        }
    }
}

fn found(batch: BatchId, finding: StuckFinding) -> Stuck {
    Stuck {
        ray_job_id: ray_job_id(batch, finding.tier, &finding.job),
        document_count: finding.units.len(),
        worker: finding.worker.map(|worker| worker.to_string()),
        reason: finding.reason,
        since: finding.since,
        last_activity_at: finding.alive_at,
        fixed: finding.fixed,
    }
}

fn killed(batch: BatchId, finding: DuplicateFinding) -> Duplicate {
    let superseded = finding.superseded.into_iter();
    Duplicate {
        ray_job_id: ray_job_id(batch, finding.tier, &finding.job),
        document_count: finding.units.len(),
        kept: finding.kept.map(|kept| kept.worker.to_string()),
        killed: superseded.map(|one| one.worker.to_string()).collect(),
    }
}
