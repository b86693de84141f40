//! Executing failed units again.

use crate::{
    event::Selected, state::BatchState, status::BatchStatus, time::Timestamp, units::UnitSet,
};

impl BatchState {
    pub(super) fn retry(
        &mut self,
        selected: &[Selected],
        max_retries: Option<u8>,
        not_before: Option<Timestamp>,
        last: bool,
        at: Timestamp,
    ) -> Option<()> {
        if self.status == BatchStatus::Cancelled {
            return None;
        }
        let mut documents = UnitSet::new();
        // All of it or nothing.
        if !selected.iter().all(|s| self.job(s.tier, &s.job).is_some()) {
            return None;
        }
        for Selected { tier, job, units } in selected {
            let spec = self.pipeline.tier(*tier)?;
            let place = spec.jobs.iter().position(|spec| spec.name == *job)?;
            let tier = self.tiers.get_mut(usize::from(*tier))?;
            let job = tier.jobs.get_mut(place)?;
            if job.cancellation.is_some() {
                continue;
            }
            let units = units.and(&job.all_failed());
            if units.is_empty() {
                continue;
            }
            job.reopen(&units, max_retries, not_before);
            job.paused = None;
            job.last_at = Some(at);
            tier.last_at = Some(at);
            if tier.status.is_over() {
                tier.status = BatchStatus::Pending;
            }
            documents.add(&units);
        }
        if !documents.is_empty() {
            self.retries.increment(&documents);
            // A decision in several events is one round.
            self.rounds = self.rounds.saturating_add(u32::from(last));
            self.status = BatchStatus::Running;
            self.ended_at = None;
        }
        Some(())
    }
}
