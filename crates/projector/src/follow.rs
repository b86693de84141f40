//! Reading the log into the view, writing checkpoints, and beginning anew where the two have parted.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use redrive_broker::{Broker, BrokerError, Entry, Range, mark as log_mark};
use redrive_domain::{event::Envelope, ids::BatchKey, subject};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, ProjectorError, metrics,
    shared::Shared,
    store::{Place, Store, StoreError},
    view::{Mark, Saved, View},
};

/// Messages that are folded under one lock.
const CHUNK: usize = 256;
/// How long folding keeps queries waiting at a stretch, unless one event takes longer.
const TURN: Duration = Duration::from_millis(5);
/// The first and the longest wait before something that failed is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));
/// A checkpoint may take one part in this many of the time: large states are written less often.
const SHARE: u32 = 10;

/// Follows the log. There is one for a view.
pub(crate) struct Follower<B> {
    broker: B,
    shared: Arc<Shared>,
    config: Config,
    place: Place,
    checkpoint: Schedule,
    undecodable: u64,
}

/// A checkpoint that is being written.
type Writing = BoxFuture<'static, Result<Vec<Saved>, StoreError>>;

/// When the next checkpoint is due.
struct Schedule {
    running: Option<Writing>,
    begun: Instant,
    not_before: Instant,
    /// What the last one wrote.
    written: u64,
    /// What the running one writes.
    writing: u64,
}

/// Why the following of a stream ended.
enum End {
    Shutdown,
    /// Read on from where it ended.
    Broken(BrokerError),
    /// The view is worth nothing any more.
    Anew(String),
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Anew(error.to_string())
    }
}

struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(BACKOFF.0)
    }

    async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(BACKOFF.1);
    }
}

/// Whether the log is still the one that was read up to this mark.
async fn same_log<B: Broker>(broker: &B, mark: Mark) -> Result<bool, BrokerError> {
    if mark.seq == 0 {
        return Ok(true);
    }
    if broker.last_seq().await? < mark.seq {
        return Ok(false);
    }
    let entry = broker.get(mark.seq).await?;
    Ok(entry.is_some_and(|entry| log_mark(&entry.subject, &entry.payload) == mark.print))
}

impl<B: Broker> Follower<B> {
    pub(crate) fn new(broker: B, shared: Arc<Shared>, config: Config) -> Self {
        let place = Place {
            data_dir: config.data_dir.clone(),
            shard: config.shard,
        };
        let now = Instant::now();
        Self {
            broker,
            shared,
            config,
            place,
            checkpoint: Schedule {
                running: None,
                begun: now,
                not_before: now,
                written: 0,
                writing: 0,
            },
            undecodable: 0,
        }
    }

    /// Opens what the last checkpoint left.
    pub(crate) async fn open(&mut self) -> Result<(), ProjectorError> {
        let place = self.place.clone();
        let (store, mark) = self.shared.blocking(move || place.open()).await?;
        tracing::info!(seq = mark.seq, "the projector goes on from its checkpoint");
        self.begin(store, mark);
        Ok(())
    }

    fn begin(&mut self, store: Store, mark: Mark) {
        let mut inner = self.shared.write();
        inner.epoch += 1;
        inner.view = View::at(mark, store.ledgers().clone());
        inner.store = Some(Arc::new(store));
        inner.trusted = false;
        drop(inner);
        self.checkpoint.written = mark.seq;
        self.applied(mark.seq);
    }

    fn applied(&self, seq: u64) {
        self.shared.publish(seq);
        metrics::applied(seq);
    }

