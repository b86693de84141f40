//! The rules of Redrive, with nothing else in them.
//!
//! A batch is a few compressed sets of unit ordinals per job. [`decide`] looks at that state and an input and answers
//! with events; [`evolve`](mod@evolve) folds an event into the state. Both are pure: no clock, no randomness, no I/O, no
//! async. Times and ids arrive in the input, effects leave as data.
//!
//! The coordinator, the projector and a replay run exactly this code, so that the same log gives the same state.

#[cfg(test)]
mod arbitrary;
pub mod canary;
pub mod cancel;
pub mod command;
pub mod credits;
pub mod decide;
pub mod diagnosis;
pub mod document;
pub mod event;
pub mod evolve;
pub mod export;
pub mod failure;
pub mod heal;
pub mod ids;
pub mod invariants;
pub mod keys;
pub mod limits;
pub mod packed;
pub mod pause;
pub mod pipeline;
pub mod plan;
pub mod presence;
pub mod query;
#[cfg(feature = "schema")]
pub mod schema;
pub mod segments;
pub mod share;
pub mod state;
pub mod status;
pub mod subject;
pub mod text;
pub mod time;
pub mod units;
pub mod work;
