//! Executing failed units again.

use crate::{
    canary::Part, event::Selected, state::BatchState, status::BatchStatus, time::Timestamp,
    units::UnitSet,
};

impl BatchState {
    pub(super) fn retry(
        &mut self,
        selected: &[Selected],
        max_retries: Option<u8>,
        not_before: Option<Timestamp>,
        part: Option<&Part>,
        last: bool,
        at: Timestamp,
    ) -> Option<()> {
        if self.status == BatchStatus::Cancelled {
            return None;
        }
        let mut documents = UnitSet::new();
        // All of it or nothing.
        let rest = match part {
            Some(Part::Sample { rest, .. }) => rest.as_slice(),
            Some(Part::Rest) | None => &[],
        };
        let is_there = |s: &Selected| self.job(s.tier, &s.job).is_some();
        if !selected.iter().chain(rest).all(is_there) {
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
            let documents = self.documents_of(&documents).into_owned();
            self.retries.increment(&documents);
            // A decision in several events is one round, and so is one that was tried on a sample first.
            let is_round = last && part != Some(&Part::Rest);
            self.rounds = self.rounds.saturating_add(u32::from(is_round));
            self.status = BatchStatus::Running;
            self.ended_at = None;
            self.excuse_only_what_failed();
            if self.aborted.is_some() {
                self.go_on();
            }
        }
        Some(())
    }
}