    /// Follows until the shutdown, and writes a last checkpoint.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), ProjectorError> {
        let mut backoff = Backoff::new();
        loop {
            let before = self.mark().seq;
            match self.follow(&shutdown).await {
                End::Shutdown => break,
                End::Broken(error) => {
                    tracing::warn!(%error, seq = self.mark().seq, "the log cannot be read: trying again");
                }
                End::Anew(reason) => {
                    tracing::warn!(%reason, "the view is built anew from the log");
                    if !self.begin_anew(&shutdown).await {
                        return Ok(());
                    }
                }
            }
            if self.mark().seq > before {
                backoff = Backoff::new();
            }
            self.show();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = backoff.wait() => {}
            }
        }
        self.last_checkpoint().await;
        Ok(())
    }

    /// Shows that it goes on, and how far it has come.
    fn show(&self) {
        let trusted = self.shared.read().trusted;
        let applied = self.shared.applied();
        self.config.vitals.send_modify(|vitals| {
            vitals.trusted = trusted;
            vitals.applied = applied;
        });
    }

    fn mark(&self) -> Mark {
        self.shared.read().view.mark()
    }

    async fn follow(&mut self, shutdown: &CancellationToken) -> End {
        let mark = self.mark();
        let same = tokio::select! {
            biased;
            () = shutdown.cancelled() => return End::Shutdown,
            same = same_log(&self.broker, mark) => same,
        };
        match same {
            Ok(true) => self.shared.write().trusted = true,
            Ok(false) => return another_log(mark),
            Err(error) => return End::Broken(error),
        }
        let range = Range {
            from: mark.seq + 1,
            until: None,
            filter: Some(subject::events(self.config.shard)),
        };
        let mut entries = self.broker.read(range).ready_chunks(CHUNK);
        let mut tick = interval(self.config.checkpoint_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = std::pin::pin!(look(
            self.broker.clone(),
            Arc::clone(&self.shared),
            self.config.look_every,
        ));
        let shared = Arc::clone(&self.shared);
        loop {
            self.show();
            // Memory that waits for a checkpoint is bounded: reading waits for it too.
            let full = self.checkpoint.running.is_some()
                && shared.read().view.dirty() >= 2 * self.config.memory_batches.max(1);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return End::Shutdown,
                () = shared.unusable.notified() => {
                    return End::Anew("it could not be read".into());
                }
                end = &mut look => return end,
                done = finished(&mut self.checkpoint.running) => {
                    if let Err(error) = self.finish_checkpoint(done) {
                        return error.into();
                    }
                }
                _ = tick.tick() => self.start_checkpoint(false),
                chunk = entries.next(), if !full => {
                    let Some(chunk) = chunk else {
                        return End::Broken(BrokerError::Other("the reading ended".into()));
                    };
                    if let Err(end) = self.take(chunk).await {
                        return end;
                    }
                    // Queries share this runtime: let them have a turn.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Folds what was read.
    async fn take(&mut self, chunk: Vec<Result<Entry, BrokerError>>) -> Result<(), End> {
        let mut end = Ok(());
        let mut mark = self.mark();
        let mut events = Vec::with_capacity(chunk.len());
        let mut last = None;
        for entry in chunk {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    end = Err(End::Broken(error));
                    break;
                }
            };
            if entry.seq <= mark.seq {
                end = Err(another_log(mark));
                break;
            }
            mark.seq = entry.seq;
            match Envelope::decode(&entry.payload) {
                Ok(envelope) => events.push((entry.seq, envelope)),
                Err(error) => {
                    tracing::warn!(seq = entry.seq, subject = %entry.subject, %error, "a message of the log is skipped");
                    self.undecodable += 1;
                    metrics::undecodable();
                }
            }
            last = Some(entry);
        }
        if let Some(last) = last {
            mark.print = log_mark(&last.subject, &last.payload);
            self.fold(&events, mark).await?;
        }
        end
    }

    async fn fold(&mut self, events: &[(u64, Envelope)], mark: Mark) -> Result<(), StoreError> {
        let (missing, store) = {
            let inner = self.shared.read();
            let keys: BTreeSet<BatchKey> = events.iter().map(|(_, event)| event.key()).collect();
            let missing = keys.into_iter().filter(|key| !inner.view.has(key));
            (missing.collect::<Vec<_>>(), inner.store.clone())
        };
        let loaded = match store {
            Some(store) if !missing.is_empty() => {
                let load = move || {
                    missing
                        .iter()
                        .filter_map(|key| store.load(key).transpose())
                        .collect()
                };
                self.shared.blocking(load).await?
            }
            _ => Vec::new(),
        };
        self.shared.take_in(loaded);
        let mut left = events.iter();
        while self.fold_for_a_turn(&mut left) {
            tokio::task::yield_now().await;
        }
        let dirty = {
            let mut inner = self.shared.write();
            inner.view.reached(mark);
            inner.view.dirty()
        };
        self.applied(mark.seq);
        metrics::events(events.len());
        if dirty >= self.config.memory_batches.max(1) {
            self.start_checkpoint(true);
        } else if mark.seq - self.checkpoint.written.min(mark.seq) >= self.config.checkpoint_events
        {
            self.start_checkpoint(false);
        }
        Ok(())
    }

    /// Folds for a while; whether there is more to fold. Queries see the state of a batch after each event that was
    /// folded, but are told that the log was read so far only when the rest is folded too.
    fn fold_for_a_turn(&self, left: &mut std::slice::Iter<'_, (u64, Envelope)>) -> bool {
        let begun = Instant::now();
        let mut inner = self.shared.write();
        for (seq, envelope) in left.by_ref() {
            inner.view.apply(*seq, envelope);
            if begun.elapsed() > TURN {
                break;
            }
        }
        left.len() > 0
    }

    /// Begins to write a checkpoint beside the folding, unless one is being written or nothing has changed.
    fn start_checkpoint(&mut self, now: bool) {
        let schedule = &mut self.checkpoint;
        if schedule.running.is_some() || (!now && Instant::now() < schedule.not_before) {
            return;
        }
        let inner = self.shared.read();
        let snapshot = inner.view.snapshot();
        let Some(store) = inner.store.clone() else {
            return;
        };
        if snapshot.mark.seq == schedule.written {
            return;
        }
        schedule.begun = Instant::now();
        schedule.writing = snapshot.mark.seq;
        let write = move || {
            let prepared = store.prepare(&snapshot)?;
            drop(snapshot);
            store.write(prepared)
        };
        schedule.running = Some(self.config.blocking.start(write));
    }

    fn finish_checkpoint(
        &mut self,
        done: Result<Vec<Saved>, StoreError>,
    ) -> Result<(), StoreError> {
        let schedule = &mut self.checkpoint;
        schedule.running = None;
        let saved = done?;
        let took = schedule.begun.elapsed();
        schedule.not_before = Instant::now() + took * (SHARE - 1);
        schedule.written = schedule.writing;
        metrics::checkpoint(took);
        let mut inner = self.shared.write();
        inner.view.saved(self.checkpoint.written, &saved);
        let (batches, bytes) = (self.config.memory_batches, self.config.memory_bytes);
        inner.view.evict(batches, bytes);
        Ok(())
    }

    async fn last_checkpoint(&mut self) {
        for _ in 0..2 {
            if self.checkpoint.running.is_some() {
                let done = finished(&mut self.checkpoint.running).await;
                if let Err(error) = self.finish_checkpoint(done) {
                    tracing::warn!(%error, "the last checkpoint could not be written: it is read again from the log");
                    return;
                }
            }
            self.start_checkpoint(true);
        }
        if self.checkpoint.running.is_some() {
            let done = finished(&mut self.checkpoint.running).await;
            if let Err(error) = self.finish_checkpoint(done) {
                tracing::warn!(%error, "the last checkpoint could not be written: it is read again from the log");
            }
        }
    }

    /// Drops everything and begins before the first event. False where a shutdown came first.
    async fn begin_anew(&mut self, shutdown: &CancellationToken) -> bool {
        metrics::rebuild();
        {
            let mut inner = self.shared.write();
            inner.epoch += 1;
            inner.view = View::default();
            inner.store = None;
        }
        self.applied(0);
        if self.checkpoint.running.is_some() {
            // It writes to what is being dropped; what becomes of it does not matter.
            finished(&mut self.checkpoint.running).await.ok();
            self.checkpoint.running = None;
        }
        let mut backoff = Backoff::new();
        loop {
            let place = self.place.clone();
            match self.shared.blocking(move || place.begin_anew()).await {
                Ok(store) => {
                    self.begin(store, Mark::default());
                    // Whatever was found wrong before was wrong with what is gone.
                    self.shared.unusable.notified().now_or_never();
                    return true;
                }
                Err(error) => {
                    tracing::error!(%error, "the view cannot be begun anew: trying again");
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return false,
                () = backoff.wait() => {}
            }
        }
    }
}

fn another_log(mark: Mark) -> End {
    End::Anew(format!(
        "the log is not the one that was read up to {}",
        mark.seq
    ))
}

/// The running checkpoint's end; never, where none is running.
async fn finished(running: &mut Option<Writing>) -> Result<Vec<Saved>, StoreError> {
    match running {
        Some(running) => running.await,
        None => std::future::pending().await,
    }
}

/// Looks from time to time whether the log and the folder are still those that they were.
async fn look<B: Broker>(broker: B, shared: Arc<Shared>, every: Duration) -> End {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (mark, store) = {
            let inner = shared.read();
            (inner.view.mark(), inner.store.clone())
        };
        if let Some(store) = store
            && let Err(error) = shared.blocking(move || store.check()).await
        {
            return error.into();
        }
        match same_log(&broker, mark).await {
            Ok(true) => {}
            Ok(false) => return another_log(mark),
            Err(error) => tracing::debug!(%error, "the broker does not say how far the log goes"),
        }
        if let Ok(last) = broker.last_seq().await {
            metrics::lag(last.saturating_sub(shared.applied()));
        }
    }
}
