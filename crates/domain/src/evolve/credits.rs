//! What becomes of the credits that a batch holds.

use crate::{credits::Month, state::BatchState, units::UnitSet};

impl BatchState {
    pub(super) fn settle_credits(&mut self, month: Month, documents: &UnitSet) -> Option<()> {
        let gone = self.credits.let_go(month, documents)?;
        let amount = gone.saturating_mul(self.pipeline.credits_per_document);
        self.credits.settled = self.credits.settled.saturating_add(amount);
        Some(())
    }

    pub(super) fn release_credits(&mut self, month: Month, documents: &UnitSet) -> Option<()> {
        let gone = self.credits.let_go(month, documents)?;
        let amount = gone.saturating_mul(self.pipeline.credits_per_document);
        self.credits.released = self.credits.released.saturating_add(amount);
        Some(())
    }
}
