//! Sets of unit ordinals, and two maps from ordinals that stay small because what happens to documents happens to
//! many of them alike.

mod counters;
mod places;

use std::{fmt, ops::RangeInclusive};

use roaring::RoaringBitmap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use counters::Counters;
pub use places::Places;

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

    /// The one before which there are so many others.
    #[must_use]
    pub fn nth(&self, rank: u64) -> Option<Ordinal> {
        self.0.select(u32::try_from(rank).ok()?)
    }

    /// Those above an ordinal.
    #[must_use]
    pub fn after(&self, unit: Ordinal) -> Self {
        let mut tail = self.0.clone();
        tail.remove_range(..=unit);
        Self(tail)
    }

    /// Those below an ordinal.
    #[must_use]
    pub fn take_below(&self, unit: Ordinal) -> Self {
        let mut head = self.0.clone();
        head.remove_range(unit..);
        Self(head)
    }

    /// Takes an inclusive range away.
    pub fn remove_range(&mut self, range: RangeInclusive<Ordinal>) {
        self.0.remove_range(range);
    }

    /// Whether all of an inclusive range is in it.
    #[must_use]
    pub fn has_all(&self, range: RangeInclusive<Ordinal>) -> bool {
        self.0.contains_range(range)
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

    /// Those that are in just one of the two.
    #[must_use]
    pub fn xor(&self, other: &Self) -> Self {
        Self(&self.0 ^ &other.0)
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

#[cfg(test)]
mod tests;
