//! What a new leader knows: the snapshot that was kept, and the log from there on.

use std::collections::{BTreeSet, HashSet, VecDeque};

use futures::StreamExt;
use redrive_broker::{Broker, BrokerError, Range, mark};
use redrive_domain::{
    credits::Ledgers,
    event::Envelope,
    evolve::{Batches, evolve_among},
    ids::BatchKey,
    keys::Keyrings,
    state::BatchState,
    subject::{self, Shard},
};

use super::{
    hash,
    snapshot::{self, Snapshot, Snapshots},
};

#[cfg(test)]
mod tests;

/// What the log says up to its end.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) batches: Batches,
    pub(super) ledgers: Ledgers,
    pub(super) keys: Keyrings,
    /// Batches that are over and still in memory, the one that was over first in front.
    pub(super) over: VecDeque<BatchKey>,
    over_kept: usize,
    /// Hashes of all batches that have an event.
    pub(super) known: HashSet<u64>,
    pub(super) last_seq: u64,
    /// The hash of the last event.
    pub(super) mark: u64,
    pub(super) snapshots: Snapshots,
    /// Batches that have events after they left memory.
    stale: BTreeSet<BatchKey>,
    /// Events that were read.
    read: u64,
}

impl Loaded {
    /// Folds. However many batches the log tells of, those that are over do not stay.
    pub(super) async fn from<B: Broker>(
        broker: &B,
        shard: Shard,
        over_kept: usize,
    ) -> Result<Self, BrokerError> {
        let last_seq = broker.last_seq().await?;
        let mut loaded = Self {
            over_kept,
            ..Self::default()
        };
        if last_seq == 0 {
            return Ok(loaded);
        }
        if let Some(snapshot) = snapshot::find(broker, shard, last_seq).await {
            loaded.take(snapshot);
        }
        let begun = loaded.last_seq;
        if begun < last_seq {
            let mut entries = broker.read(Range {
                from: begun + 1,
                until: Some(last_seq),
                filter: Some(subject::events(shard)),
            });
            while let Some(entry) = entries.next().await {
                let entry = entry?;
                loaded.read += 1;
                match Envelope::decode(&entry.payload) {
                    Ok(envelope) => loaded.fold(entry.seq, &envelope),
                    Err(error) => {
                        tracing::warn!(seq = entry.seq, subject = %entry.subject, %error, "an event is passed over");
                    }
                }
                if entry.seq == last_seq {
                    loaded.mark = mark(&entry.subject, &entry.payload);
                }
            }
            loaded.last_seq = last_seq;
        }
        tracing::info!(
            from = begun,
            to = last_seq,
            read = loaded.read,
            batches = loaded.known.len(),
            "folded the log"
        );
        Ok(loaded)
    }

    fn take(&mut self, snapshot: Snapshot) {
        self.last_seq = snapshot.seq;
        self.mark = snapshot.mark;
        self.known = snapshot.known;
        self.ledgers = snapshot.ledgers;
        self.keys = snapshot.keys;
        self.snapshots = Snapshots::found(snapshot.seq);
        let mut over: Vec<_> = snapshot
            .batches
            .iter()
            .filter(|batch| batch.is_closed())
            .map(|batch| (batch.last_seq, batch.key.clone()))
            .collect();
        over.sort();
        self.over = over.into_iter().map(|(_, key)| key).collect();
        let keyed = |batch: BatchState| (batch.key.clone(), batch);
        self.batches = snapshot.batches.into_iter().map(keyed).collect();
    }

    fn fold(&mut self, seq: u64, envelope: &Envelope) {
        self.ledgers.take(seq, envelope);
        self.keys.take(seq, envelope);
        let key = envelope.key();
        if !self.batches.contains_key(&key) && !self.known.insert(hash(&key)) {
            // It has left memory, or its first event made nothing. One look at its own events will tell.
            self.stale.insert(key);
            return;
        }
        let was_closed = self.is_closed(&key);
        evolve_among(&mut self.batches, seq, envelope);
        if self.is_closed(&key) && !was_closed {
            self.over.push_back(key);
            self.forget_old();
        }
    }

    fn is_closed(&self, key: &BatchKey) -> bool {
        self.batches.get(key).is_some_and(BatchState::is_closed)
    }

    fn forget_old(&mut self) {
        while self.over.len() > self.over_kept {
            let Some(key) = self.over.pop_front() else {
                return;
            };
            if self.is_closed(&key) {
                self.batches.remove(&key);
            }
        }
    }

    /// Batches of which only their own events tell how they are.
    pub(super) fn take_stale(&mut self) -> BTreeSet<BatchKey> {
        std::mem::take(&mut self.stale)
    }
}
