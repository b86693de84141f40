//! Workers: they take chunks, run a handler for each unit, report what became of it, and keep nothing.

pub mod handler;
pub mod handlers;
