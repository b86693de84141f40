use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::btree_map, prelude::*};

use super::*;

fn at() -> Segmentation {
    Segmentation {
        split: 0,
        join: Some(2),
        most: 100,
    }
}

fn add(segments: &mut Segments, counts: &[(u32, u32)]) -> Option<()> {
    let segmented = Segmented {
        first: segments.next(),
        counts: counts.to_vec(),
    };
    let split = counts.iter().map(|(document, _)| *document).collect();
    segments.add(&segmented, &split)
}

proptest! {
    /// Against the plain list of all segments.
    #[test]
    fn every_way_between_documents_and_segments_is_right(
        events in proptest::collection::vec(btree_map(0u32..60, 1u32..6, 0..12), 0..6),
        picked in proptest::collection::btree_set(0u32..160, 0..60),
    ) {
        let mut segments = Segments::new(at());
        let mut plain: BTreeMap<u32, Segment> = BTreeMap::new();
        let mut split = BTreeSet::new();
        for event in &events {
            let counts: Vec<(u32, u32)> =
                event.iter().filter(|(d, _)| split.insert(**d)).map(|(d, n)| (*d, *n)).collect();
            prop_assert_eq!(add(&mut segments, &counts), Some(()));
            for (document, count) in counts {
                for index in 0..count {
                    let unit = SEGMENTS_FROM + plain.len() as u32;
                    plain.insert(unit, Segment { document, index });
                }
            }
        }
        let all: UnitSet = split.iter().copied().collect();
        prop_assert_eq!(segments.problems(&all), Vec::<&str>::new());
        prop_assert_eq!(segments.total() as usize, plain.len());
        for unit in SEGMENTS_FROM - 2..SEGMENTS_FROM + plain.len() as u32 + 2 {
            prop_assert_eq!(segments.segment(unit), plain.get(&unit).copied());
            let next = (unit..).find(|u| plain.get(u).is_none_or(|s| s.index == 0));
            prop_assert_eq!(Some(segments.next_boundary(unit)), next);
        }
        // A set of documents and of segments.
        let units: UnitSet =
            picked.iter().map(|n| if *n < 60 { *n } else { SEGMENTS_FROM + n - 60 }).collect();
        let documents: UnitSet = units
            .iter()
            .filter_map(|unit| match unit {
                0..SEGMENTS_FROM => Some(unit),
                unit => plain.get(&unit).map(|segment| segment.document),
            })
            .collect();
        prop_assert_eq!(&segments.documents_of(&units), &documents);
        let of = |documents: &UnitSet| -> UnitSet {
            let of = plain.iter().filter(|(_, segment)| documents.contains(segment.document));
            of.map(|(unit, _)| *unit).collect()
        };
        prop_assert_eq!(&segments.units_of(&documents), &of(&documents));
        let without: UnitSet = documents.iter().filter(|d| !split.contains(d)).collect();
        prop_assert_eq!(segments.entering(&documents), of(&documents).or(&without));
        let whole: UnitSet = documents
            .iter()
            .filter(|d| match split.contains(d) {
                true => of(&UnitSet::from([*d])).is_subset(&units),
                false => units.contains(*d),
            })
            .collect();
        prop_assert_eq!(segments.whole(&documents, &units), whole);
        for document in 0..60 {
            let own = segments.of_document(document);
            let own: UnitSet = own.into_iter().flatten().collect();
            prop_assert_eq!(own, of(&UnitSet::from([document])));
        }
        let bytes = rmp_serde::to_vec_named(&segments).unwrap();
        let back: Segments = rmp_serde::from_slice(&bytes).unwrap();
        prop_assert_eq!(&back, &segments);
        prop_assert_eq!(rmp_serde::to_vec_named(&back).unwrap(), bytes);
    }
}

#[test]
fn what_cannot_be_is_not_taken() {
    let mut segments = Segments::new(at());
    assert_eq!(add(&mut segments, &[(3, 2), (4, 2), (9, 1)]), Some(()));
    assert_eq!(segments.runs(), 2, "equal neighbours share an entry");
    let before = segments.clone();
    for counts in [&[(3, 1)][..], &[(5, 0)], &[(5, 101)], &[(6, 1), (5, 1)]] {
        assert_eq!(add(&mut segments, counts), None, "{counts:?}");
    }
    let gap = Segmented {
        first: segments.next() + 1,
        counts: vec![(5, 1)],
    };
    assert_eq!(segments.add(&gap, &UnitSet::from([5])), None);
    let other = Segmented {
        first: segments.next(),
        counts: vec![(5, 1)],
    };
    assert_eq!(segments.add(&other, &UnitSet::from([6])), None);
    assert_eq!(segments, before);
}

#[test]
fn many_documents_alike_cost_next_to_nothing() {
    let mut segments = Segments::new(at());
    for first in (0..1_000_000).step_by(10_000) {
        let counts: Vec<(u32, u32)> = (first..first + 10_000).map(|d| (d, 10)).collect();
        assert_eq!(add(&mut segments, &counts), Some(()));
    }
    assert_eq!((segments.runs(), segments.total()), (1, 10_000_000));
    let all = UnitSet::run(0, 1_000_000);
    let units = segments.units_of(&all);
    assert_eq!(segments.whole(&all, &units), all);
    assert_eq!(segments.documents_of(&units), all);
}
