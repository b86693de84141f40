//! For each cause the right category, the right words and the right command.

use super::{Cause, Diagnosis, FailureCategory, Recommendation, diagnose};
use crate::{
    command::{Command, Pause, Retry},
    decide::tests::story::{self, Story, cancel, given},
    failure::{Failure, FailureClass, FailureKind},
    limits::RECOMMENDATIONS,
    status::BatchStatus,
    time::Millis,
};

mod given_up;
mod resources;
mod seen;

const BATCH: &str = "00000000-0000-0000-0000-000000000001";

fn of(story: &Story) -> Diagnosis {
    let diagnosis = diagnose(story.state(), story.now.at);
    let json = serde_json::to_string(&diagnosis).unwrap();
    let back: Diagnosis = serde_json::from_str(&json).unwrap();
    assert_eq!(back, diagnosis, "{json}");
    plans_hold(story, &diagnosis);
    diagnosis
}

/// Every plan is one that a dry run would give, reads back from its word, and is accepted for just so many units.
fn plans_hold(story: &Story, diagnosis: &Diagnosis) {
    assert!(!diagnosis.recommendations.is_empty());
    for one in &diagnosis.recommendations {
        let retries = one
            .command
            .as_ref()
            .is_some_and(|c| c.starts_with("redrive retry "));
        assert_eq!(one.plan.is_some(), retries, "{one:?}");
        let Some(plan) = &one.plan else { continue };
        let plan = plan.to_string().parse().unwrap();
        let retry = Command::Retry(Retry {
            plan: Some(plan),
            ..Retry::default()
        });
        let decided = crate::decide::command(
            Some(story.state()),
            &story::key(),
            &story.state().bucket,
            crate::ids::CommandId(uuid::Uuid::from_u128(9_999)),
            &retry,
        );
        let retried = decided.unwrap().accepted.retry.unwrap();
        assert!(retried.units > 0, "{one:?}");
        assert!(retried.units <= one.units, "{one:?}");
    }
}

/// Attempts until nothing more is tried by itself.
fn fails_for_good(
    mut story: Story,
    job: &str,
    range: std::ops::Range<u32>,
    failure: &Failure,
) -> Story {
    for _ in 0..3 {
        story = story.later(Millis::seconds(120)).outcome(0, job, |report| {
            report.failed_with(range.clone(), failure.clone())
        });
        if story
            .job(0, job)
            .open
            .is_disjoint(&story::units(range.clone()))
        {
            break;
        }
    }
    story
}

fn failed(kind: &FailureKind, message: &str) -> Story {
    let failure = Failure::new(kind.clone(), message);
    let story = given("a")
        .documents(10)
        .later(Millis::seconds(10))
        .done(0, "a", 2..10);
    fails_for_good(story, "a", 0..2, &failure)
}

#[track_caller]
fn only(diagnosis: &Diagnosis) -> &Recommendation {
    match &diagnosis.recommendations[..] {
        [one] => one,
        more => panic!("{more:#?}"),
    }
}

#[test]
fn each_kind_of_failure_has_its_cause_its_category_and_its_command() {
    use FailureCategory::{Infrastructure, Pipeline};
    let own = FailureKind::new("paywall").unwrap();
    for (kind, cause, category, command) in [
        (
            FailureKind::NETWORK,
            Cause::Transient,
            Pipeline,
            "--kind network",
        ),
        (
            FailureKind::UNAVAILABLE,
            Cause::Transient,
            Pipeline,
            "--kind unavailable",
        ),
        (
            FailureKind::CRASHED,
            Cause::Crashed,
            Infrastructure,
            "--kind crashed --max-retries 1",
        ),
        (
            FailureKind::INVALID_DATA,
            Cause::Permanent,
            Pipeline,
            "--mode all --tier 0 --fingerprint",
        ),
        (
            FailureKind::MISSING_FIELD,
            Cause::Permanent,
            Pipeline,
            "--mode all --tier 0 --fingerprint",
        ),
        (
            FailureKind::NOT_FOUND,
            Cause::Permanent,
            Pipeline,
            "--mode all --tier 0 --fingerprint",
        ),
        (
            FailureKind::REJECTED,
            Cause::Permanent,
            Pipeline,
            "--mode all --tier 0 --fingerprint",
        ),
        (
            FailureKind::FAILED,
            Cause::Unknown,
            Pipeline,
            "--mode all --tier 0 --fingerprint",
        ),
        (
            own,
            Cause::Unknown,
            Pipeline,
            "--mode all --tier 0 --fingerprint",
        ),
    ] {
        let story = failed(&kind, "row 7 is odd");
        let diagnosis = of(&story);
        let one = only(&diagnosis);
        assert_eq!((one.cause, one.units), (cause, 2), "{kind}");
        assert_eq!(diagnosis.failure_category, category, "{kind}");
        let line = one.command.as_deref().unwrap();
        assert!(
            line.starts_with(&format!("redrive retry {BATCH} ")),
            "{line}"
        );
        assert!(
            line.contains(command) && line.contains("--tier 0"),
            "{line}"
        );
        assert!(
            one.reason.contains("2 units of a in tier 0"),
            "{}",
            one.reason
        );
        assert!(one.reason.contains("“row <n> is odd”"), "{}", one.reason);
        assert_eq!(diagnosis.failed_document_count, 2);
        assert_eq!(diagnosis.status, BatchStatus::CompletedWithFailures);
    }
}

