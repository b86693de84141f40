//! The command that looks for what is stuck and for what is executed twice.

use serde::{Deserialize, Serialize};

use crate::{
    heal::{HealAction, Seen},
    pipeline::TierNum,
};

/// Look at what is in progress, and put right what is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Heal {
    /// Only in this tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierNum>,
    /// What to look for.
    pub action: HealAction,
    /// Of `detect_stuck`: hand out again what is surely stuck, and with `idle_seconds` what shows no sign of life.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fix: bool,
    /// Of `detect_stuck`: how long no sign of life is told of as stuck, 1 to 86,400; 60 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u32>,
    /// What the leader sees: it fills that in, and nobody else can.
    #[serde(skip)]
    pub seen: Seen,
}

impl Heal {
    /// One that looks for this in all tiers, and changes nothing that is not surely wrong.
    #[must_use]
    pub fn new(action: HealAction) -> Self {
        Self {
            tier: None,
            action,
            fix: false,
            idle_seconds: None,
            seen: Seen::default(),
        }
    }
}
