//! A batch as a file that can be mailed: its part of the log, from which everything about it can be made again with no
//! broker.
//!
//! The file is lines of JSON, all ASCII: a [`Header`], the events as they stand in the log, and a [`Trailer`] with their
//! count, a SHA-256 of all lines before it, and what the batch came to. So a file that was cut short, or that was changed
//! on its way, is told from a whole one. The hash guards against accidents, not against forgery.
//!
//! This is the format without the reading and writing of files: [`Writer`] makes lines, [`Reader`] takes them.

mod redact;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    event::{Envelope, Undecodable},
    evolve::evolve,
    ids::{BatchId, BatchKey, Namespace},
    state::{BatchState, DocumentCounts},
    status::BatchStatus,
    time::Timestamp,
};

pub use redact::redacted;

/// The version of the format that this code writes, and the last one that it reads.
pub const FORMAT: u32 = 1;
/// Bytes of a line at most: what the largest message that a broker takes (64 MiB) becomes, with some room.
pub const LINE_BYTES: usize = 96 << 20;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format; by this field the file is known.
    pub redrive_export: u32,
    /// The version of the program that wrote it.
    pub program: String,
    /// The tenant.
    pub namespace: Namespace,
    /// The batch.
    pub batch: BatchId,
    /// When it was written.
    pub exported_at: Timestamp,
    /// Whether data, URIs, outputs, parameters and details were left out.
    pub redacted: bool,
}

impl Header {
    /// The header of a file of this version.
    #[must_use]
    pub fn new(key: BatchKey, program: String, exported_at: Timestamp, redacted: bool) -> Self {
        Self {
            redrive_export: FORMAT,
            program,
            namespace: key.namespace,
            batch: key.batch,
            exported_at,
            redacted,
        }
    }

    /// The batch with its place.
    #[must_use]
    pub fn key(&self) -> BatchKey {
        BatchKey {
            namespace: self.namespace.clone(),
            batch: self.batch,
        }
    }
}

/// An event's line.
#[derive(Serialize, Deserialize)]
struct Line {
    seq: u64,
    subject: String,
    payload: String,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// How many events there are.
    pub events: u64,
    /// Events that only a later version can read, and that therefore could not be redacted.
    pub left_out: u64,
    /// What the events came to for the program that wrote them.
    pub folded: Option<Folded>,
    /// The SHA-256 of all lines before this one, each with its line feed, in base 16.
    pub sha256: String,
}

/// The line of a [`Trailer`].
#[derive(Serialize, Deserialize)]
struct End {
    end: Trailer,
}

/// What a batch came to, in few words that mean the same to every version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// How it is doing.
    pub status: BatchStatus,
    /// How many documents it has.
    pub documents: u32,
    /// How many of them are where.
    pub counts: DocumentCounts,
    /// Retries that were decided.
    pub retries: u32,
    /// The log sequence of its last event.
    pub last_seq: u64,
}

impl Folded {
    /// What a state came to.
    #[must_use]
    pub fn of(batch: &BatchState) -> Self {
        Self {
            status: batch.status,
            documents: batch.documents,
            counts: batch.counts(),
            retries: batch.rounds,
            last_seq: batch.last_seq,
        }
    }
}

/// An event that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// Its data cannot be left out, since it cannot be read.
    #[error("event {seq} of the log cannot be redacted: {why}")]
    Redacting {
        /// Its log sequence.
        seq: u64,
        /// Why.
        why: String,
    },
    /// It has no JSON form, which none of ours lacks.
    #[error("a line cannot be written: {0}")]
    Json(String),
}

/// Makes the lines of a file, one after the other. It holds the state of the batch, and no event.
#[derive(Debug)]
pub struct Writer {
    hash: Sha256,
    redact: bool,
    events: u64,
    left_out: u64,
    state: Option<BatchState>,
}