#[test]
fn each_group_of_documents_that_have_to_be_mended_has_a_command_of_its_own() {
    let bad = |message| Failure::new(FailureKind::INVALID_DATA, message);
    let story = given("a").documents(10).outcome(0, "a", |report| {
        report
            .done(5..10)
            .failed_with(0..2, bad("no title"))
            .failed_with(2..5, bad("no date"))
    });
    let diagnosis = of(&story);
    let groups: Vec<(&str, u64)> = diagnosis
        .failure_groups
        .iter()
        .map(|group| (group.message.as_str(), group.units))
        .collect();
    assert_eq!(groups, [("no date", 3), ("no title", 2)]);
    for (group, one) in diagnosis
        .failure_groups
        .iter()
        .zip(&diagnosis.recommendations)
    {
        assert_eq!(one.fingerprint, Some(group.fingerprint));
        let flag = format!("--fingerprint {}", group.fingerprint);
        assert!(one.command.as_deref().unwrap().ends_with(&flag));
        assert!(one.sentence.starts_with("Mend the documents"));
    }
}

#[test]
fn a_handler_that_is_misconfigured_is_told_of_once() {
    let story = given("a").documents(10).outcome(0, "a", |report| {
        report.failed_with(
            0..1,
            Failure::new(FailureKind::MISCONFIGURED, "cannot run \"./later.sh\""),
        )
    });
    let diagnosis = of(&story);
    let one = only(&diagnosis);
    assert_eq!((one.cause, one.units), (Cause::Misconfigured, 10));
    assert!(
        one.command
            .as_deref()
            .unwrap()
            .contains("--tier 0 --kind misconfigured")
    );
    assert!(one.reason.contains("9 units wait since"), "{}", one.reason);
    assert_eq!(diagnosis.failure_category, FailureCategory::Pipeline);
}

#[test]
fn what_somebody_paused_is_resumed() {
    let pause = Pause {
        reason: Some("until noon".to_owned()),
        ..Pause::default()
    };
    let story = given("a")
        .documents(3)
        .command(Command::Pause(pause))
        .accepted();
    let diagnosis = of(&story);
    let one = only(&diagnosis);
    assert_eq!(one.cause, Cause::Paused);
    let expected = format!("redrive resume {BATCH} --tier 0 --job a");
    assert_eq!(one.command.as_deref(), Some(expected.as_str()));
    assert!(one.reason.contains("until noon"));
    assert_eq!(diagnosis.failure_category, FailureCategory::None);
}

#[test]
fn what_is_quiet_for_longer_than_an_attempt_may_take_is_looked_into() {
    let story = given("a").documents(3).done(0, "a", 0..1);
    assert_eq!(only(&of(&story)).cause, Cause::None);
    let story = story.later(Millis::seconds(361));
    let diagnosis = of(&story);
    let one = only(&diagnosis);
    assert_eq!((one.cause, one.units), (Cause::Stuck, 2));
    assert!(
        one.reason.contains("nothing has ended for 6m01s"),
        "{}",
        one.reason
    );
}

#[test]
fn what_waits_for_its_next_attempt_is_not_stuck() {
    let failure =
        Failure::new(FailureKind::RATE_LIMITED, "later").with_retry_after(Millis::seconds(3_600));
    let story = given("a")
        .documents(1)
        .outcome(0, "a", |report| report.failed_with(0..1, failure))
        .later(Millis::seconds(1_800));
    let diagnosis = of(&story);
    let one = only(&diagnosis);
    assert_eq!(one.cause, Cause::None);
    assert!(one.reason.contains("1 unit wait"), "{}", one.reason);
}

#[test]
fn where_nothing_is_wrong_that_is_said() {
    let pending = given("a");
    let done = given("a").documents(2).done(0, "a", 0..2);
    let lost = given("a")
        .documents(2)
        .worker_lost(0, "a", 0..1)
        .done(0, "a", 1..2);
    for (story, sentence, reason) in [
        (
            pending,
            "waits for the rest of its documents",
            "0 of 0 documents",
        ),
        (done, "nothing is left to do", "2 of 2 documents completed"),
        (
            lost,
            "let it go on",
            "1 attempt ended with a process or a machine",
        ),
    ] {
        let diagnosis = of(&story);
        let one = only(&diagnosis);
        assert_eq!((one.cause, &one.command), (Cause::None, &None));
        assert!(one.sentence.contains(sentence), "{}", one.sentence);
        assert!(one.reason.contains(reason), "{}", one.reason);
        assert_eq!(diagnosis.failure_category, FailureCategory::None);
    }
}

