use super::story::*;
use crate::{
    command::{Cancel, Command},
    event::Event,
    failure::FailureKind,
    status::BatchStatus,
};

fn half_way() -> Story {
    given("a | b")
        .documents(6)
        .done(0, "a", 0..3)
        .done(1, "b", 0..1)
        .fails(0, "a", 5..6, FailureKind::REJECTED)
        .counts(1, 1, 0, 4)
}

#[test]
fn after_a_cancellation_nothing_is_open() {
    let story = half_way().command(cancel()).events(&["batch.cancelled"]);
    assert_eq!(story.answer().cancelled_documents, Some(4));
    let story = story
        .status(BatchStatus::Cancelled)
        .counts(1, 1, 4, 0)
        .open(0, "a", 0..0)
        .open(1, "b", 0..0);
    assert_eq!(story.job(0, "a").cancelled, units(3..5));
    assert_eq!(story.job(1, "b").cancelled, units(1..3));
}

#[test]
fn a_cancelled_unit_never_counts_as_completed() {
    half_way()
        .command(cancel())
        .outcome(0, "a", |report| report.done(3..5).attempt(1))
        .superseded(2)
        .and_nothing_happens()
        .outcome(1, "b", |report| {
            report.failed(1..3, FailureKind::NETWORK).attempt(1)
        })
        .superseded(2)
        .and_nothing_happens()
        .counts(1, 1, 4, 0);
}

#[test]
fn units_that_wait_for_their_next_attempt_are_cancelled_too() {
    let story = given("a")
        .documents(1)
        .fails(0, "a", 0..1, FailureKind::NETWORK)
        .command(cancel());
    assert!(story.job(0, "a").due.is_empty());
    let story = story.counts(0, 0, 1, 0);
    assert_eq!(story.job(0, "a").next_due(story.now.at), None);
}

#[test]
fn a_cancellation_may_be_repeated_but_comes_too_late_after_the_end() {
    half_way().command(cancel()).command(cancel()).repeated();
    given("a")
        .documents(1)
        .done(0, "a", 0..1)
        .command(cancel())
        .refused(
            "conflict",
            "is over (completed): there is nothing to cancel",
        );
}

#[test]
fn a_batch_may_be_cancelled_before_it_is_submitted_and_takes_nothing_then() {
    given("a")
        .command(page(0, 2))
        .command(cancel())
        .counts(0, 0, 2, 0)
        .command(page(2, 1))
        .refused("conflict", "was cancelled: it cannot be added to")
        .command(submit())
        .refused("conflict", "was cancelled: it cannot be submitted");
}

#[test]
fn a_reason_is_kept_up_to_its_bound() {
    let reason = Some("é".repeat(2_000));
    let story = given("a").documents(1).command(Command::Cancel(Cancel {
        reason,
        ..Cancel::default()
    }));
    let Event::BatchCancelled { reason, documents } = story.event("batch.cancelled") else {
        panic!()
    };
    assert_eq!(reason.as_ref().unwrap().chars().count(), 1_000);
    assert_eq!(*documents, 1);
}
