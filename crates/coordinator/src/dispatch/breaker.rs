//! How the latest attempts of a job ended.

use std::collections::VecDeque;

use redrive_domain::{
    decide::Tally,
    ids::ChunkId,
    pipeline::Breaker,
    time::{Millis, Timestamp},
    work::Outcome,
};

use super::{Dispatch, JobKey, JobRun};
use crate::scheduler::Pool;

/// Parts of a window at most: what is too old leaves it by parts.
const PARTS: usize = 10;

/// Attempts that ended within a span of time, by parts of it. A part holds no more than it takes to decide, about: where
/// much ends at once, the window is shorter.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Part>);

#[derive(Debug)]
struct Part {
    since: Timestamp,
    ended: u64,
    failed: u64,
}

impl Window {
    /// Notes attempts that ended; how many failed, of how many, where that is too many. Then it is empty again.
    ///
    /// The latest attempts alone decide, as few as may: what went well before an outage does not hide it.
    fn note(
        &mut self,
        breaker: Breaker,
        (ended, failed): (u64, u64),
        now: Timestamp,
    ) -> Option<(u64, u64)> {
        let Self(parts) = self;
        while parts
            .front()
            .is_some_and(|part| now.since(part.since) >= breaker.window)
        {
            parts.pop_front();
        }
        let width = Millis(breaker.window.0 / PARTS as u64);
        let least = u64::from(breaker.min_attempts);
        match parts.back_mut() {
            Some(part) if now.since(part.since) < width && part.ended < least => {
                part.ended += ended;
                part.failed += failed;
            }
            _ => parts.push_back(Part {
                since: now,
                ended,
                failed,
            }),
        }
        if parts.len() > PARTS {
            parts.pop_front();
        }
        let (mut of, mut failed) = (0, 0);
        for part in parts.iter().rev() {
            of += part.ended;
            failed += part.failed;
            if of >= least && breaker.failure_rate.is_reached(failed, of) {
                parts.clear();
                return Some((failed, of));
            }
        }
        None
    }
}

impl JobRun {
    /// A chunk is no longer out.
    pub(super) fn ended(&mut self, chunk: ChunkId) {
        self.probe = self.probe.filter(|probe| *probe != chunk);
    }
}

impl Dispatch {
    /// Notes how attempts ended: before the report is. Where too many failed: the job, how many failed, and of how many.
    pub(crate) fn noted(
        &mut self,
        outcome: &Outcome,
        tally: &Tally,
        now: Timestamp,
    ) -> Option<(JobKey, (u64, u64))> {
        let key = JobKey {
            batch: outcome.key(),
            tier: outcome.tier,
            job: outcome.job.clone(),
        };
        let slots = match tally.slowed {
            0 => 0,
            _ => self.slots_for(outcome.chunk),
        };
        let run = self.jobs.entry(key.clone()).or_default();
        run.pressure.note(tally, (run.out.len(), slots), now);
        let counts = (tally.ended, tally.failed);
        let seen = run.window.note(tally.breaker?, counts, now)?;
        Some((key, seen))
    }

    /// Chunks of a job that nobody has named are to be taken back, and with them those of other jobs of the batch for the
    /// same workers. Where no worker names them soon, they go out again.
    pub(crate) fn doubt(&mut self, job: &JobKey, now: Timestamp) -> Option<Pool> {
        let is_unnamed = |held: &super::Held| held.holder.is_none();
        let pool = self
            .chunks
            .values()
            .find(|held| held.key == *job && is_unnamed(held))?
            .pool
            .clone();
        for held in self.chunks.values_mut() {
            if held.key.batch == job.batch && held.pool == pool && is_unnamed(held) {
                held.doubted_at.get_or_insert(now);
            }
        }
        Some(pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: Breaker = Breaker {
        window: Millis::seconds(10),
        min_attempts: 10,
        ..Breaker::USUAL
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_000_000).plus(Millis::seconds(seconds))
    }

    #[test]
    fn it_takes_enough_of_the_latest_attempts() {
        let mut window = Window::default();
        assert_eq!(window.note(BREAKER, (9, 9), at(0)), None);
        assert_eq!(window.note(BREAKER, (1, 1), at(0)), Some((10, 10)));
        assert_eq!(window.note(BREAKER, (9, 9), at(0)), None, "it begins anew");
        assert_eq!(window.note(BREAKER, (2, 0), at(0)), None, "82%");
        assert_eq!(window.note(BREAKER, (9, 9), at(0)), Some((18, 20)));
    }

    #[test]
    fn what_went_well_before_does_not_hide_an_outage() {
        let mut window = Window::default();
        for second in 0..5 {
            assert_eq!(window.note(BREAKER, (10_000, 0), at(second)), None);
        }
        assert_eq!(window.note(BREAKER, (9, 9), at(4)), None);
        assert_eq!(window.note(BREAKER, (1, 1), at(4)), Some((10, 10)));
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten_and_the_rest_is_few() {
        let mut window = Window::default();
        for n in 0..1_000 {
            assert_eq!(window.note(BREAKER, (1, 1), at(2 * n)), None);
        }
        for n in 0..10_000 {
            let failed = u64::from(n % 2 == 0);
            assert_eq!(window.note(BREAKER, (1, failed), at(2_020)), None);
            assert!(window.0.len() <= PARTS, "{}", window.0.len());
        }
    }
}
