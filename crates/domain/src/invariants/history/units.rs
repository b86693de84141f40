//! What a log says of units: attempts end in their turn, and counts are what they come to.

use std::collections::BTreeSet;

use super::Story;
use crate::{
    event::{Attempt, Selected},
    limits::STRIKES,
    pause::JobRef,
    pipeline::TierNum,
    time::Timestamp,
    units::{Ordinal, UnitSet},
};

/// What was told of one unit in one job.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unit {
    /// Attempts that ended without success.
    ended: u32,
    pub(super) standing: Standing,
    /// Attempts of this round that were lost with their worker, or ran out of memory, and were followed by another.
    strikes: u32,
    /// Its next attempt is not before this.
    due: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Standing {
    #[default]
    Open,
    Done,
    Failed,
    Cancelled,
}

/// How an attempt ended.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    Done,
    Failed,
    Again {
        due: Option<Timestamp>,
        strike: bool,
    },
}

impl Story {
    /// An attempt ends once, in its turn, for units that came that far.
    pub(super) fn end(
        &mut self,
        attempt: &Attempt,
        units: &UnitSet,
        ending: Ending,
        at: Timestamp,
        found: &mut Vec<String>,
    ) {
        let (tier, number) = (attempt.tier, attempt.number);
        if self.aborted {
            found.push("an attempt ends after the batch was given up".to_owned());
        }
        let at_job = JobRef {
            tier,
            job: attempt.job.clone(),
        };
        if self.ended.contains_key(&at_job) {
            found.push(format!(
                "attempt {number} ends in tier {tier} job {}, which is cancelled",
                attempt.job
            ));
        }
        for ordinal in units.iter() {
            let mut problem = |what: String| {
                found.push(format!(
                    "attempt {number} of unit {ordinal} of tier {tier} job {}: {what}",
                    attempt.job
                ));
            };
            if !self.split.is_unit(tier, ordinal, self.documents) {
                problem("there is no such document or segment".to_owned());
            }
            if !self.came_to(tier, ordinal) {
                problem("the tier before has not done it".to_owned());
            }
            let place = (tier, attempt.job.clone(), ordinal);
            let unit = self.units.entry(place).or_default();
            if unit.standing != Standing::Open {
                problem(format!("it ends, and was {:?} before", unit.standing));
            }
            if number != unit.ended.saturating_add(1) {
                problem(format!("{} attempts have ended before", unit.ended));
            }
            if let Some(due) = unit.due.filter(|due| at < *due) {
                problem(format!("it ends at {at}, and was due at {due}"));
            }
            match ending {
                Ending::Done => unit.standing = Standing::Done,
                Ending::Failed => {
                    unit.ended = number;
                    unit.standing = Standing::Failed;
                }
                Ending::Again { due, strike } => {
                    unit.ended = number;
                    unit.due = due.or(unit.due);
                    unit.strikes += u32::from(strike);
                    if unit.strikes >= STRIKES {
                        problem(format!("it has {} strikes and goes on", unit.strikes));
                    }
                }
            }
        }
    }

    /// Units that failed are to be executed again.
    pub(super) fn reopen(&mut self, part: &Selected, found: &mut Vec<String>) {
        for ordinal in part.units.iter() {
            let place = (part.tier, part.job.clone(), ordinal);
            let unit = self.units.entry(place).or_default();
            if unit.standing != Standing::Failed {
                found.push(format!(
                    "unit {ordinal} of tier {} job {} is retried, and has not failed",
                    part.tier, part.job
                ));
            }
            unit.standing = Standing::Open;
            unit.strikes = 0;
            unit.due = None;
        }
    }

    /// Whether all jobs of the tier before have done a unit.
    pub(super) fn came_to(&self, tier: TierNum, unit: Ordinal) -> bool {
        let Some(before) = tier.checked_sub(1) else {
            return true;
        };
        let mut needs = self.split.needs(tier, unit).into_iter();
        needs.all(|(tier, unit)| self.is_done(tier.unwrap_or(before), unit))
    }

    pub(super) fn is_done(&self, tier: TierNum, ordinal: Ordinal) -> bool {
        let Some(jobs) = self.jobs.get(usize::from(tier)) else {
            return false;
        };
        let mut live = jobs.iter().filter(|job| !self.is_waived(tier, job));
        live.all(|job| {
            let unit = self.units.get(&(tier, job.clone(), ordinal));
            unit.is_some_and(|unit| unit.standing == Standing::Done)
        })
    }

    /// Whether a document has been through all tiers.
    pub(super) fn is_through(&self, ordinal: Ordinal) -> bool {
        let last = self.jobs.len().checked_sub(1);
        let last = last.and_then(|tier| TierNum::try_from(tier).ok());
        last.is_some_and(|last| {
            let mut needs = self.split.through(last, ordinal).into_iter();
            needs.all(|(tier, unit)| self.is_done(tier, unit))
        })
    }

    pub(super) fn complete(
        &self,
        completed: u64,
        failed: u64,
        cancelled: u64,
        found: &mut Vec<String>,
    ) {
        let through = |ordinal: &Ordinal| self.is_through(*ordinal);
        let done = (0..self.documents).filter(through).count() as u64;
        let broken: BTreeSet<Ordinal> = self
            .units
            .iter()
            .filter(|(_, unit)| unit.standing == Standing::Failed)
            .map(|((_, _, ordinal), _)| self.split.document(*ordinal))
            .collect();
        if (completed, failed) != (done, broken.len() as u64) {
            found.push(format!(
                "it counts {completed} completed and {failed} failed, where {done} and {} are",
                broken.len()
            ));
        }
        let stopped = self.stopped();
        let stopped = stopped.difference(&broken).count() as u64;
        if cancelled != stopped {
            found.push(format!(
                "it counts {cancelled} cancelled, where {stopped} are"
            ));
        }
        if completed + failed + cancelled != u64::from(self.documents) {
            found.push(format!("that is not all {} documents", self.documents));
        }
    }
}
