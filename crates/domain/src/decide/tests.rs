//! What the domain decides, told as stories: given a pipeline, when this is asked or reported, then these events.

mod attempts;
mod breaker;
mod canary;
mod cancel;
mod commands;
mod control;
mod credits;
mod documents;
mod driver;
mod fingerprints;
mod flow;
mod heal;
mod invariants;
mod keys;
mod max_failed;
mod outcomes;
mod pause;
mod plan;
mod retry;
mod segments;
mod serving;
pub(crate) mod story;
mod strikes;
