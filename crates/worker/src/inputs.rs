//! Reading what units need: documents and the outputs of the tier before, from where they stand in the log.

mod segments;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};
use redrive_broker::Broker;
use redrive_domain::{
    document::{Document, Output},
    event::{Envelope, Event},
    failure::{Failure, FailureKind},
    ids::{BatchKey, JobName},
    units::{Ordinal, UnitSet},
    work::{Chunk, Join, Source},
};

use tokio::time::Instant;

use crate::{handler::Unit, metrics};

/// Units that are made ready together.
const SLICE: usize = 256;
/// Slices that are made ready ahead of need.
const SLICES_AHEAD: usize = 2;
/// Events that are read at once.
const READS: usize = 8;
/// How often an event is asked for where the broker answers with an error.
const TRIES: u32 = 3;
/// The wait before it is asked for again.
const PAUSE: Duration = Duration::from_millis(250);

/// What an event of the log holds for units.
struct Page {
    key: BatchKey,
    weight: u64,
    content: Content,
}

enum Content {
    Documents {
        first: Ordinal,
        documents: Vec<Arc<Document>>,
    },
    Outputs {
        job: JobName,
        /// All units that succeeded, with an output or without one.
        units: UnitSet,
        /// In ascending order.
        outputs: Vec<(Ordinal, Arc<Output>)>,
        /// Where the lines of each output are, once somebody has asked for one.
        lines: OnceLock<Vec<Vec<(u32, u32)>>>,
    },
}

impl Page {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let envelope = Envelope::decode(bytes).map_err(|e| e.to_string())?;
        let key = envelope.key();
        let (content, size, items) = match envelope.event {
            Event::DocumentsAdded {
                first, documents, ..
            } => {
                let list = documents.open().map_err(|e| e.to_string())?;
                let count = list.len();
                let content = Content::Documents {
                    first,
                    documents: list.into_iter().map(Arc::new).collect::<Vec<_>>(),
                };
                (content, documents.size(), count)
            }
            Event::DocumentsCompleted {
                attempt,
                mut units,
                skipped,
                outputs,
                segments,
            } => {
                let mut list = match &outputs {
                    Some(outputs) => outputs.open().map_err(|e| e.to_string())?,
                    None => Vec::new(),
                };
                units.add(&skipped);
                list.sort_by_key(|(unit, _)| *unit);
                let items = list.len();
                let content = Content::Outputs {
                    job: attempt.job,
                    units,
                    outputs: list.into_iter().map(|(u, o)| (u, Arc::new(o))).collect(),
                    lines: OnceLock::new(),
                };
                // The places of lines, eight bytes each.
                let counts = segments.into_iter().flat_map(|segmented| segmented.counts);
                let lines: usize = counts.map(|(_, count)| count as usize * 8).sum();
                (content, outputs.map_or(0, |o| o.size()) + lines, items)
            }
            other => return Err(format!("it is of type {}", other.name())),
        };
        // About: the texts, and what holds each of them.
        let weight = (size + items * 128 + 256) as u64;
        Ok(Self {
            key,
            weight,
            content,
        })
    }

    fn document(&self, key: &BatchKey, unit: Ordinal) -> Option<Arc<Document>> {
        match &self.content {
            Content::Documents { first, documents } if self.key == *key => {
                let index = usize::try_from(unit.checked_sub(*first)?).ok()?;
                documents.get(index).cloned()
            }
            _ => None,
        }
    }

    /// `None`: the event says nothing of this unit. `Some(None)`: it succeeded without an output.
    fn output(&self, key: &BatchKey, of: &JobName, unit: Ordinal) -> Option<Option<Arc<Output>>> {
        match &self.content {
            Content::Outputs {
                job,
                units,
                outputs,
                ..
            } if self.key == *key && job == of => {
                match outputs.binary_search_by_key(&unit, |o| o.0) {
                    Ok(at) => Some(outputs.get(at).map(|(_, output)| output.clone())),
                    Err(_) => units.contains(unit).then_some(None),
                }
            }
            _ => None,
        }
    }

    /// A line of the output of a document.
    fn line(
        &self,
        key: &BatchKey,
        of: &JobName,
        (document, index): (Ordinal, u32),
    ) -> Option<Output> {
        let Content::Outputs {
            job,
            outputs,
            lines,
            ..
        } = &self.content
        else {
            return None;
        };
        if self.key != *key || job != of {
            return None;
        }
        let at = outputs.binary_search_by_key(&document, |o| o.0).ok()?;
        let all = |(_, output): &(Ordinal, Arc<Output>)| segments::lines_of(output);
        let lines = lines.get_or_init(|| outputs.iter().map(all).collect());
        let (from, to) = *lines.get(at)?.get(usize::try_from(index).ok()?)?;
        let (_, output) = outputs.get(at)?;
        let line = output.body.get(from as usize..to as usize)?;
        Some(Output::json_text(line.to_vec()))
    }
}

