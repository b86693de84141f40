//! Segments: parts of a document that are units of their own. A job splits documents, each of its segments gets an ordinal
//! above those of documents, in the order of the log, and what is known of a segment is that of any other unit.

mod lines;

use std::{borrow::Cow, collections::BTreeMap, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

use crate::{
    limits::{SEGMENTS_FROM, SEGMENTS_PER_BATCH},
    pipeline::{Segmentation, TierNum},
    state::BatchState,
    units::{Ordinal, UnitSet},
};

pub use lines::{InvalidSegments, count, lines};

/// How many segments documents have, as `[document, count]` in ascending order; those that are not named have none.
pub type SegmentCounts = Vec<(Ordinal, u32)>;

/// The segments of documents that were split together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Segmented {
    /// The ordinal of the first segment of the first of them. The others follow without gaps, by document and index.
    pub first: Ordinal,
    /// How many each of them has.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<(u32, u32)>))]
    pub counts: SegmentCounts,
}

/// A segment: a document's ordinal, and which of its segments it is, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// The document.
    pub document: Ordinal,
    /// Its place among the document's segments, from 0.
    pub index: u32,
}

/// The segments of a batch: which documents have been split, and which ordinals their segments have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Segments {
    /// Which tiers work on them.
    pub at: Segmentation,
    /// The ordinal of the first segment → (first document, documents, segments of each): documents that follow one
    /// another and have as many segments share an entry.
    runs: BTreeMap<Ordinal, (Ordinal, u32, u32)>,
    /// The first document of each run → the ordinal of its first segment.
    #[serde(skip)]
    by_document: BTreeMap<Ordinal, Ordinal>,
    /// How many there are.
    total: u32,
}

#[derive(Deserialize)]
struct Stored {
    at: Segmentation,
    runs: BTreeMap<Ordinal, (Ordinal, u32, u32)>,
    total: u32,
}

impl From<Stored> for Segments {
    fn from(Stored { at, runs, total }: Stored) -> Self {
        Self {
            at,
            by_document: runs
                .iter()
                .map(|(first, (document, _, _))| (*document, *first))
                .collect(),
            runs,
            total,
        }
    }
}

/// Documents that follow one another and have as many segments.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: Ordinal,
    document: Ordinal,
    documents: u32,
    each: u32,
}

impl Run {
    fn of((first, (document, documents, each)): (&Ordinal, &(Ordinal, u32, u32))) -> Self {
        Self {
            first: *first,
            document: *document,
            documents: *documents,
            each: (*each).max(1),
        }
    }

    fn last(&self) -> Ordinal {
        let count = self.documents.saturating_mul(self.each);
        self.first.saturating_add(count.saturating_sub(1))
    }

    fn last_document(&self) -> Ordinal {
        self.document
            .saturating_add(self.documents.saturating_sub(1))
    }

    fn document_of(&self, unit: Ordinal) -> Ordinal {
        self.document
            .saturating_add(unit.saturating_sub(self.first) / self.each)
    }

    fn first_of(&self, document: Ordinal) -> Ordinal {
        let before = document
            .saturating_sub(self.document)
            .saturating_mul(self.each);
        self.first.saturating_add(before)
    }

    fn of_document(&self, document: Ordinal) -> RangeInclusive<Ordinal> {
        let first = self.first_of(document);
        first..=first.saturating_add(self.each.saturating_sub(1))
    }
}

