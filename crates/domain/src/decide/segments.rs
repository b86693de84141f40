use std::collections::BTreeMap;

use crate::{
    failure::{Failure, FailureKind},
    limits::SEGMENTS_PER_BATCH,
    segments::Segmented,
    state::BatchState,
    units::{Ordinal, UnitSet},
    work::{FailedUnits, Outcome},
};

/// What becomes of documents that a job has split.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// The ordinals of their segments.
    pub(super) segmented: Option<Segmented>,
    /// Those that have too many.
    pub(super) refused: Vec<FailedUnits>,
}

impl Split {
    pub(super) fn refused_units(&self) -> UnitSet {
        let mut all = UnitSet::new();
        self.refused
            .iter()
            .for_each(|failed| all.add(&failed.units));
        all
    }
}

/// Gives segments to those of a report that succeeded: `completed` are those that count.
pub(super) fn split(batch: &BatchState, outcome: &Outcome, completed: &UnitSet) -> Split {
    let Some(segments) = &batch.segments else {
        return Split::default();
    };
    if segments.at.split != outcome.tier {
        return Split::default();
    }
    // In order and each document once, whoever wrote it.
    let counts: BTreeMap<Ordinal, u32> = outcome
        .segments
        .iter()
        .filter(|(document, count)| *count > 0 && completed.contains(*document))
        .copied()
        .collect();
    let most = segments.at.most;
    let mut room = SEGMENTS_PER_BATCH.saturating_sub(segments.total());
    let mut taken = Vec::new();
    let mut large: BTreeMap<u32, UnitSet> = BTreeMap::new();
    let mut late = UnitSet::new();
    for (document, count) in counts {
        if count > most {
            large.entry(count).or_default().insert(document);
        } else if count > room {
            late.insert(document);
        } else {
            room -= count;
            taken.push((document, count));
        }
    }
    let too_many = |units, message: String| FailedUnits {
        units,
        failure: Failure::new(FailureKind::TOO_MANY_SEGMENTS, message),
    };
    let mut refused: Vec<FailedUnits> = large
        .into_iter()
        .map(|(count, units)| {
            let message = format!(
                "the document has {count} segments: it takes at most {most}; split it before it is submitted"
            );
            too_many(units, message)
        })
        .collect();
    if !late.is_empty() {
        let message = format!(
            "the batch would have more than {SEGMENTS_PER_BATCH} segments: submit the document with another one"
        );
        refused.push(too_many(late, message));
    }
    Split {
        segmented: (!taken.is_empty()).then(|| Segmented {
            first: segments.next(),
            counts: taken,
        }),
        refused,
    }
}
