//! Sets of unit ordinals, and two maps from ordinals that stay small because what happens to documents happens to
//! many of them alike.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use roaring::RoaringBitmap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The place of a document, or of a segment of one, within its batch.
pub type Ordinal = u32;

/// A set of ordinals: a compressed bitmap (Lemire et al., "Roaring Bitmaps: Implementation of an Optimized Software
/// Library", 2018).
///
/// In MessagePack it is the portable Roaring format, canonical for its content; in JSON a list of inclusive ranges,
/// `[[0,9],[12,12]]`.
#[derive(Clone, PartialEq, Default)]
pub struct UnitSet(RoaringBitmap);

impl Eq for UnitSet {}

impl UnitSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All ordinals from the first, `count` of them.
    #[must_use]
    pub fn run(first: Ordinal, count: u32) -> Self {
        let mut set = RoaringBitmap::new();
        let end = u64::from(first) + u64::from(count);
        if let Some(last) = end.checked_sub(1).filter(|_| count > 0) {
            set.insert_range(first..=u32::try_from(last).unwrap_or(u32::MAX));
        }
        Self(set)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the ordinal is in it.
    #[must_use]
    pub fn contains(&self, unit: Ordinal) -> bool {
        self.0.contains(unit)
    }

    /// The smallest.
    #[must_use]
    pub fn first(&self) -> Option<Ordinal> {
        self.0.min()
    }

    /// The largest.
    #[must_use]
    pub fn last(&self) -> Option<Ordinal> {
        self.0.max()
    }

    /// Adds one; whether it was new.
    pub fn insert(&mut self, unit: Ordinal) -> bool {
        self.0.insert(unit)
    }

    /// Adds an inclusive range.
    pub fn insert_range(&mut self, range: RangeInclusive<Ordinal>) {
        self.0.insert_range(range);
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Ordinal> + '_ {
        self.0.iter()
    }

    /// As inclusive ranges, as few as there can be, in ascending order.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<Ordinal>> + '_ {
        let mut iter = self.0.iter();
        let mut next = iter.next_range();
        std::iter::from_fn(move || {
            let mut range = next.take()?;
            loop {
                next = iter.next_range();
                match &next {
                    Some(more) if range.end().checked_add(1) == Some(*more.start()) => {
                        range = *range.start()..=*more.end();
                    }
                    _ => return Some(range),
                }
            }
        })
    }

    /// The `count` smallest, or all.
    #[must_use]
    pub fn take(&self, count: u64) -> Self {
        match u32::try_from(count).ok().and_then(|n| self.0.select(n)) {
            Some(end) => {
                let mut head = self.0.clone();
                head.remove_range(end..);
                Self(head)
            }
            None => self.clone(),
        }
    }

    /// Those above an ordinal.
    #[must_use]
    pub fn after(&self, unit: Ordinal) -> Self {
        let mut tail = self.0.clone();
        tail.remove_range(..=unit);
        Self(tail)
    }

    /// What the two have in common.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// How many the two have in common.
    #[must_use]
    pub fn and_len(&self, other: &Self) -> u64 {
        self.0.intersection_len(&other.0)
    }

    /// Both together.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }

    /// This without the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(&self.0 - &other.0)
    }

    /// Adds all of the other.
    pub fn add(&mut self, other: &Self) {
        self.0 |= &other.0;
    }

    /// Takes all of the other away.
    pub fn remove(&mut self, other: &Self) {
        self.0 -= &other.0;
    }

    /// Whether they have nothing in common.
    #[must_use]
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.0.is_disjoint(&other.0)
    }

    /// Whether all of it is in the other.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// Bytes that it takes in an event, about.
    #[must_use]
    pub fn encoded_size(&self) -> usize {
        self.0.serialized_size()
    }

    /// Chooses the smallest form of each part. Worth it for sets that stay.
    pub fn compact(&mut self) {
        self.0.optimize();
    }

    fn to_bytes(&self) -> Result<Vec<u8>, std::io::Error> {
        // Two equal sets may be held in different forms; from here on they are the same bytes.
        let mut canonical = self.0.clone();
        canonical.remove_run_compression();
        canonical.optimize();
        let mut bytes = Vec::with_capacity(canonical.serialized_size());
        canonical.serialize_into(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Debug for UnitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{")?;
        for (i, range) in self.ranges().enumerate() {
            match i {
                0 => {}
                8 => return write!(f, ", … {} in all}}", self.len()),
                _ => write!(f, ", ")?,
            }
            match range.end() - range.start() {
                0 => write!(f, "{}", range.start())?,
                _ => write!(f, "{}..={}", range.start(), range.end())?,
            }
        }
        write!(f, "}}")
    }
}

impl FromIterator<Ordinal> for UnitSet {
    fn from_iter<I: IntoIterator<Item = Ordinal>>(units: I) -> Self {
        Self(units.into_iter().collect())
    }
}

impl<const N: usize> From<[Ordinal; N]> for UnitSet {
    fn from(units: [Ordinal; N]) -> Self {
        units.into_iter().collect()
    }
}

impl Serialize for UnitSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            as_ranges::serialize(self, serializer)
        } else {
            let bytes = self.to_bytes().map_err(serde::ser::Error::custom)?;
            serializer.serialize_bytes(&bytes)
        }
    }
}

