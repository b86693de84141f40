//! An event as it stands in the log, with what led to it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Event;
use crate::{
    ids::{BatchId, BatchKey, ChunkId, CommandId, EventId, Namespace},
    time::Timestamp,
};

/// The version of the envelope that this code writes.
pub const VERSION: u16 = 1;

/// An event with its circumstances: one message of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Envelope {
    /// The version of the envelope.
    pub v: u16,
    /// The event's id, a UUIDv7.
    pub id: EventId,
    /// When it was decided, by the coordinator's clock.
    pub at: Timestamp,
    /// The tenant.
    pub namespace: Namespace,
    /// The batch.
    pub batch: BatchId,
    /// What led to it.
    pub cause: Cause,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// W3C trace context (`traceparent`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// What happened.
    pub event: Event,
}

/// What led to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = EventCause))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A command with this id.
    Command(CommandId),
    /// The outcome, or the loss, of this chunk.
    Chunk(ChunkId),
    /// It follows from what the log already says.
    State,
}

/// Bytes that are no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an event that this version can read: {0}")]
pub struct Undecodable(String);

impl Envelope {
    /// What people and programs are shown of it: its place, its type (the end of its subject), its circumstances, and under
    /// `event` its fields.
    ///
    /// # Errors
    /// Where a packed part cannot be read.
    pub fn shown(&self, seq: u64, kind: &str) -> serde_json::Result<Value> {
        let whole = serde_json::to_value(self)?;
        let mut shown = json!({ "seq": seq, "type": kind });
        for field in ["at", "namespace", "batch", "cause", "actor", "trace", "id"] {
            if let Some(value) = whole.get(field) {
                shown[field] = value.clone();
            }
        }
        // An event without fields would be a bare name.
        let event = whole.get("event");
        if let Some(fields) = event.and_then(|event| event.get(self.event.name())) {
            shown["event"] = fields.clone();
        }
        Ok(shown)
    }

    /// The batch with its place.
    #[must_use]
    pub fn key(&self) -> BatchKey {
        BatchKey {
            namespace: self.namespace.clone(),
            batch: self.batch,
        }
    }

    /// As it stands in the log: MessagePack with field names.
    ///
    /// # Errors
    /// Where a part has no MessagePack form, which none of ours lacks.
    pub fn encode(&self) -> Result<Vec<u8>, Undecodable> {
        rmp_serde::to_vec_named(self).map_err(|e| Undecodable(e.to_string()))
    }

    /// From what stands in the log.
    ///
    /// # Errors
    /// Where it is not an event, or one that only a later version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        rmp_serde::from_slice(bytes).map_err(|e| Undecodable(e.to_string()))
    }
}
