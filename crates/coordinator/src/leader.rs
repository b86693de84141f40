//! The leader's loop.

mod breaker;
mod care;
mod heal;
mod load;
mod reshape;
mod snapshot;
mod take;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    hash::Hasher,
    time::Duration,
};

use futures::StreamExt;
use redrive_broker::{
    Broker, BrokerError, Deliveries, Delivery, Request, ServiceSpec, Until, fold, mark,
};
use redrive_domain::{
    credits::Ledgers,
    evolve::Batches,
    ids::BatchKey,
    keys::Keyrings,
    presence::CoordinatorStanding,
    subject::{self, Shard},
    time::{Millis, Timestamp},
    work::Heartbeat,
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{load::Loaded, snapshot::Snapshots};
use crate::{
    dispatch::{Dispatch, JobKey},
    metrics,
    repeat::Repeats,
    round::{Round, Stamp},
    standby::{Config, SnapshotsKept, Stepped},
    world::{Chance, Clock},
};

/// Inputs taken into one round at most.
const ROUND: usize = 512;
/// Bytes of events in one round at most, about.
const ROUND_BYTES: usize = 8 << 20;
/// How often chunks and workers are looked after.
const CARE: Millis = Millis(500);
/// How long a new leader listens for what workers hold: two heartbeats and a little.
const LISTEN: Duration = Duration::from_millis(2_200);

/// How long the inbox has to be silent for a new leader to have caught up with it.
const CATCH_UP: Duration = Duration::from_millis(50);

/// How long a new leader waits for that at most.
const CATCH_UP_MOST: Millis = Millis::seconds(5);

enum Input {
    Delivery(Delivery),
    Request(Request),
    Heartbeat(Heartbeat),
    /// All that lay in the inbox when the leading began has been passed on.
    CaughtUp,
    Fault(BrokerError),
}

pub(crate) struct Leader<'a, B> {
    broker: B,
    shard: Shard,
    clock: Clock,
    chance: &'a mut Chance,
    worker_timeout: Millis,
    leading: CancellationToken,
    standing: watch::Sender<CoordinatorStanding>,
    batches: Batches,
    /// What each namespace may spend; it stays when batches leave memory.
    ledgers: Ledgers,
    /// The keys of each namespace to the HTTP interface.
    keys: Keyrings,
    /// Batches that are over and still in memory, the one that was over first in front.
    over: VecDeque<BatchKey>,
    over_kept: usize,
    /// Hashes of all batches that have an event: a miss spares a look into the log.
    known: HashSet<u64>,
    traces: BTreeMap<BatchKey, String>,
    dispatch: Dispatch,
    /// Whether outcomes that were waiting have been taken: before that, what is done would be handed out again.
    caught_up: bool,
    /// However busy the inbox is, it does not keep work waiting for longer.
    catch_up_until: Timestamp,
    last_seq: u64,
    /// The hash of the last event.
    mark: u64,
    often: SnapshotsKept,
    snapshots: Snapshots,
    /// Offers in a row that the broker refused.
    offers_refused: u32,
    /// Jobs whose breaker opened in this round.
    opened: Vec<JobKey>,
    cared_at: Timestamp,
    asked_at: Timestamp,
    /// How often it puts right what is surely stuck or executed twice; never, where it is 0.
    heal_every: Millis,
    healed_at: Timestamp,
    served_at: Timestamp,
    repeats: Repeats,
}

impl<'a, B: Broker> Leader<'a, B> {
    /// Folds the log.
    pub(crate) async fn load(
        broker: B,
        config: &Config,
        chance: &'a mut Chance,
        leading: CancellationToken,
    ) -> Result<Self, Stepped> {
        let mut loaded = Loaded::from(&broker, config.shard, config.over_kept).await?;
        let stale = loaded.take_stale();
        let mut leader = Self {
            shard: config.shard,
            clock: config.clock.clone(),
            worker_timeout: config.worker_timeout.into(),
            broker,
            chance,
            leading,
            standing: config.standing.clone(),
            batches: loaded.batches,
            ledgers: loaded.ledgers,
            keys: loaded.keys,
            over: loaded.over,
            over_kept: config.over_kept,
            known: loaded.known,
            traces: BTreeMap::new(),
            dispatch: Dispatch::default(),
            caught_up: false,
            catch_up_until: config.clock.now().plus(CATCH_UP_MOST),
            last_seq: loaded.last_seq,
            mark: loaded.mark,
            often: config.snapshots.clone(),
            snapshots: loaded.snapshots,
            offers_refused: 0,
            opened: Vec::new(),
            cared_at: Timestamp::default(),
            asked_at: Timestamp::default(),
            heal_every: config.heal_every.into(),
            healed_at: config.clock.now(),
            served_at: Timestamp::default(),
            repeats: Repeats::default(),
        };
        for key in stale {
            leader.recall(&key).await?;
            leader.forget_old();
        }
        Ok(leader)
    }

