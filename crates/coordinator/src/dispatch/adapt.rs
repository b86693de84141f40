//! How much of a job may be out at once, where the other side cannot keep up: less by half when it says so (a rate limit, a
//! timeout), more by little while it does not (additive increase, multiplicative decrease: Chiu and Jain, "Analysis of the
//! Increase and Decrease Algorithms for Congestion Avoidance in Computer Networks", 1989).

use redrive_domain::{
    decide::Tally,
    failure::FailureKind,
    ids::ChunkId,
    time::{Millis, Timestamp},
};

use super::{Dispatch, JobKey};

/// The limit changes once in this time at most: what was out before shows nothing of it.
const STEP: Millis = Millis::seconds(1);
/// The log is told once in this time at most.
const TELL: Millis = Millis::seconds(10);
/// Fewer failures than these may be those of single documents.
const LEAST: u64 = 2;
/// One of so many has to fail for it: more seldom, it costs less to repeat them than to go slower.
const ONE_OF: u64 = 10;
/// So many attempts are looked at together at most.
const LOOK: u64 = 100;
/// Steps in which a limit is gone again, at least.
const STEPS: f64 = 16.0;

/// What the other side of a job bears.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    limit: Option<Limit>,
    ended: u64,
    slowed: u64,
    changed_at: Timestamp,
    /// What the log says.
    told: Option<u32>,
    told_at: Timestamp,
    kind: Option<FailureKind>,
}

#[derive(Debug)]
struct Limit {
    units: f64,
    /// With as much as this, it is none.
    gone_at: f64,
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
impl Pressure {
    /// Goes on where the leader before was.
    pub(super) fn restore(&mut self, told: Option<u32>) {
        let Some(units) = told else {
            return;
        };
        self.told = told;
        self.limit.get_or_insert(Limit {
            units: f64::from(units.max(1)),
            gone_at: f64::from(units.max(1)) * 2.0,
        });
    }

    /// Notes how attempts ended, when so many units were out, on so many slots.
    pub(super) fn note(&mut self, tally: &Tally, (out, slots): (u64, u32), now: Timestamp) {
        self.ended += tally.ended;
        self.slowed += tally.slowed;
        let may_change = now.since(self.changed_at) >= STEP;
        let is_slow = self.slowed >= LEAST && self.slowed * ONE_OF >= self.ended;
        if is_slow && may_change {
            let slots = if slots == 0 {
                u64::MAX
            } else {
                u64::from(slots)
            };
            let base = out.min(slots).max(1) as f64;
            let limit = self.limit.get_or_insert(Limit {
                units: base,
                gone_at: base,
            });
            limit.units = (limit.units / 2.0).max(1.0);
            self.kind = tally.last.as_ref().map(|it| it.kind.clone());
            self.change(now);
        } else if tally.slowed == 0
            && may_change
            && let Some(limit) = &mut self.limit
        {
            limit.units += (limit.gone_at / STEPS).max(1.0);
            if limit.units >= limit.gone_at {
                self.limit = None;
            }
            self.change(now);
        }
        if self.ended >= LOOK {
            (self.ended, self.slowed) = (0, 0);
        }
    }

    fn change(&mut self, now: Timestamp) {
        self.changed_at = now;
        (self.ended, self.slowed) = (0, 0);
    }

    fn units(&self) -> Option<u32> {
        self.limit.as_ref().map(|limit| limit.units as u32)
    }

    /// How many units may go out beside those that are, where that is limited.
    pub(super) fn room(&self, out: u64) -> Option<u64> {
        let units = self.units()?;
        Some(u64::from(units).saturating_sub(out))
    }

