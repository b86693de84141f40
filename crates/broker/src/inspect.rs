//! What a broker shows of itself to one who looks after it.

use redrive_domain::ids::{HandlerName, ResourceClass};

/// What was seen of a broker and of a shard on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its clock, where it tells the time.
    pub clock: Option<ServerClock>,
    /// What the account uses of what it may use.
    pub usage: Usage,
    /// What the shard is made of.
    pub streams: Vec<StreamReport>,
    /// Who takes from the inbox and from work.
    pub consumers: Vec<ConsumerReport>,
}

/// The broker's clock against the one here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerClock {
    /// How far the broker's clock is ahead of this one, in milliseconds; less than 0 where it is behind.
    pub ahead_ms: i64,
    /// How far off that may be, in milliseconds: half of the time that the answer took.
    pub within_ms: u64,
}

/// What an account uses. A tier of an account counts as the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of files.
    pub storage: Quota,
    /// Bytes of memory.
    pub memory: Quota,
    /// Streams.
    pub streams: Quota,
    /// Consumers.
    pub consumers: Quota,
}

/// How much of something is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// So much is.
    pub used: u64,
    /// So much may be; `None` for no limit of the account's.
    pub limit: Option<u64>,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRole {
    /// The log.
    Log,
    /// Commands and outcomes.
    Inbox,
    /// Chunks.
    Work,
    /// What a leader has folded.
    Snapshots,
    /// Leases.
    Leases,
}

/// A stream, or that it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReport {
    /// What it is for.
    pub role: StreamRole,
    /// Its name at the broker.
    pub name: String,
    /// How it is; `None` where it is missing.
    pub found: Option<StreamState>,
}

/// How a stream is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamState {
    /// Messages in it.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes that it may hold; `None` for no limit of its own.
    pub max_bytes: Option<u64>,
    /// The last sequence.
    pub last_seq: u64,
    /// Copies that it is to have.
    pub replicas: usize,
    /// Copies that are offline or lag, by the names of their servers.
    pub poor_replicas: Vec<String>,
    /// Settings that are not as they should be.
    pub differences: Vec<Difference>,
}

/// A setting that is not as it should be. Values are JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting, as the broker calls it.
    pub setting: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub found: String,
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerReport {
    /// Whose it is.
    pub of: Taker,
    /// Messages that nobody has got yet.
    pub pending: u64,
    /// Messages that were delivered and not acknowledged yet.
    pub unacknowledged: u64,
    /// Settings that are not as they should be.
    pub differences: Vec<Difference>,
}

/// Who takes with a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taker {
    /// The leader, from the inbox.
    Leader,
    /// Workers that serve this handler and this class.
    Pool(HandlerName, ResourceClass),
}

impl Inspection {
    /// The stream of that role.
    #[must_use]
    pub fn stream(&self, role: StreamRole) -> Option<&StreamReport> {
        self.streams.iter().find(|stream| stream.role == role)
    }
}
