//! Splitting documents, and what becomes of those without segments.

use crate::{
    event::Attempt,
    pipeline::TierNum,
    segments::{Segmented, Segments},
    state::{BatchState, TierState},
    units::UnitSet,
};

impl BatchState {
    /// Takes in the segments of documents that succeed now; nothing, where that cannot be.
    pub(super) fn split(
        &mut self,
        attempt: &Attempt,
        units: &UnitSet,
        segmented: Option<&Segmented>,
    ) -> Option<()> {
        let Some(segmented) = segmented else {
            return Some(());
        };
        let (_, job) = self.job(attempt.tier, &attempt.job)?;
        let split = units.and(&job.open);
        let segments = self.segments.as_mut()?;
        if segments.at.split != attempt.tier {
            return None;
        }
        segments.add(segmented, &split)
    }

    /// Lets units into a tier that works on segments. A document without any has nothing to do there, and goes on.
    pub(super) fn enter_segments(&mut self, num: TierNum, new: UnitSet) {
        let without = Segments::only_documents(&new);
        let new = new.minus(&without);
        if let Some(tier) = self.tiers.get_mut(usize::from(num)) {
            for job in &mut tier.jobs {
                match job.cancellation {
                    Some(_) => job.cancelled.add(&new),
                    None => job.open.add(&new),
                }
                job.skipped.add(&without);
            }
        }
        if without.is_empty() {
            return;
        }
        let next = num.saturating_add(1);
        // A tier that was stopped is over: what comes after it does not wait for its end.
        match self
            .tiers
            .get(usize::from(num))
            .is_some_and(TierState::is_stopped)
        {
            true => {
                let entering = self.entering(next, without);
                self.enter(next, &entering);
            }
            false => self.pass_on(num, &without),
        }
    }
}
