//! What must hold of a log as it grows, event by event. It keeps one entry a unit where the fold keeps sets, and shares
//! no code with it, so that a mistake in the one shows against the other. It is for checking logs of moderate size: its
//! memory grows with them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cancel::CancelEffect,
    command::Accepted,
    event::{Attempt, Cause, Envelope, Event},
    ids::{BatchKey, CommandId, EventId, JobName},
    pause::JobRef,
    pipeline::TierNum,
    time::Timestamp,
    units::{Ordinal, UnitSet},
};

mod control;
#[cfg(test)]
mod tests;

/// Reads a log and says what must not be. One clock is assumed for all who write it.
#[derive(Debug, Clone, Default)]
pub struct History {
    last_seq: u64,
    ids: BTreeSet<EventId>,
    batches: BTreeMap<BatchKey, Story>,
}

/// What was told of one batch.
#[derive(Debug, Clone, Default)]
struct Story {
    created: bool,
    submitted: bool,
    cancelled_seq: Option<u64>,
    documents: u32,
    /// The names of the jobs, by tier.
    jobs: Vec<Vec<JobName>>,
    units: BTreeMap<(TierNum, JobName, Ordinal), Unit>,
    /// Jobs that are paused, and since which sequence.
    paused: BTreeMap<JobRef, u64>,
    /// Jobs that are cancelled, and what that means.
    ended: BTreeMap<JobRef, (CancelEffect, u64)>,
    commands: BTreeMap<CommandId, Act>,
    refused: BTreeSet<CommandId>,
    seqs: BTreeSet<u64>,
}

/// A command that was carried out.
#[derive(Debug, Clone, Copy)]
struct Act {
    last_seq: u64,
    whole: bool,
}

/// What was told of one unit in one job.
#[derive(Debug, Clone, Copy, Default)]
struct Unit {
    /// Attempts that ended without success.
    ended: u32,
    standing: Standing,
    /// Its next attempt is not before this.
    due: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Standing {
    #[default]
    Open,
    Done,
    Failed,
    Cancelled,
}

/// How an attempt ended.
#[derive(Clone, Copy)]
enum Ending {
    Done,
    Failed,
    Again { due: Option<Timestamp> },
}

impl History {
    /// Takes the next event of the log, and says what of it must not be.
    pub fn take(&mut self, seq: u64, envelope: &Envelope) -> Vec<String> {
        let mut found = Vec::new();
        if seq <= self.last_seq {
            found.push(format!("it stands at {seq}, after {}", self.last_seq));
        }
        self.last_seq = seq;
        if !self.ids.insert(envelope.id) {
            found.push(format!("a second event has the id {}", envelope.id));
        }
        let story = self.batches.entry(envelope.key()).or_default();
        story.seqs.insert(seq);
        if let (Event::CommandRefused { .. }, Cause::Command(id)) =
            (&envelope.event, envelope.cause)
        {
            story.refused.insert(id);
        } else {
            if story.cancelled_seq.is_some() {
                found.push("something happens to a batch after its cancellation".to_owned());
            }
            if let Cause::Command(id) = envelope.cause {
                story.act(seq, id, &envelope.event, &mut found);
            }
            story.take(seq, envelope, &mut found);
        }
        let (name, key) = (envelope.event.name(), envelope.key());
        for problem in &mut found {
            *problem = format!("{key} at {seq}, {name}: {problem}");
        }
        found
    }

    /// What of an answer must not be: whoever is told that a command was carried out finds it in the log by then.
    #[must_use]
    pub fn acknowledged(
        &self,
        key: &BatchKey,
        id: CommandId,
        accepted: &Accepted,
    ) -> Option<String> {
        let seq = accepted.seq;
        let story = self.batches.get(key);
        if !story.is_some_and(|story| story.seqs.contains(&seq)) {
            return Some(format!(
                "{key}: an answer names {seq}, where the log has nothing of the batch"
            ));
        }
        let act = story.and_then(|story| story.commands.get(&id));
        match act {
            None if accepted.repeated || accepted.plan.is_some() => None,
            Some(act)
                if act.whole
                    && accepted.plan.is_none()
                    && (accepted.repeated || act.last_seq == seq) =>
            {
                None
            }
            act => Some(format!(
                "{key}: command {id} was acknowledged at {seq}, but the log has {act:?}"
            )),
        }
    }

