use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    arbitrary, decide,
    event::Event,
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
        let begun = [created(), following(added), following(submitted)];
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
