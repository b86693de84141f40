//! The fold: what an event does to the state of its batch. It is total: no event, however old or odd, makes it panic;
//! what names something that is not there changes nothing and is counted.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    command::Start,
    credits::Holding,
    event::{Attempt, Cause, Envelope, Event},
    failure::FailureKind,
    ids::BatchKey,
    limits::{DOCUMENTS_PER_BATCH, REMEMBERED_COMMANDS},
    pipeline::{Pipeline, TierNum},
    segments::Segments,
    state::{BatchState, Infrastructure, JobState, TierState},
    status::BatchStatus,
    time::Timestamp,
    units::{Counters, Ordinal, Places, UnitSet},
    work::FailedUnits,
};

/// What the fold makes of events, as a number: it grows with every change that gives another state for the same log, and
/// what was folded under another number is folded afresh.
pub const FOLD: u32 = 3;

/// Folds an event that stands at `seq` into the state of its batch.
pub fn evolve(state: &mut Option<BatchState>, seq: u64, envelope: &Envelope) {
    match (state.as_mut(), &envelope.event) {
        (
            None,
            Event::BatchCreated {
                bucket,
                pipeline,
                start,
            },
        ) if pipeline.is_sound() => {
            let mut batch = BatchState {
                key: envelope.key(),
                bucket: bucket.clone(),
                pipeline: Arc::new(pipeline.clone()),
                original: None,
                start: *start,
                status: BatchStatus::Pending,
                submitted: false,
                documents: 0,
                pages: Places::default(),
                tiers: tiers_of(pipeline),
                retries: Counters::default(),
                rounds: 0,
                commands: VecDeque::new(),
                created_seq: seq,
                last_seq: seq,
                created_at: envelope.at,
                submitted_at: None,
                ended_at: None,
                last_at: envelope.at,
                ignored: 0,
                infrastructure: Infrastructure::default(),
                segments: pipeline.segmentation().map(Segments::new),
                credits: Holding::default(),
                aborted: None,
                excused: UnitSet::new(),
                canary: None,
            };
            batch.remember(envelope, seq);
            *state = Some(batch);
        }
        (None, _) => {}
        (Some(batch), event) => {
            match batch.apply(seq, envelope.at, event) {
                Some(()) => batch.infrastructure.note(seq, envelope.at, event),
                None => batch.ignored += 1,
            }
            batch.last_seq = seq;
            batch.last_at = envelope.at;
            // A decision in several events is carried out with the last of them, and a refused command never is.
            let carried_out = event.is_last() && !matches!(event, Event::CommandRefused { .. });
            if carried_out {
                batch.remember(envelope, seq);
            }
        }
    }
}

fn tiers_of(pipeline: &Pipeline) -> Vec<TierState> {
    let tier = |jobs: usize| TierState {
        jobs: vec![JobState::default(); jobs],
        ..TierState::default()
    };
    pipeline
        .tiers
        .iter()
        .map(|spec| tier(spec.jobs.len()))
        .collect()
}

impl BatchState {
    fn remember(&mut self, envelope: &Envelope, seq: u64) {
        if let Cause::Command(id) = envelope.cause
            && self.remembered(id).is_none()
        {
            self.commands.push_back((id, seq));
            if self.commands.len() > REMEMBERED_COMMANDS {
                self.commands.pop_front();
            }
        }
    }

