use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    arbitrary, decide,
    event::{Envelope, Event},
    evolve::evolve,
    ids::BatchId,
    query::{
        BatchRef, DocumentStatus,
        diff::tests::{created, following},
    },
};

/// Whether a document is meant, found by looking at it alone.
fn is_meant(documents: &Documents<'_>, ask: &ListDocuments, document: Ordinal) -> bool {
    let batch = documents.0.batch;
    let standing = documents.standing(document).unwrap();
    let units = documents.units_of(document);
    let failed_so = batch.jobs().any(|(tier, _, job)| {
        let failed = job.failed_by_kind().filter(|(class, kind, _)| {
            ask.class.is_none_or(|only| only == *class)
                && ask.kind.as_ref().is_none_or(|only| only == *kind)
        });
        ask.tier.is_none_or(|only| only == tier)
            && failed
                .into_iter()
                .any(|(_, _, set)| !set.is_disjoint(&units))
    });
    let by_failure = ask.class.is_some() || ask.kind.is_some();
    ask.status.is_none_or(|status| status == standing.status)
        && ask
            .units
            .as_ref()
            .is_none_or(|only| only.contains(document))
        && match ask.tier {
            _ if by_failure => failed_so,
            Some(tier) => standing.tier == tier || failed_so,
            None => true,
        }
}

fn completed(tier: TierNum, job: &str, units: [Ordinal; 2]) -> Envelope {
    let event = serde_json::json!({ "documents.completed": {
        "attempt": { "tier": tier, "job": job, "number": 1, "chunk": uuid::Uuid::nil() },
        "units": [units], "skipped": [],
    }});
    following(serde_json::from_value(event).unwrap())
}

#[test]
fn a_document_is_in_the_tier_that_it_came_to_last() {
    let mut state = None;
    let added = Event::DocumentsAdded {
        first: 0,
        count: 60,
        documents: crate::packed::Packed::new(&Vec::new()).unwrap(),
    };
    let submitted = Event::BatchSubmitted { documents: 60 };
    let log = [
        created(),
        following(added),
        following(submitted),
        completed(0, "a", [0, 39]),
        completed(0, "b", [10, 59]),
    ];
    for (seq, envelope) in (1..).zip(&log) {
        evolve(&mut state, seq, envelope);
    }
    let state = state.unwrap();
    let documents = Documents::of(&state);
    let batch = BatchRef::Id(BatchId(uuid::Uuid::from_u128(1)));
    let in_tier = |tier| ListDocuments {
        tier: Some(tier),
        ..ListDocuments::of(batch)
    };
    let first = UnitSet::run(0, 10).or(&UnitSet::run(40, 20));
    assert_eq!(documents.matching(&in_tier(0)), first);
    assert_eq!(documents.matching(&in_tier(1)), UnitSet::run(10, 30));
    assert_eq!(documents.matching(&in_tier(2)), UnitSet::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_sets_name_those_of_which_all_is_true(
        log in vec(arbitrary::envelope(), 0..30),
        status in option::of(select(&DocumentStatus::ALL)),
        tier in option::of(0..3u16),
        class in option::weighted(0.3, select(&FailureClass::ALL)),
        kind in option::weighted(0.3, select(FailureKind::KNOWN)),
        units in option::weighted(0.3, vec(0..60u32, 0..20)),
    ) {
        let mut state = None;
        let added = Event::DocumentsAdded {
            first: 0,
            count: 60,
            documents: crate::packed::Packed::new(&Vec::new()).unwrap(),
        };
        let submitted = Event::BatchSubmitted { documents: 60 };
        // Some come to the next tier, and some to the last one.
        let begun = [
            created(),
            following(added),
            following(submitted),
            completed(0, "a", [0, 39]),
            completed(0, "b", [10, 59]),
            completed(1, "a", [15, 29]),
        ];
        for (seq, envelope) in (1..).zip(begun.iter().chain(&log)) {
            evolve(&mut state, seq, envelope);
            while let Some(event) = state.as_ref().and_then(decide::settle) {
                evolve(&mut state, seq, &following(event));
            }
        }
        let state = state.unwrap();
        prop_assume!(state.documents <= 5_000);
        let documents = Documents::of(&state);
        let ask = ListDocuments {
            status,
            tier,
            class,
            kind,
            units: units.map(UnitSet::from_iter),
            ..ListDocuments::of(BatchRef::Id(BatchId(uuid::Uuid::from_u128(1))))
        };
        let all = 0..state.documents;
        let expected: UnitSet = all.filter(|one| is_meant(&documents, &ask, *one)).collect();
        prop_assert_eq!(documents.matching(&ask), expected);
    }
}
