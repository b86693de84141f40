use super::story::*;
use crate::{
    command::{Retried, Retry, RetryMode},
    failure::{FailureClass, FailureKind},
    status::BatchStatus,
};

fn all() -> Retry {
    Retry {
        retry_mode: RetryMode::All,
        ..retry()
    }
}

fn in_tiers(tiers: &[u16]) -> Retry {
    Retry {
        tier_nums: Some(tiers.to_vec()),
        ..all()
    }
}

#[track_caller]
fn retried(story: &Story) -> Retried {
    story.answer().retry.clone().expect("the answer of a retry")
}

/// Documents 0 and 1 failed in tier 0, one of them for good; 2 failed for good in tier 1; 3 is through.
fn three_failed() -> Story {
    let mut story = given("a | b").documents(4);
    for _ in 0..3 {
        story = story.fails(0, "a", 0..1, FailureKind::NETWORK);
    }
    story
        .fails(0, "a", 1..2, FailureKind::REJECTED)
        .done(0, "a", 2..4)
        .fails(1, "b", 2..3, FailureKind::NOT_FOUND)
        .done(1, "b", 3..4)
        .status(BatchStatus::CompletedWithFailures)
        .counts(1, 3, 0, 0)
}

#[test]
fn by_itself_a_retry_takes_transient_failures_alone() {
    let story = three_failed().retry(retry()).accepted().open(0, "a", 0..1);
    let told = retried(&story);
    assert_eq!((told.documents, told.units), (1, 1));
    assert_eq!(told.excluded.class, [(FailureClass::Permanent, 2)].into());
    assert_eq!(told.by_kind, [(FailureKind::NETWORK, 1)].into());
    story
        .status(BatchStatus::Running)
        .done(0, "a", 0..1)
        .done(1, "b", 0..1)
        .events(&["documents.completed", "tier.completed", "batch.completed"])
        .counts(2, 2, 0, 0);
}

#[test]
fn a_retry_of_all_takes_all() {
    let story = three_failed()
        .retry(all())
        .open(0, "a", 0..2)
        .open(1, "b", 2..3);
    let told = retried(&story);
    assert_eq!(told.by_tier, [(0, 2), (1, 1)].into());
    assert_eq!(told.excluded.total(), 0);
    story.counts(1, 0, 0, 3);
}

#[test]
fn a_retry_may_name_tiers_and_an_empty_list_means_all_of_them() {
    let story = three_failed()
        .retry(in_tiers(&[1]))
        .open(0, "a", 0..0)
        .open(1, "b", 2..3);
    assert_eq!(retried(&story).excluded.tier, 2);
    let story = three_failed().retry(in_tiers(&[]));
    assert_eq!(retried(&story).units, 3);
    let story = three_failed().retry(in_tiers(&[1, 0, 1]));
    assert_eq!(retried(&story).units, 3);
}

#[test]
fn a_retry_has_bounds_and_all_errors_name_their_field() {
    let wrong = Retry {
        max_retry_count: 0,
        max_retries: Some(4),
        ..in_tiers(&[0, 2])
    };
    for words in [
        "max_retry_count: is 0: it takes 1 to 10",
        "max_retries: is 4: it takes 1 to 3",
        "tier_nums[1]: is 2: the batch has tiers 0 to 1",
    ] {
        three_failed()
            .command(crate::command::Command::Retry(wrong.clone()))
            .refused("invalid", words);
    }
    given("a")
        .retry(Retry {
            max_retry_count: 11,
            ..retry()
        })
        .refused("invalid", "max_retry_count");
    given("a")
        .retry(Retry {
            max_retries: Some(0),
            ..retry()
        })
        .refused("invalid", "max_retries");
}

#[test]
fn documents_retried_too_often_are_left_out_and_counted() {
    let once = Retry {
        max_retry_count: 1,
        ..all()
    };
    let story = given("a")
        .documents(2)
        .fails(0, "a", 0..1, FailureKind::REJECTED);
    let story = story
        .retry(once.clone())
        .fails(0, "a", 0..2, FailureKind::REJECTED);
    let story =
        story
            .fails(0, "a", 0..1, FailureKind::REJECTED)
            .fails(0, "a", 1..2, FailureKind::REJECTED);
    let story = story
        .status(BatchStatus::Failed)
        .retry(once.clone())
        .open(0, "a", 1..2);
    let told = retried(&story);
    assert_eq!((told.documents, told.excluded.retry_limit), (1, 1));
    let story = story.fails(0, "a", 1..2, FailureKind::REJECTED).retry(once);
    let story = story
        .events(&["documents.retry_scheduled"])
        .status(BatchStatus::Failed);
    assert_eq!(retried(&story).excluded.retry_limit, 2);
}

