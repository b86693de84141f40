//! Credits.

use serde::{Deserialize, Serialize};

/// Set what the namespace may spend a month. It is a command to the namespace: bucket and batch are `_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetCredits {
    /// Credits a month, at most 10^15; `null` for no limit. What is spent or held already counts against it.
    // It has to be there: nobody is to lift a limit by leaving a field out.
    #[serde(deserialize_with = "Option::deserialize")]
    #[cfg_attr(feature = "schema", schema(required = true))]
    pub limit: Option<u64>,
}
