//! Looking after what is handed out, and after what is kept in memory.

use std::collections::HashSet;

use redrive_broker::{Broker, BrokerError, Message};
use redrive_domain::{
    credits::NO_BATCH,
    decide,
    event::Cause,
    ids::{BatchKey, ChunkId},
    state::BatchState,
    subject,
    time::{Millis, Timestamp},
    work::{Chunk, Signal},
};

use super::{CARE, Leader, hash};
use crate::{
    metrics,
    round::{Origin, Round},
    standby::Stepped,
};

/// Refusals in a row, other than that it is missing, after which the place of chunks is made anew: nothing is lost with it.
const OFFERS_REFUSED: u32 = 2;
/// How long a chunk may lie unclaimed before somebody asks whether the broker still has it.
const UNCLAIMED: Millis = Millis::seconds(5);

impl<B: Broker> Leader<'_, B> {
    pub(super) async fn signal(&self, signal: &Signal) {
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
    pub(super) async fn care(&mut self) -> Result<(), Stepped> {
        let now = self.clock.now();
        if now.since(self.cared_at) < CARE {
            return Ok(());
        }
        self.cared_at = now;
        let mut round = Round::default();
        for (key, chunk) in self.dispatch.lose_workers(now, self.worker_timeout) {
            self.withdraw_chunk(&key, chunk).await;
        }
        for chunk in self.dispatch.unnamed(now) {
            self.dispatch.give_up(chunk);
        }
        for (key, lost) in self.dispatch.lost(now) {
            ::metrics::counter!(metrics::LOST).increment(1);
            tracing::warn!(batch = %key, chunk = %lost.chunk, worker = ?lost.worker, units = lost.units.len(), "a worker is lost");
            self.withdraw_chunk(&key, lost.chunk).await;
            let batch = self.batches.get(&key);
            let events = batch.map(|batch| decide::lost(batch, &lost));
            let origin = Origin {
                cause: Cause::Chunk(lost.chunk),
                actor: None,
                trace: None,
            };
            for event in events.unwrap_or_default() {
                self.emit(&mut round, &key, &origin, event);
            }
        }
        self.look_who_serves(&mut round, now);
        self.heal(&mut round, now).await;
        self.tell_limits(now, &mut round);
        self.append(round).await?;
        self.look_for_unclaimed(now).await?;
        self.keep_snapshot();
        #[allow(clippy::cast_precision_loss)]
        {
            ::metrics::gauge!(metrics::CHUNKS_OUT).set(self.dispatch.chunks_out() as f64);
            ::metrics::gauge!(metrics::WORKERS).set(self.dispatch.live_workers() as f64);
            ::metrics::gauge!(metrics::BATCHES).set(self.batches.len() as f64);
        }
        Ok(())
    }

    pub(super) async fn withdraw_chunk(&self, key: &BatchKey, chunk: ChunkId) {
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

    pub(super) async fn hand_out(&mut self) -> Result<(), Stepped> {
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
        match self.broker.offer(messages.clone()).await {
            Ok(()) => self.offers_refused = 0,
            Err(BrokerError::Missing(what)) => {
                tracing::warn!(what, "making it again");
                self.broker.ensure().await?;
                self.broker.offer(messages).await?;
            }
            // Those that did not arrive are not found when somebody looks for them, and go out again.
            Err(error) => {
                tracing::warn!(%error, "chunks may not have been handed out");
                let refused = matches!(error, BrokerError::Other(_));
                self.offers_refused = if refused { self.offers_refused + 1 } else { 0 };
                if self.offers_refused >= OFFERS_REFUSED {
                    self.offers_refused = 0;
                    self.broker.remake_work().await?;
                }
            }
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

    /// A batch that is over is not handed out any more; what is still out is taken back and stopped.
    pub(super) async fn retire(&mut self, key: &BatchKey) {
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

    pub(super) fn forget_old(&mut self) {
        while self.over.len() > self.over_kept {
            let Some(key) = self.over.pop_front() else {
                return;
            };
            if self.batches.get(&key).is_some_and(BatchState::is_closed) {
                self.batches.remove(&key);
                self.traces.remove(&key);
            }
        }
    }

    /// Brings a batch back that has left memory.
    pub(super) async fn recall(&mut self, key: &BatchKey) -> Result<(), BrokerError> {
        // The namespace's own events make no batch, however many there are.
        let has_no_batch = key.batch == NO_BATCH || !self.known.contains(&hash(key));
        if has_no_batch || self.batches.contains_key(key) {
            return Ok(());
        }
        let filter = subject::events_of_batch(self.shard, key);
        let found = self.fold(filter).await?;
        self.over.extend(found.keys().cloned());
        self.batches.extend(found);
        Ok(())
    }
}
