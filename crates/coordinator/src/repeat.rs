//! Commands that come again after they were carried out: each is answered what it was answered then. Where the state does
//! not tell that any more, the log does, beside the leader's rounds: nobody else waits for it.

use std::sync::Arc;

use futures::StreamExt;
use redrive_broker::{Broker, BrokerError, Range, Reply, Until, fold};
use redrive_domain::{
    command::{Accepted, Command, Refusal},
    credits::Ledgers,
    decide,
    event::{Cause, Envelope, Event, VERSION},
    evolve::{Batches, evolve, evolve_among},
    ids::{BatchKey, CommandId, EventId},
    state::BatchState,
    subject::{self, Shard},
    time::Timestamp,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::round;

/// How many are looked up at once: the log of a batch may be long.
const AT_ONCE: usize = 4;
/// How many may wait for that. Of more, who asks is told to ask again.
const WAITING: usize = 256;

/// A command that was carried out before.
pub(crate) struct Repeat {
    pub(crate) key: BatchKey,
    pub(crate) id: CommandId,
    /// Where its last event stands.
    pub(crate) seq: u64,
    pub(crate) command: Command,
}

/// Looks them up.
#[derive(Clone)]
pub(crate) struct Repeats {
    waiting: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
}

impl Default for Repeats {
    fn default() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(WAITING)),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Repeats {
    /// Answers them, soon.
    pub(crate) async fn answer<B: Broker>(
        &self,
        broker: &B,
        shard: Shard,
        repeats: Vec<(Box<dyn Reply>, Repeat)>,
    ) {
        for (reply, repeat) in repeats {
            let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
                let message =
                    "many commands that were carried out before are being looked up: ask again";
                let refusal = Refusal::Unavailable {
                    message: message.to_owned(),
                };
                send(reply, Err(refusal)).await;
                continue;
            };
            let (broker, at_once) = (broker.clone(), Arc::clone(&self.at_once));
            tokio::spawn(async move {
                let turn = at_once.acquire().await;
                let told = repeat.told(&broker, shard).await;
                drop((turn, place));
                send(reply, told).await;
            });
        }
    }
}

async fn send(reply: Box<dyn Reply>, told: Result<Accepted, Refusal>) {
    let (body, error) = round::answer(told);
    if let Err(error) = reply.send(body, error).await {
        tracing::debug!(%error, "an answer got lost; it will be asked again");
    }
}

impl Repeat {
    async fn told<B: Broker>(&self, broker: &B, shard: Shard) -> Result<Accepted, Refusal> {
        let unavailable = |error: String| Refusal::Unavailable {
            message: format!("what this command was answered cannot be read just now: {error}"),
        };
        let found = self.look_up(broker, shard).await;
        let found = found.map_err(|error| unavailable(error.to_string()))?;
        found.ok_or_else(|| unavailable("the log does not have it".to_owned()))?
    }

    /// Folds the log up to the command, decides on it once more, and folds what it led to.
    async fn look_up<B: Broker>(
        &self,
        broker: &B,
        shard: Shard,
    ) -> Result<Option<Result<Accepted, Refusal>>, BrokerError> {
        let mut entries = broker.read(Range {
            from: 1,
            until: Some(self.seq),
            filter: Some(subject::events_of_batch(shard, &self.key)),
        });
        let mut batches = Batches::default();
        let mut before: Option<(BatchState, Ledgers, Timestamp)> = None;
        let mut events = Vec::new();
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            let Ok(envelope) = Envelope::decode(&entry.payload) else {
                continue;
            };
            if self.led_to(&envelope) {
                if before.is_none() {
                    let Some(batch) = batches.get(&self.key) else {
                        return Ok(None);
                    };
                    let ledgers = self.ledgers(broker, shard, entry.seq, &envelope.event);
                    before = Some((batch.clone(), ledgers.await?, envelope.at));
                }
                events.push(envelope.event.clone());
            }
            evolve_among(&mut batches, entry.seq, &envelope);
        }
        let (Some((before, ledgers, at)), Some(after)) = (before, batches.remove(&self.key)) else {
            return Ok(None);
        };
        let ledger = ledgers.of(&self.key.namespace);
        let asked = (self.id, &self.command);
        let told = decide::as_then(&before, (ledger, at), asked, &events);
        let Some(after) = settled(after) else {
            return Ok(None);
        };
        Ok(Some(told.map(|told| Accepted {
            seq: self.seq,
            status: after.status,
            documents: after.documents,
            ..told
        })))
    }

    fn led_to(&self, envelope: &Envelope) -> bool {
        let refused = matches!(envelope.event, Event::CommandRefused { .. });
        envelope.cause == Cause::Command(self.id) && !refused
    }

    /// The namespace's ledger before an event, where it has to do with the command.
    async fn ledgers<B: Broker>(
        &self,
        broker: &B,
        shard: Shard,
        seq: u64,
        event: &Event,
    ) -> Result<Ledgers, BrokerError> {
        if !event.is_about_credits() {
            return Ok(Ledgers::default());
        }
        let filter = subject::events_about_credits(shard, &self.key.namespace);
        let until = Until::Seq(seq.saturating_sub(1));
        Ok(fold(broker, Some(filter), until).await?.ledgers)
    }
}

/// A batch with what follows from its state by itself: that stands right after the command.
fn settled(batch: BatchState) -> Option<BatchState> {
    let (key, seq, at) = (batch.key.clone(), batch.last_seq, batch.last_at);
    let mut state = Some(batch);
    for step in 1..=decide::STEPS as u64 {
        let Some(event) = state.as_ref().and_then(decide::settle) else {
            break;
        };
        let envelope = Envelope {
            v: VERSION,
            id: EventId(Uuid::nil()),
            at,
            namespace: key.namespace.clone(),
            batch: key.batch,
            cause: Cause::State,
            actor: None,
            trace: None,
            event,
        };
        evolve(&mut state, seq + step, &envelope);
    }
    state
}
