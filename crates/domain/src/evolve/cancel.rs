//! Stopping.

use crate::{state::BatchState, status::BatchStatus, time::Timestamp, units::Counters};

impl BatchState {
    pub(super) fn cancel(&mut self, at: Timestamp) -> Option<()> {
        if self.status.is_over() {
            return None;
        }
        self.status = BatchStatus::Cancelled;
        self.ended_at = Some(at);
        self.canary = None;
        for tier in &mut self.tiers {
            if !tier.status.is_over() {
                tier.status = BatchStatus::Cancelled;
                tier.ended_at = Some(at);
            }
            for job in &mut tier.jobs {
                let open = std::mem::take(&mut job.open);
                job.cancelled.add(&open);
                job.due.clear();
                job.paused = None;
                job.orphaned = None;
                job.spent = Counters::default();
                job.strikes = Counters::default();
                job.budgets.clear();
            }
        }
        Some(())
    }
}
