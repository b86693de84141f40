use serde_json::json;

use super::story::*;
use crate::{
    command::{Cancel, Command, Create, Resume, Retry, RetryMode, Start},
    failure::FailureKind,
    ids::JobName,
    invariants::History,
    status::BatchStatus,
};

fn with(max_failed: &serde_json::Value) -> Story {
    let mut pipeline = pipeline("a | b");
    pipeline["max_failed"] = max_failed.clone();
    let create = Command::Create(Create {
        pipeline,
        start: Start::OnSubmit,
    });
    nothing().command(create).accepted().documents(100)
}

fn resume() -> Command {
    Command::Resume(Resume::default())
}

fn aborted() -> Story {
    with(&json!("5%"))
        .done(0, "a", 0..50)
        .fails(0, "a", 50..55, FailureKind::REJECTED)
        .status(BatchStatus::Running)
        .fails(0, "a", 55..56, FailureKind::REJECTED)
}

#[test]
fn with_one_more_than_may_fail_nothing_more_is_handed_out() {
    let story = aborted()
        .events(&["documents.failed.permanent.rejected", "batch.aborted"])
        .status(BatchStatus::Failed)
        .counts(0, 6, 0, 94)
        .open(0, "a", 56..100)
        .open(1, "b", 0..50);
    let aborted = story.state().aborted.expect("it says so");
    assert_eq!((aborted.failed, aborted.max_failed.of(100)), (6, 5));
    // What was out is not heard any more.
    story
        .done(0, "a", 56..60)
        .superseded(4)
        .and_nothing_happens();
}

#[test]
fn somebody_may_go_on_and_only_new_failures_count() {
    let story = aborted()
        .command(resume())
        .accepted()
        .events(&["dispatch.resumed", "tier.started", "tier.started"])
        .status(BatchStatus::Running)
        .done(0, "a", 56..90)
        .fails(0, "a", 90..95, FailureKind::REJECTED)
        .status(BatchStatus::Running)
        .fails(1, "b", 0..1, FailureKind::REJECTED)
        .status(BatchStatus::Failed)
        .counts(0, 12, 0, 88);
    story
        .command(resume())
        .done(0, "a", 95..100)
        .done(1, "b", 1..50)
        .done(1, "b", 56..90)
        .done(1, "b", 95..100)
        .status(BatchStatus::CompletedWithFailures)
        .counts(88, 12, 0, 0)
        .command(resume())
        .repeated();
}

#[test]
fn a_retry_goes_on_with_everything_and_what_it_takes_counts_again() {
    let all = Retry {
        retry_mode: RetryMode::All,
        ..retry()
    };
    let story = aborted()
        .retry(retry())
        .accepted()
        .status(BatchStatus::Failed)
        .retry(all)
        .accepted()
        .status(BatchStatus::Running)
        .open(0, "a", 50..100)
        .fails(0, "a", 50..55, FailureKind::REJECTED)
        .status(BatchStatus::Running)
        .fails(0, "a", 55..56, FailureKind::REJECTED)
        .status(BatchStatus::Failed);
    assert_eq!(story.state().aborted.expect("it says so").failed, 6);
}

#[test]
fn a_batch_that_ends_with_too_many_failures_has_failed() {
    with(&json!(0))
        .done(0, "a", 0..100)
        .outcome(1, "b", |report| {
            report.done(0..99).failed(99..100, FailureKind::REJECTED)
        })
        .events(&[
            "documents.completed",
            "documents.failed.permanent.rejected",
            "tier.completed",
            "batch.aborted",
        ])
        .status(BatchStatus::Failed)
        .counts(99, 1, 0, 0)
        .command(resume())
        .repeated()
        .command(Command::Retry(Retry {
            retry_mode: RetryMode::All,
            ..retry()
        }))
        .done(1, "b", 99..100)
        .status(BatchStatus::Completed);
}

#[test]
fn nothing_is_given_up_before_all_documents_are_there() {
    let mut pipeline = pipeline("a");
    pipeline["max_failed"] = json!(1);
    let create = Command::Create(Create {
        pipeline,
        start: Start::AtOnce,
    });
    nothing()
        .command(create)
        .command(page(0, 10))
        .fails(0, "a", 0..5, FailureKind::REJECTED)
        .status(BatchStatus::Running)
        .submit()
        .events(&["batch.submitted", "batch.aborted"]);
}

#[test]
fn a_batch_goes_on_without_the_job_that_failed_too_much() {
    let mut pipeline = pipeline("a b");
    pipeline["max_failed"] = json!(1);
    let create = Command::Create(Create {
        pipeline,
        start: Start::OnSubmit,
    });
    let story = nothing()
        .command(create)
        .documents(10)
        .fails(0, "a", 0..2, FailureKind::REJECTED)
        .status(BatchStatus::Failed)
        .command(Command::Cancel(Cancel {
            tier: Some(0),
            job: Some(JobName::new("a").unwrap()),
            reason: None,
        }))
        .events(&["job.cancelled", "tier.started"])
        .done(0, "b", 0..10)
        .status(BatchStatus::Completed);
    let mut history = History::default();
    for (seq, envelope) in &story.log {
        assert_eq!(history.take(*seq, envelope), Vec::<String>::new());
    }
}

#[test]
fn a_document_that_failed_in_two_jobs_stays_excused_while_one_is_retried() {
    let mut pipeline = pipeline("a b");
    pipeline["max_failed"] = json!(1);
    let create = Command::Create(Create {
        pipeline,
        start: Start::OnSubmit,
    });
    let only_a = Retry {
        retry_mode: RetryMode::All,
        jobs: Some(vec![JobName::new("a").unwrap()]),
        ..retry()
    };
    nothing()
        .command(create)
        .documents(10)
        .fails(0, "b", 0..1, FailureKind::REJECTED)
        .fails(0, "a", 0..3, FailureKind::REJECTED)
        .status(BatchStatus::Failed)
        .command(resume())
        .fails(0, "b", 1..2, FailureKind::REJECTED)
        .fails(0, "b", 2..3, FailureKind::REJECTED)
        .status(BatchStatus::Running)
        .retry(only_a)
        .accepted()
        .events(&["documents.retry_scheduled"])
        .status(BatchStatus::Running);
}
