//! What takes workers down, or more memory than it may.

use super::story::*;
use crate::{
    command::{Retry, RetryMode},
    failure::{FailureClass, FailureKind},
    status::BatchStatus,
    units::UnitSet,
};

const LOST: &str = "infrastructure.worker_lost";
const POISON: &str = "documents.failed.permanent.poison";
const OOM: FailureKind = FailureKind::OUT_OF_MEMORY;

#[test]
fn what_takes_three_workers_down_is_set_aside_and_nothing_else_is() {
    let story = given("a")
        .documents(5)
        .worker_lost(0, "a", 0..4)
        .events(&[LOST])
        .worker_lost(0, "a", 0..2)
        .events(&[LOST])
        .worker_lost(0, "a", 1..2)
        .events(&[POISON]);
    let job = story.job(0, "a");
    let failed = &job.failed[&FailureClass::Permanent][&FailureKind::POISON];
    assert_eq!(*failed, UnitSet::from([1]));
    assert_eq!(
        job.strikes.split(&job.open),
        [(0, [4].into()), (1, [2, 3].into()), (2, [0].into())]
    );
    story
        .outcome(0, "a", |report| report.attempt(3).done(0..1))
        .outcome(0, "a", |report| report.attempt(2).done(2..4))
        .outcome(0, "a", |report| report.attempt(1).done(4..5))
        .status(BatchStatus::CompletedWithFailures)
        .counts(4, 1, 0, 0);
}

#[test]
fn one_loss_may_be_the_third_of_some_and_the_first_of_others() {
    given("a")
        .documents(2)
        .fails(0, "a", 0..1, OOM)
        .fails(0, "a", 0..1, OOM)
        .fails(0, "a", 1..2, FailureKind::PREEMPTED)
        .fails(0, "a", 1..2, FailureKind::PREEMPTED)
        .worker_lost(0, "a", 0..2)
        .events(&[POISON, LOST])
        .open(0, "a", 1..2);
}

#[test]
fn what_runs_out_of_memory_three_times_fails_and_a_retry_takes_it() {
    let again = "documents.attempt_failed.transient.out_of_memory";
    let story = given("a")
        .documents(1)
        .fails(0, "a", 0..1, OOM)
        .events(&[again])
        .fails(0, "a", 0..1, OOM)
        .events(&[again]);
    assert_eq!(story.job(0, "a").spent.get(0), 0);
    let story = story
        .fails(0, "a", 0..1, OOM)
        .events(&[
            "documents.failed.transient.out_of_memory",
            "tier.completed",
            "batch.completed",
        ])
        .retry(retry())
        .fails(0, "a", 0..1, OOM)
        .events(&[again]);
    assert_eq!(story.job(0, "a").strikes.get(0), 1, "a round begins anew");
    story.done(0, "a", 0..1).status(BatchStatus::Completed);
}

#[test]
fn what_is_set_aside_is_not_retried_as_something_that_passes() {
    let story = (0..3).fold(given("a").documents(1), |story, _| {
        story.worker_lost(0, "a", 0..1)
    });
    let story = story.status(BatchStatus::Failed);
    let story = story
        .retry(Retry {
            retry_mode: RetryMode::All,
            ..retry()
        })
        .status(BatchStatus::Running);
    assert!(story.job(0, "a").strikes.units().is_empty());
}

#[test]
fn the_memory_of_what_succeeded_is_kept_and_of_nothing_else() {
    let report = |story: Story, peak: u64, fails: bool| {
        let report = story.report(0, "a");
        let report = match fails {
            true => report.failed(1..2, FailureKind::NETWORK),
            false => report.done(0..1),
        };
        let mut outcome = report.attempt(1).outcome;
        outcome.peak_memory = Some(peak);
        story.reported(&outcome)
    };
    let story = report(given("a").documents(2), 700, true);
    assert_eq!(story.job(0, "a").peak_memory, None);
    let story = report(story, 500, false);
    assert_eq!(story.job(0, "a").peak_memory, Some(500));
}
