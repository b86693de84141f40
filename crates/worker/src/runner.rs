//! A worker: it takes chunks for what it serves, as fast as its slots allow, until it is told to leave.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use redrive_broker::{Broker, BrokerError, Deliveries};
use redrive_domain::{
    ids::{HandlerName, ResourceClass, WorkerId},
    subject::Shard,
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument;

use crate::{
    chunk,
    flights::Flights,
    handler::Handler,
    heartbeat,
    inputs::Reader,
    limits::Limits,
    metrics::{self, HandlerMetrics},
    slots::{Slot, Slots},
    world::World,
};

/// How long to wait for a chunk while nobody else wants the slot.
const WAIT_ALONE: Duration = Duration::from_secs(1);
/// How long to wait for a chunk while others may want the slot soon.
const WAIT_SHARED: Duration = Duration::from_millis(50);
/// Where others want the slot now and there is no chunk, how long to leave it to them.
const PAUSE: Duration = Duration::from_millis(50);

/// How long what handlers keep running may take to end.
const CLOSING: Duration = Duration::from_secs(10);

/// How a worker works.
#[derive(Debug, Clone)]
pub struct Config {
    /// The shard that it works for.
    pub shard: Shard,
    /// Its name. No two running workers may have the same.
    pub id: WorkerId,
    /// Resource classes that it serves.
    pub classes: Vec<ResourceClass>,
    /// Units that it runs at once.
    pub slots: NonZeroU32,
    /// How long running units may go on once it is told to leave.
    pub drain_grace: Duration,
    /// How long a handler may go on once its unit is timed out or no longer wanted.
    pub stop_grace: Duration,
    /// How often it says that it is alive.
    pub heartbeat_every: Duration,
    /// Bytes of documents and outputs that it keeps at hand.
    pub cache_bytes: u64,
    /// The machine that it runs on, as heartbeats name it.
    pub host: String,
    /// Where the time and the chance come from.
    pub world: World,
    /// Where it says how it is doing, at least with each heartbeat.
    pub vitals: watch::Sender<Vitals>,
}

/// How a worker is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vitals {
    /// For which handlers and classes it cannot take chunks just now.
    pub failing: BTreeSet<(HandlerName, ResourceClass)>,
}

impl Config {
    /// A worker of class `cpu` with a slot for each CPU.
    #[must_use]
    pub fn new(shard: Shard, id: WorkerId) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let slots = u32::try_from(cpus).ok().and_then(NonZeroU32::new);
        Self {
            shard,
            id,
            classes: ResourceClass::new("cpu").into_iter().collect(),
            slots: slots.unwrap_or(NonZeroU32::MIN),
            drain_grace: Duration::from_secs(30),
            stop_grace: Duration::from_secs(2),
            heartbeat_every: Duration::from_secs(1),
            cache_bytes: 64 << 20,
            host: "unknown".into(),
            world: World::default(),
            vitals: watch::Sender::default(),
        }
    }
}

/// Why a worker does not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// It has nothing to do.
    #[error("a worker needs at least one handler")]
    NoHandlers,
    /// It serves nobody.
    #[error("a worker needs at least one resource class")]
    NoClasses,
    /// It cannot tell two handlers apart.
    #[error("two handlers are named {0}")]
    SameHandler(HandlerName),
    /// A defect in the worker itself.
    #[error("a part of the worker ended unexpectedly: {0}")]
    Crashed(String),
}

/// What all parts of a worker share.
pub(crate) struct Shared<B> {
    pub(crate) broker: B,
    pub(crate) config: Arc<Config>,
    pub(crate) reader: Arc<Reader<B>>,
    pub(crate) slots: Slots,
    pub(crate) flights: Arc<Flights>,
    /// Take no more, and begin no more.
    pub(crate) drain: CancellationToken,
    /// End what runs.
    pub(crate) force: CancellationToken,
}

