//! The chunks that a worker holds: for its heartbeats, and for those who want one stopped.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use redrive_broker::Broker;
use redrive_domain::{
    ids::{BatchKey, ChunkId, WorkerId},
    time::Timestamp,
    units::{Ordinal, UnitSet},
    work::{Chunk, InFlight, Signal},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{handler::Alive, world::World};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a chunk waits to be named at most.
const NAMED: Duration = Duration::from_secs(5);

/// All chunks that the worker holds.
#[derive(Default)]
pub(crate) struct Flights {
    next: AtomicU64,
    held: Mutex<BTreeMap<u64, Arc<Held>>>,
    /// Told when a chunk was taken.
    pub(crate) taken: Notify,
    /// All that have a smaller number than this were named in a heartbeat, or are over.
    pub(crate) named: watch::Sender<u64>,
}

struct Held {
    about: InFlight,
    key: BatchKey,
    left: Mutex<UnitSet>,
    /// Units that were begun and wait for something; those that are done at once are over before anybody could ask.
    running: Mutex<UnitSet>,
    /// When a unit last ended, in milliseconds; 0 where none did.
    ended_at: AtomicI64,
    stop: CancellationToken,
    alive: Alive,
}

/// A chunk while it is held; dropping it ends that.
pub(crate) struct Flight {
    flights: Arc<Flights>,
    held: Arc<Held>,
    number: u64,
}

impl Flights {
    /// Notes that a chunk is held from now on.
    pub(crate) fn begin(self: &Arc<Self>, chunk: &Chunk, world: &World) -> Flight {
        let held = Arc::new(Held {
            about: InFlight {
                chunk: chunk.id,
                namespace: chunk.namespace.clone(),
                batch: chunk.batch,
                tier: chunk.tier,
                job: chunk.job.clone(),
                attempt: chunk.attempt,
                units: UnitSet::new(),
                running: UnitSet::new(),
                taken_at: Some(world.now()),
                alive_at: None,
            },
            key: chunk.key(),
            left: Mutex::new(chunk.units.clone()),
            running: Mutex::default(),
            ended_at: AtomicI64::new(0),
            stop: CancellationToken::new(),
            alive: Alive::default(),
        });
        let number = {
            let mut all = lock(&self.held);
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            all.insert(number, held.clone());
            number
        };
        self.taken.notify_one();
        Flight {
            flights: self.clone(),
            held,
            number,
        }
    }

    /// The number that the next chunk to be held will have.
    pub(crate) fn next(&self) -> u64 {
        // One that has a number is among those held.
        let _held = lock(&self.held);
        self.next.load(Ordering::Relaxed)
    }

    /// Waits until a heartbeat has named a chunk, and the broker has it: whatever happens from then on, it is known who had
    /// it. Where the broker does not answer, not for long.
    pub(crate) async fn be_named<B: Broker>(&self, flight: &Flight, broker: &B) {
        let mut named = self.named.subscribe();
        let known = async {
            let _ = named.wait_for(|next| *next > flight.number).await;
            // An answer to a later request: what was sent before has arrived.
            let _ = broker.last_seq().await;
        };
        if tokio::time::timeout(NAMED, known).await.is_err() {
            tracing::debug!("a chunk is begun before it was named");
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.held).is_empty()
    }

    /// Stops what a signal is about; how many chunks that were.
    pub(crate) fn stop(&self, signal: &Signal, own: &WorkerId) -> usize {
        let concerned = |held: &&Arc<Held>| match signal {
            Signal::StopBatch(key) => held.key == *key,
            Signal::StopChunk(chunk) => held.about.chunk == *chunk,
            Signal::StopExecution { worker, chunk } => worker == own && held.about.chunk == *chunk,
        };
        let stopped: Vec<_> = lock(&self.held)
            .values()
            .filter(concerned)
            .cloned()
            .collect();
        stopped.iter().for_each(|held| held.stop.cancel());
        stopped.len()
    }

    /// What is held, as heartbeats say it.
    pub(crate) fn list(&self) -> Vec<InFlight> {
        let held: Vec<_> = lock(&self.held).values().cloned().collect();
        held.iter()
            .map(|held| InFlight {
                units: lock(&held.left).clone(),
                running: lock(&held.running).clone(),
                alive_at: held.alive_at(),
                ..held.about.clone()
            })
            .collect()
    }

    /// Logs what handlers said of themselves.
    pub(crate) fn log_alive(&self) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        for held in lock(&self.held).values() {
            if let Some(at) = held.alive.last() {
                let ago = crate::world::wall_clock().since(at);
                tracing::debug!(chunk = %held.about.chunk, batch = %held.key, %ago, "the handler last said that it is alive");
            }
        }
    }
}

impl Held {
    /// When anything of it last showed that it gets somewhere.
    fn alive_at(&self) -> Option<Timestamp> {
        let ended = match self.ended_at.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Timestamp(ms)),
        };
        self.alive.last().max(ended)
    }
}

impl Flight {
    /// Notes that a unit is under way.
    pub(crate) fn started(&self, unit: Ordinal) {
        lock(&self.held.running).insert(unit);
    }

    /// Notes that it is not any more.
    pub(crate) fn ended(&self, unit: Ordinal, world: &World) {
        lock(&self.held.running).remove(&UnitSet::from([unit]));
        self.held.ended_at.store(world.now().0, Ordering::Relaxed);
    }

    pub(crate) fn chunk(&self) -> ChunkId {
        self.held.about.chunk
    }

    /// Cancelled when the chunk is no longer wanted.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.held.stop
    }

    /// The mark that its handlers set.
    pub(crate) fn alive(&self) -> &Alive {
        &self.held.alive
    }

    /// Notes that these units were reported durably.
    pub(crate) fn reported(&self, units: &UnitSet, world: &World) {
        lock(&self.held.left).remove(units);
        self.held.ended_at.store(world.now().0, Ordering::Relaxed);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        lock(&self.flights.held).remove(&self.number);
    }
}
