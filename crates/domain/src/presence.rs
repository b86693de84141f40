//! What coordinators, projectors and gateways say of themselves every second, on a subject that nobody has to listen to. Workers
//! say it with their heartbeats ([`crate::work::Heartbeat`]).

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A process in a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Presence {
    /// Its name; no two of a role share one.
    pub name: String,
    /// The machine that it runs on.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// The version of the program.
    pub version: String,
    /// How it is doing.
    pub standing: Standing,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it said this, by its own clock.
    pub at: Timestamp,
}

/// How a role is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = RoleStanding))]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A coordinator.
    Coordinator(CoordinatorStanding),
    /// A projector.
    Projector(ProjectorStanding),
    /// A gateway.
    Gateway(GatewayStanding),
}

/// How a coordinator is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CoordinatorStanding {
    /// It does not know yet who leads, or cannot ask.
    #[default]
    Seeking,
    /// Somebody else leads.
    StandingBy {
        /// Who.
        leader: String,
    },
    /// It has the lease and reads the log.
    TakingOver,
    /// It leads.
    Leading,
}

/// How a projector is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ProjectorStanding {
    /// Whether it takes queries.
    pub serving: bool,
    /// The log sequence up to which it has read.
    pub applied: u64,
    /// The log's last sequence, where it is known.
    pub last_seq: Option<u64>,
}

impl ProjectorStanding {
    /// Messages of the log that it has not read yet, where that is known.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        Some(self.last_seq?.saturating_sub(self.applied))
    }
}

/// How a gateway is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct GatewayStanding {
    /// Where it answers, for instance `http://127.0.0.1:7070`.
    pub url: String,
    /// Whether it can answer requests.
    pub ready: bool,
}
