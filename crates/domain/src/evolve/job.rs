//! What happens to the units of a job.

use crate::{
    event::Attempt,
    failure::{FailureClass, FailureKind},
    state::JobState,
    time::Timestamp,
    units::UnitSet,
};

impl JobState {
    /// Units leave `open`.
    pub(super) fn close(&mut self, units: &UnitSet) {
        self.open.remove(units);
        self.spent.reset(units);
        self.strikes.reset(units);
        self.set_budget(units, None);
        if self.open.is_empty() {
            self.orphaned = None;
        }
    }

    fn set_budget(&mut self, units: &UnitSet, budget: Option<u32>) {
        self.budgets.retain(|_, with| {
            with.remove(units);
            !with.is_empty()
        });
        if let (Some(budget), false) = (budget, units.is_empty()) {
            self.budgets.entry(budget).or_default().add(units);
        }
    }

    pub(super) fn fail(
        &mut self,
        class: FailureClass,
        kind: &FailureKind,
        units: &UnitSet,
        seq: u64,
    ) {
        if units.is_empty() {
            return;
        }
        self.close(units);
        self.attempts.increment(units);
        let kinds = self.failed.entry(class).or_default();
        kinds.entry(kind.clone()).or_default().add(units);
        self.failures.insert(units, seq);
    }

    pub(super) fn reopen(
        &mut self,
        units: &UnitSet,
        max_retries: Option<u8>,
        not_before: Option<Timestamp>,
    ) {
        self.unfail(units);
        for waiting in self.due.values_mut() {
            waiting.remove(units);
        }
        self.due.retain(|_, waiting| !waiting.is_empty());
        self.open.add(units);
        if let Some(due) = not_before {
            self.due.entry(due).or_default().add(units);
        }
        self.set_budget(units, max_retries.map(u32::from));
    }

    /// Units that had failed are to count as something else.
    pub(super) fn unfail(&mut self, units: &UnitSet) {
        self.failed.retain(|_, kinds| {
            kinds.retain(|_, failed| {
                failed.remove(units);
                !failed.is_empty()
            });
            !kinds.is_empty()
        });
        self.failures.remove(units);
        self.fingerprints.remove(units);
    }

    pub(super) fn count(&mut self, attempt: &Attempt, units: u64) {
        for (sum, part) in [
            (&mut self.busy, attempt.busy),
            (&mut self.loading, attempt.loading),
            (&mut self.writing, attempt.writing),
        ] {
            sum.0 = sum.0.saturating_add(part.0);
        }
        self.executed = self.executed.saturating_add(units);
    }

    pub(super) fn compact(&mut self) {
        self.open.compact();
        self.completed.compact();
        self.skipped.compact();
    }
}
