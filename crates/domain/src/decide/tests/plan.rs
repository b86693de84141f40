use super::story::*;
use crate::{
    command::{Command, Refusal, Retried, Retry, RetryMode},
    decide::difference,
    failure::FailureKind,
    plan::Plan,
};

fn preview(retry: Retry) -> Retry {
    Retry {
        dry_run: true,
        ..retry
    }
}

fn of(plan: &Plan) -> Retry {
    Retry {
        plan: Some(plan.clone()),
        ..retry()
    }
}

fn ten_failed() -> Story {
    given("a")
        .documents(20)
        .fails(0, "a", 0..10, FailureKind::REJECTED)
}

fn all() -> Retry {
    Retry {
        retry_mode: RetryMode::All,
        ..retry()
    }
}

#[track_caller]
fn planned(story: &Story) -> (Plan, Retried) {
    let answer = story.answer();
    (
        answer.plan.clone().expect("a plan"),
        answer.retry.clone().expect("what it would do"),
    )
}

#[test]
fn a_preview_does_nothing_and_its_plan_does_what_it_said() {
    let story = ten_failed()
        .retry(preview(all()))
        .accepted()
        .and_nothing_happens();
    let (plan, told) = planned(&story);
    assert_eq!(plan.seq, story.state().last_seq);
    assert_eq!(told.documents, 10);
    let story = story.retry(of(&plan)).accepted().open(0, "a", 0..20);
    assert_eq!(story.answer().retry, Some(told));
    let event = serde_json::to_value(story.event("documents.retry_scheduled")).unwrap();
    assert_eq!(event["documents.retry_scheduled"]["plan_seq"], plan.seq);
}

#[test]
fn a_plan_holds_as_long_as_it_would_come_to_the_same() {
    let story = ten_failed().retry(preview(all()));
    let (plan, _) = planned(&story);
    // Things happen that have nothing to do with it.
    story
        .done(0, "a", 10..15)
        .retry(of(&plan))
        .accepted()
        .open(0, "a", (0..10).chain(15..20));
}

#[test]
fn a_stale_plan_does_nothing_and_tells_the_difference() {
    let story = ten_failed().retry(preview(all()));
    let (plan, _) = planned(&story);
    let then = story.state().clone();
    let story = story
        .retry(Retry {
            max_retry_count: 1,
            ..all()
        })
        .done(0, "a", 0..4)
        .fails(0, "a", 4..10, FailureKind::REJECTED)
        .fails(0, "a", 10..12, FailureKind::REJECTED)
        .retry(of(&plan))
        .refused("stale", "no longer holds");
    let difference = difference(&then, story.state(), &plan);
    assert_eq!((difference.gone, difference.added), (4, 2));
    assert_eq!(difference.gone_documents, units(0..4));
    assert_eq!(difference.added_documents, units(10..12));
    let words = Refusal::Stale(difference).to_string();
    assert!(
        words.contains("4 would not") && words.contains("and 2 that"),
        "{words}"
    );
}

#[test]
fn a_plan_says_all_and_is_of_one_batch() {
    let story = ten_failed().retry(preview(all()));
    let (plan, _) = planned(&story);
    let story = story
        .retry(Retry {
            max_retry_count: 5,
            ..of(&plan)
        })
        .refused("invalid", "plan: says already what to retry");
    let mut other = story.state().clone();
    other.key.batch.0 = uuid::Uuid::from_u128(2);
    let id = crate::ids::CommandId(uuid::Uuid::nil());
    let refused = crate::decide::command(
        Some(&other),
        &other.key,
        &other.bucket,
        id,
        &Command::Retry(of(&plan)),
    );
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("plan: is of another batch"), "{words}");
}

#[test]
fn a_plan_is_one_word_that_comes_back_as_itself() {
    let story = ten_failed().retry(preview(Retry {
        tier_nums: Some(vec![0]),
        kinds: Some(vec![FailureKind::REJECTED]),
        max_retries: Some(2),
        ..all()
    }));
    let (plan, _) = planned(&story);
    let word = plan.to_string();
    assert!(
        word.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    );
    assert_eq!(word.parse(), Ok(plan));
    for wrong in [
        "",
        "plan-",
        "plan-zzzz",
        &word[..word.len() - 1],
        &format!("{word}0"),
        &word.to_uppercase(),
    ] {
        assert!(wrong.parse::<Plan>().is_err(), "{wrong}");
    }
}

#[test]
fn a_retry_may_name_kinds() {
    let story = ten_failed()
        .fails(0, "a", 10..13, FailureKind::NOT_FOUND)
        .retry(Retry {
            kinds: Some(vec![FailureKind::NOT_FOUND]),
            ..all()
        })
        .accepted();
    let told = story.answer().retry.clone().unwrap();
    assert_eq!((told.units, told.excluded.kind), (3, 10));
}
