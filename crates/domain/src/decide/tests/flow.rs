use super::story::*;
use crate::{failure::FailureKind, status::BatchStatus};

#[test]
fn documents_stream_from_tier_to_tier() {
    given("a | b")
        .documents(10)
        .done(0, "a", 0..3)
        .events(&["documents.completed", "tier.started"])
        .open(0, "a", 3..10)
        .open(1, "b", 0..3)
        .done(1, "b", 0..3)
        .events(&["documents.completed"])
        .tier_status(1, BatchStatus::Running)
        .done(0, "a", 3..10)
        .events(&["documents.completed", "tier.completed"])
        .done(1, "b", 3..10)
        .events(&["documents.completed", "tier.completed", "batch.completed"])
        .status(BatchStatus::Completed)
        .counts(10, 0, 0, 0);
}

#[test]
fn behind_a_barrier_they_wait_for_the_whole_tier() {
    given("a | !b")
        .documents(10)
        .done(0, "a", 0..9)
        .events(&["documents.completed"])
        .open(1, "b", 0..0)
        .fails(0, "a", 9..10, FailureKind::INVALID_DATA)
        .events(&[
            "documents.failed.permanent.invalid_data",
            "tier.completed",
            "tier.started",
        ])
        .tier_status(0, BatchStatus::CompletedWithFailures)
        .open(1, "b", 0..9)
        .done(1, "b", 0..9)
        .events(&["documents.completed", "tier.completed", "batch.completed"])
        .status(BatchStatus::CompletedWithFailures)
        .counts(9, 1, 0, 0);
}

#[test]
fn a_document_goes_on_when_both_jobs_of_its_tier_succeeded() {
    given("a b | c")
        .documents(4)
        .done(0, "a", 0..4)
        .open(1, "c", 0..0)
        .done(0, "b", 1..3)
        .open(1, "c", 1..3)
        .outcome(0, "b", |report| report.skipped(0..1).done(3..4))
        .open(1, "c", 0..4);
}

#[test]
fn where_one_of_two_jobs_fails_the_other_goes_on_and_a_retry_touches_the_failed_one_alone() {
    given("a b | c")
        .documents(2)
        .fails(0, "a", 0..1, FailureKind::INVALID_DATA)
        .open(0, "b", 0..2)
        .done(0, "a", 1..2)
        .done(0, "b", 0..2)
        .counts(0, 1, 0, 1)
        .done(1, "c", 1..2)
        .status(BatchStatus::CompletedWithFailures)
        .retry(crate::command::Retry {
            retry_mode: crate::command::RetryMode::All,
            ..retry()
        })
        .events(&["documents.retry_scheduled", "tier.started"])
        .open(0, "a", 0..1)
        .open(0, "b", 0..0)
        .done(0, "a", 0..1)
        .open(1, "c", 0..1)
        .done(1, "c", 0..1)
        .status(BatchStatus::Completed)
        .counts(2, 0, 0, 0);
}

#[test]
fn where_everything_fails_the_batch_failed() {
    given("a | b")
        .documents(3)
        .fails(0, "a", 0..3, FailureKind::REJECTED)
        .events(&[
            "documents.failed.permanent.rejected",
            "tier.completed",
            "batch.completed",
        ])
        .status(BatchStatus::Failed)
        .tier_status(0, BatchStatus::Failed)
        .tier_status(1, BatchStatus::Pending);
}

#[test]
fn skipped_units_go_on_like_those_that_succeeded() {
    let story = given("a | b")
        .documents(2)
        .outcome(0, "a", |report| report.skipped(0..2))
        .open(1, "b", 0..2)
        .done(1, "b", 0..2)
        .status(BatchStatus::Completed)
        .counts(2, 0, 0, 0);
    assert_eq!(story.job(0, "a").skipped, units(0..2));
    assert!(story.job(0, "a").completed.is_empty());
}

#[test]
fn a_tier_ends_only_after_those_before_it() {
    given("a | b | !c")
        .documents(2)
        .done(0, "a", 0..1)
        .done(1, "b", 0..1)
        .tier_status(1, BatchStatus::Running)
        .fails(0, "a", 1..2, FailureKind::REJECTED)
        .events(&[
            "documents.failed.permanent.rejected",
            "tier.completed",
            "tier.completed",
            "tier.started",
        ])
        .open(2, "c", 0..1);
}
