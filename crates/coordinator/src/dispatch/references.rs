//! What a chunk refers to.

use redrive_domain::{
    pipeline::TierNum,
    segments::{Segment, Segments},
    state::{BatchState, JobState},
    units::{Ordinal, Places, UnitSet},
    work::{Input, Join, SegmentRun, Source},
};

/// Where in the log stands what units need.
#[derive(Debug, Default)]
pub(super) struct References {
    pub(super) documents: Vec<Source>,
    pub(super) inputs: Vec<Input>,
    pub(super) segments: Vec<SegmentRun>,
    pub(super) joins: Vec<Join>,
}

impl References {
    pub(super) fn of(batch: &BatchState, tier: TierNum, units: &UnitSet) -> Self {
        let Some(segments) = &batch.segments else {
            return Self::plain(batch, tier, units);
        };
        if segments.at.join == Some(tier) {
            return Self {
                documents: sources(&batch.pages, units),
                joins: joins(batch, segments, tier, units),
                ..Self::default()
            };
        }
        if !segments.at.covers(tier) {
            return Self::plain(batch, tier, units);
        }
        let documents = segments.documents_of(units);
        let first = tier.checked_sub(1) == Some(segments.at.split);
        let of = if first { &documents } else { units };
        Self {
            documents: sources(&batch.pages, &documents),
            inputs: inputs(batch, tier, of, first),
            segments: runs(segments, units),
            joins: Vec::new(),
        }
    }

    fn plain(batch: &BatchState, tier: TierNum, units: &UnitSet) -> Self {
        Self {
            documents: sources(&batch.pages, units),
            inputs: inputs(batch, tier, units, false),
            ..Self::default()
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let places: usize = self.joins.iter().map(|join| 1 + join.places.len()).sum();
        self.documents.len() + self.inputs.len() + self.segments.len() + places
    }
}

fn sources(pages: &Places, documents: &UnitSet) -> Vec<Source> {
    let parts = pages.split(documents).into_iter();
    parts.map(|(seq, units)| Source { seq, units }).collect()
}

fn inputs(batch: &BatchState, tier: TierNum, units: &UnitSet, lines: bool) -> Vec<Input> {
    batch
        .jobs()
        .filter(|(num, _, _)| num.checked_add(1) == Some(tier))
        .flat_map(|(_, spec, job)| {
            job.outputs
                .split(units)
                .into_iter()
                .map(|(seq, units)| Input {
                    job: spec.name.clone(),
                    seq,
                    units,
                    lines,
                })
        })
        .collect()
}

fn runs(segments: &Segments, units: &UnitSet) -> Vec<SegmentRun> {
    let mut runs = Vec::new();
    for range in units.ranges() {
        let (mut first, end) = range.into_inner();
        while let Some(Segment { document, index }) = segments.segment(first) {
            let own = segments.of_document(document);
            let last = own.map_or(first, |own| end.min(*own.end()));
            runs.push(SegmentRun {
                first,
                last,
                document,
                index,
            });
            match last.checked_add(1).filter(|next| *next <= end) {
                Some(next) => first = next,
                None => break,
            }
        }
    }
    runs
}

fn joins(batch: &BatchState, segments: &Segments, tier: TierNum, units: &UnitSet) -> Vec<Join> {
    let mut joins = Vec::new();
    for document in units.iter() {
        let own = segments.of_document(document);
        let of_tier = |(num, _, _): &(TierNum, _, _)| num.checked_add(1) == Some(tier);
        for (_, spec, job) in batch.jobs().filter(of_tier) {
            let (first, places) = match own.clone() {
                Some(own) => (*own.start(), places(job, *own.start(), *own.end())),
                None => (0, Vec::new()),
            };
            joins.push(Join {
                document,
                job: spec.name.clone(),
                first,
                places,
            });
        }
    }
    joins
}

/// Where the outputs of segments stand, in their order.
fn places(job: &JobState, first: Ordinal, last: Ordinal) -> Vec<(u64, u32)> {
    let mut places: Vec<(u64, u32)> = Vec::new();
    let mut next = first;
    let mut push = |seq, count| match places.last_mut() {
        _ if count == 0 => {}
        Some((of, n)) if *of == seq => *n += count,
        _ => places.push((seq, count)),
    };
    for (from, to, seq) in job.outputs.between(first, last) {
        push(0, from - next);
        push(seq, to - from + 1);
        next = to.saturating_add(1);
    }
    push(0, last.saturating_add(1).saturating_sub(next));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_a_join_are_in_the_order_of_the_segments_with_gaps() {
        let mut job = JobState::default();
        for (units, seq) in [(12..15, 90), (16..18, 40), (18..19, 90), (30..40, 7)] {
            job.outputs.insert(&units.collect(), seq);
        }
        assert_eq!(
            places(&job, 10, 20),
            [(0, 2), (90, 3), (0, 1), (40, 2), (90, 1), (0, 2)]
        );
        assert_eq!(places(&job, 13, 13), [(90, 1)]);
        assert_eq!(places(&job, 41, 44), [(0, 4)]);
    }
}
