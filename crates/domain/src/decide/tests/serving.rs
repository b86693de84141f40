use super::story::*;
use crate::{
    decide::{ORPHANED_AFTER, serving},
    event::{Cause, Event},
    pause::JobRef,
    time::{Millis, Timestamp},
};

/// What is decided where only these handlers are served, and everything else has waited since.
fn decide(story: &Story, served: &[&str], since: Timestamp) -> Vec<Event> {
    serving(
        story.state(),
        story.now.at,
        |spec| served.contains(&spec.handler.as_str()),
        |_| Some(since),
    )
}

fn jobs(events: &[Event]) -> Vec<(&'static str, String)> {
    let names = |jobs: &[JobRef]| {
        let names: Vec<_> = jobs.iter().map(|at| at.job.to_string()).collect();
        names.join(" ")
    };
    events
        .iter()
        .map(|event| match event {
            Event::DispatchOrphaned { jobs, .. } | Event::DispatchServed { jobs } => {
                (event.name(), names(jobs))
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_job_with_work_that_nobody_serves_is_orphaned_until_somebody_does() {
    let mut story = given("a b | c").documents(3);
    let since = story.now.at;
    story = story.later(Millis(ORPHANED_AFTER.0 - 1));
    assert_eq!(decide(&story, &["b"], since), []);
    story = story.later(Millis(1));
    let events = decide(&story, &["b"], since);
    // Nothing has come to tier 1 yet.
    assert_eq!(jobs(&events), [("dispatch.orphaned", "a".to_owned())]);
    story.append(events, Cause::State);
    assert_eq!(story.job(0, "a").orphaned, Some(since));
    assert_eq!(decide(&story, &["b"], since), [], "it is said once");
    let events = decide(&story, &["a", "b"], since);
    assert_eq!(jobs(&events), [("dispatch.served", "a".to_owned())]);
    story.append(events, Cause::State);
    assert_eq!(story.job(0, "a").orphaned, None);
    assert_eq!(decide(&story, &["a", "b"], since), []);
}

#[test]
fn what_has_nothing_left_to_do_is_no_orphan() {
    for end in ["done", "cancelled"] {
        let mut story = given("a").documents(3);
        let since = story.now.at;
        story = story.later(ORPHANED_AFTER);
        story.append(decide(&story, &[], since), Cause::State);
        let story = match end {
            "done" => story.done(0, "a", 0..3),
            _ => story.command(cancel()).accepted(),
        };
        assert_eq!(story.job(0, "a").orphaned, None, "{end}");
        assert_eq!(decide(&story, &[], since), []);
    }
}
