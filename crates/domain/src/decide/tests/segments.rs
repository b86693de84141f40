//! Documents that are split, and joined again.

use super::story::*;
use crate::{
    command::{Command, Retry, RetryMode},
    event::Event,
    failure::FailureKind,
    limits::{SEGMENTS_FROM, SEGMENTS_PER_DOCUMENT},
    status::BatchStatus,
};

const S: u32 = SEGMENTS_FROM;

fn all() -> Retry {
    Retry {
        retry_mode: RetryMode::All,
        ..retry()
    }
}

/// Three documents, of which the last has no segments and the others have three each.
fn split() -> Story {
    given("*s | a | &j")
        .documents(3)
        .outcome(0, "s", |report| report.split(0..2, 3).done(2..3))
}

#[test]
fn segments_are_the_units_of_the_next_tier_and_documents_those_of_a_join() {
    let story = split()
        .events(&[
            "documents.completed",
            "tier.completed",
            "tier.started",
            "tier.started",
        ])
        .open(0, "s", [])
        .open(1, "a", S..S + 6)
        // The document without segments has nothing to do among them.
        .open(2, "j", [2])
        .done(1, "a", S..S + 2)
        .open(2, "j", [2])
        .done(1, "a", S + 2..S + 4)
        .open(2, "j", [0, 2])
        .counts(0, 0, 0, 3);
    let tier = &crate::query::BatchView::of(story.state(), story.now.at).tiers[1];
    assert_eq!((tier.entered, tier.completed, tier.failed), (3, 2, 0));
    let segments = tier.segments.unwrap();
    assert_eq!((segments.entered, segments.completed), (6, 4));
    story
        .done(1, "a", S + 4..S + 6)
        .events(&["documents.completed", "tier.completed"])
        .done(2, "j", 0..3)
        .counts(3, 0, 0, 0)
        .status(BatchStatus::Completed);
}

#[test]
fn ordinals_of_segments_are_those_of_the_log_in_its_order() {
    let story = given("*s | a")
        .documents(4)
        .outcome(0, "s", |report| report.split(2..3, 2))
        .outcome(0, "s", |report| report.split(0..1, 1).split(3..4, 3));
    let Event::DocumentsCompleted { segments, .. } = story.event("documents.completed") else {
        panic!();
    };
    let segments = segments.as_ref().unwrap();
    assert_eq!(
        (segments.first, &segments.counts[..]),
        (S + 2, &[(0, 1), (3, 3)][..])
    );
    let places: Vec<_> = (S..S + 7)
        .map(|unit| story.state().document_of(unit))
        .collect();
    let of = |document, index| (document, Some(index));
    assert_eq!(
        places,
        [
            of(2, 0),
            of(2, 1),
            of(0, 0),
            of(3, 0),
            of(3, 1),
            of(3, 2),
            (S + 6, None)
        ]
    );
}

#[test]
fn a_retry_takes_the_segments_that_failed_and_nothing_else() {
    let story = split()
        .done(1, "a", S + 1..S + 5)
        .fails(1, "a", S..S + 1, FailureKind::REJECTED)
        .fails(1, "a", S + 5..S + 6, FailureKind::REJECTED)
        .done(2, "j", 2..3)
        .status(BatchStatus::CompletedWithFailures)
        .tier_status(1, BatchStatus::CompletedWithFailures)
        .counts(1, 2, 0, 0)
        .retry(all())
        .accepted();
    let retried = story.answer().retry.clone().unwrap();
    assert_eq!(
        (retried.units, retried.segments, retried.documents),
        (2, 2, 2)
    );
    let story = story
        .open(0, "s", [])
        .open(1, "a", [S, S + 5])
        .done(1, "a", S..S + 1)
        .open(2, "j", [0])
        .fails(1, "a", S + 5..S + 6, FailureKind::REJECTED)
        .done(2, "j", 0..1)
        .counts(2, 1, 0, 0);
    let retries: Vec<u32> = (0..3).map(|d| story.state().retries.get(d)).collect();
    assert_eq!(retries, [1, 1, 0], "retries are those of documents");
    // The document of this one has had its retry.
    let once = Retry {
        max_retry_count: 1,
        ..all()
    };
    let story = story.retry(once).accepted();
    let retried = story.answer().retry.clone().unwrap();
    assert_eq!((retried.units, retried.excluded.retry_limit), (0, 1));
}

#[test]
fn a_document_that_failed_before_it_had_segments_is_prepared_again() {
    given("*s | a | &j")
        .documents(2)
        .outcome(0, "s", |report| {
            report.split(0..1, 2).failed(1..2, FailureKind::REJECTED)
        })
        .done(1, "a", S..S + 2)
        .done(2, "j", 0..1)
        .status(BatchStatus::CompletedWithFailures)
        .retry(all())
        .accepted()
        .open(0, "s", [1])
        .open(1, "a", [])
        .outcome(0, "s", |report| report.split(1..2, 2))
        .open(1, "a", S + 2..S + 4)
        .done(1, "a", S + 2..S + 4)
        .done(2, "j", 1..2)
        .status(BatchStatus::Completed);
}