    /// What the log says up to the last event that this leader knows of.
    async fn fold(&self, filter: String) -> Result<Batches, BrokerError> {
        let until = Until::Seq(self.last_seq);
        Ok(fold(&self.broker, Some(filter), until).await?.batches)
    }

    /// Leads until told otherwise, or until something makes it unsure of the log.
    pub(crate) async fn run(&mut self) -> Result<(), Stepped> {
        let (inputs, mut queue) = mpsc::channel(2 * ROUND);
        let _feeds = self.open_feeds(inputs).await?;
        self.rounds(&mut queue).await
    }

    async fn open_feeds(
        &self,
        inputs: mpsc::Sender<Input>,
    ) -> Result<[AbortOnDropHandle<()>; 3], Stepped> {
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
        Ok([beating, asking, reading].map(AbortOnDropHandle::new))
    }

    async fn rounds(&mut self, queue: &mut mpsc::Receiver<Input>) -> Result<(), Stepped> {
        self.take_over(queue).await?;
        let mut inputs = Vec::with_capacity(ROUND);
        loop {
            self.standing.send_replace(CoordinatorStanding::Leading);
            let now = self.clock.now();
            let care = self.cared_at.plus(CARE);
            // What is due before anything may be handed out is no reason to look: nothing would come of it, at once.
            let due = self.dispatch.next_timer();
            let due = due.filter(|_| self.hands_out(now));
            let next = due.map_or(care, |due| due.min(care));
            inputs.clear();
            tokio::select! {
                biased;
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
            // First, so that what workers say they hold is all that they will ever hold.
            self.broker.withdraw(&subject::chunks(self.shard)).await?;
            let listening = tokio::time::sleep(LISTEN);
            tokio::pin!(listening);
            let mut inputs = Vec::new();
            loop {
                tokio::select! {
                    biased;
                    () = self.leading.cancelled() => return Ok(()),
                    () = &mut listening => break,
                    count = queue.recv_many(&mut inputs, ROUND) => if count == 0 { break },
                }
                // Reports are taken as they come; nothing is handed out yet.
                self.decide_and_append(inputs.drain(..)).await?;
            }
        }
        for batch in self.batches.values() {
            self.dispatch.touch(batch, now);
        }
        self.settle_all().await
    }

    /// A crash may have come between an event and what follows from it.
    async fn settle_all(&mut self) -> Result<(), Stepped> {
        let running = self.batches.iter().filter(|(_, batch)| !batch.is_closed());
        let round = Round {
            touched: running.map(|(key, _)| key.clone()).collect(),
            ..Round::default()
        };
        self.append(round).await
    }

    async fn round(&mut self, inputs: impl Iterator<Item = Input>) -> Result<(), Stepped> {
        self.decide_and_append(inputs).await?;
        self.care().await?;
        if self.hands_out(self.clock.now()) {
            self.hand_out().await?;
        }
        Ok(())
    }

    fn hands_out(&self, now: Timestamp) -> bool {
        self.caught_up || now > self.catch_up_until
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
                Input::CaughtUp => self.caught_up = true,
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
            max_payload: self.broker.info().max_payload,
            ledgers: &mut self.ledgers,
            keys: &mut self.keys,
        };
        round.settle(&mut self.batches, &mut stamp);
        if !round.messages.is_empty() {
            let messages = std::mem::take(&mut round.messages);
            let last = messages
                .last()
                .map(|message| mark(&message.subject, &message.payload));
            ::metrics::counter!(metrics::EVENTS).increment(messages.len() as u64);
            self.last_seq = self.broker.append(messages, self.last_seq).await?;
            self.mark = last.unwrap_or(self.mark);
        }
        let touched = std::mem::take(&mut round.touched);
        let reshaped = std::mem::take(&mut round.reshaped);
        let repeats = std::mem::take(&mut round.repeats);
        round.finish().await;
        self.repeats.answer(&self.broker, self.shard, repeats).await;
        let now = self.clock.now();
        for key in reshaped {
            self.reshape(&key, now).await;
        }
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
        self.take_back_from_opened(now).await;
        Ok(())
    }
}

async fn read_inbox(mut inbox: Box<dyn Deliveries>, inputs: mpsc::Sender<Input>) {
    let mut wait = CATCH_UP;
    loop {
        match inbox.next(ROUND / 2, wait).await {
            Ok(deliveries) => {
                if deliveries.is_empty() && wait == CATCH_UP {
                    wait = Duration::from_secs(1);
                    if inputs.send(Input::CaughtUp).await.is_err() {
                        return;
                    }
                }
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

/// The same in every build and every run: a snapshot holds it.
fn hash(key: &BatchKey) -> u64 {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(key.namespace.as_str().as_bytes());
    hasher.write(key.batch.0.as_bytes());
    hasher.finish()
}
