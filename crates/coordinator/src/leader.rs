//! The leader's loop.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use futures::StreamExt;
use redrive_broker::{
    Broker, BrokerError, Deliveries, Delivery, Message, Range, Request, ServiceSpec,
};
use redrive_domain::{
    command::{Accepted, Command, CommandBody, Refusal, Verb},
    decide::{self, Now},
    event::{Cause, Envelope, Event},
    evolve::evolve,
    ids::{BatchId, BatchKey, ChunkId, CommandId, Namespace},
    subject::{self, CommandAddress, Shard},
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{Chunk, Heartbeat, Outcome, Signal},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    dispatch::{Dispatch, Finding, pool_of},
    metrics,
    round::{Batches, Effect, Origin, Round, Stamp},
    standby::{Config, Stepped},
    world::{Chance, Clock},
};

/// Inputs taken into one round at most.
const ROUND: usize = 512;
/// Bytes of events in one round at most, about.
const ROUND_BYTES: usize = 8 << 20;
/// How often chunks and workers are looked after.
const CARE: Millis = Millis(500);
/// How long a chunk may lie unclaimed before somebody asks whether the broker still has it.
const UNCLAIMED: Millis = Millis::seconds(5);
/// How long a new leader listens for what workers hold: two heartbeats and a little.
const LISTEN: Duration = Duration::from_millis(2_200);
/// Batches that are over and stay in memory for whoever asks again.
const OVER_KEPT: usize = 128;

enum Input {
    Delivery(Delivery),
    Request(Request),
    Heartbeat(Heartbeat),
    Fault(BrokerError),
}

pub(crate) struct Leader<'a, B> {
    broker: B,
    shard: Shard,
    clock: Clock,
    chance: &'a mut Chance,
    worker_timeout: Millis,
    leading: CancellationToken,
    batches: Batches,
    /// Batches that are over and still in memory, the one that was over first in front.
    over: VecDeque<BatchKey>,
    /// Hashes of all batches that have an event: a miss spares a look into the log.
    known: HashSet<u64>,
    traces: BTreeMap<BatchKey, String>,
    dispatch: Dispatch,
    last_seq: u64,
    cared_at: Timestamp,
    asked_at: Timestamp,
}

impl<'a, B: Broker> Leader<'a, B> {
    /// Folds the log.
    pub(crate) async fn load(
        broker: B,
        config: &Config,
        chance: &'a mut Chance,
        leading: CancellationToken,
    ) -> Result<Self, Stepped> {
        let mut leader = Self {
            shard: config.shard,
            clock: config.clock.clone(),
            worker_timeout: config.worker_timeout.into(),
            last_seq: broker.last_seq().await?,
            broker,
            chance,
            leading,
            batches: Batches::new(),
            over: VecDeque::new(),
            known: HashSet::new(),
            traces: BTreeMap::new(),
            dispatch: Dispatch::default(),
            cared_at: Timestamp::default(),
            asked_at: Timestamp::default(),
        };
        if leader.last_seq > 0 {
            let all = subject::events(leader.shard);
            leader.batches = leader.fold(all).await?;
        }
        leader.known = leader.batches.keys().map(hash).collect();
        let over = leader
            .batches
            .iter()
            .filter(|(_, batch)| batch.status.is_over());
        leader.over = over.map(|(key, _)| key.clone()).collect();
        leader.forget_old();
        Ok(leader)
    }

