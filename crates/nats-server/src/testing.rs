//! Servers for tests: each on a store of its own that goes when it goes.

use std::env;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::config::ServerConfig;
use crate::error::{ObtainError, StartError};
use crate::obtain::{binary_version, obtain, obtain_pinned};
use crate::server::Server;

/// Why a test has no server.
#[derive(Debug, thiserror::Error)]
pub enum TestServerError {
    /// There is no binary.
    #[error(transparent)]
    Obtain(#[from] ObtainError),
    /// The server did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no place for the store.
    #[error("no temporary folder could be made: {0}")]
    Store(#[from] io::Error),
}

/// A server on a free port with a temporary store.
///
/// It is used as the [`Server`] that it holds. On drop it is killed and its
/// store is removed.
#[derive(Debug)]
pub struct TestServer {
    server: Server,
    store: TempDir,
}

impl TestServer {
    /// Starts the server that [`obtain`] finds.
    ///
    /// # Errors
    /// If there is none or it does not start.
    pub fn start() -> Result<Self, TestServerError> {
        Self::start_with(&obtain(None)?)
    }

    /// Starts the given server.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_with(binary: &Path) -> Result<Self, TestServerError> {
        Self::start_configured(binary, |_| {})
    }

    /// Starts the given server with changes to its configuration.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_configured(
        binary: &Path,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Result<Self, TestServerError> {
        let store = tempfile::Builder::new().prefix("redrive-nats-").tempdir()?;
        let mut config = ServerConfig::new(binary, store.path());
        change(&mut config);
        let server = Server::start(config)?;
        Ok(Self { server, store })
    }

    /// The temporary store.
    pub fn store(&self) -> &Path {
        self.store.path()
    }
}

impl Deref for TestServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for TestServer {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // An orderly stop would only save data that goes with the store.
        if let Err(error) = self.server.kill() {
            tracing::warn!(%error, "a test's nats-server could not be killed");
        }
    }
}

/// The older server of the contract suite, 2.9 as Debian ships it.
///
/// `REDRIVE_NATS_SERVER_OLD` names it; without that it is the installed one,
/// if that is a 2.9.
pub fn debian_binary() -> Option<PathBuf> {
    if let Some(path) = env::var_os("REDRIVE_NATS_SERVER_OLD").filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(path));
    }
    ["/usr/sbin/nats-server", "/usr/bin/nats-server"]
        .into_iter()
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .find(|path| binary_version(path).is_some_and(|version| version.starts_with("2.9.")))
}

/// The newer server of the contract suite: the pinned version, whatever is
/// installed.
///
/// # Errors
/// If it is not in the cache and cannot be downloaded.
pub fn newest_binary() -> Result<PathBuf, ObtainError> {
    obtain_pinned(None)
}