    /// What the log is to be told, where that is much else than what it was told.
    fn news(&mut self, now: Timestamp) -> Option<(Option<u32>, FailureKind)> {
        let units = self.units();
        let is_news = match (self.told, units) {
            (None, None) => false,
            (Some(told), Some(units)) => units >= told * 2 || units * 2 <= told,
            _ => true,
        };
        if !is_news || now.since(self.told_at) < TELL {
            return None;
        }
        (self.told, self.told_at) = (units, now);
        Some((
            units,
            self.kind.clone().unwrap_or(FailureKind::RATE_LIMITED),
        ))
    }
}

impl Dispatch {
    /// Units that the workers of a chunk's pool run at once.
    pub(super) fn slots_for(&self, chunk: ChunkId) -> u32 {
        let Some(held) = self.chunks.get(&chunk) else {
            return 0;
        };
        let serves = |worker: &&super::WorkerRun| {
            worker.handlers.contains(&held.pool.handler)
                && worker.classes.contains(&held.pool.class)
        };
        self.workers
            .values()
            .filter(serves)
            .map(|it| it.slots)
            .sum()
    }

    /// Jobs of which more or less is out at once than the log says.
    pub(crate) fn limits_to_tell(
        &mut self,
        now: Timestamp,
    ) -> Vec<(JobKey, Option<u32>, FailureKind)> {
        let told = self.jobs.iter_mut().filter_map(|(key, run)| {
            let (units, kind) = run.pressure.news(now)?;
            Some((key.clone(), units, kind))
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use redrive_domain::failure::Failure;

    use super::*;

    fn tally(ended: u64, slowed: u64) -> Tally {
        Tally {
            breaker: None,
            ended,
            failed: slowed,
            last: (slowed > 0).then(|| Failure::new(FailureKind::TIMEOUT, "too long")),
            slowed,
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_000_000).plus(Millis::seconds(seconds))
    }

    #[test]
    fn it_halves_when_the_other_side_is_slow_and_comes_back_by_and_by() {
        let mut pressure = Pressure::default();
        pressure.note(&tally(10, 10), (500, 32), at(0));
        assert_eq!(pressure.units(), Some(16), "of 32 slots");
        assert_eq!(pressure.room(10), Some(6));
        assert_eq!(pressure.room(20), Some(0));
        pressure.note(&tally(10, 10), (16, 32), at(0));
        assert_eq!(pressure.units(), Some(16), "not twice at once");
        for second in 1..10 {
            pressure.note(&tally(10, 10), (16, 32), at(second));
        }
        assert_eq!(pressure.units(), Some(1), "never nothing");
        pressure.note(&tally(10, 0), (1, 32), at(10));
        assert_eq!(pressure.units(), Some(3));
        for second in 11..30 {
            pressure.note(&tally(10, 0), (3, 32), at(second));
        }
        assert_eq!(pressure.units(), None);
        assert_eq!(pressure.room(1_000_000), None);
    }

    #[test]
    fn what_fails_seldom_costs_less_than_going_slower() {
        let mut pressure = Pressure::default();
        pressure.note(&tally(1, 1), (500, 32), at(0));
        assert_eq!(pressure.units(), None, "it may be the document's own");
        for second in 1..100 {
            pressure.note(&tally(50, 4), (500, 32), at(second));
            assert_eq!(pressure.units(), None);
        }
    }

    #[test]
    fn the_log_is_told_of_much_and_not_often() {
        let mut pressure = Pressure::default();
        assert_eq!(pressure.news(at(0)), None);
        pressure.note(&tally(10, 10), (500, 32), at(0));
        assert_eq!(pressure.news(at(0)), Some((Some(16), FailureKind::TIMEOUT)));
        pressure.note(&tally(10, 10), (16, 32), at(1));
        assert_eq!(pressure.news(at(9)), None);
        assert_eq!(pressure.news(at(10)), Some((Some(8), FailureKind::TIMEOUT)));
        pressure.note(&tally(10, 0), (8, 32), at(11));
        assert_eq!(pressure.news(at(30)), None, "10 is not much more than 8");
        // A new leader goes on from there.
        let mut next = Pressure::default();
        next.restore(Some(8));
        assert_eq!((next.units(), next.news(at(40))), (Some(8), None));
    }
}
