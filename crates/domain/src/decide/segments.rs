use std::{borrow::Cow, collections::BTreeMap};

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
    /// These without those that have too many.
    pub(super) fn accepted<'a>(&self, completed: &'a UnitSet) -> Cow<'a, UnitSet> {
        if self.refused.is_empty() {
            return Cow::Borrowed(completed);
        }
        let mut accepted = completed.clone();
        for failed in &self.refused {
            accepted.remove(&failed.units);
        }
        Cow::Owned(accepted)
    }
}

/// Gives segments to those of a report that succeeded, as far as they are among those that count.
pub(super) fn split(batch: Option<&BatchState>, outcome: &Outcome, live: &UnitSet) -> Split {
    let segments = batch.and_then(|batch| batch.segments.as_ref());
    let Some(segments) = segments.filter(|all| all.at.split == outcome.tier) else {
        return Split::default();
    };
    let completed = outcome.completed.and(live);
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
