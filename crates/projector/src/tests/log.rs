//! A log to write, a projector that reads it, and questions to ask.

use std::time::Duration;

use redrive_broker::{
    Broker, Message, Until, fold,
    memory::{MemoryBroker, MemoryOptions},
};
use redrive_domain::{
    command::{Answer, Refusal, Start},
    document::{Document, Output},
    event::{Attempt, Cause, Envelope, Event},
    failure::{Failure, FailureKind},
    ids::{BatchId, BatchKey, ChunkId, EventId, Namespace},
    packed::Packed,
    pipeline::Pipeline,
    state::BatchState,
    subject,
    time::{Millis, Timestamp},
    units::{Ordinal, UnitSet},
    work::FailedUnits,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Config, ProjectorError, run_with_ready};

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn namespace(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

pub(super) fn key(namespace: &str, batch: u128) -> BatchKey {
    BatchKey {
        namespace: self::namespace(namespace),
        batch: BatchId(Uuid::from_u128(batch)),
    }
}

pub(super) async fn memory() -> Log<MemoryBroker> {
    let broker = MemoryBroker::new(MemoryOptions::default());
    broker.ensure().await.unwrap();
    Log::new(broker)
}

/// The one writer of a log.
pub(super) struct Log<B> {
    pub(super) broker: B,
    pub(super) last: u64,
    salt: u128,
}

impl<B: Broker> Log<B> {
    pub(super) fn new(broker: B) -> Self {
        Self {
            broker,
            last: 0,
            salt: 0,
        }
    }

    /// The same events differ from those of a log with another salt.
    pub(super) fn salted(mut self, salt: u128) -> Self {
        self.salt = salt << 64;
        self
    }

    pub(super) async fn all(&mut self, events: Vec<(BatchKey, Event)>) -> u64 {
        let mut messages = Vec::new();
        for (i, (key, event)) in (1u64..).zip(events) {
            let seq = self.last + i;
            let subject = subject::event(0, &key, &event.subject_type());
            let envelope = Envelope {
                v: redrive_domain::event::VERSION,
                id: EventId(Uuid::from_u128(self.salt + u128::from(seq))),
                at: Timestamp(1_700_000_000_000 + i64::try_from(seq).unwrap()),
                namespace: key.namespace,
                batch: key.batch,
                cause: Cause::State,
                actor: None,
                trace: None,
                event,
            };
            messages.push(Message {
                subject,
                payload: envelope.encode().unwrap().into(),
                trace: None,
            });
        }
        self.last = self.broker.append(messages, self.last).await.unwrap();
        self.last
    }

    pub(super) async fn put(&mut self, key: &BatchKey, event: Event) -> u64 {
        self.all(vec![(key.clone(), event)]).await
    }

    pub(super) async fn raw(&mut self, key: &BatchKey, payload: &'static [u8]) -> u64 {
        let message = Message {
            subject: subject::event(0, key, "batch.dreamt"),
            payload: payload.into(),
            trace: None,
        };
        self.last = self.broker.append(vec![message], self.last).await.unwrap();
        self.last
    }

    /// A batch of a pipeline whose tiers have these jobs, with documents, submitted.
    pub(super) async fn batch(&mut self, key: &BatchKey, tiers: &[&[&str]], documents: u32) -> u64 {
        let mut events = vec![created(tiers)];
        events.extend(added(documents));
        events.push(Event::BatchSubmitted { documents });
        self.all(of(key, events)).await
    }

    /// The payload of an entry.
    pub(super) async fn broker_entry(&self, seq: u64) -> bytes::Bytes {
        self.broker.get(seq).await.unwrap().unwrap().payload
    }

    /// What a fold of the whole log gives for a batch.
    pub(super) async fn folded(&self, key: &BatchKey) -> BatchState {
        let mut batches = fold(&self.broker, None, Until::End).await.unwrap().batches;
        batches.remove(key).unwrap()
    }
}

pub(super) fn of(key: &BatchKey, events: Vec<Event>) -> Vec<(BatchKey, Event)> {
    events
        .into_iter()
        .map(|event| (key.clone(), event))
        .collect()
}

pub(super) fn created(tiers: &[&[&str]]) -> Event {
    let job = |name: &&str| json!({"name": name, "handler": "work"});
    let tier = |jobs: &&[&str]| json!({"jobs": jobs.iter().map(job).collect::<Vec<_>>()});
    let tiers: Vec<Value> = tiers.iter().map(tier).collect();
    Event::BatchCreated {
        bucket: "inbox".parse().unwrap(),
        pipeline: Pipeline::from_value(&json!({"name": "test", "tiers": tiers})).unwrap(),
        start: Start::OnSubmit,
    }
}

/// Pages of 1,000 documents `doc-<ordinal>`, every second with a URI.
pub(super) fn added(documents: u32) -> Vec<Event> {
    let page = |first: u32| {
        let count = (documents - first).min(1_000);
        let documents: Vec<Document> = (first..first + count)
            .map(|ordinal| Document {
                uri: (ordinal % 2 == 1).then(|| format!("file:///{ordinal}")),
                ..Document::new(format!("doc-{ordinal}"))
            })
            .collect();
        Event::DocumentsAdded {
            first,
            count,
            documents: Packed::new(&documents).unwrap(),
        }
    };
    (0..documents).step_by(1_000).map(page).collect()
}

pub(super) fn attempt(tier: u16, job: &str) -> Attempt {
    Attempt {
        tier,
        job: job.parse().unwrap(),
        number: 1,
        chunk: ChunkId(Uuid::nil()),
        worker: Some("w1".parse().unwrap()),
        busy: Millis(3),
        loading: Millis(0),
        writing: Millis(0),
        peak_memory: None,
    }
}

pub(super) fn failed(
    tier: u16,
    job: &str,
    kind: &FailureKind,
    groups: &[(UnitSet, &str)],
) -> Event {
    let group = |(units, message): &(UnitSet, &str)| FailedUnits {
        units: units.clone(),
        failure: Failure::new(kind.clone(), message),
    };
    Event::DocumentsFailed {
        attempt: attempt(tier, job),
        class: kind.usual_class(),
        kind: kind.clone(),
        units: groups.iter().map(group).collect(),
    }
}

pub(super) fn completed(
    tier: u16,
    job: &str,
    units: UnitSet,
    outputs: &[(Ordinal, Output)],
) -> Event {
    Event::DocumentsCompleted {
        attempt: attempt(tier, job),
        units,
        skipped: UnitSet::new(),
        outputs: (!outputs.is_empty()).then(|| Packed::new(&outputs.to_vec()).unwrap()),
        segments: None,
    }
}

/// A running projector.
pub(super) struct Running {
    task: JoinHandle<Result<(), ProjectorError>>,
    shutdown: CancellationToken,
}

pub(super) async fn start<B: Broker>(broker: &B, config: Config) -> Running {
    let shutdown = CancellationToken::new();
    let (ready, is_ready) = oneshot::channel();
    let running = run_with_ready(broker.clone(), config, shutdown.clone(), ready);
    let task = tokio::spawn(running);
    timeout(PATIENCE, is_ready).await.unwrap().unwrap();
    Running { task, shutdown }
}

impl Running {
    /// Ends it in order.
    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// Ends it in the middle of whatever it does.
    pub(super) async fn kill(self) {
        self.task.abort();
        timeout(PATIENCE, self.task).await.unwrap().unwrap_err();
    }
}

pub(super) async fn answer<T: DeserializeOwned, B: Broker>(
    broker: &B,
    namespace: &str,
    query: &str,
    fields: Value,
) -> Answer<T> {
    let message = Message {
        subject: format!("rd.qry.{namespace}.{query}"),
        payload: fields.to_string().into(),
        trace: None,
    };
    let body = broker.request(message, PATIENCE).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

pub(super) async fn ok<T: DeserializeOwned, B: Broker>(
    broker: &B,
    namespace: &str,
    query: &str,
    fields: Value,
) -> T {
    match answer(broker, namespace, query, fields).await {
        Answer::Ok(value) => value,
        Answer::Error { message, .. } => panic!("{query}: {message}"),
    }
}

pub(super) async fn refused<B: Broker>(
    broker: &B,
    namespace: &str,
    query: &str,
    fields: Value,
) -> Refusal {
    match answer::<Value, B>(broker, namespace, query, fields).await {
        Answer::Ok(value) => panic!("{query} was answered: {value}"),
        Answer::Error { refusal, .. } => refusal,
    }
}

/// The bytes of a state, as a projector gives them, piece by piece.
pub(super) async fn state_bytes<B: Broker>(broker: &B, key: &BatchKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let ask = json!({"batch": key.batch, "offset": bytes.len()});
        let piece: redrive_domain::query::StatePiece =
            ok(broker, key.namespace.as_str(), "state", ask).await;
        let digits = piece.hex.as_bytes().chunks(2);
        bytes.extend(
            digits.map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()),
        );
        if bytes.len() as u64 >= piece.total {
            return bytes;
        }
    }
}