#[test]
fn a_join_behind_a_barrier_waits_for_all_and_takes_whole_documents() {
    split_behind_barriers()
        .done(1, "a", S..S + 6)
        .open(2, "j", [0, 1, 2]);
    split_behind_barriers()
        .done(1, "a", S + 1..S + 6)
        .open(2, "j", [])
        .fails(1, "a", S..S + 1, FailureKind::REJECTED)
        .open(2, "j", [1, 2]);
}

fn split_behind_barriers() -> Story {
    given("*s | !a | !&j")
        .documents(3)
        .outcome(0, "s", |report| report.split(0..2, 3).skipped(2..3))
}

#[test]
fn documents_of_which_none_has_segments_go_all_the_way() {
    for shape in ["*s | a | &j", "*s | !a b | !c | !&j", "*s | a"] {
        let story = given(shape).documents(2).done(0, "s", 0..2);
        let story = match shape.contains('&') {
            true => {
                let last = u16::try_from(story.state().tiers.len() - 1).unwrap();
                story.done(last, "j", 0..2)
            }
            false => story,
        };
        story.status(BatchStatus::Completed).counts(2, 0, 0, 0);
    }
}

#[test]
fn a_document_with_too_many_segments_fails_and_leaves_no_trace_of_them() {
    let story = given("*s | a b | &j")
        .documents(3)
        .outcome(0, "s", |report| {
            let most = SEGMENTS_PER_DOCUMENT / 2;
            report
                .split(0..1, most + 1)
                .split(1..2, most)
                .split(2..3, u32::MAX)
        });
    let story = story
        .open(1, "a", S..S + SEGMENTS_PER_DOCUMENT / 2)
        .counts(0, 2, 0, 1);
    let Event::DocumentsFailed { kind, units, .. } =
        story.event("documents.failed.permanent.too_many_segments")
    else {
        panic!();
    };
    assert_eq!((kind, units.len()), (&FailureKind::TOO_MANY_SEGMENTS, 2));
    assert!(
        units[0].failure.message.contains("at most 32768"),
        "{units:?}"
    );
}

#[test]
fn a_report_may_count_twice_in_any_order_and_what_does_not_count() {
    let story = given("*s | a").documents(3).outcome(0, "s", |mut report| {
        report.outcome.segments = vec![(2, 1), (0, 9), (0, 2), (1, 7), (88, 1)];
        report.done(0..1).done(2..3)
    });
    let _ = story.open(1, "a", S..S + 3).open(0, "s", [1]);
    // Of a job that splits nothing, counts mean nothing.
    let story = given("a | b")
        .documents(1)
        .outcome(0, "a", |report| report.split(0..1, 3));
    let _ = story.open(1, "b", [0]);
}

#[test]
fn the_segments_of_a_cancelled_batch_are_stopped() {
    split()
        .done(1, "a", S..S + 3)
        .command(cancel())
        .accepted()
        .counts(0, 0, 3, 0)
        .done(1, "a", S + 3..S + 6)
        .superseded(3)
        .and_nothing_happens();
}

#[test]
fn a_document_of_many_segments_is_joined_as_soon_as_the_last_one_is_through() {
    let most = SEGMENTS_PER_DOCUMENT;
    let mut story = given("*s | a | &j")
        .documents(2)
        .outcome(0, "s", |report| report.split(0..2, most));
    for first in (S..S + 2 * most).step_by(1_024) {
        story = story.done(1, "a", first..first + 1_024);
        let through = first + 1_024 - S;
        let joined = 0..through / most;
        story = story.open(2, "j", joined);
    }
    let bytes = story.state().encode().unwrap().len();
    assert!(bytes < 10_000, "{bytes} bytes for {most} segments");
    story.done(2, "j", 0..2).status(BatchStatus::Completed);
}

#[test]
fn a_plan_of_segments_tells_its_difference_in_documents() {
    let story = split()
        .fails(1, "a", S..S + 6, FailureKind::REJECTED)
        .done(2, "j", 2..3);
    let then = story.state().clone();
    let story = story.retry(Retry {
        dry_run: true,
        ..all()
    });
    let plan = story.answer().plan.clone().unwrap();
    let story = story.retry(all()).accepted().done(1, "a", S + 3..S + 6);
    let story = story.command(Command::Retry(Retry {
        plan: Some(plan.clone()),
        ..retry()
    }));
    let story = story.refused("stale", "");
    let stale = crate::decide::difference(&then, story.state(), &plan);
    assert_eq!((stale.gone, stale.gone_documents), (6, units(0..2)));
}
