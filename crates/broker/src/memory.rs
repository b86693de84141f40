//! The broker in memory, for simulation and for tests.
//!
//! It is deterministic: its only clock is that of tokio, which a test may pause, and it draws no random numbers.

mod inspect;
mod log;
mod queue;
mod rpc;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use redrive_domain::{
    ids::{HandlerName, ResourceClass},
    subject::{self, Shard},
};
use tokio::{
    sync::{Notify, futures::Notified},
    time::{self, Instant},
};

use crate::{
    Broker, BrokerError, BrokerInfo, Deliveries, Entry, Inspection, Lease, Message, Range, Request,
    Result, ServiceSpec, pattern::matches,
};
use log::{find, index};
use queue::{Queue, Taker};

/// How long to wait for an entry that is not there yet.
const GET_WAIT: Duration = Duration::from_secs(2);
/// How often a hand-over to the inbox is tried.
const SUBMIT_TRIES: u32 = 5;

/// What an in-memory broker is like.
#[derive(Debug, Clone)]
pub struct MemoryOptions {
    /// The shard.
    pub shard: Shard,
    /// How long a lease lasts without renewal.
    pub lease_ttl: Duration,
    /// The largest message, in bytes.
    pub max_payload: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            shard: 0,
            lease_ttl: Duration::from_secs(3),
            max_payload: 1 << 20,
        }
    }
}

/// What of a broker can be lost without losing the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Commands and outcomes.
    Inbox,
    /// The reader of the inbox; what it had not acknowledged is for the next one.
    Reader,
    /// Chunks.
    Work,
    /// Leases.
    Leases,
    /// The snapshot.
    Snapshot,
}

/// The broker of one shard in memory. Clones are further connections to the same broker.
#[derive(Clone)]
pub struct MemoryBroker {
    store: Arc<Store>,
}

struct Store {
    options: MemoryOptions,
    state: Mutex<State>,
    /// Wakes those who wait, in the order in which they began to: a simulation has to be the same each time.
    changes: Notify,
}

#[derive(Default)]
struct State {
    events: Option<Vec<Entry>>,
    inbox: Option<Queue>,
    work: Option<Queue>,
    /// Whether nothing can be put up, though there is a place for it.
    work_is_broken: bool,
    leases: Option<BTreeMap<String, Held>>,
    /// The last one alone.
    snapshots: Option<Vec<Bytes>>,
    /// Counts the queues made, so that a taker knows its own.
    queues: u64,
    rpc: rpc::Rpc,
}

struct Held {
    holder: String,
    until: Instant,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and tells those who wait.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changes.notify_waiters();
        result
    }

    fn name(&self, stream: &str) -> String {
        format!("{stream}_{}", self.options.shard)
    }

    fn check<'a>(&self, messages: impl IntoIterator<Item = &'a Message>) -> Result<()> {
        let limit = self.options.max_payload;
        match messages
            .into_iter()
            .map(|message| message.payload.len())
            .find(|size| *size > limit)
        {
            Some(size) => Err(BrokerError::TooLarge { size, limit }),
            None => Ok(()),
        }
    }
}

impl State {
    fn new_queue(&mut self) -> Queue {
        self.queues += 1;
        Queue::new(self.queues)
    }

    fn queue(&mut self, part: Part) -> Option<&mut Queue> {
        match part {
            Part::Inbox => self.inbox.as_mut(),
            Part::Work => self.work.as_mut(),
            Part::Reader | Part::Leases | Part::Snapshot => None,
        }
    }
}

/// Waits for a change since `changed` was made, or for a moment.
async fn wait(changed: Notified<'_>, until: Option<Instant>) {
    match until {
        Some(until) => {
            let _ = time::timeout_at(until, changed).await;
        }
        None => changed.await,
    }
}

impl MemoryBroker {
    /// An empty broker.
    #[must_use]
    pub fn new(options: MemoryOptions) -> Self {
        Self {
            store: Arc::new(Store {
                options,
                state: Mutex::default(),
                changes: Notify::new(),
            }),
        }
    }

    /// Loses a part, as if somebody had deleted it at the broker.
    pub fn lose(&self, part: Part) {
        self.store.change(|state| match part {
            Part::Inbox => state.inbox = None,
            Part::Reader => {
                state.queues += 1;
                let nobody = state.queues;
                if let Some(inbox) = &mut state.inbox {
                    inbox.start_over(nobody);
                }
            }
            Part::Work => state.work = None,
            Part::Leases => state.leases = None,
            Part::Snapshot => state.snapshots = None,
        });
    }