impl Writer {
    /// Begins a file; gives its first line. All lines end with a line feed.
    ///
    /// # Errors
    /// Where it has no JSON form.
    pub fn begin(header: &Header) -> Result<(Self, String), Unwritable> {
        let mut writer = Self {
            hash: Sha256::new(),
            redact: header.redacted,
            events: 0,
            left_out: 0,
            state: None,
        };
        let line = writer.line(header)?;
        Ok((writer, line))
    }

    fn line<T: Serialize>(&mut self, value: &T) -> Result<String, Unwritable> {
        let mut line = json_line(value)?;
        line.push('\n');
        self.hash.update(&line);
        Ok(line)
    }

    /// The line of the next event, where it is not left out.
    ///
    /// # Errors
    /// Where it holds what cannot be read, and so cannot be redacted.
    pub fn event(
        &mut self,
        seq: u64,
        subject: &str,
        payload: &[u8],
    ) -> Result<Option<String>, Unwritable> {
        let envelope = Envelope::decode(payload);
        if let Ok(envelope) = &envelope {
            evolve(&mut self.state, seq, envelope);
        }
        let payload = match (self.redact, envelope) {
            (false, _) => BASE64.encode(payload),
            (true, Ok(envelope)) => {
                let redacted = redacted(envelope).map_err(|error| error.to_string());
                let bytes = redacted.and_then(|event| event.encode().map_err(|e| e.to_string()));
                let bytes = bytes.map_err(|why| Unwritable::Redacting { seq, why })?;
                BASE64.encode(&bytes)
            }
            (true, Err(_)) => {
                self.left_out += 1;
                return Ok(None);
            }
        };
        self.events += 1;
        let line = Line {
            seq,
            subject: subject.to_owned(),
            payload,
        };
        self.line(&line).map(Some)
    }

    /// The last line, and what it says.
    ///
    /// # Errors
    /// Where it has no JSON form.
    pub fn end(self) -> Result<(String, Trailer), Unwritable> {
        let end = Trailer {
            events: self.events,
            left_out: self.left_out,
            folded: self.state.as_ref().map(Folded::of),
            sha256: HEXLOWER.encode(&self.hash.finalize()),
        };
        let end = End { end };
        let mut line = json_line(&end)?;
        line.push('\n');
        Ok((line, end.end))
    }
}

/// JSON in ASCII alone, which no mail program changes: what is not ASCII is written as escapes.
fn json_line<T: Serialize>(value: &T) -> Result<String, Unwritable> {
    let text = serde_json::to_string(value).map_err(|error| Unwritable::Json(error.to_string()))?;
    if text.is_ascii() {
        return Ok(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            let units = &mut [0; 2];
            let units = c.encode_utf16(units).iter();
            units.for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
        }
    }
    Ok(escaped)
}

/// Why a file is none that can be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is something else.
    #[error("this is no file that `redrive export` wrote: its first line is another one")]
    NotAnExport,
    /// A later version wrote it.
    #[error(
        "the file is of format {found}, this version reads up to {FORMAT}: use a later version of redrive"
    )]
    Later {
        /// Its format.
        found: u32,
    },
    /// Its end is missing.
    #[error(
        "the file was cut short after {events} events, at line {line}: its last line is missing. Export it again, or ask for the whole file"
    )]
    Truncated {
        /// The line at which it ends, from 1.
        line: u64,
        /// Events that are there.
        events: u64,
    },
    /// It was changed.
    #[error("the file was changed after it was written: line {line}: {what}. Ask for it again")]
    Corrupted {
        /// The line, from 1.
        line: u64,
        /// What is wrong there.
        what: String,
    },
}

/// What a line of a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The header.
    Header,
    /// An event.
    Event(Box<StoredEvent>),
    /// The trailer, or nothing after it.
    End,
}

/// An event as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its log sequence.
    pub seq: u64,
    /// Its subject.
    pub subject: String,
    /// Its content, as in the log.
    pub payload: Vec<u8>,
}