#[derive(Clone)]
struct Weigh;

impl Weighter<u64, Arc<Page>> for Weigh {
    fn weight(&self, _: &u64, page: &Arc<Page>) -> u64 {
        page.weight
    }
}

/// Reads the log, and keeps what it read for a while: neighbouring chunks need the same events.
pub(crate) struct Reader<B> {
    broker: B,
    cache: Cache<u64, Arc<Page>, Weigh>,
}

type Pages = BTreeMap<u64, Result<Arc<Page>, String>>;

impl<B: Broker> Reader<B> {
    pub(crate) fn new(broker: B, bytes: u64) -> Self {
        let items = usize::try_from(bytes / (64 * 1024)).unwrap_or(1 << 20);
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(items.max(16))
            .weight_capacity(bytes)
            .build();
        let cache = match options {
            Ok(options) => {
                Cache::with_options(options, Weigh, Default::default(), Default::default())
            }
            Err(_) => Cache::with_weighter(items.max(16), bytes, Weigh),
        };
        Self { broker, cache }
    }

    /// What stands at a sequence. Those who want the same one at the same time share one read of it.
    async fn page(&self, seq: u64) -> Result<Arc<Page>, String> {
        if let Some(page) = self.cache.get(&seq) {
            return Ok(page);
        }
        self.cache.get_or_insert_async(&seq, self.fetch(seq)).await
    }

    async fn fetch(&self, seq: u64) -> Result<Arc<Page>, String> {
        let mut tries = 1;
        let entry = loop {
            metrics::read();
            match self.broker.get(seq).await {
                Ok(Some(entry)) => break entry,
                Ok(None) => return Err(format!("the log has nothing at {seq}")),
                Err(error) if tries == TRIES => {
                    return Err(format!("the log at {seq} cannot be read: {error}"));
                }
                Err(error) => {
                    metrics::broker_error("get");
                    tracing::warn!(seq, %error, "cannot read the log; trying again");
                    tokio::time::sleep(PAUSE * tries).await;
                    tries += 1;
                }
            }
        };
        Page::read(&entry.payload)
            .map(Arc::new)
            .map_err(|why| format!("the log at {seq} does not hold what the chunk says: {why}"))
    }

    async fn pages(&self, seqs: Vec<u64>) -> Pages {
        stream::iter(seqs)
            .map(|seq| async move { (seq, self.page(seq).await) })
            .buffer_unordered(READS)
            .collect()
            .await
    }
}

/// A unit that is ready, or that cannot be.
pub(crate) type Ready = Result<Unit, (Ordinal, Failure)>;

/// Units that were made ready together.
pub(crate) struct Slice {
    pub(crate) units: Vec<Ready>,
    /// How long reading it took.
    pub(crate) took: Duration,
}

/// Where everything stands that the units of a chunk need.
pub(crate) struct Plan {
    key: BatchKey,
    units: Vec<Ordinal>,
    /// The sequence of each unit's document; 0 where the chunk does not say.
    documents: Vec<u64>,
    /// What each job of the tier before made.
    inputs: Vec<Wanted>,
    /// The document of each unit, and which segment of it the unit is; empty where units are documents.
    places: Vec<(Ordinal, u32)>,
    /// What units join.
    joins: BTreeMap<Ordinal, Vec<Join>>,
}

/// The outputs of one job of the tier before.
struct Wanted {
    job: JobName,
    /// Whether a unit's input is its line of what was made of its document.
    lines: bool,
    /// The sequence of each unit's input; 0 where there is none.
    seqs: Vec<u64>,
}

impl Plan {
    pub(crate) fn new(chunk: &Chunk) -> Self {
        let units: Vec<Ordinal> = chunk.units.iter().collect();
        let places = segments::places_of(chunk, &units);
        let documents = match places.is_empty() {
            true => by_unit(chunk.documents.iter(), chunk, &units),
            false => segments::by_document(chunk.documents.iter(), &places),
        };
        let mut jobs: BTreeMap<(&JobName, bool), Vec<Source>> = BTreeMap::new();
        for input in &chunk.inputs {
            let lines = input.lines && !places.is_empty();
            jobs.entry((&input.job, lines)).or_default().push(Source {
                seq: input.seq,
                units: input.units.clone(),
            });
        }
        let inputs = jobs.into_iter().map(|((job, lines), sources)| Wanted {
            job: job.clone(),
            lines,
            seqs: match lines {
                true => segments::by_document(sources.iter(), &places),
                false => by_unit(sources.iter(), chunk, &units),
            },
        });
        Self {
            key: chunk.key(),
            documents,
            inputs: inputs.collect(),
            places,
            joins: segments::joins_of(chunk),
            units,
        }
    }

    /// The units from an index on.
    pub(crate) fn rest(&self, from: usize) -> UnitSet {
        self.units.iter().skip(from).copied().collect()
    }

