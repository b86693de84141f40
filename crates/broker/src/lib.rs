//! The broker, as Redrive needs it: a log, an inbox, work, leases, requests and signals of one shard.
//!
//! [`Broker`] is the port. It has two providers: NATS JetStream, which is what runs, and an in-memory one for
//! deterministic simulation. One contract suite holds both to the same behaviour. No other crate knows async-nats.

#[cfg(any(test, feature = "contract"))]
#[doc(hidden)]
pub mod contract;
mod fold;
mod inspect;
mod mark;
pub mod memory;
pub mod metrics;
pub mod nats;
mod pattern;
#[cfg(test)]
mod tests;

pub use fold::{Folded, Until, fold};
pub use inspect::{
    ConsumerReport, Difference, Inspection, Quota, ServerClock, StreamReport, StreamRole,
    StreamState, Taker, Usage,
};
pub use mark::mark;
pub use pattern::matches;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use futures::stream::BoxStream;
use redrive_domain::ids::{HandlerName, ResourceClass};

/// A message to be stored or sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its subject, built by [`redrive_domain::subject`].
    pub subject: String,
    /// Its content.
    pub payload: Bytes,
    /// W3C trace context, carried in the header `traceparent`.
    pub trace: Option<String>,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log, from 1.
    pub seq: u64,
    /// Its subject.
    pub subject: String,
    /// Its content.
    pub payload: Bytes,
}

/// Why an operation did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// There is no connection.
    #[error("the broker at {0} cannot be reached")]
    Unreachable(String),
    /// No answer in time. Whether it happened is not known.
    #[error("the broker did not answer within {0:?}")]
    Timeout(Duration),
    /// The account may not do this.
    #[error("the broker does not allow it: {0}")]
    Denied(String),
    /// Somebody else has written to the log: this writer is deposed and must fold the log afresh.
    #[error("the log is not at sequence {expected} as this writer believed")]
    Conflict {
        /// What the writer believed the last sequence to be.
        expected: u64,
    },
    /// A message is larger than the broker takes.
    #[error("a message of {size} bytes is more than the {limit} that the broker takes")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The broker's limit in bytes.
        limit: usize,
    },
    /// Nobody serves this subject.
    #[error("nobody answers {0}")]
    NoResponders(String),
    /// A stream, consumer or bucket is not there (any more); [`Broker::ensure`] makes it again.
    #[error("{0} is missing at the broker")]
    Missing(String),
    /// Anything else.
    #[error("the broker refused: {0}")]
    Other(String),
}

/// The result of an operation.
pub type Result<T, E = BrokerError> = std::result::Result<T, E>;

/// Which part of the log to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The first sequence.
    pub from: u64,
    /// The last sequence; without one the reading goes on with what is appended.
    pub until: Option<u64>,
    /// Only subjects that match this filter (`*` and `>` as in NATS).
    pub filter: Option<String>,
}

/// A message that was delivered and has to be acknowledged.
pub struct Delivery {
    /// Its subject.
    pub subject: String,
    /// Its content.
    pub payload: Bytes,
    /// W3C trace context.
    pub trace: Option<String>,
    /// The same whenever the same message is delivered, and unlike that of any other.
    pub id: u128,
    /// How often it has been delivered, from 1.
    pub delivered: u64,
    /// How to answer for it.
    pub receipt: Box<dyn Receipt>,
}

/// The way to answer for a delivery. What is never acknowledged is delivered again.
pub trait Receipt: Send + Sync {
    /// It is dealt with: never deliver it again. Fire and forget; a lost acknowledgement shows as a redelivery.
    fn ack(&self) -> futures::future::BoxFuture<'_, Result<()>>;
    /// Deliver it again, at once.
    fn give_back(&self) -> futures::future::BoxFuture<'_, Result<()>>;
    /// It is still being dealt with: start the redelivery clock anew.
    fn extend(&self) -> futures::future::BoxFuture<'_, Result<()>>;
}

/// Where deliveries come from.
pub trait Deliveries: Send {
    /// Up to `max` messages: waits at most `wait` for the first, and takes what is there by then.
    fn next(
        &mut self,
        max: usize,
        wait: Duration,
    ) -> futures::future::BoxFuture<'_, Result<Vec<Delivery>>>;
}

/// A request that waits for an answer.
pub struct Request {
    /// Its subject.
    pub subject: String,
    /// Its content.
    pub payload: Bytes,
    /// W3C trace context.
    pub trace: Option<String>,
    /// Where to answer. Dropping it leaves the asker to time out.
    pub reply: Box<dyn Reply>,
}

/// The way to answer a request.
pub trait Reply: Send + Sync {
    /// Answers. `error` carries a code and a short text beside the body (`Nats-Service-Error-Code` and
    /// `Nats-Service-Error` of the NATS micro protocol).
    fn send(
        self: Box<Self>,
        body: Bytes,
        error: Option<(u16, String)>,
    ) -> futures::future::BoxFuture<'static, Result<()>>;
}

/// What a service is called (see `nats micro ls`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name, of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The subject it answers, which may have wildcards.
    pub subject: String,
    /// Those of one queue share the requests.
    pub queue: String,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// The asker, for another time-to-live from now.
    Held,
    /// Somebody else.
    HeldBy(String),
}

/// What the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Its version.
    pub version: String,
    /// The largest message, in bytes.
    pub max_payload: usize,
}

