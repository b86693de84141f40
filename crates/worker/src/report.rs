//! Reports: what became of the units of a chunk, in messages that the broker takes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use redrive_domain::{
    document::Output,
    failure::Failure,
    ids::WorkerId,
    packed::Packed,
    segments::{SegmentCounts, lines},
    time::Millis,
    units::{Ordinal, UnitSet},
    work::{Chunk, FailedUnits, Outcome},
};

use crate::{runner::Config, world::World};

/// A report that holds this many bytes is closed.
const CLOSE_AT: usize = 256 * 1024;
/// Room that a message has beside what is counted here: names, headers, the chunk's address.
const MARGIN: usize = 16 * 1024;
/// The most that one unit adds to a set written as ranges: two numbers and their frame.
const UNIT_BYTES: usize = 11;
/// What an output costs beside its body and its media type, with how many segments it is.
const OUTPUT_BYTES: usize = 64;
/// What a failure costs beside its texts.
const FAILURE_BYTES: usize = 128;

/// How large reports may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    close_at: usize,
    /// The largest output that fits, with its media type.
    pub(crate) room: u64,
}

impl Sizes {
    /// For a broker that takes messages of so many bytes.
    pub(crate) fn new(max_payload: usize) -> Self {
        let room = max_payload.saturating_sub(MARGIN.min(max_payload / 2));
        Self {
            close_at: CLOSE_AT.min(max_payload / 4),
            room: room.saturating_sub(OUTPUT_BYTES + UNIT_BYTES) as u64,
        }
    }
}

/// Gathers what became of units until there is enough for a report.
pub(crate) struct Reports {
    chunk: Arc<Chunk>,
    worker: WorkerId,
    sizes: Sizes,
    world: World,
    open: Open,
    closed: Vec<Outcome>,
}

#[derive(Default)]
struct Open {
    bytes: usize,
    completed: UnitSet,
    skipped: UnitSet,
    returned: UnitSet,
    outputs: Vec<(Ordinal, Output)>,
    failures: BTreeMap<Failure, UnitSet>,
    segments: SegmentCounts,
    busy: Duration,
    loading: Duration,
    peak_memory: Option<u64>,
}

impl Reports {
    pub(crate) fn new(chunk: Arc<Chunk>, config: &Config, sizes: Sizes) -> Self {
        Self {
            chunk,
            worker: config.id.clone(),
            sizes,
            world: config.world.clone(),
            open: Open::default(),
            closed: Vec::new(),
        }
    }

    pub(crate) fn completed(&mut self, unit: Ordinal, output: Option<Output>) {
        match output {
            None => self.reserve(UNIT_BYTES),
            Some(output) => {
                let size = output.body.len() + output.media_type.len();
                self.reserve(UNIT_BYTES + OUTPUT_BYTES + size);
                if self.chunk.splits {
                    let count = lines(&output.body).count();
                    let count = u32::try_from(count).unwrap_or(u32::MAX);
                    self.open.segments.push((unit, count));
                }
                self.open.outputs.push((unit, output));
            }
        }
        self.open.completed.insert(unit);
    }

    pub(crate) fn skipped(&mut self, unit: Ordinal) {
        self.reserve(UNIT_BYTES);
        self.open.skipped.insert(unit);
    }

    pub(crate) fn failed(&mut self, unit: Ordinal, failure: Failure) {
        let texts = [
            Some(&failure.message),
            failure.code.as_ref(),
            failure.detail.as_ref(),
        ];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let known = self.open.failures.contains_key(&failure);
        self.reserve(match known {
            true => UNIT_BYTES,
            false => UNIT_BYTES + FAILURE_BYTES + texts,
        });
        self.open.failures.entry(failure).or_default().insert(unit);
    }

    pub(crate) fn returned(&mut self, units: &UnitSet) {
        self.reserve(units.ranges().count() * UNIT_BYTES);
        self.open.returned.add(units);
    }

    /// Adds time spent in the handler.
    pub(crate) fn busy(&mut self, time: Duration) {
        self.open.busy += time;
    }

    /// Adds time spent reading documents and inputs.
    pub(crate) fn loading(&mut self, time: Duration) {
        self.open.loading += time;
    }

    /// Notes the memory that a unit used which succeeded.
    pub(crate) fn peak_memory(&mut self, bytes: Option<u64>) {
        self.open.peak_memory = self.open.peak_memory.max(bytes);
    }

    /// Whether nothing waits to be reported.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.bytes == 0 && self.closed.is_empty()
    }

    /// Closes the report that is open.
    pub(crate) fn close(&mut self) {
        if self.open.bytes == 0 {
            return;
        }
        let open = std::mem::take(&mut self.open);
        let (busy, loading) = (Millis::from(open.busy), Millis::from(open.loading));
        // What is less than a millisecond goes to the next report.
        self.open.busy = open.busy.saturating_sub(busy.into());
        self.open.loading = open.loading.saturating_sub(loading.into());
        let outputs = match open.outputs.is_empty() {
            true => None,
            false => Packed::new(&open.outputs)
                .inspect_err(|error| tracing::error!(%error, "outputs have no encoding"))
                .ok(),
        };
        self.closed.push(Outcome {
            chunk: self.chunk.id,
            namespace: self.chunk.namespace.clone(),
            batch: self.chunk.batch,
            tier: self.chunk.tier,
            job: self.chunk.job.clone(),
            attempt: self.chunk.attempt,
            worker: self.worker.clone(),
            completed: open.completed,
            skipped: open.skipped,
            outputs,
            failures: open
                .failures
                .into_iter()
                .map(|(failure, units)| FailedUnits { units, failure })
                .collect(),
            returned: open.returned,
            busy,
            loading,
            peak_memory: open.peak_memory,
            segments: open.segments,
            at: self.world.now(),
        });
    }

    /// The reports that are closed.
    pub(crate) fn take(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.closed)
    }

    /// Makes room: closes the open report where this much more would be too much.
    fn reserve(&mut self, bytes: usize) {
        if self.open.bytes > 0 && self.open.bytes + bytes > self.sizes.close_at {
            self.close();
        }
        self.open.bytes += bytes;
    }
}
