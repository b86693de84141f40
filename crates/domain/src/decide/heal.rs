//! What is stuck and what is executed twice: judged by what a leader sees, put right by a new attempt number.

use std::collections::BTreeMap;

use super::{Decision, outcome::running_job};
use crate::{
    command::{Accepted, Heal, Refusal},
    event::{Attempt, Event},
    failure::{Failure, FailureKind},
    heal::{
        DuplicateFinding, Execution, HealAction, Healed, Holder, Out, Seen, StuckFinding,
        StuckReason, Superseded,
    },
    ids::JobName,
    limits::{ATTEMPTS_EVER, HEAL_FINDINGS, HEAL_IDLE_SECONDS},
    pipeline::{JobSpec, TierNum},
    state::{BatchState, JobState},
    time::{Millis, Timestamp},
    units::UnitSet,
    work::FailedUnits,
};

/// How long a chunk may lie while a worker that could do it is idle. Workers take what there is within a second, and the
/// broker gives what somebody took and never spoke of to another only after 30 seconds.
const PASSED_OVER: Millis = Millis::seconds(15);
/// How long after its deadline a unit is surely stuck: a worker ends it two seconds after, and says so a second later.
const GRACE: Millis = Millis::seconds(10);
/// The same for a chunk of a worker that does not say what runs: reading documents counts as well.
const GRACE_UNTOLD: Millis = Millis::seconds(30);
/// How long no sign of life is told of, unless that is said.
const IDLE: Millis = Millis::seconds(60);

pub(super) fn heal(batch: &BatchState, heal: &Heal) -> Result<Decision, Refusal> {
    check(batch, heal)?;
    let tier = |num: TierNum| heal.tier.is_none_or(|tier| tier == num);
    let (events, healed) = match heal.action {
        HealAction::DetectStuck => {
            let asked = heal.idle_seconds.map(|s| Millis::seconds(u64::from(s)));
            let idle = asked.unwrap_or(IDLE);
            let fixes = |reason| heal.fix && (asked.is_some() || is_sure(reason));
            detect(batch, &heal.seen, tier, Some(idle), fixes)
        }
        HealAction::KillDuplicates => kill(batch, &heal.seen, tier, |_| true),
    };
    Ok(Decision {
        events: in_one_decision(events),
        accepted: Accepted {
            heal: Some(healed),
            ..batch.accepted()
        },
    })
}

/// What a leader does by itself, now and then: only what is surely wrong, and what the log does not tell yet.
#[must_use]
pub fn heal_by_itself(batch: &BatchState, seen: &Seen) -> Vec<Event> {
    let (mut events, _) = detect(batch, seen, |_| true, None, is_sure);
    let (killed, _) = kill(batch, seen, |_| true, |one| !one.told);
    events.extend(killed);
    events
}

fn check(batch: &BatchState, heal: &Heal) -> Result<(), Refusal> {
    if let Some(tier) = heal
        .tier
        .filter(|tier| usize::from(*tier) >= batch.tiers.len())
    {
        let last = batch.tiers.len().saturating_sub(1);
        let message = format!("is {tier}: the batch has tiers 0 to {last}");
        return Err(Refusal::invalid("tier", message));
    }
    if heal.action == HealAction::KillDuplicates {
        let field = match (heal.fix, heal.idle_seconds) {
            (true, _) => "fix",
            (_, Some(_)) => "idle_seconds",
            _ => return Ok(()),
        };
        let message = "belongs to detect_stuck: kill_duplicates always stops what it finds";
        return Err(Refusal::invalid(field, message));
    }
    match heal.idle_seconds {
        Some(idle) if !HEAL_IDLE_SECONDS.contains(&idle) => {
            let (least, most) = HEAL_IDLE_SECONDS.into_inner();
            let message = format!("is {idle}: it takes {least} to {most}");
            Err(Refusal::invalid("idle_seconds", message))
        }
        _ => Ok(()),
    }
}

/// Whether a reason leaves no doubt.
fn is_sure(reason: StuckReason) -> bool {
    match reason {
        StuckReason::NoOwner | StuckReason::PastDeadline => true,
        StuckReason::NoSignOfLife => false,
    }
}

/// Several events are one decision: the last of them says so.
fn in_one_decision(mut events: Vec<Event>) -> Vec<Event> {
    let count = events.len();
    for (place, event) in events.iter_mut().enumerate() {
        if let Event::StuckDetected { last, .. } | Event::DuplicatesKilled { last, .. } = event {
            *last = place + 1 == count;
        }
    }
    events
}