/// The broker of one shard.
pub trait Broker: Clone + Send + Sync + 'static {
    /// Creates what is missing (streams, consumers, buckets); leaves alone what is there.
    fn ensure(&self) -> impl Future<Output = Result<()>> + Send;

    /// What the broker is.
    fn info(&self) -> BrokerInfo;

    /// Whether there is a connection just now.
    fn is_connected(&self) -> bool;

    /// Looks at the broker and at what the shard is made of, and changes nothing.
    fn inspect(&self) -> impl Future<Output = Result<Inspection>> + Send;

    /// Does what [`Broker::ensure`] does, and also puts settings right that differ and can be changed in place. What
    /// cannot be is an error that says so; then delete the part while it is empty, and ensure again.
    fn repair(&self) -> impl Future<Output = Result<()>> + Send;

    /// Appends to the log, in order, pipelined, provided that the log's last sequence is `after`; each message is
    /// chained to the one before. Returns the last sequence.
    ///
    /// On an error a prefix of the messages may have been stored: fold the log afresh before going on. A lost
    /// acknowledgement is cleared up by reading back and is no error; nor is an append that finds just these messages
    /// where they belong. Somebody else's message never comes to stand between these. Calls on one broker take turns.
    ///
    /// On a replicated log each message waits for the one before, so pack what belongs together into one message.
    fn append(
        &self,
        messages: Vec<Message>,
        after: u64,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// The log's last sequence; 0 where it is empty.
    fn last_seq(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Reads the log in order, without gaps, over reconnects. With `until`, ends after the last match at or before it.
    ///
    /// An `until` beyond the end of the log is the end of the log, as it is when the reading gets there. While the
    /// broker is away the stream has nothing and goes on later; it only fails, and ends, where going on is pointless
    /// (the log is missing, reading is not allowed).
    fn read(&self, range: Range) -> BoxStream<'static, Result<Entry>>;

    /// One entry. Waits a bounded while for a sequence that is not there yet (a replica may lag); `None` if it never
    /// came.
    fn get(&self, seq: u64) -> impl Future<Output = Result<Option<Entry>>> + Send;

    /// Hands messages over to the inbox durably; a message with an id already seen within two minutes is stored once.
    /// Retries a bounded number of times.
    fn submit(
        &self,
        message: Message,
        id: Option<String>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Becomes the reader of the inbox. Whatever an earlier reader had not acknowledged is delivered again, at once and
    /// in order; the earlier reader gets nothing any more but [`BrokerError::Missing`], and its acknowledgements count
    /// for nothing.
    fn inbox(&self) -> impl Future<Output = Result<Box<dyn Deliveries>>> + Send;

    /// Puts chunks up for workers, durably, pipelined.
    fn offer(&self, chunks: Vec<Message>) -> impl Future<Output = Result<()>> + Send;

    /// Takes chunks for a handler and a resource class, shared with all others that take the same. A chunk that is
    /// not acknowledged or extended within 30 seconds goes to somebody else. No more chunks are held than
    /// [`Deliveries::next`] asked for; a call that was given up may leave its chunks to the next call.
    fn take(
        &self,
        handler: &HandlerName,
        class: &ResourceClass,
    ) -> impl Future<Output = Result<Box<dyn Deliveries>>> + Send;

    /// Takes chunks back that match the filter, whether a worker has them or not.
    fn withdraw(&self, filter: &str) -> impl Future<Output = Result<()>> + Send;

    /// Makes the place of chunks anew, with nothing in it, as it was before the first [`Broker::ensure`] and after it. For
    /// one that is there and does not work: a server (2.9) that is told to delete a stream while others create it again
    /// can end up with one whose files are gone.
    fn remake_work(&self) -> impl Future<Output = Result<()>> + Send;

    /// The subjects of all chunks that are up or with a worker.
    fn offered(&self) -> impl Future<Output = Result<Vec<String>>> + Send;

    /// Takes or renews the lease of that name for the holder. A lease only decides who tries; the log decides who
    /// writes.
    fn lease(&self, name: &str, holder: &str) -> impl Future<Output = Result<Lease>> + Send;

    /// Gives the lease back, where the holder has it.
    fn release(&self, name: &str, holder: &str) -> impl Future<Output = Result<()>> + Send;

    /// How long a lease lasts without renewal.
    fn lease_ttl(&self) -> Duration;

    /// Keeps a snapshot of what a leader has folded, in place of the one before. It is a cache: whoever finds none, or a
    /// broken one, reads the log.
    fn keep_snapshot(&self, snapshot: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// The snapshot that was kept last, where there is a whole one.
    fn snapshot(&self) -> impl Future<Output = Result<Option<Bytes>>> + Send;

    /// Asks and waits for the answer. An answer with an error beside it is an answer: its body is returned.
    fn request(
        &self,
        message: Message,
        wait: Duration,
    ) -> impl Future<Output = Result<Bytes>> + Send;

    /// Serves requests until the stream is dropped.
    fn serve(
        &self,
        spec: ServiceSpec,
    ) -> impl Future<Output = Result<BoxStream<'static, Request>>> + Send;

    /// Tells whoever listens now.
    fn signal(&self, message: Message) -> impl Future<Output = Result<()>> + Send;

    /// Listens to signals from now on.
    fn listen(
        &self,
        filter: String,
    ) -> impl Future<Output = Result<BoxStream<'static, Message>>> + Send;
}
