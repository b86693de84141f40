use std::collections::BTreeMap;

use super::Now;
use crate::{
    event::{Attempt, Event},
    failure::{Failure, FailureClass, FailureKind},
    ids::{ChunkId, JobName, WorkerId},
    limits::{ATTEMPTS_EVER, UNKNOWN_ATTEMPTS},
    packed::Packed,
    pipeline::{JobSpec, TierNum},
    state::{BatchState, JobState},
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
/// the budget.
#[must_use]
pub fn lost(batch: &BatchState, lost: &Lost) -> Option<Event> {
    let (_, job) = batch.job(lost.tier, &lost.job)?;
    let units = job.outstanding(&lost.units, lost.attempt);
    (!units.is_empty()).then(|| Event::WorkerLost {
        attempt: Attempt {
            tier: lost.tier,
            job: lost.job.clone(),
            number: lost.attempt,
            chunk: lost.chunk,
            worker: lost.worker.clone(),
            busy: Millis(0),
        },
        units,
    })
}

/// Decides on a worker's report.
#[must_use]
pub fn outcome(batch: Option<&BatchState>, outcome: &Outcome, now: Now) -> OutcomeDecision {
    let reported = outcome.units();
    let Some((spec, job)) = batch.and_then(|batch| batch.job(outcome.tier, &outcome.job)) else {
        return OutcomeDecision {
            events: Vec::new(),
            superseded: reported.len(),
        };
    };
    let mut live = job.outstanding(&reported, outcome.attempt);
    let superseded = reported.len() - live.len();
    let mut take = |units: &UnitSet| {
        let taken = units.and(&live);
        live.remove(&taken);
        taken
    };
    let completed = take(&outcome.completed);
    let skipped = take(&outcome.skipped);
    let mut attempt = Attempt {
        tier: outcome.tier,
        job: outcome.job.clone(),
        number: outcome.attempt,
        chunk: outcome.chunk,
        worker: Some(outcome.worker.clone()),
        busy: outcome.busy,
    };
    // The time spent stands once, on the first event.
    let mut once = || {
        let this = attempt.clone();
        attempt.busy = Millis(0);
        this
    };
    let mut events = Vec::new();
    if !(completed.is_empty() && skipped.is_empty()) {
        events.push(Event::DocumentsCompleted {
            attempt: once(),
            outputs: outputs_of(outcome, &completed),
            units: completed,
            skipped,
        });
    }
    let mut next: BTreeMap<(FailureClass, FailureKind, Next), Vec<FailedUnits>> = BTreeMap::new();
    for (i, failed) in outcome.failures.iter().enumerate() {
        let units = take(&failed.units);
        let random = scramble(now.random.wrapping_add(i as u64));
        for (what, units) in dispose(
            spec,
            job,
            &failed.failure,
            &units,
            outcome.attempt,
            now.at,
            random,
        ) {
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

fn dispose(
    spec: &JobSpec,
    job: &JobState,
    failure: &Failure,
    units: &UnitSet,
    attempt: u32,
    now: Timestamp,
    random: u64,
) -> Vec<(Next, UnitSet)> {
    if units.is_empty() {
        return Vec::new();
    }
    if failure.class == FailureClass::Permanent || attempt >= ATTEMPTS_EVER {
        return vec![(Next::Nothing, units.clone())];
    }
    let asked = failure.retry_after.unwrap_or(Millis(0));
    // A machine that was taken away says nothing about the document.
    if [FailureKind::PREEMPTED, FailureKind::WORKER_LOST].contains(&failure.kind) {
        let retry_at = now.plus(asked);
        return vec![(
            Next::Attempt {
                retry_at,
                counted: false,
            },
            units.clone(),
        )];
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
                let wait = spec.backoff.wait(failed, random).max(asked);
                Next::Attempt {
                    retry_at: now.plus(wait),
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

/// Another random number from one (SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// 2014).
fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
