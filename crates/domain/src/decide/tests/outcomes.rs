use super::story::*;
use crate::{
    command::{Retry, RetryMode},
    document::Output,
    event::Event,
    failure::FailureKind,
    packed::Packed,
    status::BatchStatus,
    time::Millis,
    units::UnitSet,
};

#[test]
fn a_units_outcome_is_accepted_once() {
    given("a | b")
        .documents(3)
        .done(0, "a", 0..2)
        .superseded(0)
        .outcome(0, "a", |report| report.done(0..3).attempt(1))
        .superseded(2)
        .outcome(0, "a", |report| {
            report.failed(0..3, FailureKind::REJECTED).attempt(1)
        })
        .superseded(3)
        .and_nothing_happens()
        .counts(0, 0, 0, 3);
}

#[test]
fn only_the_outstanding_attempt_counts() {
    let story = given("a")
        .documents(2)
        .fails(0, "a", 0..1, FailureKind::NETWORK);
    story
        .outcome(0, "a", |report| report.done(0..1).attempt(1))
        .superseded(1)
        .and_nothing_happens()
        .outcome(0, "a", |report| report.done(0..1).attempt(3))
        .superseded(1)
        .and_nothing_happens()
        .outcome(0, "a", |report| report.done(0..2).attempt(2))
        .superseded(1)
        .open(0, "a", 1..2);
}

#[test]
fn a_report_of_a_worker_thought_lost_changes_nothing() {
    given("a")
        .documents(2)
        .worker_lost(0, "a", 0..2)
        .events(&["infrastructure.worker_lost"])
        .outcome(0, "a", |report| report.done(0..2).attempt(1))
        .superseded(2)
        .and_nothing_happens()
        .outcome(0, "a", |report| report.done(0..2).attempt(2))
        .status(BatchStatus::Completed);
}

#[test]
fn losing_a_worker_twice_or_after_its_report_changes_nothing() {
    let mut story = given("a").documents(2).worker_lost(0, "a", 0..2);
    story.lose(0, "a", 1, units(0..2));
    let mut story = story.and_nothing_happens().done(0, "a", 0..1);
    story.lose(0, "a", 2, units(0..2));
    let Event::WorkerLost { units: lost, .. } = story.event("infrastructure.worker_lost") else {
        panic!()
    };
    assert_eq!(*lost, units(1..2));
}

#[test]
fn a_report_of_the_round_before_a_retry_changes_nothing() {
    let all = Retry {
        retry_mode: RetryMode::All,
        ..retry()
    };
    given("a")
        .documents(1)
        .fails(0, "a", 0..1, FailureKind::REJECTED)
        .retry(all)
        .outcome(0, "a", |report| report.done(0..1).attempt(1))
        .superseded(1)
        .and_nothing_happens()
        .status(BatchStatus::Running)
        .outcome(0, "a", |report| report.done(0..1).attempt(2))
        .status(BatchStatus::Completed);
}

#[test]
fn an_outcome_of_an_unknown_job_or_batch_is_superseded_whole() {
    given("a")
        .documents(3)
        .outcome(0, "z", |report| report.done(0..3))
        .superseded(3)
        .and_nothing_happens();
    given("a")
        .documents(3)
        .outcome(9, "a", |report| report.done(0..3))
        .superseded(3)
        .and_nothing_happens();
    let outcome = given("a").documents(3).report(0, "a").done(0..3).outcome;
    nothing()
        .reported(&outcome)
        .superseded(3)
        .and_nothing_happens();
}

#[test]
fn nothing_is_outstanding_before_the_batch_runs() {
    let story = given("a").command(page(0, 3));
    let mut outcome = story.report(0, "a").done(0..3).outcome;
    outcome.attempt = 1;
    story.reported(&outcome).superseded(3).and_nothing_happens();
}

#[test]
fn units_that_are_not_in_the_batch_are_superseded() {
    given("a")
        .documents(2)
        .done(0, "a", 0..5)
        .superseded(3)
        .counts(2, 0, 0, 0);
}

#[test]
fn a_chunk_may_be_reported_in_parts() {
    given("a")
        .documents(10)
        .done(0, "a", 0..4)
        .fails(0, "a", 4..5, FailureKind::REJECTED)
        .outcome(0, "a", |report| report.done(5..8).skipped(8..10))
        .status(BatchStatus::CompletedWithFailures)
        .counts(9, 1, 0, 0);
}

#[test]
fn one_report_makes_an_event_for_the_successes_and_one_for_each_kind_and_the_time_stands_once() {
    let story = given("a").documents(10).outcome(0, "a", |report| {
        report
            .done(0..4)
            .failed(4..5, FailureKind::REJECTED)
            .failed(5..6, FailureKind::NETWORK)
            .failed(6..7, FailureKind::REJECTED)
    });
    let story = story.events(&[
        "documents.completed",
        "documents.attempt_failed.transient.network",
        "documents.failed.permanent.rejected",
    ]);
    assert_eq!(story.job(0, "a").busy, Millis(5));
}

#[test]
fn a_unit_that_is_reported_in_two_ways_at_once_counts_as_the_first() {
    given("a")
        .documents(2)
        .outcome(0, "a", |report| {
            report
                .done(0..1)
                .skipped(0..2)
                .failed(0..2, FailureKind::REJECTED)
        })
        .events(&["documents.completed", "tier.completed", "batch.completed"])
        .counts(2, 0, 0, 0);
}

#[test]
fn units_given_back_stay_open_and_keep_their_attempt() {
    let story = given("a").documents(2);
    let mut outcome = story.report(0, "a").attempt(1).outcome;
    outcome.returned = UnitSet::from([0, 1]);
    story
        .reported(&outcome)
        .superseded(0)
        .and_nothing_happens()
        .outcome(0, "a", |report| report.done(0..2).attempt(1))
        .status(BatchStatus::Completed);
}

#[test]
fn outputs_of_superseded_units_are_left_out() {
    let story = given("a").documents(3).done(0, "a", 0..1);
    let mut outcome = story.report(0, "a").done(0..3).attempt(1).outcome;
    let output = |i| (i, Output::text(format!("{i}")));
    outcome.outputs = Some(Packed::new(&vec![output(0), output(2)]).unwrap());
    let story = story.reported(&outcome).superseded(1);
    let Event::DocumentsCompleted { outputs, .. } = story.event("documents.completed") else {
        panic!()
    };
    assert_eq!(outputs.as_ref().unwrap().open().unwrap(), vec![output(2)]);
    assert_eq!(story.job(0, "a").outputs.units(), units(1..3));
}
