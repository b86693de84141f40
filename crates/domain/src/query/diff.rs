//! What became of the documents of a batch between two moments.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{At, BatchRef, Page};
use crate::{
    failure::{FailureClass, FailureKind},
    ids::JobName,
    pipeline::TierNum,
    state::{BatchState, JobState, TierState},
    status::BatchStatus,
    units::{Ordinal, UnitSet},
};

/// Failures of a document that are named.
const FAILURES: usize = 16;

/// Asks what changed between two moments, document by document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ListChanges {
    /// Of which batch.
    pub batch: BatchRef,
    /// The earlier moment. Before the batch was made it had no documents.
    pub from: At,
    /// The later moment; now unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<At>,
    /// At most so many, 1 to 1,000; 100 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 1_000))]
    pub limit: Option<u32>,
    /// Where the page before ended. It holds both moments, so that all pages are of the same two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// See [`super::OfBatch::min_seq`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
}

/// A page of what changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Diff {
    /// The earlier moment: after this log sequence, 0 where the batch was not there yet.
    pub from: u64,
    /// The later moment: after this log sequence.
    pub to: u64,
    /// How many documents changed in all.
    pub changed: u64,
    /// How they changed, in short.
    pub transitions: Vec<Transition>,
    /// The documents that changed, by their ordinals.
    #[serde(flatten)]
    pub page: Page<Change>,
}

/// Documents that were alike before, and alike after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Transition {
    /// How they were; none where they were not there yet.
    pub before: Option<DocumentStatus>,
    /// How they are.
    pub after: DocumentStatus,
    /// How many.
    pub documents: u64,
}

/// A document that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = DocumentChange))]
pub struct Change {
    /// The document's id.
    pub document: String,
    /// The document's URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its place in the batch.
    pub ordinal: Ordinal,
    /// How it was; none where it was not there yet.
    pub before: Option<Standing>,
    /// How it is.
    pub after: Standing,
}

/// How a document is doing. Each document has one of these, as in [`crate::state::DocumentCounts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DocumentStatus {
    /// It is on the way.
    Open,
    /// It went through all tiers.
    Completed,
    /// It failed in some job.
    Failed,
    /// It was stopped on the way.
    Cancelled,
}

impl DocumentStatus {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Open, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for DocumentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is not one of `open`, `completed`, `failed`, `cancelled`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no status of a document: use open, completed, failed or cancelled")]
pub struct InvalidDocumentStatus(pub String);

impl FromStr for DocumentStatus {
    type Err = InvalidDocumentStatus;
    fn from_str(value: &str) -> Result<Self, InvalidDocumentStatus> {
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str() == value)
            .ok_or_else(|| InvalidDocumentStatus(value.chars().take(80).collect()))
    }
}

/// Where a document stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = DocumentStanding))]
pub struct Standing {
    /// How it is doing.
    pub status: DocumentStatus,
    /// The tier that it came to last.
    pub tier: TierNum,
    /// The jobs of that tier that it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<JobName>,
    /// How it failed in that tier, the first 16 ways.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<JobFailure>,
    /// Units of it that are open in that tier: one a job, or one a segment and job.
    pub open_units: u64,
    /// Units of it that are failed in that tier.
    pub failed_units: u64,
    /// How often it has been retried.
    pub retry_count: u32,
}

/// A failure, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobFailure {
    /// In which job.
    pub job: JobName,
    /// Its class.
    pub class: FailureClass,
    /// Its kind.
    pub kind: FailureKind,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if self.status != DocumentStatus::Completed {
            write!(f, " in tier {}", self.tier)?;
        }
        let mut before = ": ";
        for JobFailure { job, class, kind } in &self.failures {
            write!(f, "{before}{job} ({class} {kind})")?;
            before = ", ";
        }
        for job in &self.open {
            write!(f, "{before}{job}")?;
            match self.status {
                DocumentStatus::Open => {}
                _ => f.write_str(" (open)")?,
            }
            before = ", ";
        }
        let (units, named) = (
            self.open_units + self.failed_units,
            self.open.len() + self.failures.len(),
        );
        match usize::try_from(units) {
            Ok(units) if units <= named => Ok(()),
            _ => write!(f, " ({units} units)"),
        }
    }
}

