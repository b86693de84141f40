//! Credits: reserved before anything begins, all or nothing, and ended with the batch.

use serde_json::json;

use super::story::*;
use crate::{
    command::{Command, Create, Resume, Retry, RetryMode, SetCredits, Start},
    credits::{Account, Charge, Ledger, Month, NO_BATCH},
    decide,
    event::{Cause, Event},
    failure::FailureKind,
    ids::{BatchKey, Bucket, CommandId},
    status::BatchStatus,
    time::{Millis, Timestamp},
};

/// In January 1970, as the stories are.
fn january() -> Month {
    "1970-01".parse().unwrap()
}

impl Story {
    /// Sets the namespace's limit.
    pub(crate) fn limit(&mut self, limit: Option<u64>) {
        let next = self.log.last().map_or(0, |(seq, _)| *seq) + 1;
        let mut envelope = self.envelope(Event::CreditsLimitSet { limit }, Cause::State);
        envelope.batch = NO_BATCH;
        self.ledgers.take(next, &envelope);
        self.log.push((next, envelope));
        self.skip();
    }

    fn limited(mut self, limit: u64) -> Self {
        self.limit(Some(limit));
        self
    }

    fn ledger(&self) -> &Ledger {
        self.ledgers.of(&key().namespace).unwrap()
    }

    /// Reserved, settled, released and left in a month.
    #[track_caller]
    fn books(self, month: Month, is: (u64, u64, u64, u64)) -> Self {
        let Account {
            reserved,
            settled,
            released,
        } = self.ledger().account(month);
        let left = self.ledger().left(month).unwrap();
        assert_eq!((reserved, settled, released, left), is);
        self
    }
}

fn all() -> Retry {
    Retry {
        retry_mode: RetryMode::All,
        ..retry()
    }
}

/// Five documents at two credits each; two of them fail.
fn two_of_five_failed(limit: u64) -> Story {
    let mut pipeline = pipeline("a");
    pipeline["credits_per_document"] = json!(2);
    let create = Command::Create(Create {
        pipeline,
        start: Start::OnSubmit,
    });
    nothing()
        .limited(limit)
        .command(create)
        .accepted()
        .command(page(0, 5))
        .events(&["batch.documents_added"])
        .submit()
        .events(&["credits.reserved", "batch.submitted", "tier.started"])
        .done(0, "a", 0..3)
        .fails(0, "a", 3..5, FailureKind::REJECTED)
}

#[test]
fn a_submission_reserves_and_the_end_settles_and_releases() {
    let story = two_of_five_failed(100)
        .events(&[
            "documents.failed.permanent.rejected",
            "tier.completed",
            "batch.completed",
            "credits.settled",
            "credits.released",
        ])
        .books(january(), (10, 6, 4, 94));
    assert!(story.state().credits.held.is_empty());
    assert_eq!(story.state().credits.settled, 6);
    assert_eq!(story.state().credits.released, 4);
}

#[test]
fn a_retry_reserves_afresh_and_beyond_what_is_left_is_refused_whole() {
    let story = two_of_five_failed(10).books(january(), (10, 6, 4, 4));
    let story = story
        .retry(all())
        .accepted()
        .events(&[
            "credits.reserved",
            "documents.retry_scheduled",
            "tier.started",
        ])
        .books(january(), (14, 6, 4, 0));
    let charge = Charge {
        month: january(),
        limit: 10,
        left: 4,
        takes: 4,
    };
    assert_eq!(story.answer().credits, Some(charge));
    let story = story
        .done(0, "a", 3..4)
        .fails(0, "a", 4..5, FailureKind::REJECTED)
        .books(january(), (14, 8, 6, 2));
    // Three are left of nine, then one of seven.
    let mut story = story.limited(9);
    story.now.at = story.now.at.plus(Millis(1));
    let story = story
        .retry(all())
        .refused(
            "credits_exhausted",
            "it takes 2 credits, and 1 of the namespace's 9 are left for 1970-01: 1 missing",
        )
        .status(BatchStatus::CompletedWithFailures)
        .books(january(), (14, 8, 6, 1));
    assert_eq!(story.state().retries.get(4), 1, "nothing of it was done");
}

