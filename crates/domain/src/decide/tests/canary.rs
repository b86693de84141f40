use super::story::*;
use crate::{
    canary::{Part, scheduled},
    command::{Command, Excluded, Retry, Sampled},
    event::{Cause, Selected},
    failure::FailureKind,
    share::Share,
    status::BatchStatus,
};

fn canary(share: &str) -> Retry {
    Retry {
        canary: Some(share.parse().unwrap()),
        ..retry()
    }
}

/// All of a hundred documents failed.
fn failed() -> Story {
    let mut story = given("a | b").documents(100);
    for _ in 0..3 {
        story = story.fails(0, "a", 0..100, FailureKind::NETWORK);
    }
    story.status(BatchStatus::Failed)
}

fn tens() -> impl Iterator<Item = u32> {
    (0..100).step_by(10)
}

fn ends(mut story: Story, done: usize) -> Story {
    for (n, unit) in tens().enumerate() {
        story = match n < done {
            true => story.done(0, "a", unit..unit + 1),
            false => story.fails(0, "a", unit..unit + 1, FailureKind::REJECTED),
        };
    }
    story
}

#[test]
fn the_rest_follows_a_sample_that_succeeds() {
    let story = failed()
        .retry(canary("10%"))
        .accepted()
        .events(&["documents.retry_scheduled", "tier.started"])
        .open(0, "a", tens());
    let told = story.answer().retry.clone().expect("it is a retry");
    assert_eq!((told.documents, told.units), (100, 100));
    assert_eq!(
        told.canary,
        Some(Sampled {
            documents: 10,
            units: 10,
            success: Share::NINE_OF_TEN
        })
    );
    let story = ends(story, 9).events(&[
        "documents.failed.permanent.rejected",
        "retry.canary_judged",
        "documents.retry_scheduled",
    ]);
    let story = story
        .open(0, "a", (0..100).filter(|n| n % 10 > 0))
        .status(BatchStatus::Running);
    assert_eq!(story.state().rounds, 1, "it is one retry");
    assert_eq!(story.state().retries.at_least(1, &units(0..100)).len(), 100);
    assert!(!story.state().canary.as_ref().expect("it is kept").is_open());
    // What the sample made goes on meanwhile, and the batch ends as any other.
    let mut story = story;
    for unit in (0..100).filter(|n| n % 10 > 0) {
        story = story.done(0, "a", unit..unit + 1);
    }
    for unit in (0..100).filter(|n| *n != 90) {
        story = story.done(1, "b", unit..unit + 1);
    }
    story
        .counts(99, 1, 0, 0)
        .status(BatchStatus::CompletedWithFailures);
}

#[test]
fn the_rest_stays_as_it_is_where_the_sample_fails() {
    let story = failed().retry(canary("10%"));
    let story = ends(story, 8).events(&[
        "documents.failed.permanent.rejected",
        "retry.canary_judged",
        "tier.completed",
    ]);
    let story = story.counts(0, 92, 0, 8);
    assert!(!story.state().canary.as_ref().expect("it is kept").is_open());
    assert_eq!(story.state().retries.at_least(1, &units(0..100)).len(), 10);
    // Another may be tried at once.
    story.retry(canary("1%")).accepted().open(0, "a", 1..2);
}

#[test]
fn an_attempt_that_fails_and_is_repeated_has_not_ended() {
    let story = failed()
        .retry(canary("1%"))
        .fails(0, "a", 0..1, FailureKind::NETWORK)
        .events(&["documents.attempt_failed.transient.network"])
        .done(0, "a", 0..1)
        .events(&[
            "documents.completed",
            "retry.canary_judged",
            "documents.retry_scheduled",
            "tier.started",
        ]);
    story.open(0, "a", 1..100);
}

#[test]
fn what_is_retried_meanwhile_no_longer_waits() {
    let story = failed().retry(canary("10%"));
    let story = story
        .retry(canary("10%"))
        .refused("conflict", "retry without a canary")
        .retry(retry())
        .accepted()
        .open(0, "a", 0..100);
    let story = ends(story, 10).events(&["documents.completed", "retry.canary_judged"]);
    assert!(!story.state().canary.as_ref().expect("it is kept").is_open());
    // Nothing waits for one of a batch that is cancelled.
    let story = failed().retry(canary("10%")).command(cancel()).accepted();
    assert_eq!(story.state().canary, None);
}

#[test]
fn a_sample_of_all_is_no_sample_and_one_needs_to_be_named() {
    let story = failed().retry(canary("100%")).open(0, "a", 0..100);
    assert_eq!(story.state().canary, None);
    let success = Retry {
        canary_success: Some(Share::ALL),
        ..retry()
    };
    failed()
        .retry(success)
        .refused("invalid", "canary_success: says how well");
}

#[test]
fn a_plan_says_how_it_is_tried() {
    let asked = Retry {
        canary_success: Some(Share::ALL),
        ..canary("2%")
    };
    let story = failed().retry(Retry {
        dry_run: true,
        ..asked.clone()
    });
    let plan = story.answer().plan.clone().expect("it is a plan");
    let told = story.answer().retry.clone().expect("it is a retry");
    assert_eq!(told.canary.map(|it| it.documents), Some(2));
    assert_eq!(plan.retry(), asked);
    story
        .command(Command::Retry(Retry {
            plan: Some(plan),
            ..retry()
        }))
        .accepted()
        .open(0, "a", [0, 50]);
}

#[test]
fn a_decision_that_broke_off_half_way_has_nothing_wait_twice() {
    let mut story = failed();
    let part = |units: std::ops::Range<u32>| Selected {
        tier: 0,
        job: crate::ids::JobName::new("a").unwrap(),
        units: units.collect(),
    };
    let sample = Part::Sample {
        share: "10%".parse().unwrap(),
        success: Share::NINE_OF_TEN,
        rest: vec![part(5..50)],
    };
    let why = (Excluded::default(), None);
    let half = scheduled(&canary("10%"), vec![part(0..5)], Some(sample), why, false);
    story.append(vec![half], Cause::State);
    let story = story.retry(canary("10%")).accepted();
    let canary = story.state().canary.as_ref().expect("it is tried");
    let mut all = crate::units::UnitSet::new();
    let mut total = 0;
    for part in canary.sample.iter().chain(&canary.rest) {
        all.add(&part.units);
        total += part.units.len();
    }
    assert_eq!((total, all), (100, units(0..100)));
}