/// Runs a worker until it is told to shut down and has let go of everything it held. Trouble with the broker does not
/// end it.
///
/// After `shutdown` it takes no more chunks, gives back the units that it had not begun, lets the others end within
/// [`Config::drain_grace`], and then gives those back too.
///
/// # Errors
/// Where there is nothing that it could do.
pub async fn run<B: Broker>(
    broker: B,
    config: Config,
    handlers: Vec<Arc<dyn Handler>>,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    let mut names: Vec<HandlerName> = handlers.iter().map(|handler| handler.name()).collect();
    names.sort();
    if names.is_empty() {
        return Err(WorkerError::NoHandlers);
    }
    if let Some((same, _)) = names.iter().zip(names.iter().skip(1)).find(|(a, b)| a == b) {
        return Err(WorkerError::SameHandler(same.clone()));
    }
    if config.classes.is_empty() {
        return Err(WorkerError::NoClasses);
    }
    tracing::info!(worker = %config.id, slots = config.slots, classes = ?config.classes, handlers = ?names, "worker starts");
    let shared = Arc::new(Shared {
        reader: Arc::new(Reader::new(broker.clone(), config.cache_bytes)),
        slots: Slots::new(config.slots),
        flights: Arc::default(),
        drain: shutdown,
        force: CancellationToken::new(),
        config: Arc::new(config),
        broker,
    });
    let limits = handlers.iter().find_map(|handler| handler.limits());
    if limits.is_some() {
        tracing::info!(limits = %Limits::here(), "how processes are kept within their memory and CPUs");
    }
    let gone = CancellationToken::new();
    let beating = AbortOnDropHandle::new(tokio::spawn(heartbeat::beat(
        shared.broker.clone(),
        shared.config.clone(),
        heartbeat::Served {
            handlers: names,
            limits,
        },
        shared.flights.clone(),
        shared.config.world.now(),
        shared.drain.clone(),
        gone.clone(),
    )));
    let _obeying = AbortOnDropHandle::new(tokio::spawn(heartbeat::obey(
        shared.broker.clone(),
        shared.config.clone(),
        shared.flights.clone(),
    )));
    let _forcing = AbortOnDropHandle::new(tokio::spawn({
        let shared = shared.clone();
        async move {
            shared.drain.cancelled().await;
            tracing::info!(chunks = shared.flights.list().len(), grace = ?shared.config.drain_grace, "worker leaves");
            sleep(shared.config.drain_grace).await;
            shared.force.cancel();
        }
    }));
    let mut pullers = JoinSet::new();
    let crowded = handlers.len() * shared.config.classes.len() > shared.config.slots.get() as usize;
    for handler in &handlers {
        let metrics = HandlerMetrics::new(&handler.name());
        for class in &shared.config.classes {
            let span = tracing::info_span!("puller", handler = %handler.name(), %class);
            let puller = Puller {
                shared: shared.clone(),
                handler: handler.clone(),
                class: class.clone(),
                metrics: metrics.clone(),
                crowded,
                chunks: JoinSet::new(),
            };
            pullers.spawn(puller.pull().instrument(span));
        }
    }
    while let Some(ended) = pullers.join_next().await {
        ended.map_err(|error| WorkerError::Crashed(error.to_string()))?;
    }
    let closing = futures::future::join_all(handlers.iter().map(|handler| handler.close()));
    if timeout(CLOSING, closing).await.is_err() {
        tracing::warn!(after = ?CLOSING, "what handlers keep running has not ended; it is killed");
    }
    gone.cancel();
    if let Err(error) = beating.await {
        tracing::error!(%error, "the heartbeats ended unexpectedly");
    }
    tracing::info!("worker has left");
    Ok(())
}

struct Puller<B> {
    shared: Arc<Shared<B>>,
    handler: Arc<dyn Handler>,
    class: ResourceClass,
    metrics: HandlerMetrics,
    /// Whether there are more pullers than slots.
    crowded: bool,
    chunks: JoinSet<()>,
}

