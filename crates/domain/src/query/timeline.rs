//! What happened to a batch, in few lines: events that only say that it goes on are told together.

use serde::{Deserialize, Serialize};

use super::{At, BatchRef};
use crate::{
    event::{Cause, Envelope, Event},
    failure::{FailureClass, FailureKind},
    ids::{JobName, WorkerId},
    pipeline::TierNum,
    time::Timestamp,
};

/// Events that are told together at most.
const RUN_EVENTS: u64 = 10_000;
/// Lines of one run at most: handlers name kinds of their own.
const RUN_ROWS: usize = 64;

/// Asks what happened to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReadTimeline {
    /// To which.
    pub batch: BatchRef,
    /// At most so many lines, 1 to 1,000; 100 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 1_000))]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// See [`super::OfBatch::min_seq`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
    /// Up to this moment; up to now unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
}

/// A line of the timeline: one event, or several that say alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TimelineRow {
    /// The log sequence of the first event.
    pub seq: u64,
    /// The log sequence of the last event.
    pub last_seq: u64,
    /// When the first event was decided.
    pub at: Timestamp,
    /// When the last event was decided.
    pub until: Timestamp,
    /// How many events.
    pub events: u64,
    /// Their type, as in their subjects.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The tier, where they are about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierNum>,
    /// The job, where they are about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// The class of the failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// The kind of the failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<FailureKind>,
    /// The worker that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Units that they speak of, or documents where no job is named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub units: u64,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What it was, for a person.
    pub text: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde gives a reference
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Folds the events of a batch into chapters: an event that marks a change stands alone, and those between two of these
/// make one chapter, with a line for each thing that they say. A fold that begins with the first event of a chapter gives
/// the same chapters from there on.
#[derive(Debug, Default)]
pub struct Chapters {
    rows: Vec<TimelineRow>,
    events: u64,
    /// Whether more of the same may join.
    going: Going,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Going {
    #[default]
    No,
    /// Events that say that it goes on.
    Progress,
    /// The rest of a decision that takes several events.
    Decision(Cause),
}

impl Chapters {
    /// Takes the next event; gives back the chapter that is over with it. It is never empty.
    pub fn take(&mut self, seq: u64, envelope: &Envelope) -> Option<Vec<TimelineRow>> {
        let row = text::row(seq, envelope);
        let going = Going::after(envelope);
        let same = |one: &TimelineRow| {
            one.event_type == row.event_type
                && (one.tier, &one.job) == (row.tier, &row.job)
                && (one.class, &one.kind, &one.worker) == (row.class, &row.kind, &row.worker)
        };
        let place = self.rows.iter().position(same);
        let joins = match (self.going, going) {
            (Going::Progress, Going::Progress) => {
                self.events < RUN_EVENTS && (place.is_some() || self.rows.len() < RUN_ROWS)
            }
            (Going::Decision(cause), _) => cause == envelope.cause && place.is_some(),
            _ => false,
        };
        self.going = going;
        if !joins {
            self.events = 1;
            let over = std::mem::replace(&mut self.rows, vec![row]);
            return (!over.is_empty()).then_some(over);
        }
        self.events += 1;
        match place.and_then(|place| self.rows.get_mut(place)) {
            Some(known) => {
                known.last_seq = row.last_seq;
                known.until = row.until;
                known.events += 1;
                known.units = known.units.saturating_add(row.units);
            }
            None => self.rows.push(row),
        }
        None
    }

    /// The last chapter, where there is one.
    #[must_use]
    pub fn rest(self) -> Option<Vec<TimelineRow>> {
        (!self.rows.is_empty()).then_some(self.rows)
    }
}

impl Going {
    fn after(envelope: &Envelope) -> Self {
        match envelope.event {
            Event::DocumentsAdded { .. }
            | Event::DocumentsCompleted { .. }
            | Event::AttemptFailed { .. }
            | Event::DocumentsFailed { .. }
            | Event::WorkerLost { .. } => Self::Progress,
            Event::RetryScheduled { last: false, .. } => Self::Decision(envelope.cause),
            _ => Self::No,
        }
    }
}

impl TimelineRow {
    /// The line in words: what it was, with how many units it speaks of.
    #[must_use]
    pub fn sentence(&self) -> String {
        text::sentence(self)
    }
}

mod text;

#[cfg(test)]
mod tests;