    /// All units in ascending order, ready to run.
    pub(crate) fn ready<B: Broker>(
        self: &Arc<Self>,
        reader: &Arc<Reader<B>>,
    ) -> BoxStream<'static, Slice> {
        let (plan, reader) = (self.clone(), reader.clone());
        let count = self.units.len();
        // What is joined may be large: one at a time.
        let size = if self.joins.is_empty() { SLICE } else { 1 };
        stream::iter((0..count).step_by(size))
            .map(move |from| {
                let (plan, reader) = (plan.clone(), reader.clone());
                async move {
                    let slice = from..(from + size).min(count);
                    let begun = Instant::now();
                    let pages = reader.pages(plan.seqs(slice.clone())).await;
                    let ready = slice.filter_map(|at| plan.unit(at, &pages)).collect();
                    let units = match plan.joins.is_empty() {
                        true => ready,
                        false => plan.join(&reader, ready).await,
                    };
                    let took = begun.elapsed();
                    Slice { units, took }
                }
            })
            .buffered(SLICES_AHEAD)
            .boxed()
    }

    /// Adds to units what was made of their segments.
    async fn join<B: Broker>(&self, reader: &Reader<B>, units: Vec<Ready>) -> Vec<Ready> {
        let mut ready = Vec::with_capacity(units.len());
        for unit in units {
            let Ok(mut unit) = unit else {
                ready.push(unit);
                continue;
            };
            let mut failed = None;
            for join in self.joins.get(&unit.ordinal).into_iter().flatten() {
                match reader.joined(&self.key, join).await {
                    Ok((job, list)) => {
                        unit.inputs.insert(job, list);
                    }
                    Err(failure) => failed = Some(failure),
                }
            }
            ready.push(match failed {
                Some(failure) => Err((unit.ordinal, failure)),
                None => Ok(unit),
            });
        }
        ready
    }

    fn seqs(&self, slice: Range<usize>) -> Vec<u64> {
        let lists = self.inputs.iter().map(|wanted| &wanted.seqs);
        let mut all: Vec<u64> = std::iter::once(&self.documents)
            .chain(lists)
            .filter_map(|seqs| seqs.get(slice.clone()))
            .flatten()
            .copied()
            .filter(|seq| *seq != 0)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn unit(&self, at: usize, pages: &Pages) -> Option<Ready> {
        let ordinal = *self.units.get(at)?;
        Some(self.make(at, ordinal, pages).map_err(|why| {
            let failure = Failure::new(FailureKind::UNAVAILABLE, why);
            (ordinal, failure)
        }))
    }

    fn make(&self, at: usize, ordinal: Ordinal, pages: &Pages) -> Result<Unit, String> {
        let page = |seq: u64| match pages.get(&seq) {
            Some(Ok(page)) => Ok(page),
            Some(Err(why)) => Err(why.clone()),
            None => Err("the chunk does not say where the document stands".to_owned()),
        };
        let place = self.places.get(at).copied();
        let of = place.map_or(ordinal, |(document, _)| document);
        let seq = self.documents.get(at).copied().unwrap_or(0);
        let document = page(seq)?
            .document(&self.key, of)
            .ok_or_else(|| format!("the log at {seq} does not hold the document"))?;
        let mut inputs = BTreeMap::new();
        for Wanted { job, lines, seqs } in &self.inputs {
            let seq = seqs.get(at).copied().unwrap_or(0);
            if seq == 0 {
                continue;
            }
            let missing = || format!("the log at {seq} does not hold the output of job {job}");
            let input = match place.filter(|_| *lines) {
                Some(place) => {
                    let line = page(seq)?.line(&self.key, job, place);
                    Some(Arc::new(line.ok_or_else(missing)?))
                }
                None => page(seq)?
                    .output(&self.key, job, ordinal)
                    .ok_or_else(missing)?,
            };
            if let Some(input) = input {
                inputs.insert(job.clone(), input);
            }
        }
        Ok(Unit {
            ordinal,
            segment: place.map(|(_, index)| index),
            document,
            inputs,
        })
    }
}

/// The sequence for each unit; 0 where there is none.
fn by_unit<'a>(
    sources: impl Iterator<Item = &'a Source>,
    chunk: &Chunk,
    units: &[Ordinal],
) -> Vec<u64> {
    let mut seqs = vec![0; units.len()];
    for source in sources {
        place(
            &mut seqs,
            units,
            &source.units.and(&chunk.units),
            source.seq,
        );
    }
    seqs
}

/// Notes the sequence for those of the units that are `here`, which is in ascending order as they are.
fn place(seqs: &mut [u64], units: &[Ordinal], here: &UnitSet, seq: u64) {
    let Some(first) = here.first() else { return };
    let mut at = units.partition_point(|unit| *unit < first);
    for unit in here.iter() {
        while units.get(at).is_some_and(|other| *other < unit) {
            at += 1;
        }
        if let Some(slot) = seqs.get_mut(at) {
            *slot = seq;
        }
        at += 1;
    }
}
