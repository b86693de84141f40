//! A tier is retried with other parameters; a tier, or one job of it, is cancelled.

use super::story::*;
use crate::{
    cancel::CancelEffect,
    command::{Cancel, Command, Create, Retried, Retry, RetryMode, Start},
    event::Event,
    failure::FailureKind,
    ids::JobName,
    pipeline::SubmissionChange,
    query::BatchView,
    status::BatchStatus,
    time::Millis,
};

fn change(settings: &[&str]) -> SubmissionChange {
    let mut change = SubmissionChange::default();
    for setting in settings {
        change.set(setting).unwrap();
    }
    change
}

fn set(tier: u16, settings: &[&str]) -> Retry {
    Retry {
        retry_mode: RetryMode::All,
        tier_nums: Some(vec![tier]),
        set: Some(Box::new(change(settings))),
        ..retry()
    }
}

fn job(name: &str) -> JobName {
    JobName::new(name).unwrap()
}

fn stop(tier: impl Into<Option<u16>>, name: impl Into<Option<&'static str>>) -> Command {
    Command::Cancel(Cancel {
        tier: tier.into(),
        job: name.into().map(job),
        reason: Some("enough".to_owned()),
    })
}

fn told(story: &Story) -> &Retried {
    story.answer().retry.as_ref().unwrap()
}

fn out_of_memory() -> Story {
    given("a | b c")
        .documents(4)
        .done(0, "a", 0..4)
        .done(1, "c", 0..4)
        .done(1, "b", 0..2)
        .fails(1, "b", 2..4, FailureKind::REJECTED)
        .status(BatchStatus::CompletedWithFailures)
}

#[test]
fn a_tier_is_retried_with_other_parameters_and_keeps_them() {
    let story = out_of_memory().retry(set(1, &["requires_gpu=true", "memory_bytes=4GiB"]));
    let story = story.events(&[
        "tier.resubmitted",
        "documents.retry_scheduled",
        "tier.started",
    ]);
    let Event::TierResubmitted { tier, jobs, change } = story.event("tier.resubmitted") else {
        panic!()
    };
    assert_eq!(
        (*tier, jobs.as_slice()),
        (1, [job("b"), job("c")].as_slice())
    );
    assert_eq!(told(&story).set.as_ref(), Some(change));
    let (spec, _) = story.state().job(1, &job("b")).unwrap();
    assert_eq!(spec.class.as_str(), "gpu");
    let view = BatchView::of(story.state(), story.now.at);
    let submission = &view.tiers[1].jobs[0].submission;
    assert!(submission.requires_gpu);
    assert_eq!(submission.memory_bytes, Some(4 << 30));
    assert_eq!(submission.extractor_name.as_str(), "b");
    assert!(!view.tiers[0].jobs[0].submission.requires_gpu);

    // The next retry uses them too, and says nothing of them again.
    let story = story
        .fails(1, "b", 2..4, FailureKind::REJECTED)
        .retry(set(1, &["memory_bytes=4GiB"]));
    let story = story.events(&["documents.retry_scheduled", "tier.started"]);
    let (spec, _) = story.state().job(1, &job("b")).unwrap();
    assert_eq!(
        (spec.class.as_str(), spec.memory_bytes),
        ("gpu", Some(4 << 30))
    );
}

#[test]
fn a_batch_is_still_the_one_that_was_created() {
    let create = Create {
        pipeline: pipeline("a | b c"),
        start: Start::OnSubmit,
    };
    out_of_memory()
        .retry(set(1, &["timeout=10m"]))
        .command(Command::Create(create))
        .repeated();
}

#[test]
fn other_parameters_are_for_named_jobs_and_for_what_is_open_too() {
    let only_c = Retry {
        jobs: Some(vec![job("c")]),
        ..set(1, &["max_attempts=1"])
    };
    let story = given("a | b c")
        .documents(2)
        .done(0, "a", 0..1)
        .retry(only_c);
    let attempts = |story: &Story, name: &str| {
        let (spec, _) = story.state().job(1, &job(name)).unwrap();
        spec.max_attempts
    };
    assert_eq!((attempts(&story, "b"), attempts(&story, "c")), (3, 1));
    // Nothing had failed; what was open has one attempt now.
    assert_eq!(told(&story).units, 0);
    story
        .fails(1, "c", 0..1, FailureKind::NETWORK)
        .events(&["documents.failed.transient.network"]);
}

