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
            let new = job.paused.is_none() && job.cancellation.is_none();
            if new {
                job.paused = Some(paused.clone());
            }
            new
        })
    }

    pub(super) fn resume(&mut self, jobs: &[JobRef]) -> Option<()> {
        self.each(jobs, |job| job.paused.take().is_some())
    }

    /// Nothing, where none of them is changed.
    fn each(
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