    /// Lets the place of chunks be there and take nothing, until it is made anew.
    pub fn break_work(&self) {
        self.store.change(|state| state.work_is_broken = true);
    }

    fn submit_once(&self, message: &Message, id: Option<&str>) -> Result<()> {
        let shard = self.store.options.shard;
        let fits = matches(subject::COMMANDS, &message.subject)
            || matches(&subject::outcomes(shard), &message.subject);
        self.store.change(|state| match &mut state.inbox {
            Some(inbox) if fits => {
                inbox.put(message.clone(), id);
                Ok(())
            }
            _ => Err(BrokerError::Missing(self.store.name("RD_INBOX"))),
        })
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new(MemoryOptions::default())
    }
}

impl Broker for MemoryBroker {
    async fn ensure(&self) -> Result<()> {
        self.store.change(|state| {
            state.events.get_or_insert_default();
            state.leases.get_or_insert_default();
            state.snapshots.get_or_insert_default();
            if state.inbox.is_none() {
                state.inbox = Some(state.new_queue());
            }
            if state.work.is_none() {
                state.work = Some(state.new_queue());
            }
        });
        Ok(())
    }

    fn info(&self) -> BrokerInfo {
        BrokerInfo {
            version: "memory".to_owned(),
            max_payload: self.store.options.max_payload,
        }
    }

    fn is_connected(&self) -> bool {
        true
    }

    async fn inspect(&self) -> Result<Inspection> {
        Ok(inspect::inspect(&self.store))
    }

    async fn repair(&self) -> Result<()> {
        self.ensure().await
    }

    async fn append(&self, messages: Vec<Message>, after: u64) -> Result<u64> {
        self.store.check(&messages)?;
        let missing = || BrokerError::Missing(self.store.name("RD_EVENTS"));
        let subjects = subject::events(self.store.options.shard);
        self.store.change(|state| {
            let log = state.events.as_mut().ok_or_else(missing)?;
            let mut expected = after;
            for message in messages {
                if !matches(&subjects, &message.subject) {
                    return Err(missing());
                }
                match log.get(index(expected + 1)) {
                    None if log.len() as u64 == expected => log.push(Entry {
                        seq: expected + 1,
                        subject: message.subject,
                        payload: message.payload,
                    }),
                    // It is there already: its acknowledgement was lost.
                    Some(entry)
                        if entry.subject == message.subject && entry.payload == message.payload => {
                    }
                    _ => return Err(BrokerError::Conflict { expected }),
                }
                expected += 1;
            }
            Ok(expected)
        })
    }

    async fn last_seq(&self) -> Result<u64> {
        match &self.store.lock().events {
            Some(log) => Ok(log.len() as u64),
            None => Err(BrokerError::Missing(self.store.name("RD_EVENTS"))),
        }
    }