#[test]
fn only_failures_of_named_jobs_are_retried() {
    let story = given("b c")
        .documents(2)
        .fails(0, "b", 0..2, FailureKind::REJECTED)
        .fails(0, "c", 0..1, FailureKind::REJECTED)
        .done(0, "c", 1..2)
        .retry(Retry {
            retry_mode: RetryMode::All,
            jobs: Some(vec![job("c")]),
            ..retry()
        });
    assert_eq!((told(&story).units, told(&story).excluded.job), (1, 2));
    let story = story.open(0, "c", [0]).open(0, "b", []);
    story
        .retry(Retry {
            jobs: Some(vec![job("c"), job("x")]),
            ..retry()
        })
        .refused("invalid", "jobs[1]: is x: the batch has no such job");
}

#[test]
fn a_plan_carries_the_parameters() {
    let story = out_of_memory().retry(Retry {
        dry_run: true,
        ..set(1, &["requires_gpu=true", "rate_limit=0.5"])
    });
    let story = story.and_nothing_happens();
    let plan = story.answer().plan.clone().unwrap();
    let (spec, _) = story.state().job(1, &job("b")).unwrap();
    assert_eq!(spec.class.as_str(), "cpu", "a preview changes nothing");
    let plan = plan.to_string().parse().unwrap();
    let story = story.retry(Retry {
        plan: Some(plan),
        ..retry()
    });
    let story = story.events(&[
        "tier.resubmitted",
        "documents.retry_scheduled",
        "tier.started",
    ]);
    let (spec, _) = story.state().job(1, &job("b")).unwrap();
    assert_eq!(spec.class.as_str(), "gpu");
    assert_eq!(spec.rate_limit.unwrap().per_second, 0.5);
}

#[test]
fn parameters_that_cannot_be_are_refused_whole() {
    let story = out_of_memory().retry(Retry {
        tier_nums: None,
        ..set(1, &["priority=200", "timeout=0s"])
    });
    let story = story
        .refused(
            "invalid",
            "tier_nums: is missing: name the tiers that set is for",
        )
        .retry(set(1, &["priority=200", "timeout=0s"]))
        .refused("invalid", "set.timeout: is 0ms");
    story
        .retry(set(1, &[]))
        .refused("invalid", "set: changes nothing");
}

#[test]
fn one_job_is_cancelled_and_its_siblings_go_on() {
    let story = given("b c | d")
        .documents(6)
        .done(0, "b", 0..4)
        .done(0, "c", 0..1)
        .fails(0, "c", 1..2, FailureKind::REJECTED)
        .command(stop(0, "c"))
        // What only the job held up goes on without it.
        .events(&["job.cancelled"])
        .open(1, "d", 0..4)
        .open(0, "c", [])
        .open(0, "b", 4..6)
        .counts(0, 0, 0, 6);
    assert_eq!(story.answer().cancelled_units, Some(5));
    let cancellation = story.job(0, "c").cancellation.clone().unwrap();
    assert_eq!(cancellation.effect, CancelEffect::Waived);
    assert_eq!(cancellation.reason.as_deref(), Some("enough"));
    let story = story
        // A cancelled unit never completes.
        .outcome(0, "c", |report| report.done(2..4).attempt(1))
        .superseded(2)
        .and_nothing_happens()
        .done(0, "b", 4..6)
        .done(1, "d", 0..6)
        .status(BatchStatus::Completed)
        .counts(6, 0, 0, 0);
    assert_eq!(story.job(0, "c").completed, units(0..1));
    assert_eq!(story.job(0, "c").cancelled, units(1..6));
}

#[test]
fn what_a_cancelled_job_had_failed_goes_on_even_after_the_end() {
    for next in ["d", "!d"] {
        let story = given(&format!("b c | {next}"))
            .documents(2)
            .done(0, "b", 0..2)
            .done(0, "c", 0..1)
            .fails(0, "c", 1..2, FailureKind::REJECTED)
            .done(1, "d", 0..1)
            .status(BatchStatus::CompletedWithFailures)
            .command(stop(None, "c"))
            .status(BatchStatus::Running)
            .open(1, "d", [1])
            .done(1, "d", 1..2)
            .status(BatchStatus::Completed)
            .counts(2, 0, 0, 0);
        story
            .command(stop(0, "c"))
            .repeated()
            .command(stop(0, "b"))
            .refused(
                "conflict",
                "is over (completed): there is nothing to cancel",
            );
    }
}

