use std::collections::BTreeMap;

use super::{Now, breaker, pause, segments::split};
use crate::{
    event::{Attempt, Event},
    failure::{Failure, FailureClass, FailureKind},
    ids::JobName,
    limits::{ATTEMPTS_EVER, RETRY_AFTER_MS, STRIKES, UNKNOWN_ATTEMPTS},
    packed::Packed,
    pause::JobRef,
    pipeline::{JobSpec, TierNum},
    state::{BatchState, JobState},
    status::BatchStatus,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{FailedUnits, Outcome},
};

/// What a worker's report leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutcomeDecision {
    /// What is to be appended, in this order.
    pub events: Vec<Event>,
    /// Units whose outcome came too late, twice, or for an attempt that was superseded: it changes nothing.
    pub superseded: u64,
}

/// A job that may have attempts outstanding: none has before the batch runs or after it is over.
pub(super) fn running_job<'a>(
    batch: &'a BatchState,
    tier: TierNum,
    job: &JobName,
) -> Option<(&'a JobSpec, &'a JobState)> {
    if batch.status != BatchStatus::Running {
        return None;
    }
    batch.job(tier, job)
}

/// Decides on a worker's report.
#[must_use]
pub fn outcome(batch: Option<&BatchState>, outcome: &Outcome, now: Now) -> OutcomeDecision {
    let reported = outcome.units();
    let job = batch.and_then(|batch| running_job(batch, outcome.tier, &outcome.job));
    let Some((spec, job)) = job else {
        return OutcomeDecision {
            events: Vec::new(),
            superseded: reported.len(),
        };
    };
    let mut live = job.outstanding(&reported, outcome.attempt);
    let superseded = reported.len() - live.len();
    let split = split(batch, outcome, &live);
    let mut take = |units: &UnitSet| {
        let taken = units.and(&live);
        live.remove(&taken);
        taken
    };
    let completed = take(&split.accepted(&outcome.completed));
    let skipped = take(&outcome.skipped);
    let mut ended = completed.len() + skipped.len();
    let mut attempt = Attempt {
        tier: outcome.tier,
        job: outcome.job.clone(),
        number: outcome.attempt,
        chunk: outcome.chunk,
        worker: Some(outcome.worker.clone()),
        busy: outcome.busy,
        loading: outcome.loading,
        // By two clocks: what comes before it was sent took no time.
        writing: now.at.since(outcome.at),
        peak_memory: None,
    };
    // What was measured stands once, on the first event.
    let mut once = || {
        let this = attempt.clone();
        attempt.busy = Millis(0);
        attempt.loading = Millis(0);
        attempt.writing = Millis(0);
        this
    };
    let mut events = Vec::new();
    if !(completed.is_empty() && skipped.is_empty()) {
        events.push(Event::DocumentsCompleted {
            attempt: Attempt {
                peak_memory: outcome.peak_memory,
                ..once()
            },
            outputs: outputs_of(outcome, &completed),
            units: completed,
            skipped,
            segments: split.segmented,
        });
    }
    let mut next: BTreeMap<(FailureClass, FailureKind, Next), Vec<FailedUnits>> = BTreeMap::new();
    let mut misconfigured = None;
    let mut probe = breaker::Probe::new(job, ended);
    for failed in split.refused.iter().chain(&outcome.failures) {
        let units = take(&failed.units);
        ended += units.len();
        if failed.failure.kind == FailureKind::MISCONFIGURED && !units.is_empty() {
            misconfigured.get_or_insert_with(|| failed.failure.clone());
        }
        probe.note(&failed.failure, &units);
        // One random number for the whole report: those that failed alike in it stay together, in one event,
        // however their messages differ.
        for (what, units) in dispose(spec, job, &failed.failure, &units, outcome.attempt, now) {
            let failure = failed.failure.clone();
            next.entry((failure.class, failure.kind.clone(), what))
                .or_default()
                .push(FailedUnits { units, failure });
        }
    }
    for ((class, kind, what), units) in next {
        let attempt = once();
        events.push(match what {
            Next::Attempt { retry_at, counted } => Event::AttemptFailed {
                attempt,
                class,
                kind,
                units,
                retry_at,
                counted,
            },
            Next::Nothing => Event::DocumentsFailed {
                attempt,
                class,
                kind,
                units,
            },
        });
    }
    if let (Some(batch), Some(failure)) = (batch, misconfigured) {
        let at = JobRef {
            tier: outcome.tier,
            job: outcome.job.clone(),
        };
        events.extend(pause::misconfigured(batch, at, failure, ended));
    } else {
        events.extend(probe.end(spec, outcome, now.at));
    }
    OutcomeDecision { events, superseded }
}

