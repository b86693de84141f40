//! Commands that hold a batch up for a while.

use serde::{Deserialize, Serialize};

use crate::{ids::JobName, pipeline::TierNum};

/// Hand nothing more of these jobs out until they are resumed. What workers hold goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Only jobs of this tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierNum>,
    /// Only jobs of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// Why, for the history; at most 1,000 characters are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Hand out again what was paused, whatever paused it. Units that have failed stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Only jobs of this tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierNum>,
    /// Only jobs of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
}
