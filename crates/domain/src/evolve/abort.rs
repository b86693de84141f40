//! Giving a batch up because too much of it failed, and going on all the same.

use crate::{
    pipeline::MaxFailed,
    state::{Aborted, BatchState},
    status::BatchStatus,
    time::Timestamp,
};

impl BatchState {
    pub(super) fn abort(
        &mut self,
        failed: u64,
        max_failed: MaxFailed,
        at: Timestamp,
    ) -> Option<()> {
        if self.status != BatchStatus::Running || self.too_many_failed() != Some(failed) {
            return None;
        }
        self.status = BatchStatus::Failed;
        self.ended_at = Some(at);
        self.aborted = Some(Aborted {
            failed,
            max_failed,
            at,
        });
        // They begin again when somebody goes on.
        for tier in &mut self.tiers {
            if tier.status == BatchStatus::Running {
                tier.status = BatchStatus::Pending;
            }
        }
        Some(())
    }

    /// What had failed is no longer counted.
    pub(super) fn go_on(&mut self) {
        self.status = BatchStatus::Running;
        self.ended_at = None;
        self.aborted = None;
        self.excused = self.failed_documents();
    }

    /// What is executed again counts again. A document that failed in another job as well still has.
    pub(super) fn excuse_only_what_failed(&mut self) {
        if !self.excused.is_empty() {
            self.excused = self.excused.and(&self.failed_documents());
        }
    }
}
