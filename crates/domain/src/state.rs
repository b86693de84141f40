//! The state of a batch: a few sets per job. It is what a fold of the batch's events gives, and nothing else.

mod groups;
mod infrastructure;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    canary::Canary,
    cancel::{CancelEffect, Cancellation},
    command::Start,
    credits::Holding,
    failure::{FailureClass, FailureKind},
    ids::{BatchKey, Bucket, CommandId, JobName},
    pause::Paused,
    pipeline::{JobSpec, MaxFailed, Pipeline, TierNum},
    segments::Segments,
    status::BatchStatus,
    time::{Millis, Timestamp},
    units::{Counters, Ordinal, Places, UnitSet},
};

pub use groups::{Group, Groups, KindCounts};
pub use infrastructure::{Infrastructure, InfrastructureEvent};

/// All that the log says of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchState {
    /// The batch with its place.
    pub key: BatchKey,
    /// The source of its documents.
    pub bucket: Bucket,
    /// What is to be done with them.
    pub pipeline: Arc<Pipeline>,
    /// The pipeline with which it was created, where that is another one by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Arc<Pipeline>>,
    /// When that begins.
    pub start: Start,
    /// How it is doing.
    pub status: BatchStatus,
    /// Whether it has all its documents.
    pub submitted: bool,
    /// How many documents it has; their ordinals are `0..documents`.
    pub documents: u32,
    /// Where the documents stand in the log.
    pub pages: Places,
    /// The tiers, as in the pipeline.
    pub tiers: Vec<TierState>,
    /// How often each document has been retried.
    pub retries: Counters,
    /// How many retries were decided for the batch.
    pub rounds: u32,
    /// The last commands that were carried out, with the sequence of their event.
    pub commands: VecDeque<(CommandId, u64)>,
    /// The sequence of its first event.
    pub created_seq: u64,
    /// The sequence of its last event.
    pub last_seq: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it had all its documents.
    pub submitted_at: Option<Timestamp>,
    /// When it was last over.
    pub ended_at: Option<Timestamp>,
    /// When anything last happened.
    pub last_at: Timestamp,
    /// Events that named something that is not there and changed nothing.
    pub ignored: u64,
    /// What became of the machines and processes under it.
    #[serde(default)]
    pub infrastructure: Infrastructure,
    /// What its documents were split into; only where the pipeline splits documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<Segments>,
    /// What it has to do with its namespace's credits.
    #[serde(default, skip_serializing_if = "Holding::is_none")]
    pub credits: Holding,
    /// That too much of it failed, where that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted: Option<Aborted>,
    /// Documents that had failed when somebody went on after that. They are not counted again.
    #[serde(default, skip_serializing_if = "UnitSet::is_empty")]
    pub excused: UnitSet,
    /// The last retry that was tried on a sample first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// That more of a batch failed than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Aborted {
    /// Documents that failed.
    pub failed: u64,
    /// How many may.
    pub max_failed: MaxFailed,
    /// When it was noticed.
    pub at: Timestamp,
}

/// One tier.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TierState {
    /// How it is doing.
    pub status: BatchStatus,
    /// Units that have come in.
    pub entered: UnitSet,
    /// When it first had something to do.
    pub started_at: Option<Timestamp>,
    /// When it last had nothing left to do.
    pub ended_at: Option<Timestamp>,
    /// When anything last happened in it.
    pub last_at: Option<Timestamp>,
    /// The jobs, as in the pipeline.
    pub jobs: Vec<JobState>,
}

/// One job. Each unit that has entered its tier is in exactly one of `open`, `completed`, `skipped`, `failed` and
/// `cancelled`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobState {
    /// To be executed, or being executed.
    pub open: UnitSet,
    /// Units whose next attempt is not before a time; entries of the past mean nothing.
    pub due: BTreeMap<Timestamp, UnitSet>,
    /// Succeeded.
    pub completed: UnitSet,
    /// There was nothing to do.
    pub skipped: UnitSet,
    /// Failed, and nothing more happens by itself.
    pub failed: BTreeMap<FailureClass, BTreeMap<FailureKind, UnitSet>>,
    /// Stopped before they were through.
    pub cancelled: UnitSet,
    /// Attempts that failed or were lost: the next one has this number plus one.
    pub attempts: Counters,
    /// Attempts of the present round that count against the budget.
    pub spent: Counters,
    /// Budgets of the present round, where they are not the job's own.
    pub budgets: BTreeMap<u32, UnitSet>,
    /// Where the outputs stand in the log.
    pub outputs: Places,
    /// Where the failures stand in the log.
    pub failures: Places,
    /// Time spent in the handler.
    pub busy: Millis,
    /// Time spent reading documents and inputs.
    #[serde(default)]
    pub loading: Millis,
    /// Time from reports to the log.
    #[serde(default)]
    pub writing: Millis,
    /// Attempts that have ended, over all units.
    pub executed: u64,
    /// Attempts that failed, over all units.
    pub failed_attempts: u64,
    /// Attempts that were lost with their worker, over all units.
    pub lost: u64,
    /// When anything last happened in it.
    pub last_at: Option<Timestamp>,
    /// Why nothing more of it is handed out, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Executions of the present round whose worker was lost or that ran out of memory, for units that are open.
    #[serde(default)]
    pub strikes: Counters,
    /// The most memory that an execution used that succeeded, in bytes, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// Attempts that were stuck and given to somebody else, over all units.
    #[serde(default)]
    pub superseded: u64,
    /// Since when it has work that no live worker serves, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphaned: Option<Timestamp>,
    /// The failed units by what their failures have in common.
    #[serde(default)]
    pub fingerprints: Groups,
    /// Attempts that failed, by kind, over all units.
    #[serde(default)]
    pub failed_kinds: KindCounts,
    /// How many units of it are out at once, where the other side cannot keep up with more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// That nothing of it is executed any more, where that is so. What comes in counts as `cancelled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation: Option<Cancellation>,
}

