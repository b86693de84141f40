use super::story::*;
use crate::{
    command::{Command, Pause, Resume},
    decide,
    event::Cause,
    failure::{Failure, FailureKind},
    pause::Outage,
    status::BatchStatus,
    time::Millis,
    units::UnitSet,
    work::Outcome,
};

fn outage(story: &Story) -> Option<&Outage> {
    story.job(0, "a").paused.as_ref()?.outage()
}

/// A report that came when its job's breaker had seen enough.
fn opened_by(mut story: Story, outcome: &Outcome) -> Story {
    let tally = decide::tally(story.state(), outcome).expect("it counts");
    let seen = (tally.failed, tally.ended);
    let event = decide::open(outcome, &tally, seen, story.now.at).expect("there is a breaker");
    story.fold(event, Cause::Chunk(outcome.chunk));
    story.reported(outcome)
}

fn report(story: &Story, units: std::ops::Range<u32>, failure: Failure) -> Outcome {
    let report = story.report(0, "a").failed_with(units, failure);
    report.attempt(1).outcome
}

fn away() -> Failure {
    Failure::new(FailureKind::UNAVAILABLE, "nobody there")
}

/// Ten of a hundred documents were tried in vain.
fn open() -> Story {
    let story = given("a").documents(100);
    let outcome = report(&story, 0..10, away());
    opened_by(story, &outcome)
}

#[test]
fn the_report_that_opens_it_burns_no_attempt() {
    let story = open().status(BatchStatus::Running).open(0, "a", 0..100);
    let it = outage(&story).expect("it is open");
    assert_eq!((it.failed, it.of, it.probes), (10, 10, 0));
    assert_eq!(it.until, story.now.at.plus(Millis::seconds(15)));
    assert_eq!(it.message, "nobody there");
    assert!(story.job(0, "a").spent.units().is_empty());
    assert_eq!(
        story.job(0, "a").attempts.units(),
        units(0..10),
        "late reports are known"
    );
}

#[test]
fn what_was_out_when_it_opened_burns_none_and_is_no_probe() {
    let story = open();
    let before = story.job(0, "a").paused.clone();
    let story = story
        .fails(0, "a", 10..20, FailureKind::NETWORK)
        .events(&["documents.attempt_failed.transient.network"])
        .done(0, "a", 20..21)
        .events(&["documents.completed"]);
    assert_eq!(story.job(0, "a").paused, before);
    assert!(story.job(0, "a").spent.units().is_empty());
    // What is the document's own fault is no outage.
    let story = story.fails(0, "a", 21..22, FailureKind::CRASHED).fails(
        0,
        "a",
        22..23,
        FailureKind::REJECTED,
    );
    assert_eq!(story.job(0, "a").spent.units(), [21].into());
    assert_eq!(story.job(0, "a").all_failed(), [22].into());
}

#[test]
fn a_probe_that_fails_doubles_the_wait_and_one_that_succeeds_ends_it() {
    let mut story = open();
    let since = story.job(0, "a").paused.clone().expect("it is paused").at;
    for (probe, wait) in [(1, 30), (2, 60), (3, 120), (4, 240), (5, 300), (6, 300)] {
        let at = outage(&story).expect("it is open").until;
        story.now.at = at;
        story = story.fails(0, "a", 0..1, FailureKind::TIMEOUT).events(&[
            "documents.attempt_failed.transient.timeout",
            "dispatch.paused",
        ]);
        let it = outage(&story).expect("it is open");
        assert_eq!(
            (it.probes, it.until),
            (probe, at.plus(Millis::seconds(wait)))
        );
        assert_eq!((it.failed, &it.kind), (10, &FailureKind::TIMEOUT));
    }
    let paused = story.job(0, "a").paused.clone().expect("it is paused");
    assert_eq!(paused.at, since, "it is the same outage");
    assert!(story.job(0, "a").spent.units().is_empty());
    story.now.at = outage(&story).expect("it is open").until;
    let story = story
        .done(0, "a", 0..1)
        .events(&["documents.completed", "dispatch.resumed"]);
    assert_eq!(story.job(0, "a").paused, None);
    // From here on attempts count again.
    let story = story.fails(0, "a", 50..51, FailureKind::NETWORK);
    assert_eq!(story.job(0, "a").spent.units(), [50].into());
}

