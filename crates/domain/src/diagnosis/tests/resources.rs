//! Recommendations that change what a job may use.

use super::*;

/// A batch of a hundred documents whose job is as told; ten failed with this kind, the others took `busy` together, in
/// ten seconds.
fn ten_failed(job: serde_json::Value, kind: &FailureKind, busy: Millis) -> Story {
    let mut job = job;
    job["handler"] = "a".into();
    job["max_attempts"] = 1.into();
    let pipeline = serde_json::json!({ "tiers": [{ "jobs": [job] }] });
    let create = crate::command::Create {
        pipeline,
        start: crate::command::Start::OnSubmit,
    };
    let story = story::nothing().command(Command::Create(create)).accepted();
    let story = story.documents(100).later(Millis::seconds(10));
    let mut outcome = story.report(0, "a").done(10..100).attempt(1).outcome;
    outcome.busy = busy;
    outcome.at = story.now.at;
    let mut story = story.reported(&outcome);
    // Only out of memory costs no attempt.
    let attempts = if *kind == FailureKind::OUT_OF_MEMORY {
        3
    } else {
        1
    };
    for attempt in 1..=attempts {
        let failure = Failure::new(kind.clone(), "it hurt");
        let report = story.report(0, "a").failed_with(0..10, failure);
        let mut outcome = report.attempt(attempt).outcome;
        outcome.busy = Millis(0);
        outcome.at = story.now.at;
        story = story.reported(&outcome);
    }
    story
}

#[test]
fn other_resources_are_recommended_by_what_was_seen() {
    use serde_json::json;
    let (memory, timeout, limited) = (
        FailureKind::OUT_OF_MEMORY,
        FailureKind::TIMEOUT,
        FailureKind::RATE_LIMITED,
    );
    for (job, kind, busy, set, reason) in [
        // Stopped at a limit.
        (
            json!({ "memory_bytes": 67_108_864 }),
            &memory,
            1_000,
            "memory_bytes=128MiB",
            "more than the 64.0 MiB",
        ),
        // The machine was full.
        (
            json!({}),
            &memory,
            80_000,
            "max_concurrency=4",
            "about 8 ran at once",
        ),
        // They take long as it is.
        (
            json!({ "timeout": "10s" }),
            &timeout,
            460_000,
            "timeout=20s",
            "took about 4.0s each",
        ),
        // They are in each other's way.
        (
            json!({ "timeout": "10s" }),
            &timeout,
            145_000,
            "max_concurrency=7",
            "took about 500ms each",
        ),
        // What got through in ten seconds; half of a limit that was too high.
        (
            json!({}),
            &limited,
            1_000,
            "rate_limit=9",
            "90 got through in 10.0s",
        ),
        (
            json!({ "rate_limit": { "per_second": 12 } }),
            &limited,
            1_000,
            "rate_limit=6",
            "12 a second were too many",
        ),
    ] {
        let diagnosis = of(&ten_failed(job.clone(), kind, Millis(busy)));
        let one = only(&diagnosis);
        let command = one.command.as_deref().unwrap();
        assert!(
            command.ends_with(&format!(" --set {set}")),
            "{job} {command}"
        );
        assert!(
            command.contains(&format!("--tier 0 --kind {kind}")),
            "{command}"
        );
        assert!(one.reason.contains(reason), "{}", one.reason);
        assert_eq!(one.units, 10);
        assert_eq!(one.plan.as_ref().unwrap().retry().set, one_set(set));
    }
}

fn one_set(text: &str) -> Option<Box<crate::pipeline::SubmissionChange>> {
    let mut set = crate::pipeline::SubmissionChange::default();
    set.set(text).unwrap();
    Some(Box::new(set))
}

#[test]
fn one_job_of_several_is_named_and_waits_as_long_as_was_asked() {
    let slow = Failure::new(FailureKind::RATE_LIMITED, "slow down")
        .with_class(FailureClass::Permanent)
        .with_retry_after(Millis::seconds(600));
    let story = given("a b")
        .documents(2)
        .later(Millis::seconds(10))
        .done(0, "b", 0..2);
    let story = story.outcome(0, "a", |report| report.done(1..2).failed_with(0..1, slow));
    let until = story.now.at.plus(Millis::seconds(600));
    let diagnosis = of(&story);
    let command = only(&diagnosis).command.clone().unwrap();
    assert!(
        command.contains(&format!("--job a --not-before {until} --set rate_limit=")),
        "{command}"
    );
}
