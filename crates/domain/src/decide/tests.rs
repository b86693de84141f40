//! What the domain decides, told as stories: given a pipeline, when this is asked or reported, then these events.

mod attempts;
mod cancel;
mod commands;
mod control;
mod documents;
mod driver;
mod flow;
mod invariants;
mod outcomes;
mod pause;
mod plan;
mod retry;
pub(crate) mod story;
