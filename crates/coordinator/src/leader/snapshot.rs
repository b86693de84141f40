//! What a leader has folded, kept at the broker, so that the next one reads the end of the log alone.
//!
//! A snapshot is a cache: it counts only where it is of this version of the fold and of this log, which is known by the
//! event that it ends with.

use std::collections::HashSet;

use bytes::Bytes;
use redrive_broker::{Broker, mark};
use redrive_domain::{
    credits::Ledgers,
    evolve::{Batches, FOLD},
    keys::Keyrings,
    state::BatchState,
    subject::Shard,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;

use super::Leader;
use crate::metrics;

/// Bytes of a snapshot at most: beyond it, reading the log is as quick.
const BYTES: usize = 1 << 30;

/// The log up to an event, folded.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Snapshot {
    fold: u32,
    shard: Shard,
    /// The sequence of the last event that it includes.
    pub(super) seq: u64,
    /// The hash of that event's bytes.
    pub(super) mark: u64,
    /// Batches in memory.
    pub(super) batches: Vec<BatchState>,
    /// Hashes of all batches that have an event.
    pub(super) known: HashSet<u64>,
    pub(super) ledgers: Ledgers,
    pub(super) keys: Keyrings,
}

#[derive(Serialize)]
pub(super) struct Shot<'a> {
    fold: u32,
    shard: Shard,
    seq: u64,
    mark: u64,
    batches: Vec<&'a BatchState>,
    known: &'a HashSet<u64>,
    ledgers: &'a Ledgers,
    keys: &'a Keyrings,
}

impl<'a> Shot<'a> {
    pub(super) fn of(
        shard: Shard,
        (seq, mark): (u64, u64),
        batches: &'a Batches,
        known: &'a HashSet<u64>,
        (ledgers, keys): (&'a Ledgers, &'a Keyrings),
    ) -> Self {
        Self {
            fold: FOLD,
            shard,
            seq,
            mark,
            batches: batches.values().collect(),
            known,
            ledgers,
            keys,
        }
    }

    pub(super) fn encode(&self) -> Result<Bytes, rmp_serde::encode::Error> {
        rmp_serde::to_vec_named(self).map(Bytes::from)
    }
}

/// The snapshot that is kept, where it can be used.
pub(super) async fn find<B: Broker>(broker: &B, shard: Shard, last_seq: u64) -> Option<Snapshot> {
    let kept = broker
        .snapshot()
        .await
        .inspect_err(|error| tracing::warn!(%error, "the snapshot cannot be read"))
        .ok()??;
    let snapshot: Snapshot = rmp_serde::from_slice(&kept)
        .inspect_err(|error| tracing::info!(%error, "the snapshot is of another version"))
        .ok()?;
    if (snapshot.fold, snapshot.shard) != (FOLD, shard) || snapshot.seq > last_seq {
        tracing::info!("the snapshot is of another version or log");
        return None;
    }
    let event = broker.get(snapshot.seq).await.ok()??;
    let is_of_this_log = mark(&event.subject, &event.payload) == snapshot.mark;
    if !is_of_this_log {
        tracing::warn!(seq = snapshot.seq, "the snapshot is of another log");
    }
    is_of_this_log.then_some(snapshot)
}

/// What a leader knows about its snapshots.
#[derive(Default)]
pub(super) struct Snapshots {
    /// The last event that the last one includes.
    seq: u64,
    at: Timestamp,
    keeping: Option<AbortOnDropHandle<()>>,
}

impl Snapshots {
    pub(super) fn found(seq: u64) -> Self {
        Self {
            seq,
            ..Self::default()
        }
    }
}

impl<B: Broker> Leader<'_, B> {
    /// Keeps a snapshot now and then. What it holds stands in the log: this is called between rounds.
    pub(super) fn keep_snapshot(&mut self) {
        let now = self.clock.now();
        let news = self.last_seq.saturating_sub(self.snapshots.seq);
        let age = now.since(self.snapshots.at);
        let often = &self.often;
        let due = (news >= often.events && age >= often.rest.into())
            || (news > 0 && age >= often.most.into());
        let busy = self
            .snapshots
            .keeping
            .as_ref()
            .is_some_and(|keeping| !keeping.is_finished());
        if !due || busy {
            return;
        }
        self.snapshots.at = now;
        self.snapshots.seq = self.last_seq;
        let end = (self.last_seq, self.mark);
        let shot = Shot::of(
            self.shard,
            end,
            &self.batches,
            &self.known,
            (&self.ledgers, &self.keys),
        );
        let snapshot = match shot.encode() {
            Ok(bytes) if bytes.len() <= BYTES => bytes,
            Ok(bytes) => {
                tracing::warn!(bytes = bytes.len(), "the snapshot is too large to be kept");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the snapshot has no encoding");
                return;
            }
        };
        #[allow(clippy::cast_precision_loss)]
        ::metrics::gauge!(metrics::SNAPSHOT_BYTES).set(snapshot.len() as f64);
        let broker = self.broker.clone();
        let keeping = tokio::spawn(async move {
            match broker.keep_snapshot(snapshot).await {
                Ok(()) => ::metrics::counter!(metrics::SNAPSHOTS).increment(1),
                Err(error) => tracing::warn!(%error, "the snapshot cannot be kept"),
            }
        });
        self.snapshots.keeping = Some(AbortOnDropHandle::new(keeping));
    }
}
