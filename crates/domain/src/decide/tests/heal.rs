use std::ops::Range;

use uuid::Uuid;

use super::story::*;
use crate::{
    command::{Accepted, Command, Heal},
    decide::heal_by_itself,
    event::{Cause, Event},
    failure::FailureKind,
    heal::{Execution, HealAction, Healed, Holder, Out, Running, Seen, StuckReason, Superseded},
    ids::{ChunkId, JobName, WorkerId},
    limits::HEAL_FINDINGS,
    status::BatchStatus,
    time::{Millis, Timestamp},
    units::UnitSet,
};

/// The moment of all that is seen, in seconds.
const NOW: i64 = 10_000;

fn at(seconds_ago: i64) -> Timestamp {
    Timestamp((NOW - seconds_ago) * 1_000)
}

fn worker(name: &str) -> WorkerId {
    WorkerId::new(name).unwrap()
}

/// A chunk of job `a` in tier 0 in its first attempt, that a live worker took so long ago and of which nothing was seen
/// since.
fn out(chunk: u128, range: Range<u32>, seconds_ago: i64) -> Out {
    Out {
        tier: 0,
        job: JobName::new("a").unwrap(),
        attempt: 1,
        chunk: ChunkId(Uuid::from_u128(chunk)),
        units: units(range.clone()),
        passed_over_since: None,
        holder: Some(Holder {
            worker: worker("w1"),
            heard_at: Some(at(0)),
            taken_at: at(seconds_ago),
            alive_at: at(seconds_ago),
            running: Some(Running {
                units: units(range),
                since: at(seconds_ago),
            }),
        }),
    }
}

fn seen(out: Vec<Out>) -> Seen {
    Seen {
        at: at(0),
        silence: Millis::seconds(4),
        out,
        duplicates: Vec::new(),
    }
}

fn detect(seen: Seen) -> Heal {
    Heal {
        seen,
        ..Heal::new(HealAction::DetectStuck)
    }
}

fn healed(story: &Story) -> Healed {
    let accepted: &Accepted = story.answer();
    accepted.heal.clone().expect("it was looked for")
}

fn reasons(story: &Story) -> Vec<(StuckReason, bool)> {
    let stuck = healed(story).stuck;
    stuck.iter().map(|it| (it.reason, it.fixed)).collect()
}

/// Timeouts are 300 seconds, and there are 3 attempts.
fn running_batch() -> Story {
    given("a | b").documents(10)
}

#[test]
fn what_gets_on_is_not_stuck() {
    let story = running_batch()
        .command(Command::Heal(detect(seen(vec![out(1, 0..5, 30)]))))
        .accepted()
        .and_nothing_happens();
    assert_eq!(healed(&story).chunks, 1);
    assert_eq!(reasons(&story), []);
}

#[test]
fn what_is_past_its_deadline_is_told_of_and_with_fix_handed_out_again() {
    let look = detect(seen(vec![out(1, 0..1, 311), out(2, 1..2, 309)]));
    let story = running_batch()
        .command(Command::Heal(look.clone()))
        .accepted()
        .events(&["heal.stuck_detected", "heal.stuck_detected"]);
    assert_eq!(
        reasons(&story),
        [
            (StuckReason::PastDeadline, false),
            // A minute without a word is told of, too.
            (StuckReason::NoSignOfLife, false)
        ]
    );
    assert!(story.job(0, "a").attempts.units().is_empty());
    let story = story
        .command(Command::Heal(Heal { fix: true, ..look }))
        .accepted();
    assert_eq!(
        reasons(&story),
        [
            (StuckReason::PastDeadline, true),
            // Perhaps it is well: only who names a time means it.
            (StuckReason::NoSignOfLife, false)
        ]
    );
    let found = &healed(&story).stuck[0];
    assert_eq!((found.since, found.alive_at), (at(11), Some(at(311))));
    let job = story.job(0, "a");
    assert_eq!((job.attempts.get(0), job.attempts.get(1)), (1, 0));
    assert_eq!((job.superseded, job.lost), (1, 0));
    // What the stuck worker says after all is refused, and what the other one says counts.
    let late = story.report(0, "a").done(0..1).attempt(1).outcome.clone();
    let story = story.reported(&late).superseded(1);
    story.done(0, "a", 0..10).status(BatchStatus::Running);
}

