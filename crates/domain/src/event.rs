//! What happened. Events are the only truth; they are kept for ever, so fields may be added and never change meaning.

use serde::{Deserialize, Serialize};

use crate::{
    canary::Part,
    command::{Excluded, Refusal, RetryMode, Start, Verb},
    credits::Month,
    document::Document,
    failure::{FailureClass, FailureKind, Fingerprint},
    heal::{Execution, StuckReason},
    ids::{Bucket, JobName, KeyId},
    keys::NewKey,
    packed::Packed,
    pause::{JobRef, PauseReason},
    pipeline::{MaxFailed, Pipeline, SubmissionChange, TierNum},
    segments::Segmented,
    share::Share,
    status::BatchStatus,
    time::Timestamp,
    units::{Ordinal, UnitSet},
    work::{FailedUnits, Outputs},
};

mod attempt;
mod envelope;

pub use attempt::{Attempt, Selected};
pub use envelope::{Cause, Envelope, Undecodable, VERSION};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Event {
    /// A batch was made.
    #[serde(rename = "batch.created")]
    BatchCreated {
        /// The source of its documents.
        bucket: Bucket,
        /// What is to be done with them.
        pipeline: Pipeline,
        /// When that begins.
        start: Start,
    },
    /// Documents were added.
    #[serde(rename = "batch.documents_added")]
    DocumentsAdded {
        /// The ordinal of the first.
        first: Ordinal,
        /// How many.
        count: u32,
        /// The documents, packed: the fold needs only the count.
        #[cfg_attr(feature = "schema", schema(value_type = crate::schema::PackedDocuments))]
        documents: Packed<Vec<Document>>,
    },
    /// The batch has all its documents.
    #[serde(rename = "batch.submitted")]
    BatchSubmitted {
        /// How many.
        documents: u32,
    },
    /// Nothing of the batch is left to do.
    #[serde(rename = "batch.completed")]
    BatchCompleted {
        /// How it ended.
        status: BatchStatus,
        /// Documents that went all the way.
        completed: u64,
        /// Documents that failed somewhere.
        failed: u64,
        /// Documents that stopped in a tier that was cancelled.
        #[serde(default, skip_serializing_if = "is_zero")]
        cancelled: u64,
    },
    /// The batch was stopped.
    #[serde(rename = "batch.cancelled")]
    BatchCancelled {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Documents that were neither through nor failed.
        documents: u64,
    },
    /// A tier has something to do, for the first time or again.
    #[serde(rename = "tier.started")]
    TierStarted {
        /// Which.
        tier: TierNum,
    },
    /// A tier has nothing left to do, and nothing will come.
    #[serde(rename = "tier.completed")]
    TierCompleted {
        /// Which.
        tier: TierNum,
        /// How it ended.
        status: BatchStatus,
        /// Documents for which all its jobs succeeded.
        completed: u64,
        /// Documents for which one of its jobs failed.
        failed: u64,
    },
    /// Units succeeded.
    #[serde(rename = "documents.completed")]
    DocumentsCompleted {
        /// The attempt's circumstances.
        attempt: Attempt,
        /// Which succeeded.
        units: UnitSet,
        /// For which there was nothing to do.
        skipped: UnitSet,
        /// What they made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schema(value_type = Option<crate::schema::PackedOutputs>))]
        outputs: Option<Packed<Outputs>>,
        /// The segments of those that have some, where the job splits documents.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        segments: Option<Segmented>,
    },
    /// An attempt failed, and another will be made by itself.
    #[serde(rename = "documents.attempt_failed")]
    AttemptFailed {
        /// The attempt's circumstances.
        attempt: Attempt,
        /// The class, alike for all of them.
        class: FailureClass,
        /// The kind, alike for all of them.
        kind: FailureKind,
        /// Which, and why.
        units: Vec<FailedUnits>,
        /// When the next attempt is due.
        retry_at: Timestamp,
        /// Whether it counts against the attempt budget.
        counted: bool,
    },
    /// Units failed, and nothing more happens by itself.
    #[serde(rename = "documents.failed")]
    DocumentsFailed {
        /// The attempt's circumstances.
        attempt: Attempt,
        /// The class, alike for all of them.
        class: FailureClass,
        /// The kind, alike for all of them.
        kind: FailureKind,
        /// Which, and why.
        units: Vec<FailedUnits>,
    },
    /// A retry was decided: failed units are to be executed again, and jobs of theirs that were paused are resumed.
    #[serde(rename = "documents.retry_scheduled")]
    RetryScheduled {
        /// Which classes were asked for.
        mode: RetryMode,
        /// Which tiers were asked for; empty means all.
        tier_nums: Vec<TierNum>,
        /// Which kinds were asked for; empty means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kinds: Vec<FailureKind>,
        /// Which fingerprints were asked for; empty means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fingerprints: Vec<Fingerprint>,
        /// Documents retried that often were left out.
        max_retry_count: u8,
        /// Attempts in this round; without it, the job's own budget.
        max_retries: Option<u8>,
        /// The units.
        selected: Vec<Selected>,
        /// Failed units that stay as they are.
        excluded: Excluded,
        /// Whether this is the last event of the decision; a very large one takes several.
        last: bool,
        /// The log sequence of the plan, where it was planned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan_seq: Option<u64>,
        /// They are not executed before this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_before: Option<Timestamp>,
        /// What of a retry that is tried on a sample first this is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        canary: Option<Part>,
        /// Which jobs were asked for; empty means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        jobs: Vec<JobName>,
    },
    /// Nothing more of these jobs is handed out until they are resumed, or their failures are retried.
    #[serde(rename = "dispatch.paused")]
    DispatchPaused {
        /// Which.
        jobs: Vec<JobRef>,
        /// Why.
        reason: PauseReason,
    },
    /// These jobs are handed out again.
    #[serde(rename = "dispatch.resumed")]
    DispatchResumed {
        /// Which.
        jobs: Vec<JobRef>,
    },
    /// A worker that held these units is gone. They are handed out again; what it may still report is refused.
    #[serde(rename = "infrastructure.worker_lost")]
    WorkerLost {
        /// The attempt's circumstances.
        attempt: Attempt,
        /// Which.
        units: UnitSet,
    },
    /// A command that was handed over was not carried out.
    #[serde(rename = "command.refused")]
    CommandRefused {
        /// What was asked, where that could be read.
        verb: Option<Verb>,
        /// Why not, for programs.
        refusal: Refusal,
        /// Why not, for people.
        message: String,
    },
    /// Units are in progress and nothing comes of them.
    #[serde(rename = "heal.stuck_detected")]
    StuckDetected {
        /// The attempt's circumstances.
        attempt: Attempt,
        /// Which.
        units: UnitSet,
        /// Of these, the ones for which it counts against the attempt budget: they have had their time.
        #[serde(default, skip_serializing_if = "UnitSet::is_empty")]
        counted: UnitSet,
        /// Why.
        reason: StuckReason,
        /// Since when.
        since: Timestamp,
        /// Whether they are handed out again; then what may still be reported of this attempt is refused.
        fixed: bool,
        /// Whether this is the last event of the decision.
        last: bool,
    },
    /// Units were executed twice at once: all but one execution were told to stop, and what they report is refused.
    #[serde(rename = "heal.duplicates_killed")]
    DuplicatesKilled {
        /// The tier.
        tier: TierNum,
        /// The job.
        job: JobName,
        /// Which.
        units: UnitSet,
        /// The execution that counts, where somebody is at it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<Execution>,
        /// Those that do not.
        superseded: Vec<Execution>,
        /// Whether this is the last event of the decision.
        last: bool,
    },
    /// These jobs have work, and no live worker serves them.
    #[serde(rename = "dispatch.orphaned")]
    DispatchOrphaned {
        /// Which.
        jobs: Vec<JobRef>,
        /// Since when, as far as is known.
        since: Timestamp,
    },
    /// A worker has come that serves these jobs.
    #[serde(rename = "dispatch.served")]
    DispatchServed {
        /// Which.
        jobs: Vec<JobRef>,
    },
    /// The namespace may spend so many credits a month. It stands under the namespace's nil batch.
    #[serde(rename = "credits.limit_set")]
    CreditsLimitSet {
        /// How many; none for no limit.
        limit: Option<u64>,
    },
    /// Credits are held for documents that are about to begin.
    #[serde(rename = "credits.reserved")]
    CreditsReserved {
        /// The month that they count in: that of the decision.
        month: Month,
        /// How many credits.
        amount: u64,
        /// Which documents.
        documents: UnitSet,
    },
    /// The batch is over, and these documents are through: their credits are spent.
    #[serde(rename = "credits.settled")]
    CreditsSettled {
        /// The month in which they were reserved.
        month: Month,
        /// How many credits.
        amount: u64,
        /// Which documents.
        documents: UnitSet,
    },
    /// The batch is over, and these documents failed or were stopped: their credits are given back.
    #[serde(rename = "credits.released")]
    CreditsReleased {
        /// The month in which they were reserved.
        month: Month,
        /// How many credits.
        amount: u64,
        /// Which documents.
        documents: UnitSet,
    },
    /// More documents failed than may: nothing more is handed out. What is open stays so, until somebody goes on.
    #[serde(rename = "batch.aborted")]
    BatchAborted {
        /// Documents that failed, beside those that failed before somebody went on.
        failed: u64,
        /// How many may.
        max_failed: MaxFailed,
        /// Documents that were neither through nor failed.
        open: u64,
    },
    /// All of a retry's sample has ended.
    #[serde(rename = "retry.canary_judged")]
    CanaryJudged {
        /// Units of it that succeeded.
        succeeded: u64,
        /// Units of it.
        sample: u64,
        /// The part that had to succeed.
        success: Share,
        /// Whether the rest follows.
        passed: bool,
    },
    /// So many units of a job are out at once from now on, because the other side cannot keep up.
    #[serde(rename = "dispatch.limited")]
    DispatchLimited {
        /// Which.
        job: JobRef,
        /// How many; none where it keeps up again.
        concurrency: Option<u32>,
        /// What showed it.
        kind: FailureKind,
    },
    /// Jobs of a tier have other parameters from now on: for what is open, and for later retries.
    #[serde(rename = "tier.resubmitted")]
    TierResubmitted {
        /// The tier.
        tier: TierNum,
        /// Those of its jobs for which anything changes.
        jobs: Vec<JobName>,
        /// What changes.
        change: SubmissionChange,
    },
    /// A tier was stopped. Documents that were not through it stay there; those that were go on.
    #[serde(rename = "tier.cancelled")]
    TierCancelled {
        /// Which.
        tier: TierNum,
        /// Documents that were in it, neither through nor failed.
        documents: u64,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A job was stopped. Its units, open and failed ones, are not executed any more.
    #[serde(rename = "job.cancelled")]
    JobCancelled {
        /// Its tier.
        tier: TierNum,
        /// Its name.
        job: JobName,
        /// Whether documents go on without it, as other jobs of its tier do. Otherwise the tier stops with it, and what
        /// has failed in it stays failed.
        waived: bool,
        /// Units that are not executed any more.
        units: u64,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A key to the HTTP interface was made. It stands under the namespace's nil batch.
    #[serde(rename = "key.created")]
    KeyCreated(NewKey),
    /// A key to the HTTP interface is good for nothing any more. It stands under the namespace's nil batch.
    #[serde(rename = "key.revoked")]
    KeyRevoked {
        /// Which.
        key: KeyId,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde gives a reference
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Event {
    /// The type, as in the subject and in filters, without what a subject adds.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::BatchCreated { .. } => "batch.created",
            Self::DocumentsAdded { .. } => "batch.documents_added",
            Self::BatchSubmitted { .. } => "batch.submitted",
            Self::BatchCompleted { .. } => "batch.completed",
            Self::BatchCancelled { .. } => "batch.cancelled",
            Self::TierStarted { .. } => "tier.started",
            Self::TierCompleted { .. } => "tier.completed",
            Self::DocumentsCompleted { .. } => "documents.completed",
            Self::AttemptFailed { .. } => "documents.attempt_failed",
            Self::DocumentsFailed { .. } => "documents.failed",
            Self::RetryScheduled { .. } => "documents.retry_scheduled",
            Self::DispatchPaused { .. } => "dispatch.paused",
            Self::DispatchResumed { .. } => "dispatch.resumed",
            Self::WorkerLost { .. } => "infrastructure.worker_lost",
            Self::CommandRefused { .. } => "command.refused",
            Self::StuckDetected { .. } => "heal.stuck_detected",
            Self::DuplicatesKilled { .. } => "heal.duplicates_killed",
            Self::DispatchOrphaned { .. } => "dispatch.orphaned",
            Self::DispatchServed { .. } => "dispatch.served",
            Self::CreditsLimitSet { .. } => "credits.limit_set",
            Self::CreditsReserved { .. } => "credits.reserved",
            Self::CreditsSettled { .. } => "credits.settled",
            Self::CreditsReleased { .. } => "credits.released",
            Self::BatchAborted { .. } => "batch.aborted",
            Self::CanaryJudged { .. } => "retry.canary_judged",
            Self::DispatchLimited { .. } => "dispatch.limited",
            Self::TierResubmitted { .. } => "tier.resubmitted",
            Self::TierCancelled { .. } => "tier.cancelled",
            Self::JobCancelled { .. } => "job.cancelled",
            Self::KeyCreated(_) => "key.created",
            Self::KeyRevoked { .. } => "key.revoked",
        }
    }

    /// The end of the subject: the type, and for failures class and kind, so that a subscriber can choose by them.
    #[must_use]
    pub fn subject_type(&self) -> String {
        match self {
            Self::AttemptFailed { class, kind, .. } | Self::DocumentsFailed { class, kind, .. } => {
                format!("{}.{class}.{kind}", self.name())
            }
            _ => self.name().to_owned(),
        }
    }

    /// Whether the decision that it belongs to is whole with it; a large one takes several events.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self {
            Self::RetryScheduled { last, .. }
            | Self::StuckDetected { last, .. }
            | Self::DuplicatesKilled { last, .. } => *last,
            // What it is for follows.
            Self::CreditsReserved { .. } | Self::TierResubmitted { .. } => false,
            _ => true,
        }
    }

    /// Whether a namespace's ledger is made of such events.
    #[must_use]
    pub fn is_about_credits(&self) -> bool {
        matches!(
            self,
            Self::CreditsLimitSet { .. }
                | Self::CreditsReserved { .. }
                | Self::CreditsSettled { .. }
                | Self::CreditsReleased { .. }
        )
    }

    /// The units that it names, all together.
    #[must_use]
    pub fn units(&self) -> UnitSet {
        let mut all = UnitSet::new();
        match self {
            Self::DocumentsCompleted { units, skipped, .. } => {
                all.add(units);
                all.add(skipped);
            }
            Self::AttemptFailed { units, .. } | Self::DocumentsFailed { units, .. } => {
                units.iter().for_each(|failed| all.add(&failed.units));
            }
            Self::RetryScheduled { selected, .. } => {
                selected.iter().for_each(|s| all.add(&s.units));
            }
            Self::WorkerLost { units, .. }
            | Self::StuckDetected { units, .. }
            | Self::DuplicatesKilled { units, .. } => all.add(units),
            Self::CreditsReserved { documents, .. }
            | Self::CreditsSettled { documents, .. }
            | Self::CreditsReleased { documents, .. } => all.add(documents),
            _ => {}
        }
        all
    }
}

#[cfg(test)]
mod tests;
