use super::story::*;
use crate::{
    event::Event,
    failure::{Failure, FailureClass, FailureKind},
    limits::{ATTEMPTS_EVER, RETRY_AFTER_MS},
    status::BatchStatus,
    time::{Millis, Timestamp},
};

#[track_caller]
fn due_in(story: &Story, name: &str) -> Millis {
    match story.event(name) {
        Event::AttemptFailed { retry_at, .. } => retry_at.since(story.now.at),
        other => panic!("{other:?}"),
    }
}

const AGAIN: &str = "documents.attempt_failed.transient.network";
const FINAL: &str = "documents.failed.transient.network";

#[test]
fn a_transient_failure_is_repeated_with_growing_waits_until_the_budget_is_spent() {
    let story = given("a")
        .documents(2)
        .fails(0, "a", 0..2, FailureKind::NETWORK)
        .events(&[AGAIN]);
    assert_eq!(due_in(&story, AGAIN), Millis(1_000));
    assert!(story.job(0, "a").ready(story.now.at).is_empty());
    assert_eq!(
        story.job(0, "a").next_due(story.now.at),
        Some(Timestamp(1_001_000))
    );
    let story = story.later(Millis(1_000));
    assert_eq!(story.job(0, "a").ready(story.now.at), units(0..2));
    let story = story
        .fails(0, "a", 0..2, FailureKind::NETWORK)
        .events(&[AGAIN]);
    assert_eq!(due_in(&story, AGAIN), Millis(2_000));
    let story = story
        .later(Millis(2_000))
        .fails(0, "a", 0..2, FailureKind::NETWORK)
        .events(&[FINAL, "tier.completed", "batch.completed"])
        .status(BatchStatus::Failed);
    assert_eq!(story.job(0, "a").failed_attempts, 6);
    assert_eq!(story.job(0, "a").executed, 6);
    assert_eq!(story.job(0, "a").attempts.get(1), 3);
}

#[test]
fn jitter_shortens_the_wait_by_the_random_number_that_was_given() {
    let story = given("a")
        .documents(1)
        .random(u64::MAX)
        .fails(0, "a", 0..1, FailureKind::NETWORK);
    let wait = due_in(&story, AGAIN);
    assert!((500..=501).contains(&wait.0), "{wait:?}");
}

#[test]
fn those_that_failed_alike_in_one_report_stand_in_one_event_whatever_their_messages() {
    let story = given("a")
        .documents(50)
        .random(12_345)
        .outcome(0, "a", |report| {
            (0..50).fold(report, |report, i| {
                let failure = Failure::new(FailureKind::NETWORK, format!("document {i}"));
                report.failed_with(i..i + 1, failure)
            })
        });
    story.events(&[AGAIN]);
}

#[test]
fn a_wait_that_the_other_side_asked_for_is_kept_but_has_a_limit() {
    let asking = |wait| failure(FailureKind::NETWORK).with_retry_after(wait);
    let story = given("a").documents(1).outcome(0, "a", |report| {
        report.failed_with(0..1, asking(Millis::seconds(30)))
    });
    assert_eq!(due_in(&story, AGAIN), Millis::seconds(30));
    let story = given("a").documents(1).outcome(0, "a", |report| {
        report.failed_with(0..1, asking(Millis(u64::MAX)))
    });
    assert_eq!(due_in(&story, AGAIN), Millis(RETRY_AFTER_MS));
    let story = given("a")
        .documents(1)
        .outcome(0, "a", |report| report.failed_with(0..1, asking(Millis(1))));
    assert_eq!(due_in(&story, AGAIN), Millis(1_000));
}

#[test]
fn what_nobody_can_explain_is_tried_twice() {
    given("a")
        .documents(1)
        .fails(0, "a", 0..1, FailureKind::CRASHED)
        .events(&["documents.attempt_failed.unknown.crashed"])
        .fails(0, "a", 0..1, FailureKind::CRASHED)
        .events(&[
            "documents.failed.unknown.crashed",
            "tier.completed",
            "batch.completed",
        ]);
}

#[test]
fn a_permanent_failure_is_not_repeated() {
    given("a")
        .documents(2)
        .fails(0, "a", 0..1, FailureKind::MISSING_FIELD)
        .events(&["documents.failed.permanent.missing_field"])
        .outcome(0, "a", |report| {
            let own = failure(FailureKind::TIMEOUT).with_class(FailureClass::Permanent);
            report.failed_with(1..2, own)
        })
        .events(&[
            "documents.failed.permanent.timeout",
            "tier.completed",
            "batch.completed",
        ]);
}

#[test]
fn a_machine_that_was_taken_away_costs_nothing_of_the_budget() {
    let mut story = given("a").documents(1);
    for _ in 0..5 {
        story = story.fails(0, "a", 0..1, FailureKind::PREEMPTED);
        assert_eq!(
            due_in(&story, "documents.attempt_failed.transient.preempted"),
            Millis(0)
        );
    }
    story = story
        .worker_lost(0, "a", 0..1)
        .events(&["infrastructure.worker_lost"])
        .fails(0, "a", 0..1, FailureKind::OUT_OF_MEMORY)
        .events(&["documents.attempt_failed.transient.out_of_memory"])
        .fails(0, "a", 0..1, FailureKind::NETWORK)
        .fails(0, "a", 0..1, FailureKind::NETWORK)
        .events(&[AGAIN]);
    assert_eq!(story.job(0, "a").attempts.get(0), 9);
    assert_eq!(story.job(0, "a").strikes.get(0), 2);
    assert_eq!(story.job(0, "a").lost, 1);
    story
        .fails(0, "a", 0..1, FailureKind::NETWORK)
        .status(BatchStatus::Failed);
}

#[test]
fn what_is_always_preempted_fails_in_the_end() {
    let mut story = given("a").documents(1);
    for _ in 1..ATTEMPTS_EVER {
        story = story.fails(0, "a", 0..1, FailureKind::PREEMPTED);
    }
    story
        .fails(0, "a", 0..1, FailureKind::PREEMPTED)
        .status(BatchStatus::Failed);
}

#[test]
fn units_with_different_histories_are_disposed_of_each_by_its_own() {
    let story = given("a")
        .documents(2)
        .fails(0, "a", 0..1, FailureKind::NETWORK)
        .worker_lost(0, "a", 1..2)
        .fails(0, "a", 0..2, FailureKind::NETWORK)
        .events(&[AGAIN, AGAIN]);
    assert_eq!(story.job(0, "a").spent.get(0), 2);
    assert_eq!(story.job(0, "a").spent.get(1), 1);
    let name = FINAL;
    story
        .fails(0, "a", 0..2, FailureKind::NETWORK)
        .events(&[AGAIN, name]);
}
