//! A broker in memory that can be told to fail, with a batch on it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use redrive_broker::{
    Broker, BrokerError, BrokerInfo, Deliveries, Entry, Inspection, Lease, Message, Range, Request,
    Result, ServiceSpec,
    memory::{MemoryBroker, MemoryOptions},
};
use redrive_domain::{
    document::{Document, Output},
    event::{Attempt, Cause, Envelope, Event, VERSION},
    failure::Failure,
    ids::{BatchId, BatchKey, ChunkId, EventId, HandlerName, JobName, ResourceClass},
    packed::Packed,
    subject,
    time::{Millis, Timestamp},
    units::{Ordinal, UnitSet},
    work::{Chunk, Heartbeat, Input, Outcome, Signal, Source},
};
use redrive_worker::{
    Config, WorkerError,
    handler::{Context, Done, Handler, Unit, handler_fn},
    run,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The broker in memory, with faults and counts.
#[derive(Clone, Default)]
pub struct Flaky {
    pub inner: MemoryBroker,
    pub fail_submits: Arc<AtomicU32>,
    pub gets: Arc<AtomicU32>,
}

impl Broker for Flaky {
    async fn remake_work(&self) -> Result<()> {
        self.inner.remake_work().await
    }

    async fn keep_snapshot(&self, snapshot: Bytes) -> Result<()> {
        self.inner.keep_snapshot(snapshot).await
    }

    async fn snapshot(&self) -> Result<Option<Bytes>> {
        self.inner.snapshot().await
    }

    async fn ensure(&self) -> Result<()> {
        self.inner.ensure().await
    }
    fn info(&self) -> BrokerInfo {
        self.inner.info()
    }
    fn is_connected(&self) -> bool {
        self.inner.is_connected()
    }
    async fn inspect(&self) -> Result<Inspection> {
        self.inner.inspect().await
    }
    async fn repair(&self) -> Result<()> {
        self.inner.repair().await
    }
    async fn append(&self, messages: Vec<Message>, after: u64) -> Result<u64> {
        self.inner.append(messages, after).await
    }
    async fn last_seq(&self) -> Result<u64> {
        self.inner.last_seq().await
    }
    fn read(&self, range: Range) -> BoxStream<'static, Result<Entry>> {
        self.inner.read(range)
    }
    async fn get(&self, seq: u64) -> Result<Option<Entry>> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.inner.get(seq).await
    }
    async fn submit(&self, message: Message, id: Option<String>) -> Result<()> {
        let fail = self
            .fail_submits
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match fail {
            Ok(_) => Err(BrokerError::Unreachable("nowhere".into())),
            Err(_) => self.inner.submit(message, id).await,
        }
    }
    async fn inbox(&self) -> Result<Box<dyn Deliveries>> {
        self.inner.inbox().await
    }
    async fn offer(&self, chunks: Vec<Message>) -> Result<()> {
        self.inner.offer(chunks).await
    }
    async fn take(&self, h: &HandlerName, c: &ResourceClass) -> Result<Box<dyn Deliveries>> {
        self.inner.take(h, c).await
    }
    async fn withdraw(&self, filter: &str) -> Result<()> {
        self.inner.withdraw(filter).await
    }
    async fn offered(&self) -> Result<Vec<String>> {
        self.inner.offered().await
    }
    async fn lease(&self, name: &str, holder: &str) -> Result<Lease> {
        self.inner.lease(name, holder).await
    }
    async fn release(&self, name: &str, holder: &str) -> Result<()> {
        self.inner.release(name, holder).await
    }
    fn lease_ttl(&self) -> Duration {
        self.inner.lease_ttl()
    }
    async fn request(&self, message: Message, wait: Duration) -> Result<Bytes> {
        self.inner.request(message, wait).await
    }
    async fn serve(&self, spec: ServiceSpec) -> Result<BoxStream<'static, Request>> {
        self.inner.serve(spec).await
    }
    async fn signal(&self, message: Message) -> Result<()> {
        self.inner.signal(message).await
    }
    async fn listen(&self, filter: String) -> Result<BoxStream<'static, Message>> {
        self.inner.listen(filter).await
    }
}

