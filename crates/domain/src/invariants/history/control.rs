//! Jobs that were cancelled: nothing of them ends or is retried any more, and documents are counted for what they are.

use std::collections::BTreeSet;

use super::{
    Story,
    units::{Standing, Unit},
};
use crate::{cancel::CancelEffect, ids::JobName, pause::JobRef, pipeline::TierNum, units::Ordinal};

impl Story {
    pub(super) fn cancel_job(
        &mut self,
        seq: u64,
        at: JobRef,
        effect: CancelEffect,
        found: &mut Vec<String>,
    ) {
        self.paused.remove(&at);
        if effect == CancelEffect::Waived {
            let of_it = |(place, _): &(&(TierNum, JobName, Ordinal), &mut Unit)| {
                (place.0, &place.1) == (at.tier, &at.job)
            };
            for (_, unit) in self.units.iter_mut().filter(of_it) {
                if unit.standing == Standing::Failed {
                    unit.standing = Standing::Cancelled;
                    // What it had failed goes on, and with it the batch.
                    self.aborted = false;
                }
            }
        }
        if self.ended.insert(at.clone(), (effect, seq)).is_some() {
            found.push(format!("{at:?} is cancelled twice"));
        }
    }

    /// The jobs of a tier that are not cancelled stop, and it with them.
    pub(super) fn cancel_tier(&mut self, seq: u64, tier: TierNum, found: &mut Vec<String>) {
        let jobs = self.jobs.get(usize::from(tier)).cloned();
        let live: Vec<JobRef> = jobs
            .unwrap_or_default()
            .into_iter()
            .map(|job| JobRef { tier, job })
            .filter(|at| !self.ended.contains_key(at))
            .collect();
        if live.is_empty() {
            found.push(format!("tier {tier} has no job that could be cancelled"));
        }
        for at in live {
            self.cancel_job(seq, at, CancelEffect::Stopped, found);
        }
    }

    pub(super) fn is_waived(&self, tier: TierNum, job: &JobName) -> bool {
        let at = JobRef {
            tier,
            job: job.clone(),
        };
        matches!(self.ended.get(&at), Some((CancelEffect::Waived, _)))
    }

    /// Documents that came to a tier that was stopped, and are not through it.
    pub(super) fn stopped(&self) -> BTreeSet<Ordinal> {
        let tiers = self.ended.iter();
        let tiers: BTreeSet<TierNum> = tiers
            .filter(|(_, (effect, _))| *effect == CancelEffect::Stopped)
            .map(|(at, _)| at.tier)
            .collect();
        let stays = |ordinal: &Ordinal| {
            let mut tiers = tiers.iter();
            tiers.any(|tier| {
                let mut units = self.split.units(*tier, *ordinal).into_iter();
                units.any(|unit| self.came_to(*tier, unit) && !self.is_done(*tier, unit))
            })
        };
        (0..self.documents).filter(stays).collect()
    }
}
