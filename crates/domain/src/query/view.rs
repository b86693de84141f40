//! How a batch is doing, as it is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::BatchSummary;
use crate::{
    failure::{FailureClass, FailureKind},
    ids::{HandlerName, JobName, ResourceClass},
    pause::Paused,
    pipeline::TierNum,
    state::{BatchState, JobState},
    status::BatchStatus,
    time::{Millis, Timestamp},
    units::UnitSet,
};

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
    /// Why nothing more of it is handed out, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
}

impl BatchView {
    /// The jobs that are paused, by their tiers.
    pub fn paused(&self) -> impl Iterator<Item = (TierNum, &JobView, &Paused)> {
        self.tiers.iter().flat_map(|tier| {
            let jobs = tier.jobs.iter();
            jobs.filter_map(|job| Some((tier.tier, job, job.paused.as_ref()?)))
        })
    }

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
                        paused: job.paused.clone(),
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

pub(crate) fn job_status(job: &JobState, tier: BatchStatus) -> BatchStatus {
    let succeeded = job.completed.len() + job.skipped.len();
    match tier {
        BatchStatus::Pending | BatchStatus::Cancelled => tier,
        _ if !job.open.is_empty() || tier == BatchStatus::Running => BatchStatus::Running,
        _ => BatchStatus::of(succeeded, job.all_failed().len()),
    }
}
