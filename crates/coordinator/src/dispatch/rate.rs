//! Rate limits: a bucket of tokens a job.

use redrive_domain::{pipeline::RateLimit, time::Timestamp};

use super::JobRun;

impl JobRun {
    /// The units that a rate limit lets start now.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub(super) fn refill(&mut self, limit: RateLimit, now: Timestamp) -> u64 {
        let burst = f64::from(limit.burst);
        if self.refilled_at == Timestamp::default() {
            self.tokens = burst;
        } else {
            let passed = now.since(self.refilled_at).0 as f64 / 1_000.0;
            self.tokens = (self.tokens + passed * limit.per_second).min(burst);
        }
        self.refilled_at = now;
        self.tokens.max(0.0) as u64
    }
}
