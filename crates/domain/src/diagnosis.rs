//! What is wrong with a batch, and what to do about it, read off its state.
//!
//! [`diagnose`] is pure: the same state and time give the same diagnosis, of a batch that runs as of one that is long
//! over, from a projector as from a file. Every command that it recommends stands beside the plan that the same state
//! gives for it, so that what is done is what was read. docs/diagnosis.md tells the rules.

mod advice;
mod category;
mod command;
mod evidence;
mod figures;
mod parts;
mod tiers;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    failure::{FailureClass, FailureKind, Fingerprint},
    ids::{BatchId, JobName},
    limits::DIAGNOSED_GROUPS,
    pipeline::TierNum,
    plan::Plan,
    query::FailureRow,
    state::{BatchState, DocumentCounts, InfrastructureEvent},
    status::BatchStatus,
    time::Timestamp,
};

pub use advice::Cause;
pub use category::FailureCategory;
pub use tiers::{Resources, Stage, TaskDiagnosis, TierDiagnosis, Timing};

/// What is wrong with a batch, and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Diagnosis {
    /// The batch.
    pub batch: BatchId,
    /// The pipeline's name.
    pub pipeline: String,
    /// How it is doing.
    pub status: BatchStatus,
    /// What most of its failures come from.
    pub failure_category: FailureCategory,
    /// How many documents it has.
    pub documents: u32,
    /// How many of them are where.
    pub counts: DocumentCounts,
    /// How many documents failed.
    pub failed_document_count: u64,
    /// What to do, the most urgent first.
    pub recommendations: Vec<Recommendation>,
    /// The failed units by what their failures have in common, the largest group first.
    pub failure_groups: Vec<FailureGroup>,
    /// Groups that are left out of `failure_groups`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_failure_groups: u64,
    /// The first failed documents, each with what failed first of it. The core does not know them: who answers a query
    /// puts them in.
    pub failed_documents_sample: Vec<FailureRow>,
    /// What happened to machines and processes, the last of it.
    pub infrastructure_events: Vec<InfrastructureEvent>,
    /// The attempts that such events cost, all of them, by type.
    pub infrastructure_attempts: BTreeMap<FailureKind, u64>,
    /// The tiers.
    pub per_tier: Vec<TierDiagnosis>,
    /// When anything last happened.
    pub last_activity_at: Timestamp,
    /// The log sequence of the batch's last event.
    pub last_seq: u64,
    /// The log sequence that the answer includes.
    #[serde(default)]
    pub as_of: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde gives a reference
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Failed units of one job that failed alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FailureGroup {
    /// What they have in common; `failures --fingerprint` lists them, `retry --fingerprint` executes them again.
    pub fingerprint: Fingerprint,
    /// Their tier.
    pub tier: TierNum,
    /// Their job.
    pub job: JobName,
    /// Their class.
    pub class: FailureClass,
    /// Their kind.
    pub kind: FailureKind,
    /// Their code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Their message, without what names a document.
    pub message: String,
    /// How many.
    pub units: u64,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Recommendation {
    /// What it is for.
    pub cause: Cause,
    /// The tier, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierNum>,
    /// The job, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// The failures, where it is about those of one fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// Units that it is about.
    pub units: u64,
    /// What to do.
    pub sentence: String,
    /// Why, in numbers.
    pub reason: String,
    /// The command that does it, as it can be pasted where the system and the namespace are the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The plan of that command, where it is a retry: what a dry run of it would answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// The diagnosis of a batch in this state; `now` decides what waits, and what has been quiet for too long.
#[must_use]
pub fn diagnose(batch: &BatchState, now: Timestamp) -> Diagnosis {
    let counts = batch.counts();
    let mut failure_groups = groups(batch);
    let more = failure_groups.len().saturating_sub(DIAGNOSED_GROUPS);
    failure_groups.truncate(DIAGNOSED_GROUPS);
    Diagnosis {
        batch: batch.key.batch,
        pipeline: batch.pipeline.name.clone(),
        status: batch.status,
        failure_category: FailureCategory::of(batch),
        documents: batch.documents,
        counts,
        failed_document_count: counts.failed,
        recommendations: advice::recommendations(batch, now),
        failure_groups,
        more_failure_groups: more as u64,
        failed_documents_sample: Vec::new(),
        infrastructure_events: batch.infrastructure.last.iter().cloned().collect(),
        infrastructure_attempts: batch.infrastructure.attempts.clone(),
        per_tier: tiers::tiers(batch, now),
        last_activity_at: batch.last_at,
        last_seq: batch.last_seq,
        as_of: batch.last_seq,
    }
}

/// All groups of failures, the largest first.
fn groups(batch: &BatchState) -> Vec<FailureGroup> {
    let mut groups: Vec<FailureGroup> = batch
        .jobs()
        .flat_map(|(tier, spec, job)| {
            job.fingerprints
                .iter()
                .map(move |(fingerprint, group)| FailureGroup {
                    fingerprint,
                    tier,
                    job: spec.name.clone(),
                    class: group.class,
                    kind: group.kind.clone(),
                    code: group.code.clone(),
                    message: group.message.clone(),
                    units: group.units.len(),
                })
        })
        .collect();
    // Stable: those of one size stay in the order of tiers, jobs and fingerprints.
    groups.sort_by_key(|group| std::cmp::Reverse(group.units));
    groups
}