impl<'de> Deserialize<'de> for UnitSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            as_ranges::deserialize(deserializer)
        } else {
            let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
            RoaringBitmap::deserialize_from(bytes.as_slice())
                .map(Self)
                .map_err(de::Error::custom)
        }
    }
}

/// A set as a list of inclusive ranges in every format: for messages that programs in other languages read and write.
pub mod as_ranges {
    use serde::{Deserialize, Deserializer, Serializer, de, ser::SerializeSeq};

    use super::UnitSet;

    /// Writes `[[first, last], …]`.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(set: &UnitSet, serializer: S) -> Result<S::Ok, S::Error> {
        let ranges: Vec<(u32, u32)> = set.ranges().map(|r| (*r.start(), *r.end())).collect();
        let mut seq = serializer.serialize_seq(Some(ranges.len()))?;
        for range in ranges {
            seq.serialize_element(&range)?;
        }
        seq.end()
    }

    /// Reads `[[first, last], …]`.
    ///
    /// # Errors
    /// Where a range ends before it begins, and those of the format.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnitSet, D::Error> {
        let mut set = UnitSet::new();
        for (first, last) in Vec::<(u32, u32)>::deserialize(deserializer)? {
            if first > last {
                return Err(de::Error::custom(format!(
                    "range [{first}, {last}] ends before it begins"
                )));
            }
            set.insert_range(first..=last);
        }
        Ok(set)
    }
}

/// A small number for each ordinal, zero unless it was counted up: one bitmap for each binary digit, so that the
/// many that never failed cost nothing and a million that failed alike cost almost nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counters {
    digits: Vec<UnitSet>,
}

impl Counters {
    /// Adds one for every unit of the set.
    pub fn increment(&mut self, units: &UnitSet) {
        let mut carry = units.clone();
        let mut digit = 0;
        while !carry.is_empty() {
            if digit == self.digits.len() {
                self.digits.push(UnitSet::new());
            }
            let set = &mut self.digits[digit];
            let next = set.and(&carry);
            set.0 ^= &carry.0;
            carry = next;
            digit += 1;
        }
    }

    /// Sets it to zero for every unit of the set.
    pub fn reset(&mut self, units: &UnitSet) {
        for digit in &mut self.digits {
            digit.remove(units);
        }
        while self.digits.last().is_some_and(UnitSet::is_empty) {
            self.digits.pop();
        }
    }

    /// All units whose number is not zero.
    #[must_use]
    pub fn units(&self) -> UnitSet {
        let mut all = UnitSet::new();
        self.digits.iter().for_each(|digit| all.add(digit));
        all
    }

    /// The number of one unit.
    #[must_use]
    pub fn get(&self, unit: Ordinal) -> u32 {
        self.digits
            .iter()
            .take(32)
            .enumerate()
            .filter(|(_, digit)| digit.contains(unit))
            .fold(0, |sum, (i, _)| sum | 1 << i)
    }

