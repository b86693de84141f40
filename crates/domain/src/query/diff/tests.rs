use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    arbitrary, decide,
    event::{Cause, Envelope, Event},
    evolve::evolve,
    time::Timestamp,
};

pub(in crate::query) fn following(event: Event) -> Envelope {
    Envelope { event, ..created() }
}

pub(in crate::query) fn created() -> Envelope {
    let pipeline = serde_json::json!({ "tiers": [
        { "jobs": [{ "handler": "a" }, { "handler": "b" }] },
        { "jobs": [{ "handler": "a" }] },
        { "barrier": true, "jobs": [{ "handler": "b" }] },
    ] });
    Envelope {
        v: 1,
        id: crate::ids::EventId(uuid::Uuid::nil()),
        at: Timestamp(0),
        namespace: crate::ids::Namespace::new("tests").unwrap(),
        batch: crate::ids::BatchId(uuid::Uuid::from_u128(1)),
        cause: Cause::State,
        actor: None,
        trace: None,
        event: Event::BatchCreated {
            bucket: crate::ids::Bucket::new("inbox").unwrap(),
            pipeline: crate::pipeline::Pipeline::from_value(&pipeline).unwrap(),
            start: crate::command::Start::OnSubmit,
        },
    }
}

/// Those that changed, found the slow way.
fn one_by_one(changes: &Changes<'_>) -> UnitSet {
    let all = changes.after.all.iter();
    let changed = |document: &Ordinal| {
        let (before, after) = changes.of(*document).unwrap();
        before.as_ref() != Some(&after)
    };
    all.filter(changed).collect()
}

fn check(before: Option<&BatchState>, after: &BatchState) {
    let changes = Changes::between(before, after);
    assert_eq!(*changes.documents(), one_by_one(&changes));
    let total: u64 = changes.transitions().iter().map(|t| t.documents).sum();
    assert_eq!(total, changes.documents().len());
    // Each document has one status, and they are counted as the batch counts them.
    let counts = after.counts();
    let by_status = changes.after.by_status().map(|(_, set)| set.len());
    let counted = [
        counts.open,
        counts.completed,
        counts.failed,
        counts.cancelled,
    ];
    assert_eq!(by_status, counted);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_sets_say_of_any_two_moments_what_each_document_says(
        submit in any::<bool>(),
        log in vec(arbitrary::envelope(), 0..30),
        from in 1u64..30,
    ) {
        let mut state = None;
        let mut before = None;
        let added = Event::DocumentsAdded {
            first: 0,
            count: 60,
            documents: crate::packed::Packed::new(&Vec::new()).unwrap(),
        };
        let submitted = Event::BatchSubmitted { documents: 60 };
        let begun = [created(), following(added), following(submitted)];
        for (seq, envelope) in (1..).zip(begun.iter().take(2 + usize::from(submit)).chain(&log)) {
            if seq == from {
                before = state.clone();
            }
            evolve(&mut state, seq, envelope);
            while let Some(event) = state.as_ref().and_then(decide::settle) {
                evolve(&mut state, seq, &following(event));
            }
        }
        let after = state.unwrap();
        // One look at each of more documents takes a while.
        if after.documents <= 5_000 {
            check(before.as_ref(), &after);
        }
    }
}

#[test]
fn a_document_that_failed_again_in_the_same_way_has_changed() {
    let event = |event: serde_json::Value| following(serde_json::from_value(event).unwrap());
    let failed = event(serde_json::json!({ "documents.failed": {
        "attempt": { "tier": 0, "job": "a", "number": 1, "chunk": uuid::Uuid::nil() },
        "class": "transient", "kind": "network",
        "units": [{ "units": [[1, 2]], "failure": { "kind": "network", "message": "x" } }],
    }}));
    let retried = event(serde_json::json!({ "documents.retry_scheduled": {
        "mode": "all", "tier_nums": [], "max_retry_count": 3, "max_retries": null, "last": true,
        "selected": [{ "tier": 0, "job": "a", "units": [[2, 2]] }],
        "excluded": { "class": {}, "retry_limit": 0, "tier": 0, "kind": 0 },
    }}));
    let added = following(Event::DocumentsAdded {
        first: 0,
        count: 4,
        documents: crate::packed::Packed::new(&Vec::new()).unwrap(),
    });
    let submitted = following(Event::BatchSubmitted { documents: 4 });
    let (mut state, mut before) = (None, None);
    for (seq, envelope) in (1..).zip([created(), added, submitted, failed.clone(), retried, failed])
    {
        if seq == 5 {
            before = state.clone();
        }
        evolve(&mut state, seq, &envelope);
    }
    let (before, after) = (before.unwrap(), state.unwrap());
    let changes = Changes::between(Some(&before), &after);
    assert_eq!(*changes.documents(), [2].into());
    let (was, is) = changes.of(2).unwrap();
    let was = was.unwrap();
    assert_eq!((was.retry_count, is.retry_count), (0, 1));
    assert_eq!(was.failures, is.failures);
}

#[test]
fn a_standing_reads_as_a_sentence() {
    let name = |name: &str| JobName::new(name).unwrap();
    let mut standing = Standing {
        status: DocumentStatus::Failed,
        tier: 1,
        open: vec![name("shout")],
        failures: vec![JobFailure {
            job: name("words"),
            class: FailureClass::Transient,
            kind: FailureKind::NETWORK,
        }],
        open_units: 1,
        failed_units: 1,
        retry_count: 2,
    };
    assert_eq!(
        standing.to_string(),
        "failed in tier 1: words (transient network), shout (open)"
    );
    standing.failures.clear();
    standing.status = DocumentStatus::Open;
    assert_eq!(standing.to_string(), "open in tier 1: shout (2 units)");
    standing.failed_units = 0;
    assert_eq!(standing.to_string(), "open in tier 1: shout");
    standing.status = DocumentStatus::Completed;
    standing.open.clear();
    standing.open_units = 0;
    assert_eq!(standing.to_string(), "completed");
}
