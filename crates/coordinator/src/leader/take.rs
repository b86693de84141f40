//! Taking inputs: each is decided on, and what was decided goes into the round.

use redrive_broker::{Broker, BrokerError, Delivery, Request, Until, fold};
use redrive_domain::{
    command::{Accepted, Command, Refusal, Retry, Stale, Verb},
    decide::{self, Now},
    event::{Cause, Event},
    ids::{BatchId, BatchKey, CommandId, Namespace},
    state::BatchState,
    subject::{self, CommandAddress},
    text::is_harmful,
    units::UnitSet,
    work::{Heartbeat, Outcome, Signal},
};
use uuid::Uuid;

use super::{Leader, heal::origin_of};
use crate::{
    dispatch::{Finding, pool_of},
    metrics,
    repeat::Repeat,
    round::{Effect, Origin, Round, Stamp},
};

/// A command that is carried out.
enum Decided {
    /// Now, or before where the state still tells what it was answered.
    Now(Box<Accepted>),
    /// Before: the log tells.
    Before(Box<Repeat>),
}

impl<B: Broker> Leader<'_, B> {
    pub(super) async fn take_delivery(
        &mut self,
        delivery: Delivery,
        round: &mut Round,
    ) -> Result<(), BrokerError> {
        if delivery.subject.starts_with("rd.out.") {
            ::metrics::counter!(metrics::INPUTS, "kind" => "outcome").increment(1);
            match rmp_serde::from_slice::<Outcome>(&delivery.payload) {
                Ok(outcome) => self.take_outcome(&outcome, delivery.trace, round).await?,
                Err(error) => {
                    tracing::error!(subject = delivery.subject, %error, "cannot read an outcome; it is dropped");
                }
            }
        } else {
            ::metrics::counter!(metrics::INPUTS, "kind" => "command").increment(1);
            // What is delivered again is the same command, whether its sender gave it an id or not. A UUIDv8 (RFC 9562) is
            // none that a sender makes.
            let id =
                CommandId(uuid::Builder::from_custom_bytes(delivery.id.to_be_bytes()).into_uuid());
            let subject = delivery.subject.clone();
            let (address, key, asked, decided) = self
                .take_command(
                    &delivery.subject,
                    &delivery.payload,
                    delivery.trace,
                    id,
                    round,
                )
                .await?;
            if let Err(refusal) = decided {
                tracing::info!(subject, %refusal, "a command was refused");
                let event = Event::CommandRefused {
                    verb: address.map(|address| address.verb),
                    message: refusal.to_string(),
                    refusal,
                };
                self.emit(round, &key, &asked, event);
            }
        }
        round.effects.push(Effect::Ack(delivery.receipt));
        Ok(())
    }

    pub(super) async fn take_request(
        &mut self,
        request: Request,
        round: &mut Round,
    ) -> Result<(), BrokerError> {
        ::metrics::counter!(metrics::INPUTS, "kind" => "request").increment(1);
        let id = CommandId(self.chance.id(self.clock.now()));
        let (_, _, _, decided) = self
            .take_command(&request.subject, &request.payload, request.trace, id, round)
            .await?;
        let reply = request.reply;
        let decided = match decided {
            Ok(Decided::Before(repeat)) => {
                round.repeats.push((reply, *repeat));
                return Ok(());
            }
            Ok(Decided::Now(accepted)) => Ok(*accepted),
            Err(refusal) => Err(refusal),
        };
        round.effects.push(Effect::Answer {
            reply,
            decided: Box::new(decided),
        });
        Ok(())
    }

    async fn take_command(
        &mut self,
        subject: &str,
        payload: &[u8],
        trace: Option<String>,
        id: CommandId,
        round: &mut Round,
    ) -> Result<
        (
            Option<CommandAddress>,
            BatchKey,
            Origin,
            Result<Decided, Refusal>,
        ),
        BrokerError,
    > {
        let mut origin = Origin {
            cause: Cause::Command(id),
            actor: None,
            trace,
        };
        let address = match CommandAddress::parse(subject) {
            Ok(address) => address,
            Err(error) => {
                let refusal = Refusal::invalid("subject", error.to_string());
                return Ok((
                    None,
                    address_unknown(subject),
                    origin,
                    Err(refusal.bounded()),
                ));
            }
        };
        let key = BatchKey {
            namespace: address.namespace.clone(),
            batch: address.batch,
        };
        let decided = match Command::read_body(address.verb, payload) {
            Ok(read) => {
                let id = read.id.unwrap_or(id);
                origin.cause = Cause::Command(id);
                origin.actor = read.actor.map(|actor| printable(&actor));
                self.recall(&key).await?;
                let mut command = read.command;
                self.show(&key, &mut command);
                let batch = self.batches.get(&key);
                let tenant = decide::Tenant {
                    ledger: self.ledgers.of(&key.namespace),
                    keys: self.keys.of(&key.namespace),
                };
                let now = self.clock.now();
                let before = batch.and_then(|batch| Some((batch, batch.remembered(id)?)));
                let decided =
                    decide::command_within(tenant, now, batch, &key, &address.bucket, id, &command);
                match (decided, before) {
                    (Err(Refusal::Stale(stale)), _) => Err(Refusal::Stale(
                        self.difference(&key, stale, &command).await?,
                    )),
                    (Err(refusal), _) => Err(refusal),
                    (Ok(_), Some((batch, seq))) => Ok(Err(
                        match decide::again_at(batch, tenant.ledger, seq, &command) {
                            Some(accepted) => Decided::Now(Box::new(accepted)),
                            None => Decided::Before(Box::new(Repeat {
                                key: key.clone(),
                                id,
                                seq,
                                command,
                            })),
                        },
                    )),
                    (Ok(decision), None) => {
                        if command.verb() == Verb::Heal {
                            self.carry_out(&key, &decision.events).await;
                        }
                        Ok(Ok(decision))
                    }
                }
            }
            Err(refusal) => Err(refusal),
        };
        let decided = decided.and_then(|decision| {
            let decision = match decision {
                Ok(decision) => decision,
                Err(before) => return Ok(before),
            };
            let mut accepted = decision.accepted;
            let does_something = !decision.events.is_empty();
            for event in decision.events {
                // What cannot stand in the log has not been accepted.
                let origin = origin_of(&origin, &event);
                accepted.seq = self.emit(round, &key, &origin, event).ok_or_else(|| {
                    let limit = self.broker.info().max_payload;
                    let message = format!("makes an event of more than the {limit} bytes that the broker takes: send less at once");
                    Refusal::invalid("", message)
                })?;
            }
            if let Some(trace) = &origin.trace {
                self.traces.insert(key.clone(), trace.clone());
            }
            // Told as it is right after the decision, not after what else this round brings: asked again, it is told the same.
            if does_something && let Some(batch) = self.settle_at_once(round, &key) {
                accepted.status = batch.status;
                accepted.documents = batch.documents;
            }
            Ok(Decided::Now(Box::new(accepted)))
        });
        let decided = decided.map_err(Refusal::bounded);
        if let Err(refusal) = &decided {
            ::metrics::counter!(metrics::REFUSED, "code" => code_of(refusal)).increment(1);
        }
        Ok((Some(address), key, origin, decided))
    }

    /// How a plan differs from what it would come to now: the log has what it came to then.
    async fn difference(
        &self,
        key: &BatchKey,
        stale: Stale,
        command: &Command,
    ) -> Result<Stale, BrokerError> {
        let (
            Command::Retry(Retry {
                plan: Some(plan), ..
            }),
            Some(now),
        ) = (command, self.batches.get(key))
        else {
            return Ok(stale);
        };
        // What this round decided does not stand in the log yet.
        let until = Until::Seq(plan.seq.min(self.last_seq));
        let filter = subject::events_of_batch(self.shard, key);
        let then = fold(&self.broker, Some(filter), until).await?.batches;
        Ok(match then.get(key) {
            Some(then) => decide::difference(then, now, plan),
            None => stale,
        })
    }

    pub(super) fn emit(
        &mut self,
        round: &mut Round,
        key: &BatchKey,
        origin: &Origin,
        event: Event,
    ) -> Option<u64> {
        let mut stamp = Stamp {
            shard: self.shard,
            now: self.clock.now(),
            chance: self.chance,
            last_seq: self.last_seq,
            max_payload: self.broker.info().max_payload,
            ledgers: &mut self.ledgers,
            keys: &mut self.keys,
        };
        round.emit(&mut self.batches, &mut stamp, key, origin, event)
    }

    /// What follows from a decision by itself.
    fn settle_at_once(&mut self, round: &mut Round, key: &BatchKey) -> Option<&BatchState> {
        let mut stamp = Stamp {
            shard: self.shard,
            now: self.clock.now(),
            chance: self.chance,
            last_seq: self.last_seq,
            max_payload: self.broker.info().max_payload,
            ledgers: &mut self.ledgers,
            keys: &mut self.keys,
        };
        round.settle_one(&mut self.batches, &mut stamp, key);
        self.batches.get(key)
    }

    async fn take_outcome(
        &mut self,
        outcome: &Outcome,
        trace: Option<String>,
        round: &mut Round,
    ) -> Result<(), BrokerError> {
        if self.dispatch.refuses(outcome) {
            ::metrics::counter!(metrics::SUPERSEDED).increment(outcome.units().len());
            return Ok(());
        }
        let key = outcome.key();
        self.recall(&key).await?;
        let now = Now {
            at: self.clock.now(),
            random: self.chance.number(),
        };
        let origin = Origin {
            cause: Cause::Chunk(outcome.chunk),
            actor: None,
            trace,
        };
        self.watch_outages(outcome, &origin, now.at, round);
        let decision = decide::outcome(self.batches.get(&key), outcome, now);
        if decision.superseded > 0 {
            ::metrics::counter!(metrics::SUPERSEDED).increment(decision.superseded);
        }
        for event in decision.events {
            self.emit(round, &key, &origin, event);
        }
        if self
            .batches
            .get(&key)
            .is_some_and(|batch| !batch.status.is_over())
        {
            self.dispatch.reported(outcome, now.at);
        }
        Ok(())
    }

    pub(super) async fn take_heartbeat(&mut self, beat: &Heartbeat) {
        ::metrics::counter!(metrics::INPUTS, "kind" => "heartbeat").increment(1);
        let now = self.clock.now();
        let batches = &self.batches;
        let findings = self.dispatch.heard(beat, now, |flight| {
            let key = BatchKey {
                namespace: flight.namespace.clone(),
                batch: flight.batch,
            };
            let (spec, job) = batches.get(&key)?.job(flight.tier, &flight.job)?;
            let wanted: UnitSet = job.outstanding(&flight.units, flight.attempt);
            (!wanted.is_empty()).then(|| (pool_of(spec), wanted))
        });
        for finding in findings {
            let signal = match finding {
                Finding::Stale(chunk) => Signal::StopChunk(chunk),
                Finding::Rival(worker, chunk) => Signal::StopExecution { worker, chunk },
            };
            self.signal(&signal).await;
        }
    }
}

/// Where the refusal of a command without a readable address is noted: under the nil batch of its namespace, or of the
/// namespace `_` where that cannot be read either.
fn address_unknown(subject: &str) -> BatchKey {
    let token = subject.split('.').nth(2).unwrap_or_default();
    let namespace = Namespace::new(token).or_else(|_| Namespace::new("_"));
    #[allow(clippy::expect_used)]
    BatchKey {
        namespace: namespace.expect("an underscore is a name"),
        batch: BatchId(Uuid::nil()),
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !is_harmful(*c)).take(128).collect()
}

fn code_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Invalid { .. } => "invalid",
        Refusal::NotFound { .. } => "not_found",
        Refusal::Conflict { .. } => "conflict",
        Refusal::Stale(_) => "stale",
        Refusal::NotAllowed { .. } => "not_allowed",
        Refusal::Credits(_) => "credits_exhausted",
        Refusal::Unavailable { .. } => "unavailable",
        Refusal::KeyReused => "key_reused",
    }
}