/// The outputs of those units that count.
fn outputs_of(outcome: &Outcome, completed: &UnitSet) -> Option<Packed<crate::work::Outputs>> {
    let outputs = outcome.outputs.as_ref()?;
    if *completed == outcome.completed {
        return Some(outputs.clone());
    }
    let mut kept = outputs.open().ok()?;
    kept.retain(|(unit, _)| completed.contains(*unit));
    Packed::new(&kept).ok().filter(|_| !kept.is_empty())
}

/// What happens after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Attempt { retry_at: Timestamp, counted: bool },
    Nothing,
}

/// When an attempt after a wait is due: a little later than asked, so that many share a moment and the map of what is
/// due stays short however many wait.
fn due(now: Timestamp, wait: Millis) -> Timestamp {
    let step = match wait.0 {
        0 => return now,
        1..10_000 => 100,
        10_000..100_000 => 1_000,
        _ => 10_000,
    };
    let exact = now.plus(wait).0;
    Timestamp(exact.saturating_add(step - 1).div_euclid(step) * step).min(Timestamp::MAX)
}

fn dispose(
    spec: &JobSpec,
    job: &JobState,
    failure: &Failure,
    units: &UnitSet,
    attempt: u32,
    now: Now,
) -> Vec<(Next, UnitSet)> {
    if units.is_empty() {
        return Vec::new();
    }
    if failure.class == FailureClass::Permanent || attempt >= ATTEMPTS_EVER {
        return vec![(Next::Nothing, units.clone())];
    }
    let asked = failure.retry_after.unwrap_or(Millis(0));
    let asked = asked.min(Millis(RETRY_AFTER_MS));
    // A machine that was taken away says nothing about the document.
    if [FailureKind::PREEMPTED, FailureKind::WORKER_LOST].contains(&failure.kind) {
        let retry_at = due(now.at, asked);
        return vec![(
            Next::Attempt {
                retry_at,
                counted: false,
            },
            units.clone(),
        )];
    }
    // Nor does what it needs more memory for: with what it has it is tried as often as with workers that were lost.
    if failure.kind == FailureKind::OUT_OF_MEMORY {
        let parts = job.strikes.split(units).into_iter();
        return parts
            .map(|(before, part)| {
                let strikes = before.saturating_add(1);
                let wait = spec.backoff.wait(strikes, now.random).max(asked);
                let again = Next::Attempt {
                    retry_at: due(now.at, wait),
                    counted: false,
                };
                let what = if strikes < STRIKES {
                    again
                } else {
                    Next::Nothing
                };
                (what, part)
            })
            .collect();
    }
    // While the other side is away, failing says nothing of the document either.
    if breaker::is_open(job) && breaker::is_outage(failure) {
        let wait = spec.backoff.wait(1, now.random).max(asked);
        let retry_at = due(now.at, wait);
        let what = Next::Attempt {
            retry_at,
            counted: false,
        };
        return vec![(what, units.clone())];
    }
    let most = match failure.class {
        FailureClass::Unknown => UNKNOWN_ATTEMPTS,
        _ => u32::MAX,
    };
    let mut parts = Vec::new();
    for (spent, part) in job.spent.split(units) {
        let failed = spent.saturating_add(1);
        let mut rest = part;
        let mut budgets: Vec<(u32, UnitSet)> = Vec::new();
        for (budget, with) in &job.budgets {
            let own = rest.and(with);
            rest.remove(&own);
            budgets.push((*budget, own));
        }
        budgets.push((spec.max_attempts, rest));
        for (budget, units) in budgets {
            if units.is_empty() {
                continue;
            }
            let what = if failed < budget.min(most) {
                let wait = spec.backoff.wait(failed, now.random).max(asked);
                Next::Attempt {
                    retry_at: due(now.at, wait),
                    counted: true,
                }
            } else {
                Next::Nothing
            };
            parts.push((what, units));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn many_that_wait_share_a_moment_and_none_is_early() {
        let now = Timestamp(1_790_000_000_123);
        let moments: BTreeSet<Timestamp> = (1..=3_600_000)
            .map(|ms| {
                let due = due(now, Millis(ms));
                assert!(due >= now.plus(Millis(ms)), "{ms}");
                assert!(due.since(now).0 <= ms + ms / 10 + 100, "{ms}");
                due
            })
            .collect();
        assert!(moments.len() < 600, "{}", moments.len());
        assert_eq!(due(now, Millis(0)), now);
    }
}