    /// The units of the set by their numbers, in ascending order of number.
    #[must_use]
    pub fn split(&self, units: &UnitSet) -> Vec<(u32, UnitSet)> {
        let mut parts = vec![(0u32, units.clone())];
        for (i, digit) in self.digits.iter().enumerate().take(32) {
            let mut next = Vec::with_capacity(parts.len() * 2);
            for (number, part) in parts {
                let ones = part.and(digit);
                if ones.is_empty() {
                    next.push((number, part));
                } else {
                    let zeros = part.minus(&ones);
                    if !zeros.is_empty() {
                        next.push((number, zeros));
                    }
                    next.push((number | 1 << i, ones));
                }
            }
            parts = next;
        }
        parts.retain(|(_, part)| !part.is_empty());
        parts.sort_by_key(|(number, _)| *number);
        parts
    }

    /// Those of the set whose number is at least this.
    #[must_use]
    pub fn at_least(&self, least: u32, units: &UnitSet) -> UnitSet {
        self.split(units)
            .into_iter()
            .filter(|(number, _)| *number >= least)
            .fold(UnitSet::new(), |mut all, (_, part)| {
                all.add(&part);
                all
            })
    }
}

/// Where in the log something about a unit stands: runs of ordinals that share one log sequence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Places {
    /// first ordinal → (last ordinal, sequence)
    runs: BTreeMap<Ordinal, (Ordinal, u64)>,
}

impl Places {
    /// Notes that it stands at this sequence for all of the set, in place of what was noted before.
    pub fn insert(&mut self, units: &UnitSet, seq: u64) {
        for range in units.ranges() {
            let (first, last) = range.into_inner();
            self.clear(first, last);
            // As few runs as there can be, so that equal places are the same bytes.
            let last = match last.checked_add(1).and_then(|next| self.runs.get(&next)) {
                Some(&(end, s)) if s == seq => {
                    self.runs.remove(&(last + 1));
                    end
                }
                _ => last,
            };
            let joined = match self.runs.range_mut(..first).next_back() {
                Some((_, (end, s))) if *s == seq && *end + 1 == first => {
                    *end = last;
                    true
                }
                _ => false,
            };
            if !joined {
                self.runs.insert(first, (last, seq));
            }
        }
    }

    /// Forgets all of the set.
    pub fn remove(&mut self, units: &UnitSet) {
        if self.runs.is_empty() {
            return;
        }
        for range in units.ranges() {
            let (first, last) = range.into_inner();
            self.clear(first, last);
        }
    }

    fn clear(&mut self, first: Ordinal, last: Ordinal) {
        while let Some((&start, &(end, seq))) = self.runs.range(..=last).next_back() {
            if end < first {
                return;
            }
            self.runs.remove(&start);
            if end > last {
                self.runs.insert(last + 1, (end, seq));
            }
            if start < first {
                self.runs.insert(start, (first - 1, seq));
                return;
            }
        }
    }

    /// Where it stands for one unit.
    #[must_use]
    pub fn get(&self, unit: Ordinal) -> Option<u64> {
        let (_, &(end, seq)) = self.runs.range(..=unit).next_back()?;
        (end >= unit).then_some(seq)
    }

    /// The units of the set by where it stands for them, in ascending order of sequence.
    #[must_use]
    pub fn split(&self, units: &UnitSet) -> BTreeMap<u64, UnitSet> {
        let mut parts: BTreeMap<u64, UnitSet> = BTreeMap::new();
        for range in units.ranges() {
            let (first, last) = range.into_inner();
            let from = self
                .runs
                .range(..=first)
                .next_back()
                .map_or(first, |(&start, _)| start);
            for (&start, &(end, seq)) in self.runs.range(from..=last) {
                if end >= first {
                    parts
                        .entry(seq)
                        .or_default()
                        .insert_range(start.max(first)..=end.min(last));
                }
            }
        }
        parts
    }

    /// How many runs there are: what it costs.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// All units for which a place is known.
    #[must_use]
    pub fn units(&self) -> UnitSet {
        let mut all = UnitSet::new();
        for (&first, &(last, _)) in &self.runs {
            all.insert_range(first..=last);
        }
        all
    }
}

#[cfg(test)]
mod tests {
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
}
