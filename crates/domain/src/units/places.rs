//! Places in the log for many ordinals.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Ordinal, UnitSet};

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

    /// The runs from an ordinal to another, in their order: the first and the last ordinal of each, and its sequence.
    pub fn between(
        &self,
        first: Ordinal,
        last: Ordinal,
    ) -> impl Iterator<Item = (Ordinal, Ordinal, u64)> + '_ {
        let from = self.runs.range(..=first).next_back();
        let from = from.map_or(first, |(&start, _)| start);
        self.runs
            .range(from..=last.max(from))
            .filter(move |&(&start, &(end, _))| end >= first && start <= last)
            .map(move |(&start, &(end, seq))| (start.max(first), end.min(last), seq))
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