/// A state, with its documents by how they are doing.
pub(super) struct Moment<'a> {
    pub(super) batch: &'a BatchState,
    pub(super) all: UnitSet,
    completed: UnitSet,
    failed: UnitSet,
    cancelled: UnitSet,
}

impl<'a> Moment<'a> {
    pub(super) fn new(batch: &'a BatchState) -> Self {
        let all = UnitSet::run(0, batch.documents);
        let failed = batch.failed_documents().and(&all);
        let completed = batch.completed_documents().and(&all).minus(&failed);
        let mut cancelled = UnitSet::new();
        if batch.status == BatchStatus::Cancelled {
            cancelled.add(&all);
        }
        for (tier, next) in batch
            .tiers
            .iter()
            .zip(batch.tiers.iter().skip(1).map(Some).chain([None]))
        {
            let stopped = documents_of(batch, stopped_in(tier, next));
            cancelled.add(&stopped.and(&all));
        }
        cancelled.remove(&failed);
        cancelled.remove(&completed);
        Self {
            batch,
            all,
            completed,
            failed,
            cancelled,
        }
    }

    pub(super) fn by_status(&self) -> [(DocumentStatus, UnitSet); 4] {
        let over = self.completed.or(&self.failed).or(&self.cancelled);
        [
            (DocumentStatus::Open, self.all.minus(&over)),
            (DocumentStatus::Completed, self.completed.clone()),
            (DocumentStatus::Failed, self.failed.clone()),
            (DocumentStatus::Cancelled, self.cancelled.clone()),
        ]
    }

    fn status(&self, document: Ordinal) -> DocumentStatus {
        match () {
            () if self.failed.contains(document) => DocumentStatus::Failed,
            () if self.completed.contains(document) => DocumentStatus::Completed,
            () if self.cancelled.contains(document) => DocumentStatus::Cancelled,
            () => DocumentStatus::Open,
        }
    }

    pub(super) fn standing(&self, document: Ordinal) -> Option<Standing> {
        if !self.all.contains(document) {
            return None;
        }
        let units = units_of(self.batch, document);
        let tiers = (0..).zip(&self.batch.tiers);
        let entered = tiers.filter(|(_, tier)| !tier.entered.is_disjoint(&units));
        let tier: TierNum = entered.map(|(num, _)| num).last().unwrap_or(0);
        let mut standing = Standing {
            status: self.status(document),
            tier,
            open: Vec::new(),
            failures: Vec::new(),
            open_units: 0,
            failed_units: 0,
            retry_count: self.batch.retries.get(document),
        };
        for (_, spec, job) in self.batch.jobs().filter(|(num, _, _)| *num == tier) {
            let open = job.open.and_len(&units);
            if open > 0 {
                standing.open.push(spec.name.clone());
                standing.open_units += open;
            }
            for (class, kind, failed) in job.failed_by_kind() {
                let failed = failed.and_len(&units);
                if failed > 0 && standing.failures.len() < FAILURES {
                    standing.failures.push(JobFailure {
                        job: spec.name.clone(),
                        class,
                        kind: kind.clone(),
                    });
                }
                standing.failed_units += failed;
            }
        }
        Some(standing)
    }
}

/// The units of a document.
pub(super) fn units_of(batch: &BatchState, document: Ordinal) -> UnitSet {
    let mut units = UnitSet::from([document]);
    if let Some(segments) = &batch.segments {
        units.add(&segments.units_of(&units));
    }
    units
}

/// The documents that units are of.
pub(super) fn documents_of(batch: &BatchState, units: UnitSet) -> UnitSet {
    match &batch.segments {
        Some(segments) => segments.documents_of(&units),
        None => units,
    }
}

