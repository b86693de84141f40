//! Coordinators and workers on a broker in memory, in a time of their own.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

use std::{future::Future, num::NonZeroU32, time::Duration};

use futures::StreamExt;
use redrive_broker::{Broker, Range, memory::MemoryBroker};
use redrive_client::{Client, ClientError, Upload};
use redrive_coordinator::{Config, run, world::Clock};
use redrive_domain::{
    command::{Accepted, Command, Create, Refusal, Start},
    document::Document,
    event::{Envelope, Event},
    evolve::evolve,
    failure::Failure,
    ids::{BatchId, BatchKey, Bucket, CommandId, HandlerName, WorkerId},
    invariants::violations,
    state::BatchState,
    subject,
    time::Timestamp,
};
use redrive_worker::handler::{Context, Done, Unit, handler_fn};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub struct Sim {
    pub broker: MemoryBroker,
    pub client: Client<MemoryBroker>,
    clock: Clock,
    ids: u128,
}

impl Sim {
    pub async fn new() -> Self {
        let broker = MemoryBroker::default();
        broker.ensure().await.unwrap();
        Self {
            client: Client::new(broker.clone(), "default".parse().unwrap(), None),
            broker,
            clock: Clock::starting_at("2026-01-31T12:00:00Z".parse::<Timestamp>().unwrap()),
            ids: 0,
        }
    }

    fn uuid(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    pub fn command_id(&mut self) -> CommandId {
        CommandId(self.uuid())
    }

    pub fn coordinator(&self, name: &str) -> JoinHandle<()> {
        self.coordinator_with(name, |_| {})
    }

    pub fn coordinator_with(&self, name: &str, change: impl FnOnce(&mut Config)) -> JoinHandle<()> {
        let mut config = Config::new(name.to_owned());
        change(&mut config);
        config.clock = self.clock.clone();
        config.seed = Some(7);
        let broker = self.broker.clone();
        tokio::spawn(async move {
            run(broker, config, CancellationToken::new()).await.unwrap();
        })
    }

    pub fn worker<F, Fut>(
        &self,
        name: &str,
        slots: u32,
        handler: F,
    ) -> (JoinHandle<()>, CancellationToken)
    where
        F: Fn(Unit, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Done, Failure>> + Send + 'static,
    {
        let mut config = redrive_worker::Config::new(0, WorkerId::new(name).unwrap());
        config.slots = NonZeroU32::new(slots).unwrap();
        let stop = CancellationToken::new();
        let (broker, token) = (self.broker.clone(), stop.clone());
        let handlers = vec![handler_fn(HandlerName::new("work").unwrap(), handler)];
        let task = tokio::spawn(async move {
            redrive_worker::run(broker, config, handlers, token)
                .await
                .unwrap();
        });
        (task, stop)
    }

    /// A batch of one tier with one job, whose fields beside the handler are these.
    pub async fn submit(&mut self, job: Value, documents: u32) -> BatchKey {
        let batch = BatchId(self.uuid());
        let bucket: Bucket = "docs".parse().unwrap();
        let mut job = job;
        job["handler"] = "work".into();
        let create = Command::Create(Create {
            pipeline: json!({ "tiers": [{ "jobs": [job] }] }),
            start: Start::OnSubmit,
        });
        let id = self.command_id();
        self.client
            .command(&bucket, batch, id, &create)
            .await
            .unwrap();
        let mut ids = self.ids + 1_000;
        let mut upload = Upload::new(&self.client, bucket, batch, || {
            ids += 1;
            CommandId(Uuid::from_u128(ids))
        });
        for n in 0..documents {
            upload.add(Document::new(format!("doc-{n}"))).await.unwrap();
        }
        upload.finish().await.unwrap();
        self.ids = ids + 1_000;
        BatchKey {
            namespace: "default".parse().unwrap(),
            batch,
        }
    }

    pub async fn command(&mut self, key: &BatchKey, command: Command) -> Accepted {
        let id = self.command_id();
        let any: Bucket = "_".parse().unwrap();
        self.client
            .command(&any, key.batch, id, &command)
            .await
            .unwrap()
    }

    /// Why a command is refused, which it has to be.
    pub async fn refused(&mut self, key: &BatchKey, command: Command) -> Refusal {
        let id = self.command_id();
        let any: Bucket = "_".parse().unwrap();
        match self.client.command(&any, key.batch, id, &command).await {
            Err(ClientError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    pub async fn events(&self, key: &BatchKey) -> Vec<(u64, Envelope)> {
        let last = self.broker.last_seq().await.unwrap();
        if last == 0 {
            return Vec::new();
        }
        let range = Range {
            from: 1,
            until: Some(last),
            filter: Some(subject::events_of_batch(0, key)),
        };
        let mut entries = self.broker.read(range);
        let mut events = Vec::new();
        while let Some(entry) = entries.next().await {
            let entry = entry.unwrap();
            events.push((entry.seq, Envelope::decode(&entry.payload).unwrap()));
        }
        events
    }

    /// What the log says of a batch, which has to be sound.
    pub async fn state(&self, key: &BatchKey) -> BatchState {
        let mut state = None;
        for (seq, envelope) in self.events(key).await {
            evolve(&mut state, seq, &envelope);
        }
        let state = state.expect("the batch is in the log");
        assert_eq!(violations(&state), Vec::<String>::new());
        assert_eq!(state.ignored, 0);
        state
    }

    /// Waits until the log says something of a batch.
    pub async fn until(
        &self,
        key: &BatchKey,
        what: &str,
        holds: impl Fn(&BatchState) -> bool,
    ) -> BatchState {
        let end = Instant::now() + Duration::from_secs(300);
        loop {
            let state = self.state(key).await;
            if holds(&state) {
                return state;
            }
            assert!(Instant::now() < end, "never: {what}: {:?}", state.counts());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn over(&self, key: &BatchKey) -> BatchState {
        self.until(key, "the batch is over", |state| state.status.is_over())
            .await
    }

    pub async fn names(&self, key: &BatchKey) -> Vec<&'static str> {
        self.events(key)
            .await
            .iter()
            .map(|(_, envelope)| envelope.event.name())
            .collect()
    }
}

/// How often each unit succeeded, by the log.
pub fn completions(events: &[(u64, Envelope)]) -> std::collections::BTreeMap<u32, u32> {
    let mut counts = std::collections::BTreeMap::new();
    for (_, envelope) in events {
        if let Event::DocumentsCompleted { units, .. } = &envelope.event {
            units
                .iter()
                .for_each(|unit| *counts.entry(unit).or_default() += 1);
        }
    }
    counts
}

pub fn done() -> Result<Done, Failure> {
    Ok(Done::Completed(None))
}