#[test]
fn a_new_month_has_its_own_credits_and_what_was_reserved_ends_in_its_own() {
    let february = january().next();
    let mut story = given("a").limited(5).documents(5).done(0, "a", 0..3);
    story.now.at = "1970-02-01T00:00:00Z".parse().unwrap();
    let story = story
        .books(january(), (5, 0, 0, 0))
        .fails(0, "a", 3..5, FailureKind::REJECTED)
        .books(january(), (5, 3, 2, 2))
        .books(february, (0, 0, 0, 5))
        .retry(all())
        .accepted()
        .books(january(), (5, 3, 2, 2))
        .books(february, (2, 0, 0, 3))
        .done(0, "a", 3..5)
        .books(february, (2, 2, 0, 3));
    assert_eq!(story.state().credits.settled, 5);
}

#[test]
fn a_submission_beyond_what_is_left_begins_nothing_and_may_be_tried_again() {
    let mut story = given("a").limited(4).command(page(0, 5)).accepted();
    story = story
        .command(submit())
        .refused(
            "credits_exhausted",
            "1 missing; take fewer documents, wait for 1970-02",
        )
        .status(BatchStatus::Pending);
    story = story.limited(5).submit().books(january(), (5, 0, 0, 0));
    assert_eq!(story.state().credits.documents().len(), 5);
}

#[test]
fn pages_of_a_batch_that_begins_at_once_reserve_one_by_one() {
    nothing()
        .limited(5)
        .command(create("a", Start::AtOnce))
        .accepted()
        .command(page(0, 3))
        .events(&["credits.reserved", "batch.documents_added", "tier.started"])
        .command(page(3, 3))
        .refused("credits_exhausted", "it takes 3 credits")
        .command(page(0, 3))
        .repeated()
        .command(submit())
        .events(&["batch.submitted"])
        .done(0, "a", 0..3)
        .books(january(), (3, 3, 0, 2));
}

#[test]
fn a_cancellation_settles_what_is_through_and_releases_the_rest() {
    given("a | b")
        .limited(5)
        .documents(5)
        .done(0, "a", 0..3)
        .done(1, "b", 0..2)
        .command(cancel())
        .events(&["batch.cancelled", "credits.settled", "credits.released"])
        .books(january(), (5, 2, 3, 3));
}

#[test]
fn a_retry_of_a_running_batch_takes_nothing_for_what_is_still_held() {
    given("a")
        .limited(5)
        .documents(5)
        .fails(0, "a", 0..1, FailureKind::REJECTED)
        .retry(all())
        .accepted()
        .events(&["documents.retry_scheduled"])
        .books(january(), (5, 0, 0, 0));
}

#[test]
fn a_preview_tells_what_it_would_take_and_takes_nothing() {
    let preview = Retry {
        dry_run: true,
        ..all()
    };
    let story = two_of_five_failed(11)
        .limited(9)
        .retry(preview)
        .accepted()
        .and_nothing_happens();
    let charge = story.answer().credits.unwrap();
    assert_eq!((charge.takes, charge.left, charge.missing()), (4, 3, 1));
    let plan = story.answer().plan.clone();
    story
        .retry(Retry { plan, ..retry() })
        .refused("credits_exhausted", "1 missing");
}

#[test]
fn without_a_limit_there_are_no_credits() {
    let story = given("a")
        .documents(2)
        .events(&["batch.submitted", "tier.started"])
        .done(0, "a", 0..2)
        .events(&["documents.completed", "tier.completed", "batch.completed"]);
    assert!(story.state().credits.is_none());
    assert_eq!(story.ledgers.iter().count(), 0);
    // And what costs nothing needs none.
    let mut pipeline = pipeline("a");
    pipeline["credits_per_document"] = json!(0);
    let create = Command::Create(Create {
        pipeline,
        start: Start::OnSubmit,
    });
    nothing()
        .limited(0)
        .command(create)
        .accepted()
        .documents(2)
        .events(&["batch.submitted", "tier.started"]);
}