impl JobState {
    /// Whether documents go on without it.
    #[must_use]
    pub fn is_waived(&self) -> bool {
        self.has_ended_as(CancelEffect::Waived)
    }

    fn has_ended_as(&self, effect: CancelEffect) -> bool {
        self.cancellation
            .as_ref()
            .is_some_and(|cancellation| cancellation.effect == effect)
    }

    /// All failed units.
    #[must_use]
    pub fn all_failed(&self) -> UnitSet {
        let mut all = UnitSet::new();
        for (_, _, units) in self.failed_by_kind() {
            all.add(units);
        }
        all
    }

    /// The failed units by class and kind.
    pub fn failed_by_kind(&self) -> impl Iterator<Item = (FailureClass, &FailureKind, &UnitSet)> {
        self.failed
            .iter()
            .flat_map(|(class, kinds)| kinds.iter().map(move |(kind, units)| (*class, kind, units)))
    }

    /// Of these units, those that succeeded or had nothing to do.
    #[must_use]
    pub fn done_of(&self, units: &UnitSet) -> UnitSet {
        let mut done = units.and(&self.completed);
        if !self.skipped.is_empty() {
            done.add(&units.and(&self.skipped));
        }
        done
    }

    /// Open units that may be executed at this time.
    #[must_use]
    pub fn ready(&self, now: Timestamp) -> UnitSet {
        let mut ready = self.open.clone();
        for waiting in self
            .due
            .range(now.plus(Millis(1))..)
            .map(|(_, units)| units)
        {
            ready.remove(waiting);
        }
        ready
    }

    /// When the next waiting unit is due, after this time.
    #[must_use]
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.due
            .range(now.plus(Millis(1))..)
            .next()
            .map(|(due, _)| *due)
    }

    /// Of these units, those that are open and whose outstanding attempt is this one: the only ones for which an
    /// outcome counts.
    #[must_use]
    pub fn outstanding(&self, units: &UnitSet, attempt: u32) -> UnitSet {
        let open = units.and(&self.open);
        self.attempts
            .split(&open)
            .into_iter()
            .find(|(ended, _)| ended.checked_add(1) == Some(attempt))
            .map_or_else(UnitSet::new, |(_, units)| units)
    }

    /// How many attempts a unit has in the present round.
    #[must_use]
    pub fn budget(&self, unit: Ordinal, spec: &JobSpec) -> u32 {
        self.budgets
            .iter()
            .find(|(_, units)| units.contains(unit))
            .map_or(spec.max_attempts, |(budget, _)| *budget)
    }
}

impl TierState {
    /// Of these units, those for which all jobs succeeded that are not waived.
    #[must_use]
    pub fn done_of(&self, units: &UnitSet) -> UnitSet {
        let mut done = units.clone();
        for job in self.jobs.iter().filter(|job| !job.is_waived()) {
            done = job.done_of(&done);
        }
        done
    }

    /// Units for which all jobs succeeded.
    #[must_use]
    pub fn done(&self) -> UnitSet {
        self.done_of(&self.entered)
    }

    /// Units for which a job failed.
    #[must_use]
    pub fn failed(&self) -> UnitSet {
        let mut failed = UnitSet::new();
        for job in &self.jobs {
            failed.add(&job.all_failed());
        }
        failed
    }

    /// Whether it was cancelled: documents that were not through it stay there.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let mut jobs = self.jobs.iter();
        jobs.any(|job| job.has_ended_as(CancelEffect::Stopped))
    }

    /// Units that stay here because it was cancelled, and that have not failed in it.
    #[must_use]
    pub fn stopped(&self) -> UnitSet {
        match self.is_stopped() {
            true => self.entered.minus(&self.done()).minus(&self.failed()),
            false => UnitSet::new(),
        }
    }

    /// Whether a job has something left to do.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.jobs.iter().any(|job| !job.open.is_empty())
    }
}

