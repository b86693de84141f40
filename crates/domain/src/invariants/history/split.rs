//! What a log says of segments, segment by segment.

use std::collections::BTreeMap;

use crate::{
    limits::{SEGMENTS_FROM, SEGMENTS_PER_DOCUMENT},
    pipeline::{Pipeline, TierNum},
    segments::Segmented,
    units::{Ordinal, UnitSet},
};

/// The segments of one batch, each with its document.
#[derive(Debug, Clone, Default)]
pub(super) struct Split {
    /// The tier that splits, and the one that joins.
    split: Option<TierNum>,
    join: Option<TierNum>,
    segments: BTreeMap<Ordinal, Ordinal>,
    of: BTreeMap<Ordinal, Vec<Ordinal>>,
}

impl Split {
    pub(super) fn of(pipeline: &Pipeline) -> Self {
        let mut this = Self::default();
        for (num, tier) in (0..).zip(&pipeline.tiers) {
            if tier.jobs.iter().any(|job| job.segments) {
                this.split = Some(num);
            }
            if tier.join {
                this.join = Some(num);
            }
        }
        this
    }

    fn covers(&self, tier: TierNum) -> bool {
        self.split.is_some_and(|split| split < tier) && self.join.is_none_or(|join| tier < join)
    }

    /// Documents have been split.
    pub(super) fn take(
        &mut self,
        tier: TierNum,
        units: &UnitSet,
        segmented: &Segmented,
        found: &mut Vec<String>,
    ) {
        if self.split != Some(tier) {
            found.push(format!("tier {tier} makes segments, and is not to"));
        }
        let mut next =
            SEGMENTS_FROM.saturating_add(u32::try_from(self.segments.len()).unwrap_or(u32::MAX));
        if segmented.first != next {
            let first = segmented.first;
            found.push(format!("segments begin at {first}, and {next} is the next"));
        }
        for (document, count) in &segmented.counts {
            if !units.contains(*document) || self.of.contains_key(document) {
                found.push(format!(
                    "document {document} is split, and was or does not succeed"
                ));
            }
            if !(1..=SEGMENTS_PER_DOCUMENT).contains(count) {
                found.push(format!("document {document} has {count} segments"));
                continue;
            }
            for _ in 0..*count {
                self.segments.insert(next, *document);
                self.of.entry(*document).or_default().push(next);
                next = next.saturating_add(1);
            }
        }
    }

    /// Whether that is something that a tier can work on.
    pub(super) fn is_unit(&self, tier: TierNum, unit: Ordinal, documents: u32) -> bool {
        match self.covers(tier) {
            true => self.segments.contains_key(&unit),
            false => unit < documents,
        }
    }

    /// The document of a unit.
    pub(super) fn document(&self, unit: Ordinal) -> Ordinal {
        self.segments.get(&unit).copied().unwrap_or(unit)
    }

    /// Whether a document was or will be split into nothing, as far as is known.
    pub(super) fn is_without(&self, document: Ordinal) -> bool {
        self.split.is_some() && !self.of.contains_key(&document)
    }

    /// The units of a document in a tier; one without segments has none where these are the units.
    pub(super) fn units(&self, tier: TierNum, document: Ordinal) -> Vec<Ordinal> {
        match self.covers(tier) {
            true => self.of.get(&document).cloned().unwrap_or_default(),
            false => vec![document],
        }
    }

    /// What has to be done before a unit comes to a tier: units, of the tier before unless it is said.
    pub(super) fn needs(&self, tier: TierNum, unit: Ordinal) -> Vec<(Option<TierNum>, Ordinal)> {
        let first = self.split.and_then(|split| split.checked_add(1));
        if Some(tier) == first {
            return vec![(None, self.document(unit))];
        }
        if Some(tier) != self.join {
            return vec![(None, unit)];
        }
        match self.of.get(&unit) {
            Some(segments) => segments.iter().map(|segment| (None, *segment)).collect(),
            None => vec![(self.split, unit)],
        }
    }

    /// What has to be done for a document to be through the last tier.
    pub(super) fn through(&self, last: TierNum, document: Ordinal) -> Vec<(TierNum, Ordinal)> {
        match (self.covers(last), self.of.get(&document), self.split) {
            (false, _, _) | (true, _, None) => vec![(last, document)],
            (true, Some(segments), _) => segments.iter().map(|unit| (last, *unit)).collect(),
            (true, None, Some(split)) => vec![(split, document)],
        }
    }
}
