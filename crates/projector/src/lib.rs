//! The projector: it reads the log in order, keeps a view of every batch in sled, and answers queries from it.
//!
//! The view is a cache. It is a pure fold of the log (`view`), checkpointed to disk together with the sequence it
//! belongs to (`store`), and made anew from the log whenever anything is wrong with it (`follow`). There may be any
//! number of projectors, each with its own folder.
//!
//! [`differences`] is for those who check one against the log, [`Archive`] for those who have a batch as a file.

mod answer;
mod archive;
mod blocking;
mod clock;
mod details;
mod differences;
mod folder;
mod follow;
mod lru;
pub mod metrics;
mod rows;
mod serve;
mod shared;
mod store;
#[cfg(test)]
mod tests;
mod view;

use std::{path::PathBuf, sync::Arc, time::Duration};

use redrive_broker::{Broker, BrokerError};
use redrive_domain::subject::Shard;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use archive::{Archive, ArchiveError, Checked};
pub use blocking::{Blocking, Work};
pub use clock::Clock;
pub use differences::{Difference, differences};
pub use store::StoreError;

/// How a projector is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The shard that it follows.
    pub shard: Shard,
    /// Where it keeps its view; without one in a temporary folder, which goes with it.
    pub data_dir: Option<PathBuf>,
    /// A checkpoint is due after so many messages.
    pub checkpoint_events: u64,
    /// A checkpoint is due after so much time.
    pub checkpoint_every: Duration,
    /// Batches kept in memory beside those that wait for a checkpoint.
    pub memory_batches: usize,
    /// Bytes of those batches.
    pub memory_bytes: usize,
    /// Bytes of messages that are kept for looking up documents, outputs and failures.
    pub cache_bytes: usize,
    /// How long a query waits for the log to be read as far as it asks.
    pub wait: Duration,
    /// How often to look whether the log and the folder are still those that they were.
    pub look_every: Duration,
    /// Where the time comes from.
    pub clock: Clock,
    /// Where work that blocks is done.
    pub blocking: Blocking,
    /// Where it says how it is doing, at least with each turn of its loop.
    pub vitals: watch::Sender<Vitals>,
}

/// How a projector is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vitals {
    /// Whether it takes queries.
    pub serving: bool,
    /// Whether the log is known to be the one that its view was read from.
    pub trusted: bool,
    /// The log sequence up to which it has read.
    pub applied: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shard: 0,
            data_dir: None,
            checkpoint_events: 5_000,
            checkpoint_every: Duration::from_secs(1),
            memory_batches: 256,
            memory_bytes: 256 << 20,
            cache_bytes: 64 << 20,
            wait: Duration::from_secs(5),
            look_every: Duration::from_secs(5),
            clock: Clock::default(),
            blocking: Blocking::default(),
            vitals: watch::Sender::default(),
        }
    }
}

/// Why a projector could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log cannot be read.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Runs a projector until the shutdown.
///
/// # Errors
/// Where its folder cannot be used, or is used by another one. Trouble with the broker is no error: it is waited out.
pub async fn run<B: Broker>(
    broker: B,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), ProjectorError> {
    let (ready, _) = oneshot::channel();
    run_with_ready(broker, config, shutdown, ready).await
}

/// The same, telling when queries are being served.
///
/// # Errors
/// Those of [`run`].
pub async fn run_with_ready<B: Broker>(
    broker: B,
    config: Config,
    shutdown: CancellationToken,
    ready: oneshot::Sender<()>,
) -> Result<(), ProjectorError> {
    let shared = Arc::new(shared::Shared::new(config.blocking.clone()));
    let mut follower = follow::Follower::new(broker.clone(), Arc::clone(&shared), config.clone());
    follower.open().await?;
    let server = Arc::new(serve::Server::new(broker, shared, config));
    let serving = server.run(ready, shutdown.clone());
    let following = follower.run(shutdown);
    let (_, followed) = tokio::join!(serving, following);
    followed
}
