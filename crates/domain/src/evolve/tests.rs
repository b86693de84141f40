use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{arbitrary, decide, invariants::violations, pipeline::Pipeline};

fn created(splitting: bool) -> Envelope {
    let pipeline = match splitting {
        false => plain(),
        true => serde_json::json!({ "tiers": [
            { "jobs": [{ "handler": "a", "segments": true }] },
            { "jobs": [{ "handler": "a" }, { "handler": "b" }] },
            { "join": true, "barrier": true, "jobs": [{ "handler": "b" }] },
        ] }),
    };
    of(&pipeline)
}

fn plain() -> serde_json::Value {
    serde_json::json!({ "tiers": [
        { "jobs": [{ "handler": "a" }, { "handler": "b" }] },
        { "jobs": [{ "handler": "a" }] },
        { "barrier": true, "jobs": [{ "handler": "b" }] },
    ] })
}

fn of(pipeline: &serde_json::Value) -> Envelope {
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
            pipeline: Pipeline::from_value(pipeline).unwrap(),
            start: Start::OnSubmit,
        },
    }
}

/// Folds, looks, goes through bytes.
fn fold(state: &mut Option<BatchState>, seq: u64, envelope: &Envelope) {
    evolve(state, seq, envelope);
    let Some(batch) = state else { return };
    assert_eq!(
        violations(batch),
        Vec::<String>::new(),
        "after {envelope:?}"
    );
    let bytes = batch.encode().unwrap();
    let back = BatchState::decode(&bytes).unwrap();
    assert_eq!(back, *batch);
    assert_eq!(back.encode().unwrap(), bytes, "the bytes are not canonical");
    let _ = (batch.failed_documents(), batch.ready_anywhere());
}

impl BatchState {
    fn ready_anywhere(&self) -> u64 {
        self.jobs()
            .map(|(_, _, job)| job.ready(self.last_at).len())
            .sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn evolve_is_total_no_events_in_no_order_make_it_panic_or_break_an_invariant(
        sound in any::<bool>(),
        splitting in any::<bool>(),
        settling in any::<bool>(),
        log in vec((any::<u64>(), arbitrary::envelope()), 0..40),
    ) {
        let mut state = None;
        if sound {
            fold(&mut state, 1, &created(splitting));
        }
        for (seq, envelope) in &log {
            fold(&mut state, *seq, envelope);
            while let Some(event) = state.as_ref().filter(|_| settling).and_then(decide::settle) {
                let ignored = state.as_ref().map(|batch| batch.ignored);
                fold(&mut state, *seq, &Envelope { event, ..created(false) });
                prop_assert_eq!(state.as_ref().map(|batch| batch.ignored), ignored);
            }
        }
    }
}

#[test]
fn what_names_something_that_is_not_there_is_counted() {
    let mut state = None;
    evolve(&mut state, 1, &created(false));
    let event = Event::TierStarted { tier: 9 };
    evolve(
        &mut state,
        2,
        &Envelope {
            event,
            ..created(false)
        },
    );
    assert_eq!(state.map(|batch| batch.ignored), Some(1));
}
