//! What was stuck, and jobs that nobody serves.

use crate::{
    event::Attempt,
    pause::JobRef,
    state::{BatchState, JobState},
    time::Timestamp,
    units::UnitSet,
};

impl BatchState {
    /// Units were found stuck: where that was put right, their attempt is superseded.
    pub(super) fn stuck(
        &mut self,
        attempt: &Attempt,
        units: &UnitSet,
        counted: &UnitSet,
        fixed: bool,
        at: Timestamp,
    ) -> Option<()> {
        if !fixed {
            return self.job(attempt.tier, &attempt.job).map(|_| ());
        }
        let job = self.job_mut(attempt, at)?;
        let units = units.and(&job.open);
        if units.is_empty() {
            return None;
        }
        job.attempts.increment(&units);
        job.spent.increment(&units.and(counted));
        job.superseded = job.superseded.saturating_add(units.len());
        Some(())
    }

    pub(super) fn orphan(&mut self, jobs: &[JobRef], since: Timestamp) -> Option<()> {
        if self.status.is_over() {
            return None;
        }
        self.each(jobs, |job| {
            let new = job.orphaned.is_none() && !job.open.is_empty();
            if new {
                job.orphaned = Some(since);
            }
            new
        })
    }

    pub(super) fn serve(&mut self, jobs: &[JobRef]) -> Option<()> {
        self.each(jobs, |job: &mut JobState| job.orphaned.take().is_some())
    }
}