pub fn name(value: &str) -> HandlerName {
    value.parse().unwrap()
}

pub fn job(value: &str) -> JobName {
    value.parse().unwrap()
}

/// A handler named `h` made of a closure.
pub fn handler<F, Fut>(f: F) -> Arc<dyn Handler>
where
    F: Fn(Unit, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Done, Failure>> + Send + 'static,
{
    handler_fn(name("h"), f)
}

/// A batch at a broker, and who reads the inbox.
pub struct Rig {
    pub broker: Flaky,
    pub key: BatchKey,
    inbox: Box<dyn Deliveries>,
    /// Sizes of the messages that came.
    pub sizes: Vec<usize>,
    /// Trace contexts of the messages that came.
    pub traces: Vec<Option<String>>,
}

impl Rig {
    pub async fn new() -> Self {
        Self::with(MemoryOptions::default()).await
    }

    pub async fn with(options: MemoryOptions) -> Self {
        let broker = Flaky {
            inner: MemoryBroker::new(options),
            ..Flaky::default()
        };
        broker.ensure().await.unwrap();
        Self {
            inbox: broker.inbox().await.unwrap(),
            broker,
            key: BatchKey {
                namespace: "team".parse().unwrap(),
                batch: BatchId(Uuid::from_u128(7)),
            },
            sizes: Vec::new(),
            traces: Vec::new(),
        }
    }

    pub async fn reopen_inbox(&mut self) {
        self.broker.ensure().await.unwrap();
        self.inbox = self.broker.inbox().await.unwrap();
    }

    /// Appends an event; its sequence.
    pub async fn append(&self, event: Event) -> u64 {
        let after = self.broker.last_seq().await.unwrap();
        let envelope = Envelope {
            v: VERSION,
            id: EventId(Uuid::from_u128(u128::from(after) + 1)),
            at: Timestamp(1),
            namespace: self.key.namespace.clone(),
            batch: self.key.batch,
            cause: Cause::State,
            actor: None,
            trace: None,
            event,
        };
        let message = Message {
            subject: subject::event(0, &self.key, &envelope.event.subject_type()),
            payload: envelope.encode().unwrap().into(),
            trace: None,
        };
        self.broker.append(vec![message], after).await.unwrap()
    }

    /// Adds documents `d<ordinal>`; where they stand.
    pub async fn documents(&self, first: Ordinal, count: u32) -> Source {
        let documents: Vec<_> = (first..first + count)
            .map(|n| Document::new(format!("d{n}")))
            .collect();
        let event = Event::DocumentsAdded {
            first,
            count,
            documents: Packed::new(&documents).unwrap(),
        };
        Source {
            seq: self.append(event).await,
            units: UnitSet::run(first, count),
        }
    }

    /// Notes that units of tier 0 succeeded; where that stands.
    pub async fn outputs(
        &self,
        of: &str,
        units: UnitSet,
        skipped: UnitSet,
        outputs: Vec<(Ordinal, Output)>,
    ) -> Input {
        let all = units.or(&skipped);
        let event = Event::DocumentsCompleted {
            attempt: Attempt {
                tier: 0,
                job: job(of),
                number: 1,
                chunk: ChunkId(Uuid::nil()),
                worker: None,
                busy: Millis(0),
                loading: Millis(0),
                writing: Millis(0),
                peak_memory: None,
            },
            units,
            skipped,
            outputs: Some(Packed::new(&outputs).unwrap()),
            segments: None,
        };
        Input {
            job: job(of),
            seq: self.append(event).await,
            units: all,
            lines: false,
        }
    }

    /// A chunk of all units of a source, for handler `h`.
    pub fn chunk(&self, id: u128, source: &Source) -> Chunk {
        Chunk {
            id: ChunkId(Uuid::from_u128(id)),
            namespace: self.key.namespace.clone(),
            bucket: "files".parse().unwrap(),
            batch: self.key.batch,
            tier: 0,
            job: job("extract"),
            handler: name("h"),
            params: serde_json::json!({"x": 1}),
            attempt: 1,
            timeout: Millis::seconds(30),
            memory_bytes: None,
            num_cpus: 1,
            max_output_bytes: 64 * 1024,
            units: source.units.clone(),
            documents: vec![source.clone()],
            inputs: vec![],
            at: Timestamp(1),
            strikes: 0,
            entrypoint: None,
            deployment_mode: None,
            plugin_archives: Vec::new(),
            trace: None,
            splits: false,
            segments: vec![],
            joins: vec![],
        }
    }

    pub async fn offer(&self, chunk: &Chunk) {
        self.offer_raw(chunk, rmp_serde::to_vec_named(chunk).unwrap())
            .await;
    }

    pub async fn offer_raw(&self, chunk: &Chunk, payload: Vec<u8>) {
        let class = "cpu".parse().unwrap();
        let message = Message {
            subject: subject::chunk(0, &chunk.handler, &class, &chunk.key(), chunk.id),
            payload: payload.into(),
            trace: None,
        };
        self.broker.offer(vec![message]).await.unwrap();
    }

    /// What is in the inbox by now.
    pub async fn outcomes(&mut self) -> Vec<Outcome> {
        let mut all = Vec::new();
        loop {
            let deliveries = self.inbox.next(1_000, Duration::ZERO).await.unwrap();
            if deliveries.is_empty() {
                return all;
            }
            for delivery in deliveries {
                self.sizes.push(delivery.payload.len());
                self.traces.push(delivery.trace.clone());
                all.push(rmp_serde::from_slice(&delivery.payload).unwrap());
                delivery.receipt.ack().await.unwrap();
            }
        }
    }

    /// Waits until no chunk is up or with a worker, and answers with what was reported.
    pub async fn settled(&mut self) -> Vec<Outcome> {
        let broker = self.broker.clone();
        until("all chunks are acknowledged", async || {
            broker.offered().await.unwrap().is_empty()
        })
        .await;
        self.outcomes().await
    }

    pub async fn signal(&self, signal: Signal) {
        let message = Message {
            subject: subject::signals(0),
            payload: rmp_serde::to_vec_named(&signal).unwrap().into(),
            trace: None,
        };
        self.broker.signal(message).await.unwrap();
    }

    pub async fn heartbeats(&self) -> BoxStream<'static, Heartbeat> {
        let filter = subject::heartbeats(0);
        let messages = self.broker.listen(filter).await.unwrap();
        messages
            .map(|message| rmp_serde::from_slice(&message.payload).unwrap())
            .boxed()
    }

    /// Starts a worker.
    pub fn start(&self, id: &str, slots: u32, handlers: Vec<Arc<dyn Handler>>) -> Worker {
        let mut config = Config::new(0, id.parse().unwrap());
        config.slots = slots.try_into().unwrap();
        config.host = "here".into();
        let shutdown = CancellationToken::new();
        let running = run(self.broker.clone(), config, handlers, shutdown.clone());
        Worker {
            shutdown,
            task: tokio::spawn(running),
        }
    }
}