    /// Whether the log says what became of this command: it was carried out, or refused.
    #[must_use]
    pub fn has_dealt_with(&self, key: &BatchKey, id: CommandId) -> bool {
        self.batches
            .get(key)
            .is_some_and(|story| story.commands.contains_key(&id) || story.refused.contains(&id))
    }

    /// Where the cancellation of a batch stands.
    #[must_use]
    pub fn cancelled_at(&self, key: &BatchKey) -> Option<u64> {
        self.batches.get(key)?.cancelled_seq
    }

    /// Since which sequence a job of a batch is paused, where it is.
    #[must_use]
    pub fn paused_since(&self, key: &BatchKey, job: &JobRef) -> Option<u64> {
        self.batches.get(key)?.paused.get(job).copied()
    }

    /// Since which sequence a job of a batch is cancelled, where it is.
    #[must_use]
    pub fn ended_since(&self, key: &BatchKey, job: &JobRef) -> Option<u64> {
        let (_, seq) = self.batches.get(key)?.ended.get(job)?;
        Some(*seq)
    }

    /// The last sequence that was taken.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

impl Story {
    /// A command acts once.
    fn act(&mut self, seq: u64, id: CommandId, event: &Event, found: &mut Vec<String>) {
        let act = Act {
            last_seq: seq,
            whole: !matches!(
                event,
                Event::RetryScheduled { last: false, .. } | Event::TierResubmitted { .. }
            ),
        };
        if self
            .commands
            .insert(id, act)
            .is_some_and(|before| before.whole)
        {
            found.push(format!("command {id} is carried out twice"));
        }
    }

    fn take(&mut self, seq: u64, envelope: &Envelope, found: &mut Vec<String>) {
        let at = envelope.at;
        if let Event::BatchCreated { pipeline, .. } = &envelope.event {
            if std::mem::replace(&mut self.created, true) {
                found.push("the batch is made twice".to_owned());
            }
            let names = |jobs: &[crate::pipeline::JobSpec]| {
                jobs.iter().map(|job| job.name.clone()).collect::<Vec<_>>()
            };
            self.jobs = pipeline
                .tiers
                .iter()
                .map(|tier| names(&tier.jobs))
                .collect();
            return;
        }
        if !self.created {
            found.push("something happens to a batch that was never made".to_owned());
        }
        match &envelope.event {
            Event::DocumentsAdded { first, count, .. } => {
                if *first != self.documents || self.submitted {
                    let has = self.documents;
                    found.push(format!("documents from {first} come to {has} others"));
                }
                self.documents = first.saturating_add(*count);
            }
            Event::BatchSubmitted { documents } => {
                if self.submitted || *documents != self.documents {
                    let has = self.documents;
                    found.push(format!("{documents} are submitted, of {has}"));
                }
                self.submitted = true;
            }
            Event::BatchCancelled { .. } => {
                self.cancelled_seq = Some(seq);
                self.paused.clear();
            }
            Event::TierCompleted { tier, .. } => self.paused.retain(|job, _| job.tier != *tier),
            Event::DispatchPaused { jobs, .. } => {
                for job in jobs {
                    self.paused.entry(job.clone()).or_insert(seq);
                }
            }
            Event::DispatchResumed { jobs } => self.paused.retain(|job, _| !jobs.contains(job)),
            Event::BatchCompleted {
                completed,
                failed,
                cancelled,
                ..
            } => self.complete(*completed, *failed, *cancelled, found),
            Event::TierCancelled { tier, .. }
            | Event::JobCancelled {
                tier,
                waived: false,
                ..
            } => self.cancel_tier(seq, *tier, found),
            Event::JobCancelled { tier, job, .. } => {
                let at = JobRef {
                    tier: *tier,
                    job: job.clone(),
                };
                self.cancel_job(seq, at, CancelEffect::Waived, found);
            }
            Event::DocumentsCompleted { attempt, .. } => {
                let units = envelope.event.units();
                self.end(attempt, &units, Ending::Done, at, found);
            }
            Event::DocumentsFailed { attempt, .. } => {
                let units = envelope.event.units();
                self.end(attempt, &units, Ending::Failed, at, found);
            }
            Event::AttemptFailed {
                attempt, retry_at, ..
            } => {
                let due = Some(*retry_at);
                let units = envelope.event.units();
                self.end(attempt, &units, Ending::Again { due }, at, found);
            }
            Event::WorkerLost { attempt, units } => {
                self.end(attempt, units, Ending::Again { due: None }, at, found);
            }
            Event::RetryScheduled { selected, .. } => {
                for part in selected {
                    let at = JobRef {
                        tier: part.tier,
                        job: part.job.clone(),
                    };
                    if self.ended.contains_key(&at) {
                        found.push(format!("{at:?} is retried, and is cancelled"));
                    }
                    self.paused
                        .retain(|at, _| (at.tier, &at.job) != (part.tier, &part.job));
                    for ordinal in part.units.iter() {
                        let place = (part.tier, part.job.clone(), ordinal);
                        let unit = self.units.entry(place).or_default();
                        if unit.standing != Standing::Failed {
                            found.push(format!(
                                "unit {ordinal} of tier {} job {} is retried, and has not failed",
                                part.tier, part.job
                            ));
                        }
                        unit.standing = Standing::Open;
                        unit.due = None;
                    }
                }
            }
            _ => {}
        }
    }

