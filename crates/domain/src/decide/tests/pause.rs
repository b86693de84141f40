use super::story::*;
use crate::{
    command::{Command, Pause, Resume, Retry, RetryMode},
    failure::FailureKind,
    ids::JobName,
    pause::PauseReason,
    status::BatchStatus,
};

fn pause(pause: Pause) -> Command {
    Command::Pause(pause)
}

fn resume() -> Command {
    Command::Resume(Resume::default())
}

fn is_paused(story: &Story, tier: u16, job: &str) -> bool {
    story.job(tier, job).paused.is_some()
}

#[test]
fn a_misconfigured_handler_holds_its_job_up_and_leaves_the_rest_untried() {
    let story = given("a b | c")
        .documents(100)
        .fails(0, "a", 0..3, FailureKind::MISCONFIGURED)
        .events(&[
            "documents.failed.permanent.misconfigured",
            "dispatch.paused",
        ])
        .status(BatchStatus::Running)
        .open(0, "a", 3..100);
    assert!(is_paused(&story, 0, "a") && !is_paused(&story, 0, "b"));
    let paused = story.job(0, "a").paused.clone().expect("it is paused");
    assert!(matches!(&paused.reason, PauseReason::Misconfigured(f) if f.message == "it hurt"));
    // What was out goes on and is taken; it is not said twice.
    let story = story
        .done(0, "a", 3..5)
        .fails(0, "a", 5..6, FailureKind::MISCONFIGURED)
        .events(&["documents.failed.permanent.misconfigured"]);
    assert_eq!(story.job(0, "a").paused, Some(paused));
}

#[test]
fn a_retry_of_its_failures_resumes_the_job() {
    let story = given("a")
        .documents(10)
        .fails(0, "a", 0..3, FailureKind::MISCONFIGURED)
        .retry(Retry {
            retry_mode: RetryMode::All,
            kinds: Some(vec![FailureKind::MISCONFIGURED]),
            ..retry()
        })
        .events(&["documents.retry_scheduled"])
        .open(0, "a", 0..10);
    assert!(!is_paused(&story, 0, "a"));
}

#[test]
fn a_resumed_job_goes_on_without_what_has_failed() {
    let story = given("a")
        .documents(10)
        .fails(0, "a", 0..3, FailureKind::MISCONFIGURED)
        .command(resume())
        .accepted()
        .events(&["dispatch.resumed"])
        .open(0, "a", 3..10);
    assert!(!is_paused(&story, 0, "a"));
    assert_eq!(story.answer().jobs.len(), 1);
    story.command(resume()).repeated();
}

#[test]
fn what_has_nothing_more_to_do_is_not_held_up() {
    given("a")
        .documents(3)
        .fails(0, "a", 0..3, FailureKind::MISCONFIGURED)
        .events(&[
            "documents.failed.permanent.misconfigured",
            "tier.completed",
            "batch.completed",
        ])
        .status(BatchStatus::Failed);
    // More may come to it from the tier before.
    let story = given("a | b").documents(3).done(0, "a", 0..1).fails(
        1,
        "b",
        0..1,
        FailureKind::MISCONFIGURED,
    );
    assert!(is_paused(&story, 1, "b"));
    let story = story
        .fails(0, "a", 1..3, FailureKind::REJECTED)
        .status(BatchStatus::Failed);
    assert!(!is_paused(&story, 1, "b"), "it is over");
}

#[test]
fn anybody_may_pause_jobs_by_tier_and_by_name() {
    let name = |name: &str| Some(JobName::new(name).unwrap());
    let story = given("a b | a").documents(3);
    let story = story
        .command(pause(Pause {
            job: name("a"),
            reason: Some("the index moves".into()),
            ..Pause::default()
        }))
        .accepted()
        .events(&["dispatch.paused"]);
    assert_eq!(
        [(0, "a"), (0, "b"), (1, "a")].map(|(tier, job)| is_paused(&story, tier, job)),
        [true, false, true]
    );
    let story = story
        .command(Command::Resume(Resume {
            tier: Some(1),
            job: None,
        }))
        .accepted();
    assert!(is_paused(&story, 0, "a") && !is_paused(&story, 1, "a"));
    story
        .command(pause(Pause {
            tier: Some(2),
            ..Pause::default()
        }))
        .refused("invalid", "tier: is 2: the batch has tiers 0 to 1")
        .command(pause(Pause {
            job: name("z"),
            ..Pause::default()
        }))
        .refused("invalid", "job: is z: the batch has no such job")
        .command(cancel())
        .accepted()
        .command(pause(Pause::default()))
        .refused("conflict", "was cancelled");
}
