//! Failures that are alike, and retries of them.

use super::story::*;
use crate::{
    command::{Command, Retry},
    failure::{Failure, FailureKind, Fingerprint},
    limits::{FAILURE_GROUPS, INFRASTRUCTURE_EVENTS},
    time::Millis,
};

fn bad(message: &str) -> Failure {
    Failure::new(FailureKind::INVALID_DATA, message)
}

fn fingerprint(failure: &Failure) -> Fingerprint {
    Fingerprint::of(
        failure.class,
        &failure.kind,
        failure.code.as_deref(),
        &failure.message,
    )
}

/// Three sorts of failures in two tiers.
fn several() -> Story {
    given("a | b")
        .documents(10)
        .outcome(0, "a", |report| {
            report
                .done(6..10)
                .failed_with(0..1, bad("row 1 has no title"))
                .failed_with(1..2, bad("row 2 has no title"))
                .failed_with(2..4, bad("no date"))
                .failed_with(4..6, bad("no date").with_code(7))
        })
        .outcome(1, "b", |report| {
            report
                .done(7..10)
                .failed_with(6..7, bad("row 7 has no title"))
        })
}

#[test]
fn what_failed_alike_is_one_group_in_each_job() {
    let story = several();
    let groups = |tier, job| -> Vec<(String, Option<String>, u64)> {
        let groups = story.job(tier, job).fingerprints.iter();
        let mut groups: Vec<_> = groups
            .map(|(_, of)| (of.message.clone(), of.code.clone(), of.units.len()))
            .collect();
        groups.sort();
        groups
    };
    let title = || "row <n> has no title".to_owned();
    let date = || "no date".to_owned();
    let expected = [
        (date(), None, 2),
        (date(), Some("7".to_owned()), 2),
        (title(), None, 2),
    ];
    assert_eq!(groups(0, "a"), expected);
    assert_eq!(groups(1, "b"), [(title(), None, 1)]);
}

#[test]
fn a_retry_of_a_fingerprint_takes_what_has_it_in_every_tier() {
    let retry = Retry {
        retry_mode: crate::command::RetryMode::All,
        fingerprints: Some(vec![fingerprint(&bad("row 99 has no title"))]),
        ..retry()
    };
    let story = several().retry(retry.clone()).accepted();
    let retried = story.answer().retry.clone().unwrap();
    assert_eq!((retried.units, retried.documents), (3, 3));
    assert_eq!(retried.excluded.fingerprint, 4);
    assert_eq!(retried.excluded.total(), 4);
    let story = story.open(0, "a", [0, 1]).open(1, "b", [6]);
    assert_eq!(story.job(1, "b").fingerprints.len(), 0);

    // A plan holds it, and its word is read back.
    let dry = Retry {
        dry_run: true,
        ..retry
    };
    let story = several().retry(dry).accepted();
    let plan = story.answer().plan.clone().unwrap();
    let plan = plan.to_string().parse().ok();
    let story = story
        .retry(Retry {
            plan,
            ..Retry::default()
        })
        .accepted();
    story.open(0, "a", [0, 1]).open(1, "b", [6]);
}

#[test]
fn too_many_fingerprints_are_refused() {
    let fingerprints = Some((0..17).map(Fingerprint).collect());
    let retry = Retry {
        fingerprints,
        ..retry()
    };
    several()
        .command(Command::Retry(retry))
        .refused("invalid", "fingerprints: has 17 entries: it takes 16");
}

#[test]
fn what_is_like_nothing_else_goes_into_one_group() {
    let count = u32::try_from(FAILURE_GROUPS).unwrap() + 50;
    let letters = |n: u32| -> String {
        let letter = |n: u32| char::from_u32(u32::from('a') + n % 26).unwrap();
        [n / 26, n].map(letter).iter().collect()
    };
    let story = given("a").documents(count).outcome(0, "a", |report| {
        (0..count).fold(report, |report, n| {
            report.failed_with(n..n + 1, bad(&format!("no {}", letters(n))))
        })
    });
    let groups = &story.job(0, "a").fingerprints;
    assert_eq!(groups.len(), FAILURE_GROUPS + 1);
    let (others, group) = groups
        .iter()
        .find(|(_, group)| group.units.len() > 1)
        .unwrap();
    assert_eq!(group.message, "(other messages)");
    let retry = Retry {
        retry_mode: crate::command::RetryMode::All,
        fingerprints: Some(vec![others]),
        ..retry()
    };
    let story = story.retry(retry).accepted();
    assert_eq!(story.answer().retry.as_ref().unwrap().units, 50);
}

#[test]
fn the_latest_wait_that_was_asked_for_is_kept_until_it_is_retried() {
    let limited = |seconds| {
        Failure::new(FailureKind::RATE_LIMITED, "slow down")
            .with_class(crate::failure::FailureClass::Permanent)
            .with_retry_after(Millis::seconds(seconds))
    };
    let story = given("a").documents(2).outcome(0, "a", |report| {
        report
            .failed_with(0..1, limited(60))
            .failed_with(1..2, limited(30))
    });
    let (_, group) = story.job(0, "a").fingerprints.iter().next().unwrap();
    assert_eq!(
        group.not_before,
        Some(story.now.at.plus(Millis::seconds(60)))
    );
}

#[test]
fn what_happens_to_machines_is_counted_and_the_last_of_it_kept() {
    let mut story = given("a").documents(4);
    for _ in 0..INFRASTRUCTURE_EVENTS {
        story = story.fails(0, "a", 0..3, FailureKind::PREEMPTED);
    }
    let story = story
        .worker_lost(0, "a", 3..4)
        .fails(0, "a", 3..4, FailureKind::NETWORK);
    let noted = &story.state().infrastructure;
    assert_eq!(noted.last.len(), INFRASTRUCTURE_EVENTS);
    let last = noted.last.back().unwrap();
    assert_eq!((last.kind.as_str(), last.units), ("worker_lost", 1));
    let counts: Vec<(&str, u64)> = noted
        .attempts
        .iter()
        .map(|(k, n)| (k.as_str(), *n))
        .collect();
    assert_eq!(counts, [("preempted", 300), ("worker_lost", 1)]);
    let kinds = &story.job(0, "a").failed_kinds;
    assert_eq!(kinds.of(&FailureKind::NETWORK), 1);
    assert_eq!(kinds.of(&FailureKind::PREEMPTED), 300);
}
