//! Finds or obtains a `nats-server` binary and runs it as a managed child.
//!
//! The API is synchronous: every call is bounded in time, but some of them
//! wait for a process, so asynchronous callers wrap them in `spawn_blocking`.

mod command;
mod config;
mod error;
mod obtain;
mod pip;
mod process;
mod ready;
mod server;
mod stale;
pub mod testing;

pub use config::{ServerConfig, SyncInterval};
pub use error::{ObtainError, StartError};
pub use obtain::{PINNED_VERSION, binary_version, obtain, obtain_pinned};
pub use server::Server;
