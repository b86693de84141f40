//! Credits.

use clap::Args;
use redrive_domain::{limits::CREDITS, query::At};

#[derive(Debug, Args)]
pub(crate) struct CreditsArgs {
    /// Let the namespace spend so many credits a month
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=CREDITS), conflicts_with_all = ["unlimited", "at"])]
    pub(crate) set: Option<u64>,
    /// Let it spend as many as it likes
    #[arg(long, conflicts_with = "at")]
    pub(crate) unlimited: bool,
    /// As it was at this log sequence or point in time [default: now]
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) at: Option<At>,
}