#[test]
fn a_command_of_several_events_is_carried_out_once() {
    let look = detect(seen(vec![out(1, 0..1, 315), out(2, 1..2, 315)]));
    let fix = Command::Heal(Heal { fix: true, ..look });
    let story = running_batch().command_with_id(5, &fix).accepted();
    assert_eq!(healed(&story).stuck.len(), 2);
    story.command_with_id(5, &fix).repeated();
}

#[test]
fn a_unit_that_is_past_its_deadline_again_and_again_has_timed_out_for_good() {
    let mut story = given("a").documents(2);
    for attempt in 1..=3 {
        let mut it = out(attempt, 0..2, 320);
        it.attempt = u32::try_from(attempt).unwrap();
        // Unit 1 is only in its company.
        if let Some(Running { units, .. }) = it.holder.as_mut().unwrap().running.as_mut() {
            units.remove(&[1].into());
        }
        let events = heal_by_itself(story.state(), &seen(vec![it]));
        story.append(events, Cause::State);
    }
    let story = story.events(&[
        "documents.failed.transient.timeout",
        "heal.stuck_detected",
        "heal.stuck_detected",
    ]);
    let job = story.job(0, "a");
    let failed: Vec<_> = job.failed_by_kind().map(|(_, kind, _)| kind).collect();
    assert_eq!(failed, [&FailureKind::TIMEOUT]);
    assert_eq!(
        (job.all_failed(), job.open.clone()),
        ([0].into(), [1].into())
    );
    assert_eq!((job.attempts.get(1), job.spent.get(1)), (3, 0));
    story.done(0, "a", 1..2).counts(1, 1, 0, 0);
}

#[test]
fn what_nobody_alive_has_is_stuck() {
    let silent = |holder: &mut Holder, heard_at| holder.heard_at = heard_at;
    let mut silence = out(1, 0..1, 8);
    silent(silence.holder.as_mut().unwrap(), Some(at(5)));
    let mut forgotten = out(2, 1..2, 8);
    silent(forgotten.holder.as_mut().unwrap(), None);
    let mut blinking = out(3, 2..3, 8);
    silent(blinking.holder.as_mut().unwrap(), Some(at(3)));
    let passed_over = |chunk, unit, since| Out {
        holder: None,
        passed_over_since: since,
        ..out(chunk, unit..unit + 1, 8)
    };
    let seen = seen(vec![
        silence,
        forgotten,
        blinking,
        passed_over(4, 3, Some(at(15))),
        passed_over(5, 4, Some(at(14))),
        passed_over(6, 5, None),
    ]);
    let mut story = running_batch();
    let events = heal_by_itself(story.state(), &seen);
    let chunks: Vec<_> = events.iter().map(chunk_of).collect();
    assert_eq!(chunks, [1, 2, 4]);
    story.append(events, Cause::State);
    assert_eq!(story.job(0, "a").attempts.units(), [0, 1, 3].into());
    assert!(
        story.job(0, "a").spent.units().is_empty(),
        "it costs no attempt"
    );
}

