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

    /// Of these units, as many as it is worth looking up for one chunk: where documents with many segments are joined,
    /// that is what takes long.
    pub(super) fn within(batch: &BatchState, tier: TierNum, units: UnitSet, most: u64) -> UnitSet {
        let Some(segments) = batch.segments.as_ref() else {
            return units;
        };
        if segments.at.join != Some(tier) {
            return units;
        }
        let count = |document| {
            segments
                .of_document(document)
                .map_or(0, |own| own.count() as u64)
        };
        let mut sum = 0;
        let taken = units.iter().take_while(|document| {
            let first = sum == 0;
            sum += 1 + count(*document);
            first || sum <= most
        });
        units.take(taken.count() as u64)
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
    use redrive_domain::{
        command::Start,
        event::{Attempt, Cause, Envelope, Event},
        evolve::evolve,
        ids::{BatchId, ChunkId, EventId},
        limits::SEGMENTS_FROM,
        packed::Packed,
        pipeline::Pipeline,
        segments::Segmented,
        time::{Millis, Timestamp},
    };
    use uuid::Uuid;

    use super::*;

    fn split(counts: &[u32]) -> BatchState {
        let tiers = serde_json::json!({ "tiers": [
            { "jobs": [{ "handler": "s", "segments": true }] },
            { "jobs": [{ "handler": "a" }] },
            { "join": true, "jobs": [{ "handler": "j" }] },
        ] });
        let documents = u32::try_from(counts.len()).unwrap();
        let attempt = Attempt {
            tier: 0,
            job: "s".parse().unwrap(),
            number: 1,
            chunk: ChunkId(Uuid::nil()),
            worker: None,
            busy: Millis(0),
            loading: Millis(0),
            writing: Millis(0),
            peak_memory: None,
        };
        let events = [
            Event::BatchCreated {
                bucket: "docs".parse().unwrap(),
                pipeline: Pipeline::from_value(&tiers).unwrap(),
                start: Start::AtOnce,
            },
            Event::DocumentsAdded {
                first: 0,
                count: documents,
                documents: Packed::new(&Vec::new()).unwrap(),
            },
            Event::DocumentsCompleted {
                attempt,
                units: UnitSet::run(0, documents),
                skipped: UnitSet::new(),
                outputs: None,
                segments: Some(Segmented {
                    first: SEGMENTS_FROM,
                    counts: (0..)
                        .zip(counts.iter().copied())
                        .filter(|(_, n)| *n > 0)
                        .collect(),
                }),
            },
        ];
        let mut state = None;
        for (seq, event) in (1..).zip(events) {
            let envelope = Envelope {
                v: 1,
                id: EventId(Uuid::nil()),
                at: Timestamp(0),
                namespace: "tests".parse().unwrap(),
                batch: BatchId(Uuid::nil()),
                cause: Cause::State,
                actor: None,
                trace: None,
                event,
            };
            evolve(&mut state, seq, &envelope);
        }
        state.unwrap()
    }

    #[test]
    fn a_chunk_joins_no_more_than_is_worth_looking_up_and_always_one() {
        let batch = split(&[3, 0, 4, 90, 1]);
        let within = |most| References::within(&batch, 2, UnitSet::run(0, 5), most).len();
        assert_eq!([1, 4, 5, 10, 99, 103].map(within), [1, 1, 2, 3, 3, 5]);
        assert_eq!(
            References::within(&batch, 2, UnitSet::run(3, 2), 9).len(),
            1
        );
        assert_eq!(
            References::within(&batch, 1, UnitSet::run(0, 5), 1).len(),
            5
        );
    }

    #[test]
    fn segments_are_named_by_document_and_index() {
        let batch = split(&[3, 0, 4]);
        let from = SEGMENTS_FROM;
        let units: UnitSet = [from + 1, from + 2, from + 3, from + 6].into();
        let references = References::of(&batch, 1, &units);
        let runs: Vec<(u32, u32, u32, u32)> = references
            .segments
            .iter()
            .map(|run| (*run).into())
            .collect();
        assert_eq!(
            runs,
            [
                (from + 1, from + 2, 0, 1),
                (from + 3, from + 3, 2, 0),
                (from + 6, from + 6, 2, 3)
            ]
        );
        assert_eq!(references.documents[0].units, UnitSet::from([0, 2]));
        assert_eq!(references.count(), 4);
    }

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
