//! How fast the domain goes: a batch of a million documents through three tiers, one in a hundred failing, with each
//! outcome decided, its events encoded, decoded and folded, and what follows settled.
//!
//! `cargo run --release -p redrive-domain --example fold [documents]`
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::time::Instant;

use redrive_domain::{
    command::Start,
    decide::{self, Now},
    document::Document,
    event::{Cause, Envelope, Event, VERSION},
    evolve::evolve,
    failure::{Failure, FailureKind},
    ids::{BatchId, Bucket, ChunkId, EventId, Namespace, WorkerId},
    packed::Packed,
    pipeline::Pipeline,
    state::BatchState,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{FailedUnits, Outcome},
};
use uuid::Uuid;

type Failable<T> = Result<T, Box<dyn std::error::Error>>;

struct Run {
    batch: Option<BatchState>,
    namespace: Namespace,
    seq: u64,
    bytes: u64,
}

impl Run {
    fn append(&mut self, event: Event) -> Failable<()> {
        self.seq += 1;
        let envelope = Envelope {
            v: VERSION,
            id: EventId(Uuid::from_u128(self.seq.into())),
            at: Timestamp(0),
            namespace: self.namespace.clone(),
            batch: BatchId(Uuid::from_u128(1)),
            cause: Cause::State,
            actor: None,
            trace: None,
            event,
        };
        let bytes = envelope.encode()?;
        self.bytes += bytes.len() as u64;
        evolve(&mut self.batch, self.seq, &Envelope::decode(&bytes)?);
        Ok(())
    }

    fn settle(&mut self) -> Failable<()> {
        while let Some(event) = self.batch.as_ref().and_then(decide::settle) {
            self.append(event)?;
        }
        Ok(())
    }

    fn chunk(&mut self, tier: u16, units: &UnitSet) -> Failable<()> {
        let Some(batch) = &self.batch else {
            return Ok(());
        };
        let Some((_, spec, _)) = batch.jobs().find(|(num, _, _)| *num == tier) else {
            return Ok(());
        };
        let failed: UnitSet = units.iter().filter(|unit| unit % 100 == 99).collect();
        let outcome = Outcome {
            chunk: ChunkId(Uuid::from_u128(self.seq.into())),
            namespace: self.namespace.clone(),
            batch: batch.key.batch,
            tier,
            job: spec.name.clone(),
            attempt: 1,
            worker: WorkerId::new("w1")?,
            completed: units.minus(&failed),
            skipped: UnitSet::new(),
            outputs: None,
            failures: if failed.is_empty() {
                Vec::new()
            } else {
                vec![FailedUnits {
                    units: failed,
                    failure: Failure::new(FailureKind::REJECTED, "refused"),
                }]
            },
            returned: UnitSet::new(),
            busy: Millis(1),
            at: Timestamp(0),
        };
        let now = Now {
            at: Timestamp(0),
            random: 0,
        };
        for event in decide::outcome(Some(batch), &outcome, now).events {
            self.append(event)?;
        }
        self.settle()
    }
}

fn run(documents: u32, size: u64) -> Failable<()> {
    let job = |handler: &str| serde_json::json!({ "jobs": [{ "handler": handler }] });
    let tiers = serde_json::json!({ "tiers": [job("a"), job("b"), job("c")] });
    let mut run = Run {
        batch: None,
        namespace: Namespace::new("bench")?,
        seq: 0,
        bytes: 0,
    };
    run.append(Event::BatchCreated {
        bucket: Bucket::new("bench")?,
        pipeline: Pipeline::from_value(&tiers)?,
        start: Start::OnSubmit,
    })?;
    let mut first = 0;
    while first < documents {
        let count = 10_000.min(documents - first);
        run.append(Event::DocumentsAdded {
            first,
            count,
            documents: Packed::new(&Vec::<Document>::new())?,
        })?;
        first += count;
    }
    run.append(Event::BatchSubmitted { documents })?;
    run.settle()?;
    let (seq, bytes, mut units) = (run.seq, run.bytes, 0);
    let began = Instant::now();
    for tier in 0..3 {
        let mut open = UnitSet::new();
        if let Some(state) = run
            .batch
            .as_ref()
            .and_then(|b| b.tiers.get(usize::from(tier)))
        {
            state.jobs.iter().for_each(|job| open.add(&job.open));
        }
        units += open.len();
        let mut chunk = UnitSet::new();
        for unit in open.iter() {
            chunk.insert(unit);
            if chunk.len() == size {
                run.chunk(tier, &std::mem::take(&mut chunk))?;
            }
        }
        if !chunk.is_empty() {
            run.chunk(tier, &chunk)?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let events = run.seq - seq;
    let Some(batch) = run.batch else {
        return Ok(());
    };
    let snapshot = batch.encode()?.len();
    println!(
        "chunks of {size:>5}: {:>6.2} M units/s, {:>6.2} us an event, {:>5.1} bytes a unit in the log, {} ({:?}), state {snapshot} bytes",
        units as f64 / seconds / 1e6,
        seconds * 1e6 / events as f64,
        (run.bytes - bytes) as f64 / units as f64,
        batch.status,
        batch.counts(),
    );
    Ok(())
}

fn main() -> Failable<()> {
    let documents = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |n| n.parse())?;
    for size in [1_000, 100, 1] {
        run(documents, size)?;
    }
    Ok(())
}
