//! Holding a job up while the other side is away. Its failures are noted as they come; when there are too many, the job is
//! paused until a time, and from then on one unit at a time finds out whether the other side is back.

use crate::{
    event::Event,
    failure::{Failure, FailureClass, FailureKind},
    limits::BREAKER_PAUSE_MS,
    pause::{JobRef, Outage, PauseReason},
    pipeline::{Breaker, JobSpec},
    state::{BatchState, JobState},
    status::BatchStatus,
    time::{Millis, Timestamp},
    units::{Ordinal, UnitSet},
    work::Outcome,
};

/// What a report says of the other side of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// When the job is to be held up, where it may be.
    pub breaker: Option<Breaker>,
    /// Attempts that ended.
    pub ended: u64,
    /// Of these, those that failed as the other side's fault.
    pub failed: u64,
    /// What the last of them failed with.
    pub last: Option<Failure>,
    /// Attempts that failed because the other side cannot keep up.
    pub slowed: u64,
}

/// What of a report counts, where its job is not held up.
#[must_use]
pub fn tally(batch: &BatchState, outcome: &Outcome) -> Option<Tally> {
    let (spec, job) = batch.job(outcome.tier, &outcome.job)?;
    if batch.status != BatchStatus::Running || job.paused.is_some() {
        return None;
    }
    let live = job.outstanding(&outcome.units().minus(&outcome.returned), outcome.attempt);
    let mut ended = live.and_len(&outcome.completed.or(&outcome.skipped));
    let (mut failed, mut slowed) = (0, 0);
    let mut last = None;
    for group in &outcome.failures {
        let count = live.and_len(&group.units);
        if count == 0 || says_nothing(&group.failure) {
            continue;
        }
        ended += count;
        if is_outage(&group.failure) {
            failed += count;
            let keeps_up =
                ![FailureKind::RATE_LIMITED, FailureKind::TIMEOUT].contains(&group.failure.kind);
            slowed += if keeps_up { 0 } else { count };
            last = Some(group.failure.clone());
        }
    }
    (ended > 0).then_some(Tally {
        breaker: spec.breaker,
        ended,
        failed,
        last,
        slowed,
    })
}

/// Opens the breaker of a job of which so many of the latest attempts failed. It is decided before the report that led to
/// it, so that none of the failures of that report counts against a budget.
#[must_use]
pub fn open(
    outcome: &Outcome,
    tally: &Tally,
    (failed, of): (u64, u64),
    at: Timestamp,
) -> Option<Event> {
    let breaker = tally.breaker?;
    let failure = tally.last.as_ref();
    let outage = Outage {
        failed,
        of,
        window: breaker.window,
        until: until(breaker, 0, failure, at),
        probes: 0,
        kind: failure.map_or(FailureKind::UNAVAILABLE, |it| it.kind.clone()),
        message: failure.map(|it| it.message.clone()).unwrap_or_default(),
    };
    Some(paused(outcome, outage))
}

/// Of these units, the one that is to be tried next while a breaker is open. Probes are spread over all of them, by the
/// fractions of the golden ratio: neighbours often depend on the same other side, of which others know nothing.
#[must_use]
pub fn probed_unit(outage: &Outage, units: &UnitSet) -> Option<Ordinal> {
    let place = u64::from(outage.probes).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let rank = (u128::from(place) * u128::from(units.len())) >> 64;
    units.nth(u64::try_from(rank).ok()?)
}

/// Whether a failure is the other side's fault, and passes with it.
pub(super) fn is_outage(failure: &Failure) -> bool {
    let kinds = [
        FailureKind::NETWORK,
        FailureKind::TIMEOUT,
        FailureKind::UNAVAILABLE,
        FailureKind::RATE_LIMITED,
    ];
    failure.class == FailureClass::Transient && kinds.contains(&failure.kind)
}

/// Whether a failure comes of the machine that made the attempt, which says nothing of the other side.
fn says_nothing(failure: &Failure) -> bool {
    let kinds = [
        FailureKind::PREEMPTED,
        FailureKind::WORKER_LOST,
        FailureKind::OUT_OF_MEMORY,
    ];
    kinds.contains(&failure.kind)
}

fn outage(job: &JobState) -> Option<&Outage> {
    job.paused.as_ref()?.outage()
}

/// Whether a breaker holds the job up.
pub(super) fn is_open(job: &JobState) -> bool {
    outage(job).is_some()
}

fn paused(outcome: &Outcome, outage: Outage) -> Event {
    Event::DispatchPaused {
        jobs: vec![at(outcome)],
        reason: PauseReason::Breaker(outage),
    }
}

fn at(outcome: &Outcome) -> JobRef {
    JobRef {
        tier: outcome.tier,
        job: outcome.job.clone(),
    }
}

fn until(breaker: Breaker, probes: u32, failure: Option<&Failure>, at: Timestamp) -> Timestamp {
    let doubled = 1_u64.checked_shl(probes).unwrap_or(u64::MAX);
    let asked = failure.and_then(|it| it.retry_after).unwrap_or(Millis(0));
    let wait = breaker.pause.0.saturating_mul(doubled).max(asked.0);
    at.plus(Millis(wait.min(BREAKER_PAUSE_MS)))
}

/// What a report says of the other side, while a breaker is open. Nothing is handed out before its time but what was out
/// already: what is reported then is no news, and what is reported later is as good as a probe.
pub(super) struct Probe<'a> {
    open: Option<&'a Outage>,
    answered: bool,
    failure: Option<Failure>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(job: &'a JobState, succeeded: u64) -> Self {
        Self {
            open: outage(job),
            answered: succeeded > 0,
            failure: None,
        }
    }

    /// Notes a failure of these units.
    pub(super) fn note(&mut self, failure: &Failure, units: &UnitSet) {
        if self.open.is_none() || units.is_empty() || says_nothing(failure) {
            return;
        }
        match is_outage(failure) {
            true => self.failure = Some(failure.clone()),
            // Whoever refuses a document is there.
            false => self.answered = true,
        }
    }

    /// What follows from it.
    pub(super) fn end(self, spec: &JobSpec, outcome: &Outcome, now: Timestamp) -> Option<Event> {
        let outage = self.open.filter(|outage| outage.until <= now)?;
        let resumed = Event::DispatchResumed {
            jobs: vec![at(outcome)],
        };
        match (self.answered, self.failure, spec.breaker) {
            (false, None, _) => None,
            (false, Some(failure), Some(breaker)) => {
                let probes = outage.probes.saturating_add(1);
                Some(paused(
                    outcome,
                    Outage {
                        until: until(breaker, probes, Some(&failure), now),
                        probes,
                        kind: failure.kind,
                        message: failure.message,
                        ..outage.clone()
                    },
                ))
            }
            _ => Some(resumed),
        }
    }
}
