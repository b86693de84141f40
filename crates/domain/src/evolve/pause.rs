use crate::{
    pause::{JobRef, PauseReason, Paused},
    state::{BatchState, JobState},
    time::Timestamp,
};

impl BatchState {
    pub(super) fn pause(
        &mut self,
        jobs: &[JobRef],
        reason: &PauseReason,
        at: Timestamp,
        seq: u64,
    ) -> Option<()> {
        if self.status.is_over() {
            return None;
        }
        let paused = Paused {
            reason: reason.clone(),
            at,
            seq,
        };
        self.each(jobs, |job| {
            if job.cancellation.is_some() {
                return false;
            }
            // Whoever waits for somebody goes on waiting; an outage gives way to that, and to news of itself.
            let at = match &job.paused {
                Some(before) if before.waits_for_somebody() => return false,
                Some(before) if paused.outage().is_some() => before.at,
                _ => at,
            };
            job.paused = Some(Paused {
                at,
                ..paused.clone()
            });
            true
        })
    }

    pub(super) fn resume(&mut self, jobs: &[JobRef]) -> Option<()> {
        let is_open = |at: &JobRef| {
            self.job(at.tier, &at.job)
                .is_some_and(|(_, job)| !job.open.is_empty())
        };
        let goes_on = self.aborted.is_some() && jobs.iter().any(is_open);
        if goes_on {
            self.go_on();
        }
        let resumed = self.each(jobs, |job| job.paused.take().is_some());
        (goes_on || resumed.is_some()).then_some(())
    }

    pub(super) fn limit(&mut self, job: &JobRef, concurrency: Option<u32>) -> Option<()> {
        self.each(std::slice::from_ref(job), |job| {
            std::mem::replace(&mut job.concurrency, concurrency) != concurrency
        })
    }

    /// Nothing, where none of them is changed.
    pub(super) fn each(
        &mut self,
        jobs: &[JobRef],
        mut change: impl FnMut(&mut JobState) -> bool,
    ) -> Option<()> {
        let mut changed = false;
        for JobRef { tier, job } in jobs {
            let place = self
                .pipeline
                .tier(*tier)
                .and_then(|spec| spec.jobs.iter().position(|spec| spec.name == *job));
            let state = self.tiers.get_mut(usize::from(*tier)).zip(place);
            if let Some(job) = state.and_then(|(tier, place)| tier.jobs.get_mut(place)) {
                changed |= change(job);
            }
        }
        changed.then_some(())
    }
}