    /// Nothing, where the event names something that is not there.
    fn apply(&mut self, seq: u64, at: Timestamp, event: &Event) -> Option<()> {
        match event {
            Event::BatchCreated { .. } => return None,
            Event::DocumentsAdded { first, count, .. } => {
                self.add_documents(seq, *first, *count)?
            }
            Event::BatchSubmitted { .. } => {
                if self.submitted || self.status.is_over() {
                    return None;
                }
                self.submitted = true;
                self.submitted_at = Some(at);
                self.status = BatchStatus::Running;
            }
            Event::BatchCompleted { status, .. } => self.complete(*status, at)?,
            Event::BatchCancelled { .. } => self.cancel(at)?,
            Event::TierStarted { tier } => self.start_tier(*tier, at)?,
            Event::TierCompleted { tier, status, .. } => self.complete_tier(*tier, *status, at)?,
            Event::DocumentsCompleted {
                attempt,
                units,
                skipped,
                outputs,
                segments,
            } => {
                self.split(attempt, units, segments.as_ref())?;
                let job = self.job_mut(attempt, at)?;
                // Skipped and completed never overlap; were an event to say so, completed wins.
                let units = units.and(&job.open);
                let skipped = skipped.and(&job.open).minus(&units);
                let all = units.or(&skipped);
                if all.is_empty() {
                    return None;
                }
                job.close(&all);
                job.completed.add(&units);
                job.skipped.add(&skipped);
                if outputs.is_some() {
                    job.outputs.insert(&units, seq);
                }
                job.count(attempt, all.len());
                job.peak_memory = job.peak_memory.max(attempt.peak_memory);
                self.pass_on(attempt.tier, &all);
            }
            Event::AttemptFailed {
                attempt,
                kind,
                units,
                retry_at,
                counted,
                ..
            } => {
                let job = self.job_mut(attempt, at)?;
                let units = all_of(units).and(&job.open);
                if units.is_empty() {
                    return None;
                }
                job.attempts.increment(&units);
                if *counted {
                    job.spent.increment(&units);
                }
                if *kind == FailureKind::OUT_OF_MEMORY {
                    job.strikes.increment(&units);
                }
                job.due.entry(*retry_at).or_default().add(&units);
                job.failed_kinds.add(kind, units.len());
                job.count(attempt, units.len());
                job.failed_attempts += units.len();
            }
            Event::DocumentsFailed {
                attempt,
                class,
                kind,
                units: failed,
            } => {
                let job = self.job_mut(attempt, at)?;
                let units = all_of(failed).and(&job.open);
                if units.is_empty() {
                    return None;
                }
                job.fail(*class, kind, &units, seq);
                job.fingerprints.add(*class, kind, failed, &units, at);
                job.failed_kinds.add(kind, units.len());
                job.count(attempt, units.len());
                job.failed_attempts += units.len();
            }
            Event::RetryScheduled {
                selected,
                max_retries,
                last,
                not_before,
                canary,
                ..
            } => {
                let part = canary.as_ref();
                self.retry(selected, *max_retries, *not_before, part, *last, at)?;
                self.try_sample(event);
            }
            Event::DispatchPaused { jobs, reason } => self.pause(jobs, reason, at, seq)?,
            Event::DispatchResumed { jobs } => self.resume(jobs)?,
            Event::WorkerLost { attempt, units } => {
                let job = self.job_mut(attempt, at)?;
                let units = units.and(&job.open);
                if units.is_empty() {
                    return None;
                }
                job.attempts.increment(&units);
                job.strikes.increment(&units);
                job.lost += units.len();
            }
            Event::CommandRefused { .. } => {}
            Event::StuckDetected {
                attempt,
                units,
                counted,
                fixed,
                ..
            } => self.stuck(attempt, units, counted, *fixed, at)?,
            // Nothing that it names counts: the log tells it, and that is all.
            Event::DuplicatesKilled { tier, job, .. } => self.job(*tier, job).map(|_| ())?,
            Event::DispatchOrphaned { jobs, since } => self.orphan(jobs, *since)?,
            Event::DispatchServed { jobs } => self.serve(jobs)?,
            // The namespace's, not the batch's.
            Event::CreditsLimitSet { .. } | Event::KeyCreated(_) | Event::KeyRevoked { .. } => {
                return None;
            }
            Event::CreditsReserved {
                month, documents, ..
            } => self.credits.reserve(*month, documents)?,
            Event::CreditsSettled {
                month, documents, ..
            } => self.settle_credits(*month, documents)?,
            Event::CreditsReleased {
                month, documents, ..
            } => self.release_credits(*month, documents)?,
            Event::BatchAborted {
                failed, max_failed, ..
            } => self.abort(*failed, *max_failed, at)?,
            Event::CanaryJudged {
                succeeded,
                sample,
                passed,
                ..
            } => self.judge(*succeeded, *sample, *passed, at)?,
            Event::DispatchLimited {
                job, concurrency, ..
            } => self.limit(job, *concurrency)?,
            Event::TierResubmitted { tier, jobs, change } => self.resubmit(*tier, jobs, change)?,
            Event::TierCancelled { tier, reason, .. }
            | Event::JobCancelled {
                tier,
                reason,
                waived: false,
                ..
            } => self.stop_tier(*tier, reason.as_ref(), at, seq)?,
            Event::JobCancelled {
                tier, job, reason, ..
            } => self.waive_job(*tier, job, reason.as_ref(), at, seq)?,
        }
        Some(())
    }

    fn job_mut(&mut self, attempt: &Attempt, at: Timestamp) -> Option<&mut JobState> {
        let spec = self.pipeline.tier(attempt.tier)?;
        let place = spec.jobs.iter().position(|job| job.name == attempt.job)?;
        let tier = self.tiers.get_mut(usize::from(attempt.tier))?;
        tier.last_at = Some(at);
        let job = tier.jobs.get_mut(place)?;
        job.last_at = Some(at);
        // What is due has waited: forgetting it changes nothing, and keeps the map short.
        job.due.retain(|due, _| *due > at);
        Some(job)
    }

