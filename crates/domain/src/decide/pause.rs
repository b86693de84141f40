use super::{Decision, refuse_if_cancelled};
use crate::{
    command::{Accepted, Pause, Refusal, Resume},
    event::Event,
    failure::Failure,
    ids::JobName,
    pause::{JobRef, PauseReason},
    pipeline::TierNum,
    state::{BatchState, TierState},
};

pub(super) fn pause(batch: &BatchState, pause: &Pause) -> Result<Decision, Refusal> {
    refuse_if_cancelled(batch, "paused")?;
    if batch.status.is_over() {
        return Err(Refusal::conflict(format!(
            "batch {} is over ({}): there is nothing to pause",
            batch.key.batch, batch.status
        )));
    }
    let jobs = jobs_of(batch, pause.tier, pause.job.as_ref())?;
    let reason = pause.reason.as_deref();
    let reason = reason.map(|text| text.chars().take(1_000).collect());
    Ok(decision(batch, wanted(batch, jobs, false), |jobs| {
        Event::DispatchPaused {
            jobs,
            reason: PauseReason::Asked(reason),
        }
    }))
}

pub(super) fn resume(batch: &BatchState, resume: &Resume) -> Result<Decision, Refusal> {
    let mut jobs = jobs_of(batch, resume.tier, resume.job.as_ref())?;
    if batch.aborted.is_some() {
        // Whatever has something left to do goes on.
        jobs.retain(|at| {
            batch
                .job(at.tier, &at.job)
                .is_some_and(|(_, job)| !job.open.is_empty())
        });
    } else {
        jobs = wanted(batch, jobs, true);
    }
    Ok(decision(batch, jobs, |jobs| Event::DispatchResumed {
        jobs,
    }))
}

fn decision(
    batch: &BatchState,
    jobs: Vec<JobRef>,
    event: impl FnOnce(Vec<JobRef>) -> Event,
) -> Decision {
    if jobs.is_empty() {
        return batch.repeated(batch.last_seq);
    }
    Decision {
        accepted: Accepted {
            jobs: jobs.clone(),
            ..batch.accepted()
        },
        events: vec![event(jobs)],
    }
}

/// The jobs that a command means; it has to mean some.
pub(super) fn jobs_of(
    batch: &BatchState,
    tier: Option<TierNum>,
    job: Option<&JobName>,
) -> Result<Vec<JobRef>, Refusal> {
    if let Some(tier) = tier.filter(|tier| usize::from(*tier) >= batch.tiers.len()) {
        let last = batch.tiers.len().saturating_sub(1);
        let message = format!("is {tier}: the batch has tiers 0 to {last}");
        return Err(Refusal::invalid("tier", message));
    }
    let found: Vec<JobRef> = batch
        .jobs()
        .filter(|(num, spec, _)| {
            tier.is_none_or(|tier| tier == *num) && job.is_none_or(|job| *job == spec.name)
        })
        .map(|(tier, spec, _)| JobRef {
            tier,
            job: spec.name.clone(),
        })
        .collect();
    match (found.is_empty(), job) {
        (true, Some(job)) => {
            let place = tier.map_or_else(|| "the batch".to_owned(), |tier| format!("tier {tier}"));
            let message = format!("is {job}: {place} has no such job");
            Err(Refusal::invalid("job", message))
        }
        _ => Ok(found),
    }
}

/// Of these, the ones that are paused, or the ones that are not.
fn wanted(batch: &BatchState, jobs: Vec<JobRef>, paused: bool) -> Vec<JobRef> {
    let is_paused = |at: &JobRef| {
        batch
            .job(at.tier, &at.job)
            .and_then(|(_, job)| job.paused.as_ref())
            // What goes on by itself can be paused, and can be told to go on at once.
            .is_some_and(|pause| paused || pause.waits_for_somebody())
    };
    let is_live = |at: &JobRef| {
        batch
            .job(at.tier, &at.job)
            .is_some_and(|(_, job)| job.cancellation.is_none())
    };
    jobs.into_iter()
        .filter(is_live)
        .filter(|job| is_paused(job) == paused)
        .collect()
}

/// What a misconfigured handler leads to: where more would come to it, that is held up, as it would fail alike.
pub(super) fn misconfigured(
    batch: &BatchState,
    at: JobRef,
    failure: Failure,
    ended: u64,
) -> Option<Event> {
    let (_, job) = batch.job(at.tier, &at.job)?;
    let before = batch.tiers.get(..usize::from(at.tier))?;
    let more = job.open.len() > ended || !batch.submitted || before.iter().any(TierState::is_open);
    let is_new = job
        .paused
        .as_ref()
        .is_none_or(|it| !it.waits_for_somebody());
    (more && is_new).then(|| Event::DispatchPaused {
        jobs: vec![at],
        reason: PauseReason::Misconfigured(failure),
    })
}
