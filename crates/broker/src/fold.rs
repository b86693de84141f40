//! Reading a part of the log as what it amounts to: a leader does it, a replay, and whoever checks one against the other.

use futures::StreamExt;
use redrive_domain::{
    credits::Ledgers,
    event::Envelope,
    evolve::{Batches, evolve_among},
    keys::Keyrings,
    query::At,
    time::Timestamp,
};

use crate::{Broker, Range, Result};

/// How far to fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// To the present end.
    End,
    /// To this sequence, or to the present end where that comes first.
    Seq(u64),
    /// To the last event that was decided by this time.
    Time(Timestamp),
}

impl From<At> for Until {
    fn from(at: At) -> Self {
        match at {
            At::Seq(seq) => Self::Seq(seq),
            At::Time(time) => Self::Time(time),
        }
    }
}

/// What a part of the log amounts to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folded {
    /// The batches.
    pub batches: Batches,
    /// The ledgers, as far as the filter lets events about credits through.
    pub ledgers: Ledgers,
    /// The keys to the HTTP interface, as far as the filter lets events about them through.
    pub keys: Keyrings,
    /// Events that were folded.
    pub events: u64,
    /// Events that this version cannot read; each was passed over with a warning.
    pub unreadable: u64,
}

/// Folds the log from its beginning, over the subjects that match the filter.
///
/// # Errors
/// Where the log cannot be read.
pub async fn fold<B: Broker>(broker: &B, filter: Option<String>, until: Until) -> Result<Folded> {
    let mut folded = Folded::default();
    let end = broker.last_seq().await?;
    let last = match until {
        Until::Seq(seq) => seq.min(end),
        Until::End | Until::Time(_) => end,
    };
    if last == 0 {
        return Ok(folded);
    }
    let mut entries = broker.read(Range {
        from: 1,
        until: Some(last),
        filter,
    });
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        match Envelope::decode(&entry.payload) {
            Ok(envelope) => {
                if matches!(until, Until::Time(time) if envelope.at > time) {
                    break;
                }
                evolve_among(&mut folded.batches, entry.seq, &envelope);
                folded.ledgers.take(entry.seq, &envelope);
                folded.keys.take(entry.seq, &envelope);
                folded.events += 1;
            }
            Err(error) => {
                tracing::warn!(seq = entry.seq, subject = %entry.subject, %error, "an event is passed over");
                folded.unreadable += 1;
            }
        }
    }
    Ok(folded)
}
