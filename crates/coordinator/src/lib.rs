//! The coordinator: the single writer of a shard's log.
//!
//! It takes inputs (commands, outcomes, the passing of time, heartbeats), lets the pure core decide, appends the events,
//! and only when they stand in the log acknowledges, answers and hands out chunks. Its state is a fold of the log; what
//! it knows beside that (who holds which chunk, how long a unit takes) is rebuilt from what workers say.

mod dispatch;
mod leader;
pub mod metrics;
mod repeat;
mod round;
pub mod scheduler;
mod standby;
pub mod world;

pub use standby::{Config, CoordinatorError, SnapshotsKept, run};
