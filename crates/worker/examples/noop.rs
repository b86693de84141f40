//! How many units a second a worker gets through where the handler does nothing and the broker is in memory.
//!
//! `cargo run --release -p redrive-worker --example noop -- [units] [units a chunk] [slots]`
#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use redrive_broker::{Broker, Deliveries, Message, memory::MemoryBroker};
use redrive_domain::{
    document::Document,
    event::{Cause, Envelope, Event, VERSION},
    ids::{BatchId, BatchKey, ChunkId, EventId, HandlerName},
    packed::Packed,
    subject,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{Chunk, Outcome, Source},
};
use redrive_worker::{
    Config,
    handler::{Context, Done, Handler, Processing, Unit},
    run,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Documents in one event of the log.
const PAGE: u32 = 10_000;

struct Noop(HandlerName);

impl Handler for Noop {
    fn name(&self) -> HandlerName {
        self.0.clone()
    }

    fn process<'a>(&'a self, _: &'a Unit, _: &'a Context) -> Processing<'a> {
        Box::pin(async { Ok(Done::Completed(None)) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u32>());
    let units = args.next().transpose()?.unwrap_or(2_000_000);
    let size = args.next().transpose()?.unwrap_or(5_000).max(1);
    let mut config = Config::new(0, "bench".parse()?);
    if let Some(slots) = args.next().transpose()? {
        config.slots = slots.try_into()?;
    }
    let handler: HandlerName = "noop".parse()?;
    let key = BatchKey {
        namespace: "bench".parse()?,
        batch: BatchId(Uuid::from_u128(1)),
    };
    let broker = MemoryBroker::default();
    broker.ensure().await?;
    add_documents(&broker, &key, units).await?;
    let mut chunks = Vec::new();
    for (n, first) in (0..units).step_by(size as usize).enumerate() {
        let count = size.min(units - first);
        chunks.push(chunk(
            &key,
            &handler,
            n as u128,
            UnitSet::run(first, count),
        )?);
    }
    println!(
        "{units} units in {} chunks, {} slots",
        chunks.len(),
        config.slots
    );
    let mut inbox = broker.inbox().await?;
    let shutdown = CancellationToken::new();
    let handlers: Vec<Arc<dyn Handler>> = vec![Arc::new(Noop(handler))];
    let begun = Instant::now();
    broker.offer(chunks).await?;
    let worker = tokio::spawn(run(broker, config, handlers, shutdown.clone()));
    let reports = count(&mut *inbox, u64::from(units)).await?;
    let took = begun.elapsed();
    shutdown.cancel();
    worker.await??;
    println!(
        "{reports} reports, {took:.3?}, {:.2} M units/s",
        f64::from(units) / took.as_secs_f64() / 1e6
    );
    Ok(())
}

async fn add_documents(
    broker: &MemoryBroker,
    key: &BatchKey,
    units: u32,
) -> Result<(), Box<dyn Error>> {
    for (n, first) in (0..units).step_by(PAGE as usize).enumerate() {
        let count = PAGE.min(units - first);
        let documents: Vec<_> = (first..first + count)
            .map(|n| Document::new(format!("document-{n}")))
            .collect();
        let envelope = Envelope {
            v: VERSION,
            id: EventId(Uuid::from_u128(n as u128)),
            at: Timestamp(0),
            namespace: key.namespace.clone(),
            batch: key.batch,
            cause: Cause::State,
            actor: None,
            trace: None,
            event: Event::DocumentsAdded {
                first,
                count,
                documents: Packed::new(&documents)?,
            },
        };
        let message = Message {
            subject: subject::event(0, key, &envelope.event.subject_type()),
            payload: envelope.encode()?.into(),
            trace: None,
        };
        broker.append(vec![message], n as u64).await?;
    }
    Ok(())
}

fn chunk(
    key: &BatchKey,
    handler: &HandlerName,
    id: u128,
    units: UnitSet,
) -> Result<Message, Box<dyn Error>> {
    let pages = units.first().unwrap_or(0) / PAGE..=units.last().unwrap_or(0) / PAGE;
    let documents = pages
        .map(|page| Source {
            seq: u64::from(page) + 1,
            units: units.and(&UnitSet::run(page * PAGE, PAGE)),
        })
        .collect();
    let chunk = Chunk {
        id: ChunkId(Uuid::from_u128(id)),
        namespace: key.namespace.clone(),
        bucket: "files".parse()?,
        batch: key.batch,
        tier: 0,
        job: "noop".parse()?,
        handler: handler.clone(),
        params: serde_json::Value::Null,
        attempt: 1,
        timeout: Millis::seconds(30),
        memory_bytes: None,
        num_cpus: 1,
        max_output_bytes: 64 * 1024,
        units,
        documents,
        inputs: vec![],
        at: Timestamp(0),
        trace: None,
    };
    Ok(Message {
        subject: subject::chunk(0, handler, &"cpu".parse()?, key, chunk.id),
        payload: rmp_serde::to_vec_named(&chunk)?.into(),
        trace: None,
    })
}

/// Reads reports until they speak of so many units; how many reports that took.
async fn count(inbox: &mut dyn Deliveries, units: u64) -> Result<u64, Box<dyn Error>> {
    let (mut reports, mut done) = (0, 0);
    while done < units {
        for delivery in inbox.next(100, Duration::from_secs(1)).await? {
            let outcome: Outcome = rmp_serde::from_slice(&delivery.payload)?;
            done += outcome.completed.len();
            reports += 1;
            delivery.receipt.ack().await?;
        }
    }
    Ok(reports)
}