#[test]
fn a_cancelled_tier_keeps_what_was_not_through_it() {
    let story = given("a | b | c")
        .documents(6)
        .done(0, "a", 0..5)
        .done(1, "b", 0..1)
        .fails(1, "b", 1..2, FailureKind::REJECTED)
        .command(stop(1, None))
        .events(&["tier.cancelled"])
        .tier_status(1, BatchStatus::Cancelled)
        .counts(0, 1, 3, 2);
    assert_eq!(story.answer().cancelled_documents, Some(3));
    let story = story
        .outcome(1, "b", |report| report.done(2..4).attempt(1))
        .superseded(2)
        // What comes later stays there as well; what was beyond goes on.
        .done(0, "a", 5..6)
        .open(1, "b", [])
        .done(2, "c", 0..1)
        .status(BatchStatus::CompletedWithFailures)
        .counts(1, 1, 4, 0);
    let Event::BatchCompleted { cancelled, .. } = story.event("batch.completed") else {
        panic!()
    };
    assert_eq!(*cancelled, 4);
    let story = story.retry(Retry {
        retry_mode: RetryMode::All,
        ..retry()
    });
    assert_eq!(
        (told(&story).units, told(&story).excluded.cancelled),
        (0, 1)
    );
}

#[test]
fn the_last_live_job_is_the_tier() {
    let story = given("a b | !c")
        .documents(3)
        .done(0, "a", 0..2)
        .command(stop(0, "b"))
        .open(0, "a", [2])
        .command(stop(0, "a"))
        .events(&["job.cancelled", "tier.started"])
        .tier_status(0, BatchStatus::Cancelled)
        .counts(0, 0, 1, 2)
        .open(1, "c", 0..2);
    let Event::JobCancelled { waived, .. } = &story.log[story.log.len() - 2].1.event else {
        panic!()
    };
    assert!(!waived);
    story
        .command(stop(0, None))
        .repeated()
        .done(1, "c", 0..2)
        .status(BatchStatus::CompletedWithFailures)
        .counts(2, 0, 1, 0);
}

#[test]
fn a_batch_of_which_nothing_is_left_is_cancelled() {
    given("a | b")
        .documents(3)
        .command(stop(0, None))
        .events(&["tier.cancelled", "batch.completed"])
        .status(BatchStatus::Cancelled)
        .counts(0, 0, 3, 0)
        .command(stop(0, None))
        .repeated()
        .command(stop(1, "b"))
        .repeated()
        .retry(retry())
        .refused("conflict", "was cancelled");
    // Also before it is submitted.
    given("a | b")
        .command(stop(0, None))
        .documents(3)
        .status(BatchStatus::Cancelled);
}

#[test]
fn documents_that_are_mended_stop_at_a_cancelled_tier() {
    given("a | b")
        .documents(3)
        .done(0, "a", 0..2)
        .fails(0, "a", 2..3, FailureKind::REJECTED)
        .done(1, "b", 0..1)
        .command(stop(1, None))
        .status(BatchStatus::CompletedWithFailures)
        .retry(Retry {
            retry_mode: RetryMode::All,
            ..retry()
        })
        .done(0, "a", 2..3)
        .status(BatchStatus::CompletedWithFailures)
        .tier_status(1, BatchStatus::Cancelled)
        .counts(1, 0, 2, 0);
}

#[test]
fn what_is_cancelled_is_neither_paused_nor_left_in_doubt() {
    given("x | a b | b")
        .documents(2)
        .command(stop(None, "b"))
        .refused(
            "invalid",
            "job: is b: the tiers 1, 2 have one each; name the tier",
        )
        .command(stop(7, None))
        .refused("invalid", "tier: is 7: the batch has tiers 0 to 2")
        .command(stop(0, "b"))
        .refused("invalid", "job: is b: tier 0 has no such job")
        .command(stop(1, "b"))
        .command(Command::Pause(crate::command::Pause {
            tier: Some(1),
            job: Some(job("b")),
            reason: None,
        }))
        .repeated();
    // Waiting for the next attempt ends with the job.
    let story = given("a b")
        .documents(1)
        .fails(0, "a", 0..1, FailureKind::NETWORK)
        .command(stop(0, "a"))
        .later(Millis::seconds(100));
    assert_eq!(story.job(0, "a").next_due(story.now.at), None);
    assert!(story.job(0, "a").due.is_empty());
}