fn detect(
    batch: &BatchState,
    seen: &Seen,
    tier: impl Fn(TierNum) -> bool,
    idle: Option<Millis>,
    fixes: impl Fn(StuckReason) -> bool,
) -> (Vec<Event>, Healed) {
    let mut healed = Healed {
        action: HealAction::DetectStuck,
        chunks: 0,
        stuck: Vec::new(),
        duplicates: Vec::new(),
        more: 0,
    };
    // What fails for good comes first: the last event of a command is one of its own.
    let (mut failed, mut events) = (Vec::new(), Vec::new());
    for out in seen.out.iter().filter(|out| tier(out.tier)) {
        let Some((spec, job)) = running_job(batch, out.tier, &out.job) else {
            continue;
        };
        let units = job.outstanding(&out.units, out.attempt);
        if units.is_empty() {
            continue;
        }
        healed.chunks += 1;
        let Some(case) = judge(spec, out, seen, idle) else {
            continue;
        };
        if healed.stuck.len() >= HEAL_FINDINGS {
            healed.more += 1;
            continue;
        }
        let fixed = fixes(case.reason);
        let finding = finding(out, &case, &units, fixed);
        let (lost, rest, counted) = match fixed {
            true => exhausted(spec, job, out, &case, &units),
            false => (UnitSet::new(), units, UnitSet::new()),
        };
        let attempt = attempt_of(out);
        let detected = |units, counted, fixed| Event::StuckDetected {
            attempt: attempt.clone(),
            units,
            counted,
            reason: case.reason,
            since: case.since,
            fixed,
            last: true,
        };
        if !lost.is_empty() {
            events.push(detected(lost.clone(), UnitSet::new(), false));
            failed.push(give_up(attempt.clone(), lost, &case, seen.at));
        }
        if !rest.is_empty() {
            events.push(detected(rest, counted, fixed));
        }
        healed.stuck.push(finding);
    }
    failed.extend(events);
    (failed, healed)
}

/// Why a chunk is stuck.
struct Case {
    reason: StuckReason,
    since: Timestamp,
    /// Units that have had their time.
    overdue: UnitSet,
}

impl Case {
    fn new(reason: StuckReason, since: Timestamp) -> Option<Self> {
        Some(Self {
            reason,
            since,
            overdue: UnitSet::new(),
        })
    }
}

fn judge(spec: &JobSpec, out: &Out, seen: &Seen, idle: Option<Millis>) -> Option<Case> {
    let Some(holder) = &out.holder else {
        let since = out.passed_over_since?;
        return (seen.at.since(since) >= PASSED_OVER)
            .then(|| Case::new(StuckReason::NoOwner, since))?;
    };
    match holder.heard_at {
        None => return Case::new(StuckReason::NoOwner, holder.alive_at),
        Some(heard) if seen.at.since(heard) > seen.silence => {
            return Case::new(StuckReason::NoOwner, heard);
        }
        Some(_) => {}
    }
    past_deadline(spec, out, holder, seen.at).or_else(|| {
        let idle = idle.filter(|idle| seen.at.since(holder.alive_at) >= *idle);
        idle.and_then(|_| Case::new(StuckReason::NoSignOfLife, holder.alive_at))
    })
}

fn past_deadline(spec: &JobSpec, out: &Out, holder: &Holder, at: Timestamp) -> Option<Case> {
    let running = holder.running.as_ref();
    let told = running.map(|running| (running.since, running.units.and(&out.units)));
    let (since, allowed, overdue) = match told {
        Some((since, units)) if !units.is_empty() => (since, add(spec.timeout, GRACE), units),
        // Some unit has to end within its timeout: a worker that says of none that it runs does not say what it does, or
        // is held up by a handler that never lets go. Which of the units has had its time is known where there is but one.
        _ => {
            let one = match out.units.len() {
                1 => out.units.clone(),
                _ => UnitSet::new(),
            };
            let twice = add(spec.timeout, spec.timeout);
            (holder.alive_at, add(twice, GRACE_UNTOLD), one)
        }
    };
    (at.since(since) > allowed).then(|| Case {
        reason: StuckReason::PastDeadline,
        since: since.plus(spec.timeout),
        overdue,
    })
}

fn add(a: Millis, b: Millis) -> Millis {
    Millis(a.0.saturating_add(b.0))
}

/// What is not tried again, what is, and which of that has used up an attempt. A unit that is past its deadline has timed
/// out, whoever fails to say so: that counts, so that none goes round for ever. To be in such company does not.
fn exhausted(
    spec: &JobSpec,
    job: &JobState,
    out: &Out,
    case: &Case,
    units: &UnitSet,
) -> (UnitSet, UnitSet, UnitSet) {
    if out.attempt >= ATTEMPTS_EVER {
        return (units.clone(), UnitSet::new(), UnitSet::new());
    }
    let overdue = case.overdue.and(units);
    let lost: UnitSet = overdue
        .iter()
        .filter(|unit| job.spent.get(*unit).saturating_add(1) >= job.budget(*unit, spec))
        .collect();
    (lost.clone(), units.minus(&lost), overdue.minus(&lost))
}

