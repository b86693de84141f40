//! Stopping a batch, a tier of it, or one job.

use super::{Decision, pause::jobs_of};
use crate::{
    command::{Accepted, Cancel, Refusal},
    event::Event,
    pause::JobRef,
    pipeline::TierNum,
    state::{BatchState, JobState, TierState},
    status::BatchStatus,
};

pub(super) fn cancel(batch: &BatchState, cancel: &Cancel) -> Result<Decision, Refusal> {
    let reason = cancel.reason.as_deref();
    let reason: Option<String> = reason.map(|text| text.chars().take(1_000).collect());
    match (cancel.tier, &cancel.job) {
        (None, None) => whole(batch, reason),
        (Some(tier), None) => {
            jobs_of(batch, Some(tier), None)?;
            in_part(batch, tier, None, reason)
        }
        (tier, Some(job)) => {
            let found = jobs_of(batch, tier, Some(job))?;
            let [at] = found.as_slice() else {
                let tiers: Vec<String> = found.iter().map(|at| at.tier.to_string()).collect();
                let tiers = tiers.join(", ");
                let message = format!("is {job}: the tiers {tiers} have one each; name the tier");
                return Err(Refusal::invalid("job", message));
            };
            in_part(batch, at.tier, Some(at), reason)
        }
    }
}

fn whole(batch: &BatchState, reason: Option<String>) -> Result<Decision, Refusal> {
    if batch.status == BatchStatus::Cancelled {
        return Ok(batch.repeated(batch.last_seq));
    }
    if batch.status.is_over() {
        return Err(nothing_to_cancel(batch));
    }
    let documents = batch.counts().open;
    Ok(Decision {
        events: vec![Event::BatchCancelled { reason, documents }],
        accepted: Accepted {
            cancelled_documents: Some(documents),
            ..batch.accepted()
        },
    })
}

fn nothing_to_cancel(batch: &BatchState) -> Refusal {
    Refusal::conflict(format!(
        "batch {} is over ({}): there is nothing to cancel",
        batch.key.batch, batch.status
    ))
}

/// A tier, or one job of it. Where no other job of the tier is live, the job is the tier.
fn in_part(
    batch: &BatchState,
    num: TierNum,
    one: Option<&JobRef>,
    reason: Option<String>,
) -> Result<Decision, Refusal> {
    if batch.status == BatchStatus::Cancelled {
        return Ok(batch.repeated(batch.last_seq));
    }
    let Some(tier) = batch.tiers.get(usize::from(num)) else {
        return Err(Refusal::invalid("tier", "is none of the batch"));
    };
    let live: Vec<(JobRef, &JobState)> = batch
        .jobs()
        .filter(|(tier, _, job)| *tier == num && job.cancellation.is_none())
        .map(|(tier, spec, job)| {
            let job_ref = JobRef {
                tier,
                job: spec.name.clone(),
            };
            (job_ref, job)
        })
        .collect();
    let wanted: Vec<&(JobRef, &JobState)> = live
        .iter()
        .filter(|(at, _)| one.is_none_or(|one| one == at))
        .collect();
    let waived = wanted.len() < live.len();
    match (one, wanted.as_slice()) {
        (_, []) => Ok(batch.repeated(batch.last_seq)),
        (Some(_), [(at, job)]) if waived => {
            let units = job.open.len() + job.all_failed().len();
            if batch.status.is_over() && units == 0 {
                return Err(nothing_to_cancel(batch));
            }
            let event = Event::JobCancelled {
                tier: num,
                job: at.job.clone(),
                waived,
                units,
                reason,
            };
            let accepted = Accepted {
                jobs: vec![at.clone()],
                cancelled_documents: Some(0),
                cancelled_units: Some(units),
                ..batch.accepted()
            };
            Ok(Decision {
                events: vec![event],
                accepted,
            })
        }
        _ => stop(batch, num, tier, one, &wanted, reason),
    }
}

fn stop(
    batch: &BatchState,
    num: TierNum,
    tier: &TierState,
    one: Option<&JobRef>,
    live: &[&(JobRef, &JobState)],
    reason: Option<String>,
) -> Result<Decision, Refusal> {
    if batch.status.is_over() {
        return Err(nothing_to_cancel(batch));
    }
    let units = live.iter().map(|(_, job)| job.open.len()).sum();
    let on_the_way = tier.entered.minus(&tier.done()).minus(&tier.failed());
    let documents = batch.documents_of(&on_the_way).len();
    let event = match one {
        Some(at) => Event::JobCancelled {
            tier: num,
            job: at.job.clone(),
            waived: false,
            units,
            reason,
        },
        None => Event::TierCancelled {
            tier: num,
            documents,
            reason,
        },
    };
    Ok(Decision {
        events: vec![event],
        accepted: Accepted {
            jobs: live.iter().map(|(at, _)| at.clone()).collect(),
            cancelled_documents: Some(documents),
            cancelled_units: Some(units),
            ..batch.accepted()
        },
    })
}