    async fn fold(&self, filter: String) -> Result<Batches, BrokerError> {
        let mut batches = Batches::new();
        let mut entries = self.broker.read(Range {
            from: 1,
            until: Some(self.last_seq),
            filter: Some(filter),
        });
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            match Envelope::decode(&entry.payload) {
                Ok(envelope) => {
                    let key = envelope.key();
                    let mut state = batches.remove(&key);
                    evolve(&mut state, entry.seq, &envelope);
                    if let Some(state) = state {
                        batches.insert(key, state);
                    }
                }
                Err(error) => tracing::error!(seq = entry.seq, %error, "passing over an event"),
            }
        }
        Ok(batches)
    }

    /// Leads until told otherwise, or until something makes it unsure of the log.
    pub(crate) async fn run(&mut self) -> Result<(), Stepped> {
        let (inputs, mut queue) = mpsc::channel(2 * ROUND);
        let feeds = self.open_feeds(inputs).await?;
        let ended = self.rounds(&mut queue).await;
        feeds.iter().for_each(tokio::task::JoinHandle::abort);
        ended
    }

    async fn open_feeds(
        &self,
        inputs: mpsc::Sender<Input>,
    ) -> Result<Vec<tokio::task::JoinHandle<()>>, Stepped> {
        let mut beats = self.broker.listen(subject::heartbeats(self.shard)).await?;
        let inbox = self.broker.inbox().await?;
        let service = ServiceSpec {
            name: "redrive-coordinator".to_owned(),
            description: "Decides on commands: rd.req.<namespace>.<bucket>.<batch>.<verb>"
                .to_owned(),
            subject: subject::REQUESTS.to_owned(),
            queue: "coordinator".to_owned(),
        };
        let mut requests = self.broker.serve(service).await?;
        let feed = inputs.clone();
        let beating = tokio::spawn(async move {
            while let Some(message) = beats.next().await {
                match rmp_serde::from_slice(&message.payload) {
                    Ok(beat) => {
                        if feed.send(Input::Heartbeat(beat)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "cannot read a heartbeat"),
                }
            }
        });
        let feed = inputs.clone();
        let asking = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                if feed.send(Input::Request(request)).await.is_err() {
                    return;
                }
            }
        });
        let reading = tokio::spawn(read_inbox(inbox, inputs));
        Ok(vec![beating, asking, reading])
    }

    async fn rounds(&mut self, queue: &mut mpsc::Receiver<Input>) -> Result<(), Stepped> {
        self.take_over(queue).await?;
        let mut inputs = Vec::with_capacity(ROUND);
        loop {
            let now = self.clock.now();
            let care = self.cared_at.plus(CARE);
            let next = self.dispatch.next_timer().map_or(care, |due| due.min(care));
            inputs.clear();
            tokio::select! {
                () = self.leading.cancelled() => return Ok(()),
                // A timeout is no more than the wish to look at the timers.
                _ = timeout(next.since(now).into(), queue.recv_many(&mut inputs, ROUND)) => {}
            }
            self.round(inputs.drain(..)).await?;
        }
    }

    /// Finds out what workers still hold, so that it is not handed out twice, and takes back the rest.
    async fn take_over(&mut self, queue: &mut mpsc::Receiver<Input>) -> Result<(), Stepped> {
        let now = self.clock.now();
        if !self.broker.offered().await?.is_empty() {
            let listening = tokio::time::sleep(LISTEN);
            tokio::pin!(listening);
            let mut inputs = Vec::new();
            loop {
                tokio::select! {
                    () = self.leading.cancelled() => return Ok(()),
                    () = &mut listening => break,
                    count = queue.recv_many(&mut inputs, ROUND) => if count == 0 { break },
                }
                // Reports are taken as they come; nothing is handed out yet.
                self.decide_and_append(inputs.drain(..)).await?;
            }
            self.broker.withdraw(&subject::chunks(self.shard)).await?;
        }
        for batch in self.batches.values() {
            self.dispatch.touch(batch, now);
        }
        self.settle_all().await
    }

    /// A crash may have come between an event and what follows from it.
    async fn settle_all(&mut self) -> Result<(), Stepped> {
        let running = self
            .batches
            .iter()
            .filter(|(_, batch)| !batch.status.is_over());
        let round = Round {
            touched: running.map(|(key, _)| key.clone()).collect(),
            ..Round::default()
        };
        self.append(round).await
    }

    async fn round(&mut self, inputs: impl Iterator<Item = Input>) -> Result<(), Stepped> {
        self.decide_and_append(inputs).await?;
        self.care().await?;
        self.hand_out().await
    }

    async fn decide_and_append(
        &mut self,
        inputs: impl Iterator<Item = Input>,
    ) -> Result<(), Stepped> {
        let mut round = Round::default();
        let mut bytes = 0;
        let started = tokio::time::Instant::now();
        let mut any = false;
        for input in inputs {
            any = true;
            match input {
                Input::Delivery(delivery) => self.take_delivery(delivery, &mut round).await?,
                Input::Request(request) => self.take_request(request, &mut round).await?,
                Input::Heartbeat(beat) => self.take_heartbeat(&beat).await,
                Input::Fault(error) => return Err(error.into()),
            }
            bytes += round
                .messages
                .last()
                .map_or(0, |message| message.payload.len());
            if bytes > ROUND_BYTES {
                bytes = 0;
                self.append(std::mem::take(&mut round)).await?;
            }
        }
        self.append(round).await?;
        if any {
            ::metrics::histogram!(metrics::ROUND).record(started.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Appends a round and then does what had to wait for it.
    async fn append(&mut self, mut round: Round) -> Result<(), Stepped> {
        let mut stamp = Stamp {
            shard: self.shard,
            now: self.clock.now(),
            chance: self.chance,
            last_seq: self.last_seq,
        };
        round.settle(&mut self.batches, &mut stamp);
        if !round.messages.is_empty() {
            let messages = std::mem::take(&mut round.messages);
            ::metrics::counter!(metrics::EVENTS).increment(messages.len() as u64);
            self.last_seq = self.broker.append(messages, self.last_seq).await?;
        }
        let touched = std::mem::take(&mut round.touched);
        round.finish(&self.batches).await;
        let now = self.clock.now();
        for key in touched {
            self.known.insert(hash(&key));
            let Some(batch) = self.batches.get(&key) else {
                continue;
            };
            if batch.status.is_over() {
                self.retire(&key).await;
            } else {
                self.dispatch.touch(batch, now);
            }
        }
        self.forget_old();
        Ok(())
    }

    /// A batch that is over is not handed out any more; what is still out is taken back and stopped.
    async fn retire(&mut self, key: &BatchKey) {
        if !self.over.contains(key) {
            self.over.push_back(key.clone());
        }
        if self.dispatch.drop_batch(key) {
            let filter = subject::chunks_of_batch(self.shard, key);
            if let Err(error) = self.broker.withdraw(&filter).await {
                tracing::warn!(%error, batch = %key, "cannot take chunks back");
            }
            self.signal(&Signal::StopBatch(key.clone())).await;
        }
    }

    fn forget_old(&mut self) {
        while self.over.len() > OVER_KEPT {
            let Some(key) = self.over.pop_front() else {
                return;
            };
            if self
                .batches
                .get(&key)
                .is_some_and(|batch| batch.status.is_over())
            {
                self.batches.remove(&key);
                self.traces.remove(&key);
            }
        }
    }

    /// Brings a batch back that has left memory.
    async fn recall(&mut self, key: &BatchKey) -> Result<(), BrokerError> {
        if self.batches.contains_key(key) || !self.known.contains(&hash(key)) {
            return Ok(());
        }
        let filter = subject::events_of_batch(self.shard, key);
        let found = self.fold(filter).await?;
        self.over.extend(found.keys().cloned());
        self.batches.extend(found);
        Ok(())
    }

    async fn take_delivery(
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
            // What is delivered again is the same command, whether its sender gave it an id or not.
            let id = CommandId(Uuid::from_u128(delivery.id));
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

    async fn take_request(
        &mut self,
        request: Request,
        round: &mut Round,
    ) -> Result<(), BrokerError> {
        ::metrics::counter!(metrics::INPUTS, "kind" => "request").increment(1);
        let id = CommandId(self.chance.id(self.clock.now()));
        let (_, batch, _, decided) = self
            .take_command(&request.subject, &request.payload, request.trace, id, round)
            .await?;
        round.effects.push(Effect::Answer {
            reply: request.reply,
            batch,
            decided,
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
            Result<Accepted, Refusal>,
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
                return Ok((None, address_unknown(subject), origin, Err(refusal)));
            }
        };
        let key = BatchKey {
            namespace: address.namespace.clone(),
            batch: address.batch,
        };
        let read = read_body(address.verb, payload);
        let decided = match read {
            Ok((body, command)) => {
                let id = body.id.unwrap_or(id);
                origin.cause = Cause::Command(id);
                origin.actor = body.actor.map(|actor| printable(&actor));
                self.recall(&key).await?;
                let batch = self.batches.get(&key);
                decide::command(batch, &key, &address.bucket, id, &command)
            }
            Err(refusal) => Err(refusal),
        };
        let decided = decided.map(|decision| {
            let mut accepted = decision.accepted;
            for event in decision.events {
                if let Some(seq) = self.emit(round, &key, &origin, event) {
                    accepted.seq = seq;
                }
            }
            if let Some(trace) = &origin.trace {
                self.traces.insert(key.clone(), trace.clone());
            }
            accepted
        });
        if let Err(refusal) = &decided {
            ::metrics::counter!(metrics::REFUSED, "code" => code_of(refusal)).increment(1);
        }
        Ok((Some(address), key, origin, decided))
    }

    fn emit(
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
        };
        round.emit(&mut self.batches, &mut stamp, key, origin, event)
    }

    async fn take_outcome(
        &mut self,
        outcome: &Outcome,
        trace: Option<String>,
        round: &mut Round,
    ) -> Result<(), BrokerError> {
        let key = outcome.key();
        self.recall(&key).await?;
        let now = Now {
            at: self.clock.now(),
            random: self.chance.number(),
        };
        let decision = decide::outcome(self.batches.get(&key), outcome, now);
        if decision.superseded > 0 {
            ::metrics::counter!(metrics::SUPERSEDED).increment(decision.superseded);
        }
        let origin = Origin {
            cause: Cause::Chunk(outcome.chunk),
            actor: None,
            trace,
        };
        for event in decision.events {
            self.emit(round, &key, &origin, event);
        }
        if self
            .batches
            .get(&key)
            .is_some_and(|batch| !batch.status.is_over())
        {
            self.dispatch.reported(outcome);
        }
        Ok(())
    }

    async fn take_heartbeat(&mut self, beat: &Heartbeat) {
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
        for Finding::Stale(chunk) in findings {
            self.signal(&Signal::StopChunk(chunk)).await;
        }
    }

    async fn signal(&self, signal: &Signal) {
        let Ok(payload) = rmp_serde::to_vec_named(signal) else {
            return;
        };
        let message = Message {
            subject: subject::signals(self.shard),
            payload: payload.into(),
            trace: None,
        };
        if let Err(error) = self.broker.signal(message).await {
            tracing::debug!(%error, "a signal got lost; the next heartbeat leads to another");
        }
    }

    /// Looks after chunks and workers, now and then.
    async fn care(&mut self) -> Result<(), Stepped> {
        let now = self.clock.now();
        if now.since(self.cared_at) < CARE {
            return Ok(());
        }
        self.cared_at = now;
        let mut round = Round::default();
        for (key, lost) in self.dispatch.lost(now, self.worker_timeout) {
            ::metrics::counter!(metrics::LOST).increment(1);
            tracing::warn!(batch = %key, chunk = %lost.chunk, worker = ?lost.worker, units = lost.units.len(), "a worker is lost");
            self.withdraw_chunk(&key, lost.chunk).await;
            let event = self
                .batches
                .get(&key)
                .and_then(|batch| decide::lost(batch, &lost));
            if let Some(event) = event {
                let origin = Origin {
                    cause: Cause::Chunk(lost.chunk),
                    actor: None,
                    trace: None,
                };
                self.emit(&mut round, &key, &origin, event);
            }
        }
        self.append(round).await?;
        self.look_for_unclaimed(now).await?;
        #[allow(clippy::cast_precision_loss)]
        {
            ::metrics::gauge!(metrics::CHUNKS_OUT).set(self.dispatch.chunks_out() as f64);
            ::metrics::gauge!(metrics::WORKERS).set(self.dispatch.live_workers() as f64);
            ::metrics::gauge!(metrics::BATCHES).set(self.batches.len() as f64);
        }
        Ok(())
    }

    async fn withdraw_chunk(&self, key: &BatchKey, chunk: ChunkId) {
        let filter = subject::chunk_of_any_pool(self.shard, key, chunk);
        if let Err(error) = self.broker.withdraw(&filter).await {
            tracing::debug!(%error, %chunk, "cannot take a chunk back; what comes of it is refused");
        }
    }

    /// A chunk that nobody names may be waiting for a worker, or be gone with a deleted stream.
    async fn look_for_unclaimed(&mut self, now: Timestamp) -> Result<(), Stepped> {
        if now.since(self.asked_at) < UNCLAIMED {
            return Ok(());
        }
        let unclaimed = self.dispatch.unclaimed(now, UNCLAIMED);
        if unclaimed.is_empty() {
            return Ok(());
        }
        self.asked_at = now;
        let offered = match self.broker.offered().await {
            Ok(offered) => offered,
            Err(BrokerError::Missing(_)) => {
                self.broker.ensure().await?;
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        };
        let offered: HashSet<&str> = offered
            .iter()
            .filter_map(|subject| subject.rsplit('.').next())
            .collect();
        for chunk in unclaimed {
            if !offered.contains(chunk.to_string().as_str()) {
                self.dispatch.give_up(chunk);
            }
        }
        Ok(())
    }

    async fn hand_out(&mut self) -> Result<(), Stepped> {
        let now = self.clock.now();
        let chance = &mut *self.chance;
        let chunks = self
            .dispatch
            .hand_out(&self.batches, now, || ChunkId(chance.id(now)));
        if chunks.is_empty() {
            return Ok(());
        }
        ::metrics::counter!(metrics::CHUNKS).increment(chunks.len() as u64);
        let messages = chunks
            .iter()
            .filter_map(|chunk| self.message_of(chunk))
            .collect::<Vec<_>>();
        if let Err(BrokerError::Missing(what)) = self.broker.offer(messages.clone()).await {
            tracing::warn!(what, "making it again");
            self.broker.ensure().await?;
            self.broker.offer(messages).await?;
        }
        Ok(())
    }

    fn message_of(&self, chunk: &Chunk) -> Option<Message> {
        let key = chunk.key();
        let trace = self.traces.get(&key).cloned();
        let class = &self.batches.get(&key)?.job(chunk.tier, &chunk.job)?.0.class;
        let payload = rmp_serde::to_vec_named(&Chunk {
            trace: trace.clone(),
            ..chunk.clone()
        });
        Some(Message {
            subject: subject::chunk(self.shard, &chunk.handler, class, &key, chunk.id),
            payload: payload.ok()?.into(),
            trace,
        })
    }
}

async fn read_inbox(mut inbox: Box<dyn Deliveries>, inputs: mpsc::Sender<Input>) {
    loop {
        match inbox.next(ROUND / 2, Duration::from_secs(1)).await {
            Ok(deliveries) => {
                for delivery in deliveries {
                    if inputs.send(Input::Delivery(delivery)).await.is_err() {
                        return;
                    }
                }
            }
            Err(BrokerError::Timeout(_) | BrokerError::Unreachable(_)) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => {
                // The leader steps down and comes back with everything in place.
                let _ = inputs.send(Input::Fault(error)).await;
                return;
            }
        }
    }
}

fn read_body(verb: Verb, payload: &[u8]) -> Result<(CommandBody, Command), Refusal> {
    let payload = if payload.is_empty() { b"{}" } else { payload };
    let mut body: CommandBody =
        serde_json::from_slice(payload).map_err(|e| Refusal::invalid("body", e.to_string()))?;
    let fields = std::mem::take(&mut body.fields);
    Ok((body, Command::read(verb, fields)?))
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
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

fn code_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Invalid { .. } => "invalid",
        Refusal::NotFound { .. } => "not_found",
        Refusal::Conflict { .. } => "conflict",
        Refusal::NotAllowed { .. } => "not_allowed",
    }
}

fn hash(key: &BatchKey) -> u64 {
    // Fixed keys: the same in every run of a simulation.
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}
