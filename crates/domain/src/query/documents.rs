//! Which documents of a batch are meant, and where they stand.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ListDocuments, Standing,
    diff::{Moment, documents_of, units_of},
};
use crate::{
    failure::{FailureClass, FailureKind, Fingerprint},
    ids::JobName,
    pipeline::TierNum,
    state::{BatchState, JobState, TierState},
    time::Timestamp,
    units::{Ordinal, UnitSet},
};

/// Why a unit of a document failed. `failures` tells the rest of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DocumentFailure {
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// Which of the document's segments it is, from 0, where the tier works on segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<u32>,
    /// Its class.
    pub class: FailureClass,
    /// Its kind.
    pub kind: FailureKind,
    /// What happened, in words.
    pub message: String,
    /// A code of the handler's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Attempts that ended, in all rounds.
    pub attempts: u32,
    /// When it failed.
    pub at: Timestamp,
}

/// What a job made of a unit of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DocumentOutput {
    /// The job.
    pub job: JobName,
    /// Which of the document's segments it is, from 0, where the tier works on segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<u32>,
    /// Whether there was nothing to do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// The output's media type, where there is an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The output: JSON as itself, text as a string; absent where it is neither, see `hex`, or too large for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// An output that is neither JSON nor text, in base 16 (RFC 4648).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

impl JobState {
    /// Units that are failed, only with this class, kind and fingerprint where one is given.
    #[must_use]
    pub fn failed_as(
        &self,
        class: Option<FailureClass>,
        kind: Option<&FailureKind>,
        fingerprint: Option<Fingerprint>,
    ) -> UnitSet {
        let mut units = UnitSet::new();
        for (of_class, of_kind, failed) in self.failed_by_kind() {
            let is_meant = class.is_none_or(|class| class == of_class)
                && kind.is_none_or(|kind| kind == of_kind);
            if is_meant {
                units.add(failed);
            }
        }
        match fingerprint {
            Some(one) => units.and(&self.fingerprints.units_of(&[one])),
            None => units,
        }
    }
}

/// The documents of a state, by where they stand. Finding those that are meant is set algebra.
pub struct Documents<'a>(Moment<'a>);

impl<'a> Documents<'a> {
    /// Those of this state.
    #[must_use]
    pub fn of(batch: &'a BatchState) -> Self {
        Self(Moment::new(batch))
    }

    /// Where a document stands; nothing where there is no such document.
    #[must_use]
    pub fn standing(&self, document: Ordinal) -> Option<Standing> {
        self.0.standing(document)
    }

    /// The units of a document: itself, and its segments.
    #[must_use]
    pub fn units_of(&self, document: Ordinal) -> UnitSet {
        units_of(self.0.batch, document)
    }

    /// Those that a question means, on all pages together.
    #[must_use]
    pub fn matching(&self, ask: &ListDocuments) -> UnitSet {
        let batch = self.0.batch;
        let mut found = match ask.status {
            None => self.0.all.clone(),
            Some(wanted) => {
                let sets = self.0.by_status().into_iter();
                let mut sets = sets.filter(|(status, _)| *status == wanted);
                sets.next().map(|(_, set)| set).unwrap_or_default()
            }
        };
        if let Some(units) = &ask.units {
            found = found.and(&batch.documents_of(units));
        }
        let by_failure = ask.class.is_some() || ask.kind.is_some() || ask.fingerprint.is_some();
        if by_failure {
            found = found.and(&self.failed(ask));
        } else if let Some(tier) = ask.tier {
            found = found.and(&self.last_in(tier).or(&self.failed(ask)));
        }
        found
    }

    /// Those that failed as is asked for.
    fn failed(&self, ask: &ListDocuments) -> UnitSet {
        let mut failed = UnitSet::new();
        for (tier, _, job) in self.0.batch.jobs() {
            if ask.tier.is_none_or(|only| only == tier) {
                failed.add(&job.failed_as(ask.class, ask.kind.as_ref(), ask.fingerprint));
            }
        }
        documents_of(self.0.batch, failed)
    }

    /// Those that came to this tier last, as [`Standing::tier`] says of each.
    fn last_in(&self, tier: TierNum) -> UnitSet {
        let batch = self.0.batch;
        let entered = |tier: &TierState| documents_of(batch, tier.entered.clone());
        let mut found = match tier {
            // What came nowhere yet counts as being here.
            0 => self.0.all.clone(),
            _ => batch
                .tiers
                .get(usize::from(tier))
                .map_or_else(UnitSet::new, entered),
        };
        for later in batch.tiers.iter().skip(usize::from(tier) + 1) {
            found.remove(&entered(later));
        }
        found
    }
}

#[cfg(test)]
mod tests;
