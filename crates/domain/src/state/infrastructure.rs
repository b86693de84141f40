//! What became of the machines and processes under a batch.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{
    event::{Attempt, Event},
    failure::{FailureKind, normal},
    ids::{JobName, WorkerId},
    limits::INFRASTRUCTURE_EVENTS,
    pipeline::TierNum,
    time::Timestamp,
};

/// What became of the machines and processes under a batch: all of it counted, the last of it in detail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Infrastructure {
    /// Attempts that it cost, by kind of event.
    pub attempts: BTreeMap<FailureKind, u64>,
    /// The last events, in their order; at most [`INFRASTRUCTURE_EVENTS`].
    pub last: VecDeque<InfrastructureEvent>,
}

/// Something that happened to a process or a machine, and the attempts that it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InfrastructureEvent {
    /// What: see [`Infrastructure::is_kind`].
    #[serde(rename = "type")]
    pub kind: FailureKind,
    /// When.
    pub at: Timestamp,
    /// The log sequence that says so.
    pub seq: u64,
    /// The tier of the attempts.
    pub tier: TierNum,
    /// Their job.
    pub job: JobName,
    /// Who made them, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// How many units it cost an attempt.
    pub units: u64,
    /// What was said of the first of them, without what names a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Infrastructure {
    /// Whether failures of this kind are such events.
    #[must_use]
    pub fn is_kind(kind: &FailureKind) -> bool {
        const KINDS: [&str; 5] = [
            "out_of_memory",
            "preempted",
            "worker_lost",
            "crashed",
            "poison",
        ];
        KINDS.contains(&kind.as_str())
    }

    /// Notes an event, where it is such a one.
    pub(crate) fn note(&mut self, seq: u64, at: Timestamp, event: &Event) {
        let (attempt, kind, message): (&Attempt, _, _) = match event {
            Event::WorkerLost { attempt, .. } => (attempt, FailureKind::WORKER_LOST, None),
            Event::AttemptFailed {
                attempt,
                kind,
                units,
                ..
            }
            | Event::DocumentsFailed {
                attempt,
                kind,
                units,
                ..
            } if Self::is_kind(kind) => {
                let message = units.first().map(|first| normal(&first.failure.message));
                (attempt, kind.clone(), message)
            }
            _ => return,
        };
        let units = event.units().len();
        let count = self.attempts.entry(kind.clone()).or_default();
        *count = count.saturating_add(units);
        if self.last.len() >= INFRASTRUCTURE_EVENTS {
            self.last.pop_front();
        }
        self.last.push_back(InfrastructureEvent {
            kind,
            at,
            seq,
            tier: attempt.tier,
            job: attempt.job.clone(),
            worker: attempt.worker.clone(),
            units,
            message,
        });
    }
}
