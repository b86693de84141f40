//! Changing what is asked of jobs while their batch goes on: other parameters, or nothing at all.

use std::sync::Arc;

use crate::{
    cancel::{CancelEffect, Cancellation},
    ids::JobName,
    pipeline::{SubmissionChange, TierNum},
    state::{BatchState, JobState},
    status::BatchStatus,
    time::Timestamp,
    units::Counters,
};

impl BatchState {
    pub(super) fn resubmit(
        &mut self,
        tier: TierNum,
        jobs: &[JobName],
        change: &SubmissionChange,
    ) -> Option<()> {
        // All of them or none.
        let all_there = jobs.iter().all(|name| self.job(tier, name).is_some());
        if self.status == BatchStatus::Cancelled || jobs.is_empty() || !all_there {
            return None;
        }
        self.original.get_or_insert_with(|| self.pipeline.clone());
        let pipeline = Arc::make_mut(&mut self.pipeline);
        let tier = pipeline.tiers.get_mut(usize::from(tier))?;
        for spec in &mut tier.jobs {
            if jobs.contains(&spec.name) {
                *spec = change.applied_to(spec);
            }
        }
        Some(())
    }

    /// Documents stop in this tier: what has not been done in it by now never is.
    pub(super) fn stop_tier(
        &mut self,
        num: TierNum,
        reason: Option<&String>,
        at: Timestamp,
        seq: u64,
    ) -> Option<()> {
        let over = self.status.is_over();
        let tier = self.tiers.get_mut(usize::from(num))?;
        if over || tier.jobs.iter().all(|job| job.cancellation.is_some()) {
            return None;
        }
        for job in &mut tier.jobs {
            if job.cancellation.is_none() {
                job.end(CancelEffect::Stopped, reason, at, seq);
            }
        }
        tier.last_at = Some(at);
        if !tier.status.is_over() {
            tier.status = BatchStatus::Cancelled;
            tier.ended_at = Some(at);
        }
        let done = tier.done();
        // What waits for the end of this tier need not wait any longer.
        let next = num.saturating_add(1);
        self.enter(next, &self.entering(next, done));
        self.forget_samples(num, None);
        Some(())
    }

    /// Documents go on without this job.
    pub(super) fn waive_job(
        &mut self,
        num: TierNum,
        name: &JobName,
        reason: Option<&String>,
        at: Timestamp,
        seq: u64,
    ) -> Option<()> {
        if self.status == BatchStatus::Cancelled {
            return None;
        }
        let jobs = &self.pipeline.tier(num)?.jobs;
        let place = jobs.iter().position(|spec| spec.name == *name)?;
        let tier = self.tiers.get_mut(usize::from(num))?;
        let job = tier.jobs.get_mut(place)?;
        if job.cancellation.is_some() {
            return None;
        }
        let failed = job.all_failed();
        job.unfail(&failed);
        job.cancelled.add(&failed);
        job.end(CancelEffect::Waived, reason, at, seq);
        tier.last_at = Some(at);
        // Those that it had failed are through by now, or go on in the other jobs.
        if !failed.is_empty() {
            if tier.status.is_over() {
                tier.status = BatchStatus::Pending;
            }
            if self.status.is_over() {
                self.status = BatchStatus::Running;
                self.ended_at = None;
            }
        }
        let entered = tier.entered.clone();
        self.excuse_only_what_failed();
        if self.aborted.is_some() && !failed.is_empty() {
            self.go_on();
        }
        self.forget_samples(num, Some(name));
        self.pass_on(num, &entered);
        Some(())
    }

    /// What is cancelled follows no sample any more.
    fn forget_samples(&mut self, tier: TierNum, job: Option<&JobName>) {
        if let Some(canary) = &mut self.canary {
            canary
                .rest
                .retain(|part| part.tier != tier || job.is_some_and(|job| *job != part.job));
        }
    }
}

impl JobState {
    fn end(&mut self, effect: CancelEffect, reason: Option<&String>, at: Timestamp, seq: u64) {
        let open = std::mem::take(&mut self.open);
        self.cancelled.add(&open);
        self.due.clear();
        self.spent = Counters::default();
        self.budgets.clear();
        self.strikes = Counters::default();
        self.orphaned = None;
        self.concurrency = None;
        self.paused = None;
        self.last_at = Some(at);
        self.cancellation = Some(Cancellation {
            effect,
            reason: reason.cloned(),
            at,
            seq,
        });
    }
}
