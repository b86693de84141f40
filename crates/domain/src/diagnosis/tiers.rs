//! How each tier has been doing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    figures::{rate, rounded, seconds},
    parts,
};
use crate::{
    failure::FailureKind,
    ids::{JobName, ResourceClass},
    pipeline::{JobSpec, Submission, TierNum},
    query::job_status,
    state::{BatchState, JobState, TierState},
    status::BatchStatus,
    time::{Millis, Timestamp},
};

/// How a tier has been doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TierDiagnosis {
    /// Its number.
    pub tier: TierNum,
    /// Its name.
    pub name: String,
    /// How it is doing.
    pub status: BatchStatus,
    /// From when to when.
    pub timing: Timing,
    /// The time that its units took, stage by stage, summed over all of them.
    pub stage_history: Vec<Stage>,
    /// Documents for which all its jobs succeeded, a second of its duration.
    pub throughput_per_second: f64,
    /// When anything last happened in it.
    pub last_activity_at: Option<Timestamp>,
    /// The jobs.
    pub tasks: Vec<TaskDiagnosis>,
}

/// From when to when something went on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Timing {
    /// When it first had something to do.
    pub started_at: Option<Timestamp>,
    /// When it last had nothing left to do.
    pub ended_at: Option<Timestamp>,
    /// Seconds between the two, or until now.
    pub duration_seconds: f64,
}

/// A part of what is done with a unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Stage {
    /// `loading` (reading documents and inputs), `processing` (in the handler) or `writing` (from the report to the
    /// log).
    pub name: String,
    /// Seconds, summed over all units; where several ran at once that is more than what went by.
    pub duration_seconds: f64,
}

/// How a job of a tier has been doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TaskDiagnosis {
    /// Its name.
    pub job: JobName,
    /// How it is doing.
    pub status: BatchStatus,
    /// The parameters with which it is submitted now.
    pub submission_params: Submission,
    /// What it may use, and what it used.
    pub resources: Resources,
    /// The time that its units took, stage by stage, summed over all of them.
    pub stage_history: Vec<Stage>,
    /// Units that succeeded, a second of the tier's duration.
    pub throughput_per_second: f64,
    /// Units that succeeded or had nothing to do.
    pub succeeded: u64,
    /// Units that failed.
    pub failed: u64,
    /// Units to be executed, or being executed.
    pub open: u64,
    /// Attempts that ended.
    pub attempts: u64,
    /// Attempts that failed, by kind; what passed by itself afterwards, too.
    pub failed_attempts: BTreeMap<FailureKind, u64>,
    /// Attempts that were lost with their worker.
    pub lost_attempts: u64,
    /// Since when it has had work that no live worker does, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphaned_since: Option<Timestamp>,
    /// Why nothing more of it is handed out, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// When anything last happened in it.
    pub last_activity_at: Option<Timestamp>,
}

/// What a job may use, and what it used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = TaskResources))]
pub struct Resources {
    /// The workers it goes to.
    pub class: ResourceClass,
    /// Memory that one execution may use, in bytes.
    pub memory_bytes: Option<u64>,
    /// The most memory that an execution used that succeeded, in bytes, where that was measured.
    pub peak_memory_bytes: Option<u64>,
    /// CPUs that one execution needs.
    pub num_cpus: u32,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: Millis,
}

pub(super) fn tiers(batch: &BatchState, now: Timestamp) -> Vec<TierDiagnosis> {
    let specs = batch.pipeline.tiers.iter();
    specs
        .zip(&batch.tiers)
        .zip(0..)
        .map(|((spec, tier), num)| {
            let duration = duration(tier, now);
            let tasks: Vec<TaskDiagnosis> = spec
                .jobs
                .iter()
                .zip(&tier.jobs)
                .map(|(spec, job)| task(batch, tier, spec, job, duration))
                .collect();
            let sum = |of: fn(&JobState) -> Millis| {
                let all = tier.jobs.iter().map(|job| of(job).0);
                Millis(all.fold(0, u64::saturating_add))
            };
            TierDiagnosis {
                tier: num,
                name: spec.name.clone(),
                status: tier.status,
                timing: Timing {
                    started_at: tier.started_at,
                    ended_at: tier.ended_at,
                    duration_seconds: seconds(duration),
                },
                stage_history: stages(
                    sum(|job| job.loading),
                    sum(|job| job.busy),
                    sum(|job| job.writing),
                ),
                throughput_per_second: throughput(tier.done().len(), duration),
                last_activity_at: tier.last_at,
                tasks,
            }
        })
        .collect()
}

/// How long a tier took, or has been taking.
pub(super) fn duration(tier: &TierState, now: Timestamp) -> Millis {
    let Some(start) = tier.started_at else {
        return Millis(0);
    };
    let end = match tier.status.is_over() {
        true => tier.ended_at.or(tier.last_at).unwrap_or(start),
        false => now,
    };
    end.since(start)
}

fn throughput(units: u64, duration: Millis) -> f64 {
    rate(units, duration.max(Millis::seconds(1))).map_or(0.0, rounded)
}

fn stages(loading: Millis, processing: Millis, writing: Millis) -> Vec<Stage> {
    [
        ("loading", loading),
        ("processing", processing),
        ("writing", writing),
    ]
    .map(|(name, span)| Stage {
        name: name.to_owned(),
        duration_seconds: seconds(span),
    })
    .into()
}

fn task(
    batch: &BatchState,
    tier: &TierState,
    spec: &JobSpec,
    job: &JobState,
    duration: Millis,
) -> TaskDiagnosis {
    let succeeded = job.completed.len() + job.skipped.len();
    let kinds = job.failed_kinds.iter();
    TaskDiagnosis {
        job: spec.name.clone(),
        status: job_status(job, tier.status),
        submission_params: Submission::of(spec),
        resources: Resources {
            class: spec.class.clone(),
            memory_bytes: spec.memory_bytes,
            peak_memory_bytes: parts::peak_memory(job),
            num_cpus: spec.num_cpus,
            timeout_ms: spec.timeout,
        },
        stage_history: stages(job.loading, job.busy, job.writing),
        throughput_per_second: throughput(succeeded, duration),
        succeeded,
        failed: job.all_failed().len(),
        open: job.open.len(),
        attempts: job.executed + job.lost,
        failed_attempts: kinds.map(|(kind, count)| (kind.clone(), count)).collect(),
        lost_attempts: job.lost,
        orphaned_since: parts::orphaned_since(batch, job),
        paused: job.paused.as_ref().map(|paused| paused.reason.to_string()),
        last_activity_at: job.last_at,
    }
}