#[test]
fn a_limit_that_is_lifted_still_ends_what_is_held() {
    let mut story = given("a").limited(5).documents(2);
    story.limit(None);
    let story = story.done(0, "a", 0..2).events(&[
        "documents.completed",
        "tier.completed",
        "batch.completed",
        "credits.settled",
    ]);
    assert_eq!(story.ledger().account(january()).held(), 0);
}

#[test]
fn cut_off_after_the_reservation_the_same_submission_goes_on_from_there() {
    let mut story = given("a").limited(3).command(page(0, 3)).accepted();
    let reserved = Event::CreditsReserved {
        month: january(),
        amount: 3,
        documents: units(0..3),
    };
    let id = 77;
    story.fold(
        reserved,
        Cause::Command(CommandId(uuid::Uuid::from_u128(id))),
    );
    story
        .command_with_id(id, &submit())
        .accepted()
        .events(&["batch.submitted", "tier.started"])
        .done(0, "a", 0..3)
        .books(january(), (3, 3, 0, 0));
}

#[test]
fn a_limit_is_set_once_by_a_command_to_the_namespace() {
    let nobody = BatchKey {
        batch: NO_BATCH,
        ..key()
    };
    let ask = |ledger: Option<&Ledger>, key: &BatchKey, id, limit| {
        let command = Command::SetCredits(SetCredits { limit });
        let (bucket, id) = (
            Bucket::new("_").unwrap(),
            CommandId(uuid::Uuid::from_u128(id)),
        );
        let keys = None;
        let tenant = decide::Tenant { ledger, keys };
        decide::command_within(tenant, Timestamp(0), None, key, &bucket, id, &command)
    };
    let first = ask(None, &nobody, 1, Some(5)).unwrap();
    assert_eq!(first.events, [Event::CreditsLimitSet { limit: Some(5) }]);
    // The command comes again after another one: it is done already.
    let mut story = nothing();
    for (id, limit) in [(1u128, 5), (2, 9)] {
        let event = Event::CreditsLimitSet { limit: Some(limit) };
        story.fold(event, Cause::Command(CommandId(uuid::Uuid::from_u128(id))));
    }
    let ledger = Some(story.ledger());
    let again = ask(ledger, &nobody, 1, Some(5)).unwrap();
    assert!(again.events.is_empty() && again.accepted.repeated);
    assert_eq!(again.accepted.seq, 1);
    let same = ask(ledger, &nobody, 3, Some(9)).unwrap();
    assert_eq!((same.events.len(), same.accepted.seq), (0, 2));
    for refused in [
        ask(None, &key(), 1, Some(5)),
        ask(ledger, &nobody, 4, Some(u64::MAX)),
    ] {
        assert!(refused.is_err());
    }
    let none = Command::read_body(crate::command::Verb::SetCredits, b"{}");
    assert!(none.is_err(), "a limit is not lifted by leaving it out");
}

#[test]
fn what_waits_for_a_sample_is_paid_for_again_by_whoever_goes_on() {
    let mut pipeline = pipeline("a");
    pipeline["max_failed"] = json!(7);
    let create = Command::Create(Create {
        pipeline,
        start: Start::OnSubmit,
    });
    let canary = Retry {
        canary: Some("25%".parse().unwrap()),
        ..all()
    };
    let story = nothing()
        .limited(100)
        .command(create)
        .documents(12)
        .fails(0, "a", 0..4, FailureKind::REJECTED)
        .retry(canary)
        .events(&["documents.retry_scheduled"])
        .open(0, "a", (0..1).chain(4..12))
        .fails(0, "a", 4..9, FailureKind::REJECTED)
        .status(BatchStatus::Failed)
        .books(january(), (12, 0, 12, 100))
        .command(Command::Resume(Resume::default()))
        .events(&["credits.reserved", "dispatch.resumed", "tier.started"])
        // The sample, three that nobody had come to, and the three that wait.
        .books(january(), (19, 0, 12, 93));
    story
        .done(0, "a", 0..1)
        .events(&[
            "documents.completed",
            "retry.canary_judged",
            "documents.retry_scheduled",
        ])
        .done(0, "a", 1..4)
        .done(0, "a", 9..12)
        .books(january(), (19, 7, 12, 93));
}