/// How many documents are where. The four add up to all documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DocumentCounts {
    /// Through all tiers.
    pub completed: u64,
    /// Failed in some job.
    pub failed: u64,
    /// Stopped on the way.
    pub cancelled: u64,
    /// Still on the way.
    pub open: u64,
}

impl DocumentCounts {
    /// The status of a batch that is over with these.
    #[must_use]
    pub const fn ending(&self) -> BatchStatus {
        match (self.completed, self.failed, self.cancelled) {
            (completed, failed, 0) => BatchStatus::of(completed, failed),
            (0, 0, _) => BatchStatus::Cancelled,
            (0, _, _) => BatchStatus::Failed,
            _ => BatchStatus::CompletedWithFailures,
        }
    }
}

impl BatchState {
    /// The pipeline with which it was created.
    #[must_use]
    pub fn created_with(&self) -> &Pipeline {
        self.original.as_ref().unwrap_or(&self.pipeline)
    }

    /// The job of that name in a tier, with its specification.
    #[must_use]
    pub fn job(&self, tier: TierNum, job: &JobName) -> Option<(&JobSpec, &JobState)> {
        let spec = self.pipeline.tier(tier)?;
        let at = spec.jobs.iter().position(|spec| spec.name == *job)?;
        Some((
            spec.jobs.get(at)?,
            self.tiers.get(usize::from(tier))?.jobs.get(at)?,
        ))
    }

    /// All jobs with their tiers.
    pub fn jobs(&self) -> impl Iterator<Item = (TierNum, &JobSpec, &JobState)> {
        self.pipeline
            .tiers
            .iter()
            .zip(&self.tiers)
            .zip(0..)
            .flat_map(|((spec, tier), num)| {
                spec.jobs
                    .iter()
                    .zip(&tier.jobs)
                    .map(move |(spec, job)| (num, spec, job))
            })
    }

    /// Whether it is over, and nothing follows from that any more: it holds no credits.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.status.is_over() && self.credits.held.is_empty()
    }

    /// Documents that failed somewhere.
    #[must_use]
    pub fn failed_documents(&self) -> UnitSet {
        let mut failed = UnitSet::new();
        for tier in &self.tiers {
            failed.add(&tier.failed());
        }
        match &self.segments {
            Some(segments) => segments.documents_of(&failed),
            None => failed,
        }
    }

    /// Documents that failed, beside those that are excused, where that is more than may.
    #[must_use]
    pub fn too_many_failed(&self) -> Option<u64> {
        let max_failed = self.pipeline.max_failed.filter(|_| self.submitted)?;
        let failed = self.failed_documents().minus(&self.excused).len();
        (failed > max_failed.of(self.documents)).then_some(failed)
    }

    /// Documents that stay in tiers that were cancelled.
    fn stopped_documents(&self) -> UnitSet {
        let mut stopped = UnitSet::new();
        for tier in &self.tiers {
            stopped.add(&tier.stopped());
        }
        self.documents_of(&stopped).into_owned()
    }

    /// Documents that went through all tiers.
    #[must_use]
    pub fn completed_documents(&self) -> UnitSet {
        let last = TierNum::try_from(self.tiers.len().saturating_sub(1)).unwrap_or(TierNum::MAX);
        let done = self.tiers.last().map(TierState::done).unwrap_or_default();
        self.documents_through(last, done)
    }

    /// How many documents are where.
    #[must_use]
    pub fn counts(&self) -> DocumentCounts {
        let completed = self.completed_documents().len();
        let all_failed = self.failed_documents();
        let failed = all_failed.len();
        let rest = u64::from(self.documents).saturating_sub(completed + failed);
        let cancelled = match self.status {
            BatchStatus::Cancelled => rest,
            _ => self.stopped_documents().minus(&all_failed).len().min(rest),
        };
        DocumentCounts {
            completed,
            failed,
            cancelled,
            open: rest - cancelled,
        }
    }

    /// Where a command that was carried out stands in the log.
    #[must_use]
    pub fn remembered(&self, command: CommandId) -> Option<u64> {
        let found = self.commands.iter().rev().find(|(id, _)| *id == command);
        found.map(|(_, seq)| *seq)
    }

    /// The canonical bytes of the state: the same log gives the same bytes.
    ///
    /// # Errors
    /// Where a part has no MessagePack form, which none of ours lacks.
    pub fn encode(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        rmp_serde::to_vec_named(self)
    }

    /// A state from its bytes.
    ///
    /// # Errors
    /// Where the bytes are not those of a state of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}
