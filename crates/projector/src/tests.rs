//! The projector on logs that the tests write, on the in-memory broker and on a real one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "these are tests"
)]

mod documents;
mod heal;
mod log;
mod nats;
mod queries;
mod rows;
mod store;
mod time;
