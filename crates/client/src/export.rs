//! A batch written out, event by event: see [`redrive_domain::export`].

use std::io;

use futures::StreamExt;
use redrive_broker::{Broker, BrokerError, Range};
use redrive_domain::{
    command::Refusal,
    event::Envelope,
    export::{Header, Trailer, Unwritable, Writer},
    ids::{BatchId, BatchKey},
    query::At,
    subject::{self, Shard},
    time::Timestamp,
};

use crate::{Client, ClientError};

/// How a batch is written out.
#[derive(Debug, Clone)]
pub struct Export {
    /// The shard that it is of.
    pub shard: Shard,
    /// The version of the program, for the header.
    pub program: String,
    /// The time, for the header.
    pub now: Timestamp,
    /// Up to this moment; all there is by now unless said.
    pub at: Option<At>,
    /// Whether to leave out what [`redrive_domain::export::redacted`] leaves out.
    pub redact: bool,
}

/// Why a batch was not written out, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is none, or the log cannot be read.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An event cannot be written.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    /// What takes the lines does not.
    #[error("the export cannot be written")]
    Io(#[from] io::Error),
}

impl From<BrokerError> for ExportError {
    fn from(error: BrokerError) -> Self {
        Self::Client(error.into())
    }
}

impl<B: Broker> Client<B> {
    /// Reads a batch's part of the log and writes it, line by line, as an export: one event and the batch's state are in
    /// memory, however many events there are. Nothing is written where there is no batch.
    ///
    /// # Errors
    /// See [`ExportError`]. What was written until then has no end, which a reader tells.
    pub async fn export(
        &self,
        batch: BatchId,
        ask: &Export,
        mut write: impl FnMut(&str) -> io::Result<()>,
    ) -> Result<Trailer, ExportError> {
        let key = BatchKey {
            namespace: self.namespace().clone(),
            batch,
        };
        let end = self.broker().last_seq().await?;
        let until = match ask.at {
            Some(At::Seq(seq)) => seq.min(end),
            Some(At::Time(_)) | None => end,
        };
        let missing = || ClientError::from(Refusal::no_batch(&key));
        if until == 0 {
            return Err(missing().into());
        }
        let mut entries = self.broker().read(Range {
            from: 1,
            until: Some(until),
            filter: Some(subject::events_of_batch(ask.shard, &key)),
        });
        let header = Header::new(key.clone(), ask.program.clone(), ask.now, ask.redact);
        let mut begun: Option<Writer> = None;
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            if let Some(At::Time(time)) = ask.at
                && Envelope::decode(&entry.payload).is_ok_and(|envelope| envelope.at > time)
            {
                break;
            }
            let writer = match &mut begun {
                Some(writer) => writer,
                None => {
                    let (writer, line) = Writer::begin(&header)?;
                    write(&line)?;
                    begun.insert(writer)
                }
            };
            if let Some(line) = writer.event(entry.seq, &entry.subject, &entry.payload)? {
                write(&line)?;
            }
        }
        let (line, trailer) = begun.ok_or_else(missing)?.end()?;
        write(&line)?;
        Ok(trailer)
    }
}
