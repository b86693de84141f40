//! Retrying with other parameters.

use std::collections::BTreeMap;

use crate::{
    command::{Refusal, Retry},
    event::Event,
    ids::JobName,
    pipeline::{SpecError, TierNum},
    state::BatchState,
};

/// The jobs that a retry names are there, in the tiers that it names.
pub(super) fn check_jobs(batch: &BatchState, retry: &Retry) -> Result<(), Refusal> {
    let errors: Vec<SpecError> = retry
        .jobs
        .iter()
        .flatten()
        .enumerate()
        .filter(|(_, name)| {
            let mut jobs = batch.jobs();
            !jobs.any(|(tier, spec, _)| retry.wants_tier(tier) && spec.name == **name)
        })
        .map(|(i, name)| SpecError {
            path: format!("jobs[{i}]"),
            message: match &retry.tier_nums {
                Some(tiers) if !tiers.is_empty() => {
                    format!("is {name}: none of the tiers {tiers:?} has such a job")
                }
                _ => format!("is {name}: the batch has no such job"),
            },
        })
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Invalid { errors })
    }
}

/// What becomes of the jobs that a retry means, before it begins: an event for each tier in which anything changes.
pub(super) fn resubmissions(batch: &BatchState, retry: &Retry) -> Vec<Event> {
    let Some(change) = retry.set.as_deref() else {
        return Vec::new();
    };
    let mut changed: BTreeMap<TierNum, Vec<JobName>> = BTreeMap::new();
    for (tier, spec, job) in batch.jobs() {
        let meant = retry.wants_tier(tier) && retry.wants_job(&spec.name);
        if meant && job.cancellation.is_none() && change.applied_to(spec) != *spec {
            changed.entry(tier).or_default().push(spec.name.clone());
        }
    }
    changed
        .into_iter()
        .map(|(tier, jobs)| Event::TierResubmitted {
            tier,
            jobs,
            change: change.clone(),
        })
        .collect()
}