impl StoredEvent {
    /// Reads its line, which a [`Reader`] has taken before.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Self> {
        let line: Line = serde_json::from_slice(line).ok()?;
        Some(Self {
            seq: line.seq,
            subject: line.subject,
            payload: BASE64.decode(line.payload.as_bytes()).ok()?,
        })
    }

    /// The event.
    ///
    /// # Errors
    /// Where only a later version knows it.
    pub fn envelope(&self) -> Result<Envelope, Undecodable> {
        Envelope::decode(&self.payload)
    }
}

/// Takes the lines of a file, one after the other, and checks them.
#[derive(Debug, Default)]
pub struct Reader {
    hash: Sha256,
    line: u64,
    header: Option<Header>,
    events: u64,
    last_seq: u64,
    trailer: Option<Trailer>,
}

impl Reader {
    /// Takes the next line, without its line end; `ended` says whether it had one.
    ///
    /// # Errors
    /// Where the file was cut short here, or was changed, or is none.
    pub fn line(&mut self, line: &[u8], ended: bool) -> Result<Item, Broken> {
        self.line += 1;
        // Some mail programs write line ends of their own.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let item = match (&self.header, &self.trailer) {
            (None, _) => {
                self.header = Some(read_header(line)?);
                Item::Header
            }
            (Some(_), Some(_)) if line.iter().all(u8::is_ascii_whitespace) => Item::End,
            (Some(_), Some(_)) => return Err(self.corrupted("it stands after the last line")),
            (Some(header), None) => match serde_json::from_slice::<End>(line) {
                Ok(End { end }) => {
                    self.check(&end)?;
                    self.trailer = Some(end);
                    Item::End
                }
                Err(_) if !ended => return Err(self.truncated()),
                Err(_) => {
                    let event = self.event(&header.key(), line)?;
                    self.events += 1;
                    self.last_seq = event.seq;
                    Item::Event(Box::new(event))
                }
            },
        };
        if item != Item::End {
            self.hash.update(line);
            self.hash.update(b"\n");
        }
        Ok(item)
    }

    /// The header, once it was taken.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    fn event(&self, key: &BatchKey, line: &[u8]) -> Result<StoredEvent, Broken> {
        let event = StoredEvent::read(line).ok_or_else(|| self.corrupted("it is no event"))?;
        if event.seq <= self.last_seq {
            return Err(self.corrupted("it is not in order"));
        }
        let other = |envelope: Envelope| envelope.key() != *key;
        if event.envelope().is_ok_and(other) {
            return Err(self.corrupted("it is of another batch"));
        }
        Ok(event)
    }

    fn check(&self, end: &Trailer) -> Result<(), Broken> {
        if end.events != self.events {
            let what = format!(
                "{} events were written, {} are here",
                end.events, self.events
            );
            return Err(self.corrupted(what));
        }
        if end.sha256 != HEXLOWER.encode(&self.hash.clone().finalize()) {
            return Err(self.corrupted("the lines before it are not those that were written"));
        }
        Ok(())
    }

    fn corrupted(&self, what: impl Into<String>) -> Broken {
        Broken::Corrupted {
            line: self.line,
            what: what.into(),
        }
    }

    fn truncated(&self) -> Broken {
        Broken::Truncated {
            line: self.line,
            events: self.events,
        }
    }

    /// The end of the file: what it said of itself.
    ///
    /// # Errors
    /// Where that is not yet its end.
    pub fn end(self) -> Result<(Header, Trailer), Broken> {
        match (self.header, self.trailer) {
            (Some(header), Some(trailer)) => Ok((header, trailer)),
            (None, _) => Err(Broken::NotAnExport),
            (Some(_), None) => Err(Broken::Truncated {
                line: self.line,
                events: self.events,
            }),
        }
    }
}

fn read_header(line: &[u8]) -> Result<Header, Broken> {
    #[derive(Deserialize)]
    struct Format {
        redrive_export: u32,
    }
    let format: Format = serde_json::from_slice(line).map_err(|_| Broken::NotAnExport)?;
    if format.redrive_export > FORMAT {
        let found = format.redrive_export;
        return Err(Broken::Later { found });
    }
    serde_json::from_slice(line).map_err(|error| Broken::Corrupted {
        line: 1,
        what: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
