//! The fold of a part of the log, for replays and for going back in time.

use futures::StreamExt;
use redrive_broker::{Broker, Range};
use redrive_domain::{
    event::Envelope,
    evolve::{Batches, evolve},
};

use crate::ProjectorError;

/// Folds the log from its beginning up to a sequence, or up to its present end, over the subjects that match the
/// filter. Messages that this version cannot read are skipped with a warning.
///
/// # Errors
/// Where the log cannot be read.
pub async fn fold<B: Broker>(
    broker: &B,
    filter: Option<String>,
    until: Option<u64>,
) -> Result<Batches, ProjectorError> {
    let mut batches = Batches::new();
    let until = match until {
        Some(seq) => seq,
        None => broker.last_seq().await?,
    };
    if until == 0 {
        return Ok(batches);
    }
    let mut entries = broker.read(Range {
        from: 1,
        until: Some(until),
        filter,
    });
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        match Envelope::decode(&entry.payload) {
            Ok(envelope) => {
                let key = envelope.key();
                let mut state = batches.remove(&key);
                evolve(&mut state, entry.seq, &envelope);
                if let Some(state) = state {
                    batches.insert(key, state);
                }
            }
            Err(error) => {
                tracing::warn!(seq = entry.seq, subject = %entry.subject, %error, "a message of the log is skipped");
            }
        }
    }
    Ok(batches)
}
