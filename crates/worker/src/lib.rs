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
mod limits;
pub mod metrics;
mod report;
mod runner;
mod segments;
mod slots;
mod submit;
pub mod world;

pub use runner::{Config, WorkerError, run};
