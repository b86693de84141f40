//! The command that puts right what is stuck.

use clap::{Args, ValueEnum};
use redrive_domain::{heal::HealAction, pipeline::TierNum, time::Millis};

use super::{BatchArg, parse_tier};

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Documents in progress of which nothing comes
    DetectStuck,
    /// Documents executed twice at once: all executions but one are stopped
    KillDuplicates,
}

impl From<Action> for HealAction {
    fn from(action: Action) -> Self {
        match action {
            Action::DetectStuck => Self::DetectStuck,
            Action::KillDuplicates => Self::KillDuplicates,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct HealArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Only in this tier
    #[arg(long, value_name = "N", value_parser = parse_tier)]
    pub(crate) tier: Option<TierNum>,
    /// What to look for
    #[arg(long, value_enum, default_value = "detect_stuck")]
    pub(crate) action: Action,
    /// Hand out again what is surely stuck, and with --idle what has shown no sign of life for that long
    #[arg(long)]
    pub(crate) fix: bool,
    /// After how long without a sign of life something counts as stuck, 1s to 24h [default: 60s]
    #[arg(long, value_name = "SPAN", value_parser = parse_idle)]
    pub(crate) idle: Option<u32>,
}

fn parse_idle(text: &str) -> Result<u32, String> {
    let span: Millis = text
        .parse()
        .map_err(|error: redrive_domain::time::InvalidSpan| error.to_string())?;
    let limits = redrive_domain::limits::HEAL_IDLE_SECONDS;
    u32::try_from(span.0.div_ceil(1_000))
        .ok()
        .filter(|seconds| limits.contains(seconds))
        .ok_or_else(|| "it takes 1s to 24h".to_owned())
}
