//! What a diagnosis tells of what others measured and noticed.

use super::*;

fn job_of(story: &mut Story) -> &mut crate::state::JobState {
    &mut story.batch.as_mut().unwrap().tiers[0].jobs[0]
}

#[test]
fn work_that_nobody_does_comes_before_all_that_failed() {
    let bad = Failure::new(FailureKind::INVALID_DATA, "no title");
    let mut story = given("a")
        .documents(10)
        .outcome(0, "a", |report| report.failed_with(0..3, bad));
    let since = story.now.at;
    job_of(&mut story).orphaned = Some(since);
    let diagnosis = of(&story);
    assert_eq!(diagnosis.failure_category, FailureCategory::Orphaned);
    let first = &diagnosis.recommendations[0];
    assert_eq!((first.cause, first.units), (Cause::Orphaned, 7));
    assert_eq!(
        first.command.as_deref(),
        Some("redrive worker --handler a --class cpu")
    );
    assert!(
        first
            .reason
            .contains("no live worker serves handler a for class cpu")
    );
    assert_eq!(diagnosis.recommendations[1].cause, Cause::Permanent);
}

#[test]
fn an_outage_passes_by_itself() {
    let mut story = given("a").documents(10);
    let at = story.now.at;
    job_of(&mut story).paused = Some(crate::pause::Paused {
        reason: crate::pause::PauseReason::Breaker(crate::pause::Outage {
            failed: 9,
            of: 10,
            window: Millis::seconds(30),
            until: at.plus(Millis::seconds(15)),
            probes: 0,
            kind: FailureKind::UNAVAILABLE,
            message: "nobody there".to_owned(),
        }),
        at,
        seq: 3,
    });
    let diagnosis = of(&story);
    let one = only(&diagnosis);
    assert_eq!((one.cause, &one.command), (Cause::Paused, &None));
    assert!(
        one.sentence.starts_with("Wait: it goes on by itself"),
        "{}",
        one.sentence
    );
    assert!(
        one.reason.contains("9 of 10 attempts failed"),
        "{}",
        one.reason
    );
}

#[test]
fn what_succeeded_with_how_much_memory_is_told() {
    let mut story = failed(&FailureKind::OUT_OF_MEMORY, "killed");
    job_of(&mut story).peak_memory = Some(200 << 20);
    let diagnosis = of(&story);
    let reason = &only(&diagnosis).reason;
    assert!(
        reason.contains("8 succeeded with at most 200.0 MiB"),
        "{reason}"
    );
    assert_eq!(
        diagnosis.per_tier[0].tasks[0].resources.peak_memory_bytes,
        Some(200 << 20)
    );
}