#[test]
fn who_refuses_a_document_is_there_and_what_ends_for_the_machines_sake_says_nothing() {
    let story = open().later(Millis::seconds(15));
    let story = story
        .fails(0, "a", 0..1, FailureKind::PREEMPTED)
        .events(&["documents.attempt_failed.transient.preempted"]);
    let story = story
        .fails(0, "a", 1..2, FailureKind::OUT_OF_MEMORY)
        .events(&["documents.attempt_failed.transient.out_of_memory"]);
    assert!(outage(&story).is_some());
    story
        .fails(0, "a", 0..1, FailureKind::REJECTED)
        .events(&["documents.failed.permanent.rejected", "dispatch.resumed"]);
}

#[test]
fn the_other_side_may_ask_for_a_longer_wait() {
    let asks = |wait| {
        let story = given("a").documents(100);
        let failure = Failure::new(FailureKind::RATE_LIMITED, "slow down");
        let outcome = report(
            &story,
            0..10,
            failure.with_retry_after(Millis::seconds(wait)),
        );
        let story = opened_by(story, &outcome);
        outage(&story)
            .expect("it is open")
            .until
            .since(story.now.at)
    };
    assert_eq!(asks(3), Millis::seconds(15));
    assert_eq!(asks(100), Millis::seconds(100));
    assert_eq!(asks(86_400), Millis::seconds(300));
}

#[test]
fn somebody_may_go_on_at_once_or_hold_it_up_for_good() {
    let resume = Command::Resume(Resume::default());
    let story = open()
        .command(resume)
        .accepted()
        .events(&["dispatch.resumed"]);
    assert_eq!(outage(&story), None);

    let pause = Command::Pause(Pause::default());
    let story = open()
        .command(pause.clone())
        .accepted()
        .events(&["dispatch.paused"]);
    assert_eq!(outage(&story), None);
    let story = story
        .later(Millis::seconds(60))
        .done(0, "a", 0..1)
        .events(&["documents.completed"]);
    assert!(story.job(0, "a").paused.is_some(), "nobody resumed it");
    story.command(pause).repeated();

    let story = open().later(Millis::seconds(15));
    let story = story.fails(0, "a", 0..1, FailureKind::MISCONFIGURED);
    let paused = story.job(0, "a").paused.clone().expect("it is paused");
    assert!(paused.waits_for_somebody(), "{}", paused.reason);
}

#[test]
fn only_what_ended_counts_and_only_where_there_is_a_breaker() {
    let story = given("a").documents(100);
    let mut outcome = report(&story, 0..10, away());
    outcome.completed = units(10..15);
    outcome.returned = units(15..20);
    let preempted = Failure::new(FailureKind::PREEMPTED, "taken away");
    let refused = Failure::new(FailureKind::REJECTED, "no");
    for (units, failure) in [([20].into(), preempted), ([21].into(), refused)] {
        outcome
            .failures
            .push(crate::work::FailedUnits { units, failure });
    }
    let tally = decide::tally(story.state(), &outcome).expect("it counts");
    assert_eq!((tally.ended, tally.failed, tally.slowed), (16, 10, 0));
    assert_eq!(tally.last, Some(away()));
    // A second report of the same attempt is none.
    let story = story.reported(&outcome);
    assert_eq!(decide::tally(story.state(), &outcome), None);
    let mut story = given("a").documents(100);
    let batch = story.batch.as_mut().expect("there is a batch");
    let mut pipeline = (*batch.pipeline).clone();
    pipeline.tiers[0].jobs[0].breaker = None;
    batch.pipeline = pipeline.into();
    let tally = decide::tally(story.state(), &outcome).expect("it counts");
    assert_eq!(decide::open(&outcome, &tally, (10, 10), story.now.at), None);
    let slow = report(&story, 0..3, Failure::new(FailureKind::TIMEOUT, "too long"));
    assert_eq!(
        decide::tally(story.state(), &slow).map(|it| it.slowed),
        Some(3)
    );
}

#[test]
fn probes_are_spread_over_all_that_is_open() {
    let mut outage = outage(&open()).expect("it is open").clone();
    let open: UnitSet = (0..1_000).map(|n| n * 3).collect();
    let mut probed: Vec<u32> = (0..8)
        .map(|probes| {
            outage.probes = probes;
            decide::probed_unit(&outage, &open).expect("there are some")
        })
        .collect();
    assert_eq!(probed[0], 0);
    probed.sort_unstable();
    let gaps: Vec<u32> = probed.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.iter().all(|gap| *gap > 150), "{probed:?}");
    outage.probes = u32::MAX;
    assert!(decide::probed_unit(&outage, &open).is_some());
    assert_eq!(decide::probed_unit(&outage, &UnitSet::new()), None);
}
