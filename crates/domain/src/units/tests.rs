use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn small_set() -> impl Strategy<Value = UnitSet> {
    proptest::collection::vec((0u32..200, 1u32..20), 0..8).prop_map(|runs| {
        runs.into_iter()
            .fold(UnitSet::new(), |mut set, (first, n)| {
                set.insert_range(first..=first + n);
                set
            })
    })
}

proptest! {
    #[test]
    fn counters_count_like_a_plain_map(steps in proptest::collection::vec((any::<bool>(), small_set()), 0..12), probe in small_set()) {
        let mut counters = Counters::default();
        let mut plain: BTreeMap<u32, u32> = BTreeMap::new();
        for (up, set) in &steps {
            if *up {
                counters.increment(set);
                set.iter().for_each(|u| *plain.entry(u).or_default() += 1);
            } else {
                counters.reset(set);
                set.iter().for_each(|u| { plain.remove(&u); });
            }
        }
        let mut split = BTreeMap::new();
        for (number, part) in counters.split(&probe) {
            part.iter().for_each(|u| { split.insert(u, number); });
        }
        for unit in probe.iter() {
            let expected = plain.get(&unit).copied().unwrap_or(0);
            prop_assert_eq!(counters.get(unit), expected);
            prop_assert_eq!(split[&unit], expected);
            prop_assert_eq!(counters.at_least(2, &probe).contains(unit), expected >= 2);
        }
    }

    #[test]
    fn places_answer_like_a_plain_map(steps in proptest::collection::vec((proptest::option::of(1u64..6), small_set()), 0..12), probe in small_set()) {
        let mut places = Places::default();
        let mut plain: BTreeMap<u32, u64> = BTreeMap::new();
        for (seq, set) in &steps {
            match seq {
                Some(seq) => {
                    places.insert(set, *seq);
                    set.iter().for_each(|u| { plain.insert(u, *seq); });
                }
                None => {
                    places.remove(set);
                    set.iter().for_each(|u| { plain.remove(&u); });
                }
            }
        }
        let split = places.split(&probe);
        for unit in probe.iter() {
            prop_assert_eq!(places.get(unit), plain.get(&unit).copied());
            let found = split.iter().find(|(_, set)| set.contains(unit)).map(|(seq, _)| *seq);
            prop_assert_eq!(found, plain.get(&unit).copied());
        }
        prop_assert_eq!(places.units(), plain.keys().copied().collect());
    }

    #[test]
    fn equal_sets_are_the_same_bytes_and_come_back(a in small_set(), b in small_set()) {
        let one = a.or(&b);
        let other: UnitSet = b.iter().chain(a.iter()).collect();
        let bytes = rmp_serde::to_vec(&one).unwrap();
        prop_assert_eq!(&bytes, &rmp_serde::to_vec(&other).unwrap());
        prop_assert_eq!(&rmp_serde::from_slice::<UnitSet>(&bytes).unwrap(), &one);
        let json = serde_json::to_string(&one).unwrap();
        prop_assert_eq!(&serde_json::from_str::<UnitSet>(&json).unwrap(), &one);
    }

    #[test]
    fn any_bytes_make_a_set_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let packed = rmp_serde::to_vec(&serde_bytes::ByteBuf::from(bytes)).unwrap();
        let _ = rmp_serde::from_slice::<UnitSet>(&packed);
    }
}

#[test]
fn a_run_across_containers_is_one_range() {
    let set = UnitSet::run(60_000, 100_000);
    assert_eq!(set.ranges().collect::<Vec<_>>(), vec![60_000..=159_999]);
    assert_eq!(
        set.take(3).ranges().collect::<Vec<_>>(),
        vec![60_000..=60_002]
    );
    assert!(UnitSet::run(5, 0).is_empty());
}

#[test]
fn a_million_that_failed_alike_cost_almost_nothing() {
    let mut counters = Counters::default();
    for _ in 0..3 {
        counters.increment(&UnitSet::run(0, 1_000_000));
    }
    assert!(rmp_serde::to_vec(&counters).unwrap().len() < 1_000);
}