    /// An attempt ends once, in its turn, for units that came that far.
    fn end(
        &mut self,
        attempt: &Attempt,
        units: &UnitSet,
        ending: Ending,
        at: Timestamp,
        found: &mut Vec<String>,
    ) {
        let (tier, number) = (attempt.tier, attempt.number);
        let at_job = JobRef {
            tier,
            job: attempt.job.clone(),
        };
        if self.ended.contains_key(&at_job) {
            found.push(format!(
                "attempt {number} ends in tier {tier} job {}, which is cancelled",
                attempt.job
            ));
        }
        for ordinal in units.iter() {
            let mut problem = |what: String| {
                found.push(format!(
                    "attempt {number} of unit {ordinal} of tier {tier} job {}: {what}",
                    attempt.job
                ));
            };
            if ordinal >= self.documents {
                problem("there is no such document".to_owned());
            }
            if !self.came_to(tier, ordinal) {
                problem("the tier before has not done it".to_owned());
            }
            let place = (tier, attempt.job.clone(), ordinal);
            let unit = self.units.entry(place).or_default();
            if unit.standing != Standing::Open {
                problem(format!("it ends, and was {:?} before", unit.standing));
            }
            if number != unit.ended.saturating_add(1) {
                problem(format!("{} attempts have ended before", unit.ended));
            }
            if let Some(due) = unit.due.filter(|due| at < *due) {
                problem(format!("it ends at {at}, and was due at {due}"));
            }
            match ending {
                Ending::Done => unit.standing = Standing::Done,
                Ending::Failed => {
                    unit.ended = number;
                    unit.standing = Standing::Failed;
                }
                Ending::Again { due } => {
                    unit.ended = number;
                    unit.due = due.or(unit.due);
                }
            }
        }
    }

    /// Whether all jobs of the tier before have done a unit.
    fn came_to(&self, tier: TierNum, unit: Ordinal) -> bool {
        let Some(before) = tier.checked_sub(1) else {
            return true;
        };
        self.is_done(before, unit)
    }

    fn is_done(&self, tier: TierNum, ordinal: Ordinal) -> bool {
        let Some(jobs) = self.jobs.get(usize::from(tier)) else {
            return false;
        };
        let mut live = jobs.iter().filter(|job| !self.is_waived(tier, job));
        live.all(|job| {
            let unit = self.units.get(&(tier, job.clone(), ordinal));
            unit.is_some_and(|unit| unit.standing == Standing::Done)
        })
    }

    fn complete(&self, completed: u64, failed: u64, cancelled: u64, found: &mut Vec<String>) {
        let last = self.jobs.len().checked_sub(1);
        let last = last.and_then(|tier| TierNum::try_from(tier).ok());
        let through = |ordinal: &Ordinal| last.is_some_and(|tier| self.is_done(tier, *ordinal));
        let done = (0..self.documents).filter(through).count() as u64;
        let broken: BTreeSet<Ordinal> = self
            .units
            .iter()
            .filter(|(_, unit)| unit.standing == Standing::Failed)
            .map(|((_, _, ordinal), _)| *ordinal)
            .collect();
        if (completed, failed) != (done, broken.len() as u64) {
            found.push(format!(
                "it counts {completed} completed and {failed} failed, where {done} and {} are",
                broken.len()
            ));
        }
        let stopped = self.stopped();
        let stopped = stopped.difference(&broken).count() as u64;
        if cancelled != stopped {
            found.push(format!(
                "it counts {cancelled} cancelled, where {stopped} are"
            ));
        }
        if completed + failed + cancelled != u64::from(self.documents) {
            found.push(format!("that is not all {} documents", self.documents));
        }
    }
}