#[test]
fn a_round_has_its_own_budget_and_stops_at_the_first_success() {
    let two = Retry {
        max_retries: Some(2),
        ..all()
    };
    let failed = |story: Story| story.fails(0, "a", 0..1, FailureKind::NETWORK);
    let story = failed(failed(failed(given("a").documents(1)))).status(BatchStatus::Failed);
    let story =
        failed(story.retry(two.clone())).events(&["documents.attempt_failed.transient.network"]);
    let story = failed(story).status(BatchStatus::Failed);
    assert!(story.job(0, "a").budgets.is_empty());
    let story = failed(story.retry(Retry {
        max_retries: Some(1),
        ..all()
    }));
    let story = story.status(BatchStatus::Failed);
    let story = failed(story.retry(two))
        .done(0, "a", 0..1)
        .status(BatchStatus::Completed);
    assert_eq!(story.job(0, "a").attempts.get(0), 3 + 2 + 1 + 1);
    assert!(story.job(0, "a").budgets.is_empty());
}

#[test]
fn without_a_budget_of_its_own_a_round_has_the_jobs() {
    let mut story = three_failed().retry(retry());
    for _ in 0..2 {
        story = story
            .fails(0, "a", 0..1, FailureKind::NETWORK)
            .events(&["documents.attempt_failed.transient.network"]);
    }
    story
        .fails(0, "a", 0..1, FailureKind::NETWORK)
        .status(BatchStatus::CompletedWithFailures);
}

#[test]
fn the_retry_count_of_a_document_rises_once_though_two_of_its_units_failed() {
    let story = given("a b")
        .documents(1)
        .fails(0, "a", 0..1, FailureKind::REJECTED)
        .fails(0, "b", 0..1, FailureKind::REJECTED)
        .retry(all());
    let told = retried(&story);
    assert_eq!((told.documents, told.units), (1, 2));
    assert_eq!(story.state().retries.get(0), 1);
    assert_eq!(story.state().rounds, 1);
}

#[test]
fn a_retry_works_while_the_batch_still_runs() {
    given("a")
        .documents(3)
        .fails(0, "a", 0..1, FailureKind::REJECTED)
        .status(BatchStatus::Running)
        .retry(all())
        .events(&["documents.retry_scheduled"])
        .open(0, "a", 0..3)
        .done(0, "a", 1..3)
        .status(BatchStatus::Running)
        .done(0, "a", 0..1)
        .status(BatchStatus::Completed);
}

#[test]
fn a_retry_that_matches_nothing_is_accepted_and_changes_nothing() {
    let story = given("a").documents(1).done(0, "a", 0..1).retry(all());
    let story = story.accepted().events(&["documents.retry_scheduled"]);
    assert_eq!(retried(&story), Retried::default());
    assert_eq!(story.state().rounds, 0);
    story.status(BatchStatus::Completed);
}

#[test]
fn a_cancelled_batch_is_not_retried() {
    given("a")
        .documents(2)
        .fails(0, "a", 0..1, FailureKind::REJECTED)
        .command(cancel())
        .retry(all())
        .refused("conflict", "was cancelled: it cannot be retried");
}

#[test]
fn tiers_start_again_and_complete_again_down_to_the_last() {
    given("a | b")
        .documents(2)
        .fails(0, "a", 0..1, FailureKind::REJECTED)
        .done(0, "a", 1..2)
        .done(1, "b", 1..2)
        .status(BatchStatus::CompletedWithFailures)
        .retry(all())
        .events(&["documents.retry_scheduled", "tier.started"])
        .tier_status(1, BatchStatus::Completed)
        .done(0, "a", 0..1)
        .events(&["documents.completed", "tier.completed", "tier.started"])
        .tier_status(0, BatchStatus::Completed)
        .tier_status(1, BatchStatus::Running)
        .done(1, "b", 0..1)
        .events(&["documents.completed", "tier.completed", "batch.completed"])
        .status(BatchStatus::Completed);
}

#[test]
fn a_retry_passes_a_barrier_again() {
    given("a | !b | !c")
        .documents(3)
        .fails(0, "a", 0..2, FailureKind::REJECTED)
        .done(0, "a", 2..3)
        .done(1, "b", 2..3)
        .done(2, "c", 2..3)
        .retry(all())
        .done(0, "a", 0..1)
        .open(1, "b", 0..0)
        .fails(0, "a", 1..2, FailureKind::REJECTED)
        .open(1, "b", 0..1)
        .done(1, "b", 0..1)
        .open(2, "c", 0..1)
        .done(2, "c", 0..1)
        .events(&["documents.completed", "tier.completed", "batch.completed"])
        .counts(2, 1, 0, 0);
}

#[test]
fn failures_that_do_not_pass_leave_downstream_tiers_as_they_are() {
    given("a | !b")
        .documents(2)
        .fails(0, "a", 0..1, FailureKind::REJECTED)
        .done(0, "a", 1..2)
        .done(1, "b", 1..2)
        .retry(all())
        .fails(0, "a", 0..1, FailureKind::REJECTED)
        .events(&[
            "documents.failed.permanent.rejected",
            "tier.completed",
            "batch.completed",
        ])
        .tier_status(1, BatchStatus::Completed);
}