impl Segments {
    /// None so far.
    #[must_use]
    pub fn new(at: Segmentation) -> Self {
        Self {
            at,
            runs: BTreeMap::new(),
            by_document: BTreeMap::new(),
            total: 0,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.total
    }

    /// How many runs there are: what it costs.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// The ordinal that the next segment gets.
    #[must_use]
    pub fn next(&self) -> Ordinal {
        SEGMENTS_FROM.saturating_add(self.total)
    }

    /// Takes in documents that were split. Nothing of it, where a count or an ordinal is not what it has to be: `split`
    /// are the documents for which it may be said.
    pub(crate) fn add(&mut self, segmented: &Segmented, split: &UnitSet) -> Option<()> {
        let mut before = None;
        let mut total = self.total;
        for (document, count) in &segmented.counts {
            let ascending = before.is_none_or(|before| before < *document);
            let sound = ascending
                && (1..=self.at.most).contains(count)
                && split.contains(*document)
                && self.run_of_document(*document).is_none();
            total = total.checked_add(*count).filter(|_| sound)?;
            before = Some(*document);
        }
        if segmented.first != self.next() || total > SEGMENTS_PER_BATCH {
            return None;
        }
        for (document, count) in &segmented.counts {
            self.push(*document, *count);
        }
        Some(())
    }

    fn push(&mut self, document: Ordinal, count: u32) {
        let first = self.next();
        self.total = self.total.saturating_add(count);
        if let Some(mut last) = self.runs.last_entry() {
            let (from, documents, each) = last.get_mut();
            if *each == count && from.checked_add(*documents) == Some(document) {
                *documents += 1;
                return;
            }
        }
        self.runs.insert(first, (document, 1, count));
        self.by_document.insert(document, first);
    }

    fn run_of_document(&self, document: Ordinal) -> Option<Run> {
        let (_, first) = self.by_document.range(..=document).next_back()?;
        let run = Run::of(self.runs.get_key_value(first)?);
        (run.last_document() >= document).then_some(run)
    }

    /// The ordinals of a document's segments; none where it has none.
    #[must_use]
    pub fn of_document(&self, document: Ordinal) -> Option<RangeInclusive<Ordinal>> {
        Some(self.run_of_document(document)?.of_document(document))
    }

    /// Which segment a unit is; none for a document, or an ordinal that nothing has.
    #[must_use]
    pub fn segment(&self, unit: Ordinal) -> Option<Segment> {
        let run = Run::of(self.runs.range(..=unit).next_back()?);
        (unit <= run.last()).then(|| Segment {
            document: run.document_of(unit),
            index: (unit - run.first) % run.each,
        })
    }

    /// Those of a set that are documents.
    #[must_use]
    pub fn only_documents(units: &UnitSet) -> UnitSet {
        match units.last() {
            Some(last) if last >= SEGMENTS_FROM => units.take_below(SEGMENTS_FROM),
            _ => units.clone(),
        }
    }

    /// Whether there are segments in a set.
    #[must_use]
    pub fn are_in(units: &UnitSet) -> bool {
        units.last() >= Some(SEGMENTS_FROM)
    }

    /// The documents of units: of segments their documents, and documents themselves.
    #[must_use]
    pub fn documents_of(&self, units: &UnitSet) -> UnitSet {
        let mut documents = Self::only_documents(units);
        if !Self::are_in(units) {
            return documents;
        }
        for range in units.after(SEGMENTS_FROM - 1).ranges() {
            let (first, last) = range.into_inner();
            for run in self.runs_between(first, last) {
                let (from, to) = (first.max(run.first), last.min(run.last()));
                if from <= to {
                    documents.insert_range(run.document_of(from)..=run.document_of(to));
                }
            }
        }
        documents
    }

    /// The runs that begin up to `last`, from the one on in which `first` may be.
    fn runs_between(&self, first: Ordinal, last: Ordinal) -> impl Iterator<Item = Run> + '_ {
        let from = self.runs.range(..=first).next_back();
        let from = from.map_or(first, |(from, _)| *from);
        self.runs.range(from..=last.max(from)).map(Run::of)
    }

    /// Calls with each run of documents among these that have segments.
    fn each_run(&self, documents: &UnitSet, mut take: impl FnMut(Run, Ordinal, Ordinal)) {
        for range in documents.ranges() {
            let (first, last) = range.into_inner();
            let from = self.by_document.range(..=first).next_back();
            let from = from.map_or(first, |(from, _)| *from);
            for (_, run) in self.by_document.range(from..=last.max(from)) {
                let Some(run) = self.runs.get_key_value(run).map(Run::of) else {
                    continue;
                };
                let (from, to) = (first.max(run.document), last.min(run.last_document()));
                if from <= to {
                    take(run, from, to);
                }
            }
        }
    }

    /// The segments of documents.
    #[must_use]
    pub fn units_of(&self, documents: &UnitSet) -> UnitSet {
        let mut units = UnitSet::new();
        self.each_run(documents, |run, from, to| {
            units.insert_range(run.first_of(from)..=*run.of_document(to).end());
        });
        units
    }

    /// What of documents that were split goes on: their segments, and those that have none as they are.
    #[must_use]
    pub fn entering(&self, documents: &UnitSet) -> UnitSet {
        let mut without = documents.clone();
        let mut units = UnitSet::new();
        self.each_run(documents, |run, from, to| {
            units.insert_range(run.first_of(from)..=*run.of_document(to).end());
            without.remove_range(from..=to);
        });
        units.add(&without);
        units
    }