/// A worker that runs.
pub struct Worker {
    pub shutdown: CancellationToken,
    pub task: JoinHandle<Result<(), WorkerError>>,
}

impl Worker {
    pub async fn leave(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Waits, by the paused clock, until something is so.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..60_000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("ten minutes passed and it is not so: {what}");
}

/// What several outcomes say together.
#[derive(Debug, Default, PartialEq)]
pub struct Sum {
    pub completed: UnitSet,
    pub skipped: UnitSet,
    pub returned: UnitSet,
    pub failed: Vec<(UnitSet, Failure)>,
    pub outputs: Vec<(Ordinal, Output)>,
}

pub fn sum(outcomes: &[Outcome]) -> Sum {
    let mut sum = Sum::default();
    for outcome in outcomes {
        sum.completed.add(&outcome.completed);
        sum.skipped.add(&outcome.skipped);
        sum.returned.add(&outcome.returned);
        for failed in &outcome.failures {
            sum.failed
                .push((failed.units.clone(), failed.failure.clone()));
        }
        if let Some(outputs) = &outcome.outputs {
            sum.outputs.extend(outputs.open().unwrap());
        }
    }
    sum.outputs.sort_by_key(|(unit, _)| *unit);
    sum
}

pub const DONE: Result<Done, Failure> = Ok(Done::Completed(None));