impl<B: Broker> Puller<B> {
    /// Takes chunks until the worker leaves, then waits for those that it took.
    async fn pull(mut self) {
        let drain = self.shared.drain.clone();
        let mut backoff = Backoff::default();
        let mut source = None;
        while !drain.is_cancelled() {
            match self.step(&mut source).await {
                Ok(()) => {
                    backoff = Backoff::default();
                    self.note(false);
                }
                Err(error) => {
                    source = None;
                    self.note(true);
                    let wait = backoff.next(&self.shared.config.world);
                    metrics::broker_error("take");
                    tracing::warn!(%error, ?wait, "cannot take chunks; trying again");
                    tokio::select! {
                        biased;
                        () = drain.cancelled() => {}
                        () = sleep(wait) => {}
                    }
                }
            }
        }
        drop(source);
        while let Some(ended) = self.chunks.join_next().await {
            log_end(ended);
        }
    }

    /// Notes whether taking fails.
    fn note(&self, fails: bool) {
        let pool = (self.handler.name(), self.class.clone());
        self.shared
            .config
            .vitals
            .send_if_modified(|vitals| match fails {
                true => vitals.failing.insert(pool),
                false => vitals.failing.remove(&pool),
            });
    }

    async fn step(&mut self, source: &mut Option<Box<dyn Deliveries>>) -> Result<(), BrokerError> {
        while let Some(ended) = self.chunks.try_join_next() {
            log_end(ended);
        }
        let shared = self.shared.clone();
        let open = match source {
            Some(open) => open,
            None => source.insert(self.open().await?),
        };
        // A chunk is taken only with a slot in hand, so that none waits here while another worker could have it.
        let mut slot = tokio::select! {
            biased;
            () = shared.drain.cancelled() => return Ok(()),
            slot = shared.slots.acquire() => slot,
        };
        let wait = match (shared.slots.waiting() > 0, self.others_may_want()) {
            (true, _) => Duration::ZERO,
            (false, true) => WAIT_SHARED,
            (false, false) => WAIT_ALONE,
        };
        let deliveries = open.next(1, wait).await?;
        if deliveries.is_empty() && wait.is_zero() {
            drop(slot);
            tokio::select! {
                biased;
                () = shared.drain.cancelled() => {}
                () = sleep(PAUSE) => {}
            }
            return Ok(());
        }
        for delivery in deliveries {
            match slot.take() {
                Some(slot) if !shared.drain.is_cancelled() => self.begin(delivery, slot),
                _ => {
                    if let Err(error) = delivery.receipt.give_back().await {
                        tracing::debug!(%error, "a chunk was not given back; it will go to somebody else later");
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether somebody may want a slot while this one waits: a chunk for its next unit, or the other pullers.
    fn others_may_want(&self) -> bool {
        self.crowded || !self.chunks.is_empty() || !self.shared.flights.is_empty()
    }

    fn begin(&mut self, delivery: redrive_broker::Delivery, slot: Slot) {
        let (shared, handler) = (self.shared.clone(), self.handler.clone());
        self.chunks.spawn(
            chunk::run(shared, handler, self.metrics.clone(), delivery, slot).in_current_span(),
        );
    }

    /// What is missing at the broker is the coordinator's to make; it is waited for.
    async fn open(&self) -> Result<Box<dyn Deliveries>, BrokerError> {
        let name = self.handler.name();
        self.shared.broker.take(&name, &self.class).await
    }
}

fn log_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a chunk ended unexpectedly; it will go to somebody else");
    }
}

/// Waits that grow, with some chance in them so that many workers do not come back at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(crate) fn next(&mut self, world: &World) -> Duration {
        let ms = 100_u64 << self.tries.min(6);
        self.tries += 1;
        Duration::from_millis(ms.min(5_000)).mul_f64(0.5 + world.fraction() / 2.0)
    }
}