fn chunk_of(event: &Event) -> u128 {
    match event {
        Event::StuckDetected {
            attempt,
            fixed: true,
            reason: StuckReason::NoOwner,
            ..
        } => attempt.chunk.0.as_u128(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_that_does_not_say_what_runs_is_given_longer() {
    let untold = |chunk, range: Range<u32>, seconds_ago| {
        let mut it = out(chunk, range, seconds_ago);
        it.holder.as_mut().unwrap().running = None;
        it
    };
    let look = seen(vec![untold(1, 0..3, 629), untold(2, 3..6, 631)]);
    let events = heal_by_itself(running_batch().state(), &look);
    let [
        Event::StuckDetected {
            units: found,
            counted,
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    // Which of the three has had its time is not known.
    assert_eq!((found, counted), (&units(3..6), &UnitSet::new()));
    // One that says of nothing that it runs is held up before it could say so.
    let idle = |seconds_ago| {
        let mut it = out(1, 0..1, seconds_ago);
        let running = it.holder.as_mut().unwrap().running.as_mut();
        running.unwrap().units = UnitSet::new();
        heal_by_itself(running_batch().state(), &seen(vec![it])).len()
    };
    assert_eq!((idle(629), idle(631)), (0, 1));
}

#[test]
fn no_sign_of_life_is_for_who_asks() {
    let quiet = seen(vec![out(1, 0..1, 20)]);
    let story = running_batch();
    assert_eq!(heal_by_itself(story.state(), &quiet), []);
    let ask = |idle, fix| {
        Command::Heal(Heal {
            idle_seconds: Some(idle),
            fix,
            ..detect(quiet.clone())
        })
    };
    let story = story.command(ask(21, true)).and_nothing_happens();
    let story = story
        .command(ask(20, true))
        .events(&["heal.stuck_detected"]);
    assert_eq!(reasons(&story), [(StuckReason::NoSignOfLife, true)]);
    assert!(story.job(0, "a").spent.units().is_empty());
}

#[test]
fn what_is_not_outstanding_any_more_is_not_stuck() {
    let seen = seen(vec![out(1, 0..5, 500)]);
    let story = running_batch().done(0, "a", 0..5);
    assert_eq!(heal_by_itself(story.state(), &seen), []);
    let story = running_batch().worker_lost(0, "a", 0..5);
    assert_eq!(heal_by_itself(story.state(), &seen), []);
    let story = running_batch().command(cancel());
    assert_eq!(heal_by_itself(story.state(), &seen), []);
    story
        .command(Command::Heal(Heal {
            fix: true,
            ..detect(seen)
        }))
        .accepted()
        .and_nothing_happens();
}

#[test]
fn only_the_tier_that_was_named_is_looked_at() {
    let look = |tier| {
        Command::Heal(Heal {
            tier: Some(tier),
            ..detect(seen(vec![out(1, 0..1, 500)]))
        })
    };
    let story = running_batch()
        .command(look(1))
        .accepted()
        .and_nothing_happens();
    story
        .command(look(0))
        .events(&["heal.stuck_detected"])
        .command(look(2))
        .refused("invalid", "tiers 0 to 1");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let kill = Heal::new(HealAction::KillDuplicates);
    let wrong = [
        (
            Heal {
                fix: true,
                ..kill.clone()
            },
            "fix",
        ),
        (
            Heal {
                idle_seconds: Some(5),
                ..kill
            },
            "idle_seconds",
        ),
        (
            Heal {
                idle_seconds: Some(0),
                ..Heal::new(HealAction::DetectStuck)
            },
            "1 to 86400",
        ),
    ];
    for (heal, words) in wrong {
        running_batch()
            .command(Command::Heal(heal))
            .refused("invalid", words);
    }
}

fn execution(name: &str, chunk: u128, attempt: u32) -> Execution {
    Execution {
        worker: worker(name),
        chunk: ChunkId(Uuid::from_u128(chunk)),
        attempt,
    }
}

fn superseded(name: &str, chunk: u128, range: Range<u32>, told: bool) -> Superseded {
    Superseded {
        tier: 0,
        job: JobName::new("a").unwrap(),
        units: units(range),
        execution: execution(name, chunk, 1),
        kept: Some(execution("w9", 9, 2)),
        since: at(2),
        told,
    }
}

#[test]
fn executions_that_do_not_count_are_told_of_once_by_itself_and_whenever_somebody_asks() {
    let mut seen = seen(vec![]);
    seen.duplicates = vec![
        superseded("w1", 1, 0..3, false),
        superseded("w2", 2, 2..5, true),
    ];
    let mut story = running_batch();
    let events = heal_by_itself(story.state(), &seen);
    let [Event::DuplicatesKilled { superseded, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(*superseded, [execution("w1", 1, 1)]);
    let before = story.job(0, "a").clone();
    story.append(events, Cause::State);
    assert_eq!(*story.job(0, "a"), before, "it changes nothing");
    let story = story.command(Command::Heal(Heal {
        seen,
        ..Heal::new(HealAction::KillDuplicates)
    }));
    let story = story.accepted().events(&["heal.duplicates_killed"]);
    let found = &healed(&story).duplicates;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].units, units(0..5));
    assert_eq!(found[0].kept, Some(execution("w9", 9, 2)));
    assert_eq!(found[0].superseded.len(), 2);
}

#[test]
fn one_look_deals_with_a_bounded_number_and_says_that_there_is_more() {
    let count = u32::try_from(HEAL_FINDINGS).unwrap() + 7;
    let all = (0..count).map(|n| out(u128::from(n), n..n + 1, 500));
    let story = given("a")
        .documents(count)
        .command(Command::Heal(Heal {
            fix: true,
            ..detect(seen(all.collect()))
        }))
        .accepted();
    let healed = healed(&story);
    assert_eq!((healed.stuck.len(), healed.more), (HEAL_FINDINGS, 7));
}
