//! How a batch is doing, as it is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BatchSummary, credits::BatchCredits};
use crate::{
    canary::Canary,
    cancel::Cancellation,
    failure::{FailureClass, FailureKind},
    ids::{HandlerName, JobName, ResourceClass},
    pause::Paused,
    pipeline::{JobLimits, JobSpec, Submission, TierNum},
    segments::Segments,
    share::Share,
    state::{Aborted, BatchState, JobState, TierState},
    status::BatchStatus,
    time::{Millis, Timestamp},
    units::UnitSet,
};

/// How a batch is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
    /// That too much of it failed, where that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted: Option<Aborted>,
    /// The last retry that was tried on a sample first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryView>,
    /// The tiers.
    pub tiers: Vec<TierView>,
    /// The log sequence of the batch's last event.
    pub last_seq: u64,
    /// The log sequence that the answer includes.
    #[serde(default)]
    pub as_of: u64,
    /// What it has to do with the namespace's credits, where these are limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credits: Option<BatchCredits>,
}

/// How a tier is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
    /// Its units, where they are segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<SegmentCounts>,
    /// Documents that stay in it because it was cancelled.
    #[serde(default)]
    pub cancelled: u64,
    /// When it first had something to do.
    pub started_at: Option<Timestamp>,
    /// When it last had nothing left to do.
    pub ended_at: Option<Timestamp>,
    /// When anything last happened in it.
    pub last_activity_at: Option<Timestamp>,
    /// The jobs.
    pub jobs: Vec<JobView>,
}

/// Segments in a tier. A document without any has none here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SegmentCounts {
    /// Segments that have come in.
    pub entered: u64,
    /// Segments for which all its jobs succeeded.
    pub completed: u64,
    /// Segments for which one of its jobs failed.
    pub failed: u64,
}

impl SegmentCounts {
    fn of(tier: &TierState) -> Self {
        let segments = |units: UnitSet| units.len() - Segments::only_documents(&units).len();
        Self {
            entered: segments(tier.entered.clone()),
            completed: segments(tier.done()),
            failed: tier.failed().len(),
        }
    }
}

/// How a job is doing, in units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
    /// Time spent reading documents and inputs, in milliseconds.
    #[serde(default)]
    pub loading_ms: Millis,
    /// Time from reports to the log, in milliseconds.
    #[serde(default)]
    pub writing_ms: Millis,
    /// The most memory that an execution used that succeeded, in bytes, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// When anything last happened in it.
    pub last_activity_at: Option<Timestamp>,
    /// Why nothing more of it is handed out, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// That nothing of it is executed any more, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation: Option<Cancellation>,
    /// The parameters with which it is submitted now.
    pub submission: Submission,
    /// What holds it back.
    pub limits: JobLimits,
    /// Whether any of its parameters was changed since the batch was created.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resubmitted: bool,
    /// Attempts that were stuck and given to somebody else.
    #[serde(default)]
    pub superseded_attempts: u64,
    /// Since when it has work that no live worker serves, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphaned: Option<Timestamp>,
    /// How many units of it are out at once, where the other side cannot keep up with more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// How a retry does that was tried on a sample first, in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CanaryView {
    /// The sample.
    pub sample: u64,
    /// Of the sample, those that have ended.
    pub ended: u64,
    /// Of these, those that succeeded.
    pub succeeded: u64,
    /// The part that has to succeed.
    pub success: Share,
    /// Units that wait for that.
    pub rest: u64,
    /// Whether it did, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
}

impl CanaryView {
    fn of(canary: &Canary, batch: &BatchState) -> Self {
        let (ended, succeeded) = match canary.judged {
            Some(judged) => (judged.sample, judged.succeeded),
            None => canary.progress(batch),
        };
        Self {
            sample: canary.size(),
            ended,
            succeeded,
            success: canary.success,
            rest: canary.rest.iter().map(|part| part.units.len()).sum(),
            passed: canary.judged.map(|judged| judged.passed),
        }
    }
}

impl BatchView {
    /// The jobs that are paused, by their tiers.
    pub fn paused(&self) -> impl Iterator<Item = (TierNum, &JobView, &Paused)> {
        self.tiers.iter().flat_map(|tier| {
            let jobs = tier.jobs.iter();
            jobs.filter_map(|job| Some((tier.tier, job, job.paused.as_ref()?)))
        })
    }

    /// The jobs that have work and nobody to do it, by their tiers, and since when.
    pub fn orphaned(&self) -> impl Iterator<Item = (TierNum, &JobView, Timestamp)> {
        self.tiers.iter().flat_map(|tier| {
            let jobs = tier.jobs.iter();
            jobs.filter_map(|job| Some((tier.tier, job, job.orphaned?)))
        })
    }

    /// The jobs that are cancelled, by their tiers.
    pub fn cancelled(&self) -> impl Iterator<Item = (TierNum, &JobView, &Cancellation)> {
        self.tiers.iter().flat_map(|tier| {
            let jobs = tier.jobs.iter();
            jobs.filter_map(|job| Some((tier.tier, job, job.cancellation.as_ref()?)))
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
                entered: batch.documents_of(&tier.entered).len(),
                completed: batch.documents_through(num, tier.done()).len(),
                failed: batch.documents_of(&tier.failed()).len(),
                segments: batch.has_segments_in(num).then(|| SegmentCounts::of(tier)),
                cancelled: batch.documents_of(&tier.stopped()).len(),
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
                        attempts: job.executed + job.lost + job.superseded,
                        failed_attempts: job.failed_attempts,
                        lost_attempts: job.lost,
                        busy_ms: job.busy,
                        loading_ms: job.loading,
                        writing_ms: job.writing,
                        peak_memory: job.peak_memory,
                        last_activity_at: job.last_at,
                        paused: job.paused.clone(),
                        superseded_attempts: job.superseded,
                        orphaned: job.orphaned,
                        concurrency: job.concurrency,
                        cancellation: job.cancellation.clone(),
                        submission: Submission::of(spec),
                        limits: JobLimits::of(spec),
                        resubmitted: was_changed(batch, num, spec),
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
            aborted: batch.aborted,
            canary: batch
                .canary
                .as_ref()
                .map(|canary| CanaryView::of(canary, batch)),
            tiers,
            last_seq: batch.last_seq,
            as_of: batch.last_seq,
            credits: BatchCredits::of(batch),
        }
    }
}

fn was_changed(batch: &BatchState, tier: TierNum, spec: &JobSpec) -> bool {
    let created = batch.created_with().tier(tier);
    let mut jobs = created.into_iter().flat_map(|tier| &tier.jobs);
    jobs.all(|job| job != spec)
}

pub(crate) fn job_status(job: &JobState, tier: BatchStatus) -> BatchStatus {
    let succeeded = job.completed.len() + job.skipped.len();
    match tier {
        _ if job.cancellation.is_some() => BatchStatus::Cancelled,
        BatchStatus::Pending | BatchStatus::Cancelled => tier,
        _ if !job.open.is_empty() || tier == BatchStatus::Running => BatchStatus::Running,
        _ => BatchStatus::of(succeeded, job.all_failed().len()),
    }
}
