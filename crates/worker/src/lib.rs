//! Workers: they take chunks, run a handler for each unit, report what became of it, and keep nothing.
//!
//! [`run`] is a worker. It takes a chunk only when one of its units can start at once, reads what the units need from
//! the log, runs the [`Handler`](handler::Handler) for each, and reports durably before it acknowledges the chunk.

mod attempt;
mod chunk;
mod execution;
mod flights;
pub mod handler;
pub mod handlers;
mod heartbeat;
mod inputs;
pub mod metrics;
mod report;
mod runner;
mod slots;
mod submit;

pub use runner::{Config, WorkerError, run};

/// The time by the wall clock.
fn now() -> redrive_domain::time::Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    redrive_domain::time::Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