    /// Of these documents, those all of whose segments are in the set; one without segments is itself to be in it.
    #[must_use]
    pub fn whole(&self, documents: &UnitSet, units: &UnitSet) -> UnitSet {
        let mut whole = documents.clone();
        let mut without = documents.clone();
        self.each_run(documents, |run, from, to| {
            without.remove_range(from..=to);
            let all = run.first_of(from)..=*run.of_document(to).end();
            if units.has_all(all) {
                return;
            }
            for document in from..=to {
                if !units.has_all(run.of_document(document)) {
                    whole.remove_range(document..=document);
                }
            }
        });
        whole.remove(&without.minus(units));
        whole
    }

    /// The first ordinal from this one on with which a document's segments begin.
    #[must_use]
    pub fn next_boundary(&self, unit: Ordinal) -> Ordinal {
        let Some(run) = self.runs.range(..=unit).next_back().map(Run::of) else {
            return unit;
        };
        if unit > run.last() {
            return unit;
        }
        let own = run.of_document(run.document_of(unit));
        match unit == *own.start() {
            true => unit,
            false => own.end().saturating_add(1),
        }
    }

    /// What of it cannot be; empty where it is sound.
    pub(crate) fn problems(&self, split: &UnitSet) -> Vec<&'static str> {
        let mut found = Vec::new();
        let mut next = SEGMENTS_FROM;
        let mut documents = UnitSet::new();
        let mut total = 0u64;
        for run in self.runs.iter().map(Run::of) {
            if run.first != next {
                found.push("ordinals of segments have gaps or overlap");
            }
            next = run.last().saturating_add(1);
            total += u64::from(run.documents);
            documents.insert_range(run.document..=run.last_document());
            if run.each > self.at.most {
                found.push("a document has more segments than it may");
            }
        }
        if next != self.next() {
            found.push("segments are not counted right");
        }
        if documents.len() != total {
            found.push("a document was split twice");
        }
        if !documents.is_subset(split) {
            found.push("a document has segments that was not split");
        }
        found
    }
}

impl BatchState {
    /// Whether the units of a tier are segments.
    #[must_use]
    pub fn has_segments_in(&self, tier: TierNum) -> bool {
        self.segments
            .as_ref()
            .is_some_and(|segments| segments.at.covers(tier))
    }

    /// The documents that units belong to.
    #[must_use]
    pub fn documents_of<'a>(&self, units: &'a UnitSet) -> Cow<'a, UnitSet> {
        match &self.segments {
            Some(segments) => Cow::Owned(segments.documents_of(units)),
            None => Cow::Borrowed(units),
        }
    }

    /// The document that a unit belongs to, and which segment of it the unit is, where it is one.
    #[must_use]
    pub fn document_of(&self, unit: Ordinal) -> (Ordinal, Option<u32>) {
        let segment = self.segments.as_ref().and_then(|all| all.segment(unit));
        segment.map_or((unit, None), |segment| {
            (segment.document, Some(segment.index))
        })
    }

    /// Documents that a tier is through with, where these are the units that it is through with: for a document with
    /// segments, all of them.
    #[must_use]
    pub fn documents_through(&self, tier: TierNum, done: UnitSet) -> UnitSet {
        match &self.segments {
            Some(segments) if segments.at.covers(tier) => {
                segments.whole(&segments.documents_of(&done), &done)
            }
            _ => done,
        }
    }

    /// What goes on to a tier, where the tier before is through with these units.
    pub(crate) fn entering(&self, tier: TierNum, done: UnitSet) -> UnitSet {
        let Some(segments) = &self.segments else {
            return done;
        };
        let Some(before) = tier.checked_sub(1) else {
            return done;
        };
        if before == segments.at.split {
            return segments.entering(&done);
        }
        if segments.at.join == Some(tier) {
            let documents = segments.documents_of(&done);
            let tier = self.tiers.get(usize::from(before));
            let mut all = segments.units_of(&documents);
            all.add(&Segments::only_documents(&done));
            let done = tier.map_or_else(UnitSet::new, |tier| tier.done_of(&all));
            return segments.whole(&documents, &done);
        }
        done
    }
}

#[cfg(test)]
mod tests;
