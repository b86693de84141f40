//! One round of the leader: what came in is decided, what was decided is appended in one go, and only then does anybody
//! hear of it. A round that cannot be appended leaves no trace but a leader that has to fold the log afresh.

use std::collections::BTreeSet;

use bytes::Bytes;
use redrive_broker::{Message, Receipt, Reply};
use redrive_domain::{
    command::{Accepted, Answer, Refusal},
    credits::Ledgers,
    decide,
    event::{Cause, Envelope, Event, VERSION},
    evolve::{Batches, evolve_among},
    ids::{BatchKey, EventId},
    keys::Keyrings,
    subject::{self, Shard},
    time::Timestamp,
};

use crate::{repeat::Repeat, world::Chance};

/// Who asked, and what for.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) cause: Cause,
    pub(crate) actor: Option<String>,
    pub(crate) trace: Option<String>,
}

impl Origin {
    pub(crate) fn state() -> Self {
        Self {
            cause: Cause::State,
            actor: None,
            trace: None,
        }
    }
}

/// What an event's headers take at most, in bytes: they count as part of the message.
const HEADERS: usize = 1_024;

/// Something that is done once the round stands in the log.
pub(crate) enum Effect {
    /// A delivery is dealt with.
    Ack(Box<dyn Receipt>),
    /// A request is answered.
    Answer {
        reply: Box<dyn Reply>,
        decided: Box<Result<Accepted, Refusal>>,
    },
}

#[derive(Default)]
pub(crate) struct Round {
    pub(crate) messages: Vec<Message>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) touched: BTreeSet<BatchKey>,
    /// Requests that were carried out before: the log tells what they are answered.
    pub(crate) repeats: Vec<(Box<dyn Reply>, Repeat)>,
    /// Batches of which jobs are not any more what chunks of them were handed out for.
    pub(crate) reshaped: BTreeSet<BatchKey>,
}

/// What an event needs beside its content.
pub(crate) struct Stamp<'a> {
    pub(crate) shard: Shard,
    pub(crate) now: Timestamp,
    pub(crate) chance: &'a mut Chance,
    /// The sequence of the last event that stands in the log.
    pub(crate) last_seq: u64,
    /// The largest message that the broker takes, in bytes.
    pub(crate) max_payload: usize,
    pub(crate) ledgers: &'a mut Ledgers,
    pub(crate) keys: &'a mut Keyrings,
}

impl Round {
    /// Takes an event into the round and folds it. Returns the sequence that it will have.
    pub(crate) fn emit(
        &mut self,
        batches: &mut Batches,
        stamp: &mut Stamp<'_>,
        key: &BatchKey,
        origin: &Origin,
        event: Event,
    ) -> Option<u64> {
        let envelope = Envelope {
            v: VERSION,
            id: EventId(stamp.chance.id(stamp.now)),
            at: stamp.now,
            namespace: key.namespace.clone(),
            batch: key.batch,
            cause: origin.cause,
            actor: origin.actor.clone(),
            trace: origin.trace.clone(),
            event,
        };
        let payload = match envelope.encode() {
            Ok(payload) => payload,
            Err(error) => {
                tracing::error!(%error, batch = %key, "an event has no encoding; it is dropped");
                return None;
            }
        };
        // The broker would refuse it, and with it all that comes after: one message would stop everything, again and again.
        if payload.len() + HEADERS > stamp.max_payload {
            let size = payload.len();
            tracing::error!(size, limit = stamp.max_payload, batch = %key, "an event is too large for the broker; it is dropped");
            return None;
        }
        let seq = stamp.last_seq + self.messages.len() as u64 + 1;
        self.messages.push(Message {
            subject: subject::event(stamp.shard, key, &envelope.event.subject_type()),
            payload: payload.into(),
            trace: envelope.trace.clone(),
        });
        evolve_among(batches, seq, &envelope);
        stamp.ledgers.take(seq, &envelope);
        stamp.keys.take(seq, &envelope);
        self.touched.insert(key.clone());
        if matches!(
            envelope.event,
            Event::TierResubmitted { .. }
                | Event::TierCancelled { .. }
                | Event::JobCancelled { .. }
        ) {
            self.reshaped.insert(key.clone());
        }
        Some(seq)
    }

    /// Takes in what follows from the state of the touched batches.
    pub(crate) fn settle(&mut self, batches: &mut Batches, stamp: &mut Stamp<'_>) {
        for key in self.touched.clone() {
            self.settle_one(batches, stamp, &key);
        }
    }

    /// The same of one batch.
    pub(crate) fn settle_one(
        &mut self,
        batches: &mut Batches,
        stamp: &mut Stamp<'_>,
        key: &BatchKey,
    ) {
        for _ in 0..=decide::STEPS {
            let Some(event) = batches.get(key).and_then(decide::settle) else {
                return;
            };
            self.emit(batches, stamp, key, &Origin::state(), event);
        }
    }

    /// Does what had to wait until the round stood in the log.
    pub(crate) async fn finish(self) {
        for effect in self.effects {
            let done = match effect {
                Effect::Ack(receipt) => receipt.ack().await,
                Effect::Answer { reply, decided } => {
                    let (body, error) = answer(*decided);
                    reply.send(body, error).await
                }
            };
            if let Err(error) = done {
                tracing::debug!(%error, "an answer or acknowledgement got lost; it will be asked again");
            }
        }
    }
}

/// The answer to a request, and what of it goes into the headers.
pub(crate) fn answer(decided: Result<Accepted, Refusal>) -> (Bytes, Option<(u16, String)>) {
    let (answer, error) = match decided {
        Ok(accepted) => (Answer::Ok(accepted), None),
        Err(refusal) => {
            let message = refusal.to_string();
            let code = match refusal {
                Refusal::Invalid { .. } => 400,
                Refusal::NotAllowed { .. } | Refusal::Credits(_) => 403,
                Refusal::NotFound { .. } => 404,
                Refusal::Conflict { .. } | Refusal::Stale(_) | Refusal::KeyReused => 409,
                Refusal::Unavailable { .. } => 503,
            };
            let line = message.lines().next().unwrap_or_default().to_owned();
            (Answer::Error { refusal, message }, Some((code, line)))
        }
    };
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    (body.into(), error)
}
