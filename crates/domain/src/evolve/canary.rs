//! Retries that are tried on a sample first.

use crate::{
    canary::{Canary, Judged, Part},
    command::Retry,
    event::{Event, Selected},
    state::BatchState,
    status::BatchStatus,
    time::Timestamp,
};

fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

impl BatchState {
    /// Notes what a retry that was folded just now means for samples.
    pub(super) fn try_sample(&mut self, event: &Event) {
        let Event::RetryScheduled {
            mode,
            tier_nums,
            kinds,
            fingerprints,
            max_retry_count,
            max_retries,
            selected,
            last,
            not_before,
            canary,
            jobs,
            ..
        } = event
        else {
            return;
        };
        // What is retried waits for nothing any more.
        if let Some(standing) = &mut self.canary {
            standing.forget(selected);
            if *last && *canary == Some(Part::Rest) {
                standing.rest.clear();
            }
        }
        let Some(Part::Sample {
            share,
            success,
            rest,
        }) = canary
        else {
            return;
        };
        let failed = |part: &Selected| {
            let (_, job) = self.job(part.tier, &part.job)?;
            let units = part.units.and(&job.all_failed());
            (!units.is_empty()).then(|| Selected {
                units,
                ..part.clone()
            })
        };
        let rest: Vec<Selected> = rest.iter().filter_map(failed).collect();
        let mut standing = match self.canary.take() {
            Some(standing) if !standing.whole => standing,
            _ => Canary {
                asked: Retry {
                    retry_mode: *mode,
                    tier_nums: some(tier_nums),
                    kinds: some(kinds),
                    fingerprints: some(fingerprints),
                    max_retry_count: *max_retry_count,
                    max_retries: *max_retries,
                    not_before: *not_before,
                    jobs: some(jobs),
                    canary: Some(*share),
                    canary_success: Some(*success),
                    ..Retry::default()
                },
                success: *success,
                sample: Vec::new(),
                rest: Vec::new(),
                whole: false,
                judged: None,
            },
        };
        standing.sample.extend(selected.iter().cloned());
        // A decision that broke off half way is taken again, with what was left of it then.
        standing.forget(&rest);
        standing.rest.extend(rest);
        standing.whole = *last;
        self.canary = Some(standing);
    }

    pub(super) fn judge(
        &mut self,
        succeeded: u64,
        sample: u64,
        passed: bool,
        at: Timestamp,
    ) -> Option<()> {
        let running = self.status == BatchStatus::Running;
        let canary = self.canary.as_mut().filter(|_| running)?;
        if !canary.whole || canary.judged.is_some() {
            return None;
        }
        canary.judged = Some(Judged {
            succeeded,
            sample,
            passed,
            at,
        });
        if !passed {
            canary.rest.clear();
        }
        Some(())
    }
}