#[test]
fn a_cancelled_batch_has_no_command() {
    let bad = Failure::new(FailureKind::INVALID_DATA, "no title");
    let story = given("a")
        .documents(3)
        .outcome(0, "a", |report| report.failed_with(0..1, bad))
        .command(cancel())
        .accepted();
    let diagnosis = of(&story);
    assert_eq!(only(&diagnosis).cause, Cause::Cancelled);
    assert_eq!(diagnosis.failure_category, FailureCategory::Pipeline);
}

#[test]
fn the_category_is_that_of_most_failed_units_and_machines_go_first() {
    let story = |timeouts: u32, crashes: u32, bad: u32| {
        let (second, third) = (timeouts + crashes, timeouts + crashes + bad);
        let permanent =
            |kind: FailureKind| Failure::new(kind, "it hurt").with_class(FailureClass::Permanent);
        given("a").documents(third + 1).outcome(0, "a", |report| {
            report
                .done(third..third + 1)
                .failed_with(0..timeouts, permanent(FailureKind::TIMEOUT))
                .failed_with(timeouts..second, permanent(FailureKind::CRASHED))
                .failed_with(second..third, permanent(FailureKind::NOT_FOUND))
        })
    };
    for (timeouts, crashes, bad, category) in [
        (3, 2, 2, FailureCategory::Timeout),
        (2, 2, 3, FailureCategory::Pipeline),
        (2, 2, 2, FailureCategory::Infrastructure),
        (2, 1, 2, FailureCategory::Timeout),
        (0, 0, 1, FailureCategory::Pipeline),
    ] {
        let diagnosis = of(&story(timeouts, crashes, bad));
        assert_eq!(
            diagnosis.failure_category, category,
            "{timeouts} {crashes} {bad}"
        );
    }
}

#[test]
fn what_was_retried_three_times_is_retried_again_only_with_a_word_about_it() {
    let mut story = failed(&FailureKind::CRASHED, "signal 11");
    for _ in 0..3 {
        let retry = Retry {
            retry_mode: crate::command::RetryMode::All,
            ..Retry::default()
        };
        let failure = Failure::new(FailureKind::CRASHED, "signal 11");
        story = fails_for_good(story.retry(retry).accepted(), "a", 0..2, &failure);
    }
    let diagnosis = of(&story);
    let one = only(&diagnosis);
    let command = one.command.as_deref().unwrap();
    assert!(command.contains("--max-retry-count 10"), "{command}");
    assert!(
        one.reason.contains("had been retried 3 times or more"),
        "{}",
        one.reason
    );
}

#[test]
fn a_diagnosis_is_bounded_however_much_is_wrong() {
    let bad = |n: u32| {
        let letter = |n: u32| char::from_u32(u32::from('a') + n % 26).unwrap();
        let kind = format!("kind_{}", n % 20);
        let message: String = ["no ".chars().collect(), [n / 26, n].map(letter).to_vec()]
            .concat()
            .iter()
            .collect();
        Failure::new(FailureKind::new(kind).unwrap(), message).with_class(FailureClass::Permanent)
    };
    let story = given("a").documents(300).outcome(0, "a", |report| {
        (0..300).fold(report, |report, n| report.failed_with(n..n + 1, bad(n)))
    });
    let diagnosis = of(&story);
    assert_eq!(diagnosis.recommendations.len(), RECOMMENDATIONS);
    let listed: u64 = diagnosis
        .failure_groups
        .iter()
        .map(|group| group.units)
        .sum();
    assert!(listed < 300 && diagnosis.more_failure_groups > 0);
    let text = serde_json::to_string(&diagnosis).unwrap();
    assert!(text.len() < 64 * 1024, "{}", text.len());
}

#[test]
fn a_tier_tells_its_time_its_parameters_and_its_rate() {
    let mut report = given("a | b").documents(10).later(Millis::seconds(5));
    let mut outcome = report.report(0, "a").done(0..10).outcome;
    outcome.attempt = 1;
    outcome.busy = Millis(45_300);
    outcome.loading = Millis(2_500);
    outcome.at = report.now.at;
    report = report.later(Millis(500)).reported(&outcome);
    let diagnosis = of(&report);
    let [first, second] = &diagnosis.per_tier[..] else {
        panic!("{:?}", diagnosis.per_tier)
    };
    let stages: Vec<(&str, f64)> = first
        .stage_history
        .iter()
        .map(|stage| (stage.name.as_str(), stage.duration_seconds))
        .collect();
    assert_eq!(
        stages,
        [("loading", 2.5), ("processing", 45.3), ("writing", 0.5)]
    );
    assert_eq!(first.tasks[0].stage_history, first.stage_history);
    assert!((first.timing.duration_seconds - 5.5).abs() < 1e-9);
    assert!((first.throughput_per_second - 1.818).abs() < 1e-9);
    assert_eq!(
        first.tasks[0].submission_params.extractor_name.as_str(),
        "a"
    );
    assert_eq!(
        (second.tasks[0].open, second.throughput_per_second),
        (10, 0.0)
    );
}
