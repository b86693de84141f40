use super::outcome::running_job;
use crate::{
    event::{Attempt, Event},
    failure::{Failure, FailureKind},
    ids::{ChunkId, JobName, WorkerId},
    limits::{ATTEMPTS_EVER, STRIKES},
    pipeline::TierNum,
    state::BatchState,
    time::Millis,
    units::UnitSet,
    work::FailedUnits,
};

/// Attempts whose worker is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// The attempt.
    pub attempt: u32,
    /// The chunk.
    pub chunk: ChunkId,
    /// Who had it, where that is known.
    pub worker: Option<WorkerId>,
    /// The units.
    pub units: UnitSet,
}

/// Decides on attempts whose worker is gone: those still outstanding are superseded by a new attempt, at no cost to
/// the budget. What has done so [`STRIKES`] times in this round is set aside as `poison`, so that it does not take one
/// worker after the other down for ever; what has had [`ATTEMPTS_EVER`] attempts fails as well.
#[must_use]
pub fn lost(batch: &BatchState, lost: &Lost) -> Vec<Event> {
    let Some((_, job)) = running_job(batch, lost.tier, &lost.job) else {
        return Vec::new();
    };
    let units = job.outstanding(&lost.units, lost.attempt);
    let poison = job.strikes.at_least(STRIKES - 1, &units);
    let units = units.minus(&poison);
    let attempt = Attempt {
        tier: lost.tier,
        job: lost.job.clone(),
        number: lost.attempt,
        chunk: lost.chunk,
        worker: lost.worker.clone(),
        busy: Millis(0),
        loading: Millis(0),
        writing: Millis(0),
        peak_memory: None,
    };
    let fails = |units: UnitSet, failure: Failure| Event::DocumentsFailed {
        attempt: attempt.clone(),
        class: failure.class,
        kind: failure.kind.clone(),
        units: vec![FailedUnits { units, failure }],
    };
    let mut events = Vec::new();
    if !poison.is_empty() {
        let message = format!(
            "{STRIKES} executions in a row ended with the worker lost, or out of memory, the last one with the worker lost: it is set aside"
        );
        events.push(fails(poison, Failure::new(FailureKind::POISON, message)));
    }
    if units.is_empty() {
        return events;
    }
    events.push(if lost.attempt < ATTEMPTS_EVER {
        Event::WorkerLost {
            attempt: attempt.clone(),
            units,
        }
    } else {
        let message = format!("the worker was lost in attempt {}", lost.attempt);
        fails(units, Failure::new(FailureKind::WORKER_LOST, message))
    });
    events
}