    fn add_documents(&mut self, seq: u64, first: Ordinal, count: u32) -> Option<()> {
        let end = first
            .checked_add(count)
            .filter(|end| *end <= DOCUMENTS_PER_BATCH)?;
        if first != self.documents || self.submitted || self.status.is_over() {
            return None;
        }
        let units = UnitSet::run(first, count);
        self.pages.insert(&units, seq);
        self.documents = end;
        if self.start == Start::AtOnce && count > 0 {
            self.status = BatchStatus::Running;
        }
        self.enter(0, &units);
        Some(())
    }

    /// Lets units into a tier. A tier that was over has something to do again.
    fn enter(&mut self, num: TierNum, units: &UnitSet) {
        let segmented = self.has_segments_in(num);
        let Some(tier) = self.tiers.get_mut(usize::from(num)) else {
            return;
        };
        let new = units.minus(&tier.entered);
        if new.is_empty() {
            return;
        }
        tier.entered.add(&new);
        if tier.status.is_over() {
            tier.status = match tier.is_stopped() {
                true => BatchStatus::Cancelled,
                false => BatchStatus::Pending,
            };
        }
        if segmented {
            return self.enter_segments(num, new);
        }
        for job in &mut tier.jobs {
            match job.cancellation {
                Some(_) => job.cancelled.add(&new),
                None => job.open.add(&new),
            }
        }
    }

    /// Lets on to the next tier those for which all jobs of this one have succeeded by now.
    fn pass_on(&mut self, tier: TierNum, units: &UnitSet) {
        let next = tier.saturating_add(1);
        let waits = self.pipeline.tier(next).is_none_or(|spec| spec.barrier);
        if let (false, Some(state)) = (waits, self.tiers.get(usize::from(tier))) {
            let done = state.done_of(units);
            self.enter(next, &self.entering(next, done));
        }
    }

    fn start_tier(&mut self, num: TierNum, at: Timestamp) -> Option<()> {
        let tier = self.tiers.get_mut(usize::from(num))?;
        let due = tier.status == BatchStatus::Pending && tier.is_open();
        if self.status != BatchStatus::Running || !due {
            return None;
        }
        tier.status = BatchStatus::Running;
        tier.started_at.get_or_insert(at);
        tier.ended_at = None;
        tier.last_at = Some(at);
        Some(())
    }

    fn complete_tier(&mut self, num: TierNum, status: BatchStatus, at: Timestamp) -> Option<()> {
        let through = self.tiers.get(..=usize::from(num))?;
        let may_end = self.submitted
            && self.status == BatchStatus::Running
            && !through.iter().any(TierState::is_open);
        let tier = self.tiers.get_mut(usize::from(num))?;
        let unfinished = !tier.entered.is_empty() && !tier.status.is_over();
        let done = tier.done();
        if !may_end || !unfinished || status != BatchStatus::of(done.len(), tier.failed().len()) {
            return None;
        }
        tier.status = status;
        tier.ended_at = Some(at);
        for job in &mut tier.jobs {
            job.compact();
            job.paused = None;
            job.orphaned = None;
            job.concurrency = None;
        }
        let next = num.saturating_add(1);
        if self.pipeline.tier(next).is_some_and(|spec| spec.barrier) {
            self.enter(next, &self.entering(next, done));
        }
        Some(())
    }

    fn complete(&mut self, status: BatchStatus, at: Timestamp) -> Option<()> {
        let unfinished = |tier: &TierState| {
            tier.is_open() || (!tier.entered.is_empty() && !tier.status.is_over())
        };
        let may_end = self.submitted
            && self.status == BatchStatus::Running
            && !self.tiers.iter().any(unfinished);
        let counts = self.counts();
        if !may_end || status != counts.ending() {
            return None;
        }
        self.status = status;
        self.ended_at = Some(at);
        Some(())
    }
}

fn all_of(groups: &[FailedUnits]) -> UnitSet {
    let mut all = UnitSet::new();
    groups.iter().for_each(|group| all.add(&group.units));
    all
}

/// The states of several batches, by their keys: for those who fold more than one.
pub type Batches = BTreeMap<BatchKey, BatchState>;

/// Folds an event into the state of its batch, among several.
pub fn evolve_among(batches: &mut Batches, seq: u64, envelope: &Envelope) {
    let key = envelope.key();
    let mut state = batches.remove(&key);
    evolve(&mut state, seq, envelope);
    if let Some(state) = state {
        batches.insert(key, state);
    }
}

mod abort;
mod canary;
mod cancel;
mod control;
mod credits;
mod heal;
mod job;
mod pause;
mod retry;
mod segments;
#[cfg(test)]
mod tests;
