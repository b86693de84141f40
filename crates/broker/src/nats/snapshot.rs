//! Snapshots: pieces that the broker takes, and a head that names them. The head is written last, so that a snapshot is
//! there as a whole or not at all; what it replaces goes afterwards.

use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use bytes::{Bytes, BytesMut};
use redrive_domain::subject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Inner, error, setup::REMOVAL};
use crate::{BrokerError, Result};

/// Bytes of a piece at most; less where the broker takes less.
const PIECE: usize = 512 * 1024;
/// Room in a message for what is not the piece.
const MARGIN: usize = 1_024;
/// Pieces of a snapshot at most: 4 GiB.
const PIECES: usize = 8_192;
/// How long one piece may take to be read.
const READ: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
struct Head {
    /// The pieces in order, by their sequences.
    pieces: Vec<u64>,
    /// Bytes of all pieces together.
    bytes: u64,
}

impl Inner {
    async fn remake_snapshots(&self) -> Result<()> {
        let [.., snapshots, _] = self.wanted();
        self.remake(snapshots).await
    }

    async fn ensure_snapshots(&self) -> Result<()> {
        let [.., snapshots, _] = self.wanted();
        if self.find_stream(&snapshots.name).await?.is_none() {
            tokio::time::sleep(REMOVAL).await;
            self.create_stream(snapshots).await?;
        }
        Ok(())
    }

    pub(super) async fn keep_snapshot(&self, snapshot: Bytes) -> Result<()> {
        match self.write_snapshot(&snapshot).await {
            Err(BrokerError::Missing(_)) => {
                self.ensure_snapshots().await?;
                self.write_snapshot(&snapshot).await
            }
            // A stream that is there and does not work.
            Err(BrokerError::Other(error)) => {
                tracing::warn!(%error, "the snapshot cannot be written");
                self.remake_snapshots().await?;
                self.write_snapshot(&snapshot).await
            }
            result => result,
        }
    }

    async fn write_snapshot(&self, snapshot: &Bytes) -> Result<()> {
        let shard = self.options.shard;
        let most = self.connection.client.max_payload().saturating_sub(MARGIN);
        let size = PIECE.min(most).max(1);
        let count = snapshot.len().div_ceil(size);
        if count > PIECES {
            return Err(BrokerError::TooLarge {
                size: snapshot.len(),
                limit: PIECES * size,
            });
        }
        let mut head = Head {
            pieces: Vec::with_capacity(count),
            bytes: snapshot.len() as u64,
        };
        for first in (0..snapshot.len()).step_by(size) {
            let piece = snapshot.slice(first..snapshot.len().min(first + size));
            let seq = self.store(subject::snapshot_piece(shard), piece).await?;
            head.pieces.push(seq);
        }
        let body = serde_json::to_vec(&head).map_err(|e| BrokerError::Other(e.to_string()))?;
        let last = self
            .store(subject::snapshot_head(shard), body.into())
            .await?;
        let first = head.pieces.first().copied().unwrap_or(last);
        // To 2.9, a purge before the first message is one of all.
        if first > 1 {
            let stream = &self.names.snapshots;
            let purge = format!("STREAM.PURGE.{stream}");
            let before = json!({ "seq": first });
            let _: Value = self.demand(stream, &purge, &before).await?;
        }
        Ok(())
    }

    async fn store(&self, subject: String, payload: Bytes) -> Result<u64> {
        let mut guard = self.connection.denials.guard();
        let publish = PublishMessage::build().payload(payload);
        let sent = async {
            let ack = self.context.send_publish(subject.clone(), publish).await?;
            ack.await
        };
        let ack = guard.race(&subject, sent).await?.map_err(|error| {
            error::stream_publish(&self.names.snapshots, self.wait, &error).into_error(0)
        })?;
        Ok(ack.sequence)
    }

    pub(super) async fn snapshot(&self) -> Result<Option<Bytes>> {
        let stream = &self.names.snapshots;
        let which = json!({ "last_by_subj": subject::snapshot_head(self.options.shard) });
        let head = match self.stored(stream, &which).await {
            Ok(Some(stored)) => stored.entry.payload,
            Ok(None) | Err(BrokerError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(head) = serde_json::from_slice::<Head>(&head) else {
            return Ok(None);
        };
        let mut snapshot = BytesMut::new();
        for seq in head.pieces {
            let piece = timeout(READ, self.stored(stream, &json!({ "seq": seq }))).await;
            match piece.map_err(|_| BrokerError::Timeout(READ))?? {
                Some(stored) => snapshot.extend_from_slice(&stored.entry.payload),
                // Replaced by another meanwhile.
                None => return Ok(None),
            }
        }
        let whole = snapshot.len() as u64 == head.bytes;
        Ok(whole.then(|| snapshot.freeze()))
    }
}