fn attempt_of(out: &Out) -> Attempt {
    Attempt {
        tier: out.tier,
        job: out.job.clone(),
        number: out.attempt,
        chunk: out.chunk,
        worker: out.holder.as_ref().map(|holder| holder.worker.clone()),
        busy: Millis(0),
        loading: Millis(0),
        writing: Millis(0),
        peak_memory: None,
    }
}

fn give_up(attempt: Attempt, units: UnitSet, case: &Case, at: Timestamp) -> Event {
    let kind = match case.reason {
        StuckReason::NoOwner => FailureKind::WORKER_LOST,
        StuckReason::PastDeadline | StuckReason::NoSignOfLife => FailureKind::TIMEOUT,
    };
    let (reason, since) = (case.reason, at.since(case.since));
    let message = format!(
        "stuck in attempt {}: {reason}, since {since}, and its worker has not ended it",
        attempt.number
    );
    let failure = Failure::new(kind, message);
    Event::DocumentsFailed {
        attempt,
        class: failure.class,
        kind: failure.kind.clone(),
        units: vec![FailedUnits { units, failure }],
    }
}

fn finding(out: &Out, case: &Case, units: &UnitSet, fixed: bool) -> StuckFinding {
    let holder = out.holder.as_ref();
    StuckFinding {
        tier: out.tier,
        job: out.job.clone(),
        chunk: out.chunk,
        attempt: out.attempt,
        units: units.clone(),
        reason: case.reason,
        since: case.since,
        worker: holder.map(|holder| holder.worker.clone()),
        taken_at: holder.map(|holder| holder.taken_at),
        alive_at: holder.map(|holder| holder.alive_at),
        fixed,
    }
}

/// What a look found that led to these events, as far as they tell: not how many chunks it looked at, nor when somebody
/// was last heard of. `at` is when it was told.
pub(super) fn told(action: HealAction, at: Timestamp, events: &[Event]) -> Healed {
    let mut healed = Healed {
        action,
        chunks: 0,
        stuck: Vec::new(),
        duplicates: Vec::new(),
        more: 0,
    };
    for event in events {
        match event {
            Event::StuckDetected {
                attempt,
                units,
                reason,
                since,
                fixed,
                ..
            } => healed.stuck.push(StuckFinding {
                tier: attempt.tier,
                job: attempt.job.clone(),
                chunk: attempt.chunk,
                attempt: attempt.number,
                units: units.clone(),
                reason: *reason,
                since: *since,
                worker: attempt.worker.clone(),
                taken_at: None,
                alive_at: None,
                fixed: *fixed,
            }),
            Event::DuplicatesKilled {
                tier,
                job,
                units,
                kept,
                superseded,
                ..
            } => healed.duplicates.push(DuplicateFinding {
                tier: *tier,
                job: job.clone(),
                units: units.clone(),
                kept: kept.clone(),
                superseded: superseded.clone(),
                since: at,
            }),
            _ => {}
        }
    }
    healed.chunks = healed.stuck.len() as u64;
    healed
}

fn kill(
    batch: &BatchState,
    seen: &Seen,
    tier: impl Fn(TierNum) -> bool,
    wanted: impl Fn(&Superseded) -> bool,
) -> (Vec<Event>, Healed) {
    let mut jobs: BTreeMap<(TierNum, &JobName, Option<&Execution>), DuplicateFinding> =
        BTreeMap::new();
    let (mut told, mut more) = (0, 0);
    for one in seen
        .duplicates
        .iter()
        .filter(|one| tier(one.tier) && wanted(one))
    {
        if running_job(batch, one.tier, &one.job).is_none() {
            continue;
        }
        if told >= HEAL_FINDINGS {
            more += 1;
            continue;
        }
        told += 1;
        let finding = jobs
            .entry((one.tier, &one.job, one.kept.as_ref()))
            .or_insert_with(|| DuplicateFinding {
                tier: one.tier,
                job: one.job.clone(),
                units: UnitSet::new(),
                kept: one.kept.clone(),
                superseded: Vec::new(),
                since: one.since,
            });
        finding.units.add(&one.units);
        finding.superseded.push(one.execution.clone());
        finding.since = finding.since.min(one.since);
    }
    let duplicates: Vec<DuplicateFinding> = jobs.into_values().collect();
    let events = duplicates.iter().map(|found| Event::DuplicatesKilled {
        tier: found.tier,
        job: found.job.clone(),
        units: found.units.clone(),
        kept: found.kept.clone(),
        superseded: found.superseded.clone(),
        last: true,
    });
    let events = events.collect();
    let healed = Healed {
        action: HealAction::KillDuplicates,
        chunks: seen.out.iter().filter(|out| tier(out.tier)).count() as u64,
        stuck: Vec::new(),
        duplicates,
        more,
    };
    (events, healed)
}