/// Units that some job of a tier stopped, that have nothing left to do there and did not go on.
fn stopped_in(tier: &TierState, next: Option<&TierState>) -> UnitSet {
    let mut stopped = UnitSet::new();
    for job in &tier.jobs {
        stopped.add(&job.cancelled);
    }
    if stopped.is_empty() {
        return stopped;
    }
    for job in &tier.jobs {
        stopped.remove(&job.open);
    }
    stopped.remove(&tier.done_of(&stopped));
    if let Some(next) = next {
        stopped.remove(&next.entered);
    }
    stopped
}

/// What changed from one state of a batch to a later one. Finding which documents did is set algebra: it costs as much
/// as the sets do, however many documents there are.
pub struct Changes<'a> {
    before: Option<Moment<'a>>,
    after: Moment<'a>,
    documents: UnitSet,
}

impl<'a> Changes<'a> {
    /// Compares a batch as it was with how it is; there is no before where it had not been made.
    #[must_use]
    pub fn between(before: Option<&'a BatchState>, after: &'a BatchState) -> Self {
        let (before, after) = (before.map(Moment::new), Moment::new(after));
        let documents = match &before {
            Some(before) => differing(before, &after),
            None => after.all.clone(),
        };
        Self {
            before,
            after,
            documents,
        }
    }

    /// The documents that changed.
    #[must_use]
    pub fn documents(&self) -> &UnitSet {
        &self.documents
    }

    /// How a document was, and how it is; nothing where there is no such document.
    #[must_use]
    pub fn of(&self, document: Ordinal) -> Option<(Option<Standing>, Standing)> {
        let after = self.after.standing(document)?;
        let before = self.before.as_ref().and_then(|m| m.standing(document));
        Some((before, after))
    }

    /// How many documents changed from which status to which.
    #[must_use]
    pub fn transitions(&self) -> Vec<Transition> {
        let there = self.before.as_ref().map(|before| &before.all);
        let new = there.map_or_else(|| self.documents.clone(), |all| self.documents.minus(all));
        let mut from = vec![(None, new)];
        if let Some(before) = &self.before {
            let known = before.by_status().into_iter();
            from.extend(known.map(|(status, set)| (Some(status), set.and(&self.documents))));
        }
        let to = self.after.by_status();
        let mut found = Vec::new();
        for (before, was) in &from {
            for (after, is) in &to {
                let documents = was.and_len(is);
                if documents > 0 {
                    found.push(Transition {
                        before: *before,
                        after: *after,
                        documents,
                    });
                }
            }
        }
        found
    }
}

fn differing(before: &Moment<'_>, after: &Moment<'_>) -> UnitSet {
    let mut found = before.all.xor(&after.all);
    for (was, is) in [
        (&before.completed, &after.completed),
        (&before.failed, &after.failed),
        (&before.cancelled, &after.cancelled),
    ] {
        found.add(&was.xor(is));
    }
    found.add(&before.batch.retries.differing(&after.batch.retries));
    for (was, is) in before.batch.tiers.iter().zip(&after.batch.tiers) {
        found.add(&was.entered.xor(&is.entered));
    }
    for ((_, _, was), (_, _, is)) in before.batch.jobs().zip(after.batch.jobs()) {
        found.add(&was.open.xor(&is.open));
        // What failed and was not failed before was open then.
        found.add(&failed_otherwise(was, is));
    }
    documents_of(after.batch, found).and(&after.all)
}

/// Units that are failed in the one, and not with the same class and kind in the other.
fn failed_otherwise(one: &JobState, other: &JobState) -> UnitSet {
    let mut found = UnitSet::new();
    for (class, kind, units) in one.failed_by_kind() {
        match other.failed.get(&class).and_then(|kinds| kinds.get(kind)) {
            Some(same) => found.add(&units.minus(same)),
            None => found.add(units),
        }
    }
    found
}

#[cfg(test)]
pub(super) mod tests;
