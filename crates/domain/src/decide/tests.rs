//! What the domain decides, told as stories: given a pipeline, when this is asked or reported, then these events.

mod attempts;
mod breaker;
mod canary;
mod cancel;
mod commands;
mod documents;
mod driver;
mod flow;
mod invariants;
mod max_failed;
mod outcomes;
mod pause;
mod plan;
mod retry;
pub(crate) mod story;