    fn read(&self, range: Range) -> BoxStream<'static, Result<Entry>> {
        let store = self.store.clone();
        let next = range.from.max(1);
        futures::stream::unfold((store, Some(next)), move |(store, next)| {
            let range = range.clone();
            async move {
                let mut next = next?;
                let found = loop {
                    let changed = store.changes.notified();
                    let found = match &store.lock().events {
                        None => Some(Err(BrokerError::Missing(store.name("RD_EVENTS")))),
                        Some(log) => find(log, &range, &mut next).map(Ok),
                    };
                    match found {
                        Some(found) => break found,
                        None if range.until.is_some() => return None,
                        None => wait(changed, None).await,
                    }
                };
                let next = found.is_ok().then_some(next);
                Some((found, (store, next)))
            }
        })
        .boxed()
    }

    async fn get(&self, seq: u64) -> Result<Option<Entry>> {
        if seq == 0 {
            return Ok(None);
        }
        let end = Instant::now() + GET_WAIT;
        loop {
            let changed = self.store.changes.notified();
            let found = match &self.store.lock().events {
                None => return Err(BrokerError::Missing(self.store.name("RD_EVENTS"))),
                Some(log) => log.get(index(seq)).cloned(),
            };
            if found.is_some() || Instant::now() >= end {
                return Ok(found);
            }
            wait(changed, Some(end)).await;
        }
    }

    async fn submit(&self, message: Message, id: Option<String>) -> Result<()> {
        self.store.check([&message])?;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.submit_once(&message, id.as_deref()) {
                Err(BrokerError::Missing(_)) if tries < SUBMIT_TRIES => {
                    time::sleep(Duration::from_millis(100 << tries)).await;
                }
                result => return result,
            }
        }
    }

    async fn inbox(&self) -> Result<Box<dyn Deliveries>> {
        let incarnation = self.store.change(|state| {
            // Only the youngest reader's number is that of the queue.
            state.queues += 1;
            let incarnation = state.queues;
            let inbox = state.inbox.as_mut()?;
            inbox.start_over(incarnation);
            Some(incarnation)
        });
        match incarnation {
            Some(incarnation) => Ok(Box::new(Taker {
                store: self.store.clone(),
                part: Part::Inbox,
                incarnation,
                filter: ">".to_owned(),
            })),
            None => Err(BrokerError::Missing(self.store.name("RD_INBOX"))),
        }
    }

    async fn offer(&self, chunks: Vec<Message>) -> Result<()> {
        self.store.check(&chunks)?;
        let subjects = subject::chunks(self.store.options.shard);
        let missing = || BrokerError::Missing(self.store.name("RD_WORK"));
        self.store.change(|state| {
            if state.work_is_broken {
                return Err(BrokerError::Other("its files are gone".to_owned()));
            }
            let work = state.work.as_mut().ok_or_else(missing)?;
            for chunk in chunks {
                if !matches(&subjects, &chunk.subject) {
                    return Err(missing());
                }
                work.put(chunk, None);
            }
            Ok(())
        })
    }

    async fn take(
        &self,
        handler: &HandlerName,
        class: &ResourceClass,
    ) -> Result<Box<dyn Deliveries>> {
        match &self.store.lock().work {
            Some(work) => Ok(Box::new(Taker {
                store: self.store.clone(),
                part: Part::Work,
                incarnation: work.incarnation,
                filter: subject::chunks_for(self.store.options.shard, handler, class),
            })),
            None => Err(BrokerError::Missing(self.store.name("RD_WORK"))),
        }
    }

    async fn withdraw(&self, filter: &str) -> Result<()> {
        self.store.change(|state| match &mut state.work {
            Some(work) => {
                work.purge(filter);
                Ok(())
            }
            None => Err(BrokerError::Missing(self.store.name("RD_WORK"))),
        })
    }

    async fn remake_work(&self) -> Result<()> {
        self.store.change(|state| {
            state.work = Some(state.new_queue());
            state.work_is_broken = false;
        });
        Ok(())
    }

    async fn offered(&self) -> Result<Vec<String>> {
        match &self.store.lock().work {
            Some(work) => Ok(work.subjects()),
            None => Err(BrokerError::Missing(self.store.name("RD_WORK"))),
        }
    }

    async fn lease(&self, name: &str, holder: &str) -> Result<Lease> {
        let now = Instant::now();
        let until = now + self.store.options.lease_ttl;
        Ok(self.store.change(|state| {
            let leases = state.leases.get_or_insert_default();
            match leases.get(name) {
                Some(held) if held.holder != holder && held.until > now => {
                    Lease::HeldBy(held.holder.clone())
                }
                _ => {
                    let holder = holder.to_owned();
                    leases.insert(name.to_owned(), Held { holder, until });
                    Lease::Held
                }
            }
        }))
    }

    async fn release(&self, name: &str, holder: &str) -> Result<()> {
        self.store.change(|state| {
            if let Some(leases) = &mut state.leases
                && leases.get(name).is_some_and(|held| held.holder == holder)
            {
                leases.remove(name);
            }
        });
        Ok(())
    }

    fn lease_ttl(&self) -> Duration {
        self.store.options.lease_ttl
    }

    async fn keep_snapshot(&self, snapshot: Bytes) -> Result<()> {
        self.store
            .change(|state| state.snapshots = Some(vec![snapshot]));
        Ok(())
    }

    async fn snapshot(&self) -> Result<Option<Bytes>> {
        let snapshots = &self.store.lock().snapshots;
        Ok(snapshots.iter().flatten().last().cloned())
    }

    async fn request(&self, message: Message, wait: Duration) -> Result<Bytes> {
        self.store.check([&message])?;
        rpc::request(&self.store, message, wait).await
    }

    async fn serve(&self, spec: ServiceSpec) -> Result<BoxStream<'static, Request>> {
        Ok(self.store.change(|state| state.rpc.serve(spec)))
    }

    async fn signal(&self, message: Message) -> Result<()> {
        self.store.check([&message])?;
        self.store.change(|state| state.rpc.signal(&message));
        Ok(())
    }

    async fn listen(&self, filter: String) -> Result<BoxStream<'static, Message>> {
        Ok(self.store.change(|state| state.rpc.listen(filter)))
    }
}
