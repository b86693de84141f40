//! The command that all of this is for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::{
    failure::{FailureClass, FailureKind, Fingerprint},
    ids::JobName,
    limits::{MAX_RETRIES, MAX_RETRY_COUNT, RETRY_FINGERPRINTS, RETRY_JOBS, RETRY_KINDS},
    pipeline::{SpecError, SubmissionChange, TierNum},
    plan::Plan,
    share::Share,
    time::Timestamp,
};

/// Which failures to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RetryMode {
    /// Only those of class transient.
    #[default]
    TransientOnly,
    /// All of them.
    All,
}

impl RetryMode {
    /// Whether failures of a class are retried.
    #[must_use]
    pub fn takes(self, class: FailureClass) -> bool {
        self == Self::All || class == FailureClass::Transient
    }
}

/// Execute failed units again. Units that succeeded are never touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Which classes.
    #[serde(default)]
    pub retry_mode: RetryMode,
    /// Only failures of these tiers; none or an empty list means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier_nums: Option<Vec<TierNum>>,
    /// Only failures of these kinds, at most 16; none or an empty list means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_items = 16))]
    pub kinds: Option<Vec<FailureKind>>,
    /// Documents retried this often already are left out; 1 to 10.
    #[serde(default = "Retry::usual_max_retry_count")]
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 10))]
    pub max_retry_count: u8,
    /// Attempts in this round, 1 to 3, stopping at the first success; without it, the job's own `max_attempts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 3))]
    pub max_retries: Option<u8>,
    /// Only failures with these fingerprints, at most 16; none or an empty list means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_items = 16))]
    pub fingerprints: Option<Vec<Fingerprint>>,
    /// Nothing of it is executed before this time, for instance because the other side asked to be left alone until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Try this part of the documents first, at least one and spread evenly, and the rest only if they succeed well enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Share>,
    /// How large a part of that sample has to succeed; 90% unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_success: Option<Share>,
    /// Do nothing: answer with what would be done, and with a plan of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Do just what this plan says, or nothing where it no longer holds ([`Refusal::Stale`]). No other field may stand
    /// beside it: the plan has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Only failures of jobs of these names, at most 16; none or an empty list means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_items = 16))]
    pub jobs: Option<Vec<JobName>>,
    /// Other parameters for the jobs of the tiers named by `tier_nums` (of these, those named by `jobs`): for this
    /// retry, for what is open in them, and for later retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Box<SubmissionChange>>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retry_mode: RetryMode::default(),
            tier_nums: None,
            kinds: None,
            max_retry_count: Self::usual_max_retry_count(),
            max_retries: None,
            fingerprints: None,
            not_before: None,
            canary: None,
            canary_success: None,
            dry_run: false,
            plan: None,
            jobs: None,
            set: None,
        }
    }
}

impl Retry {
    fn usual_max_retry_count() -> u8 {
        3
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with every field that is out of bounds.
    pub fn validate(&self, tiers: usize) -> Result<(), Refusal> {
        let mut errors = Vec::new();
        let mut error = |path: &str, message: String| {
            errors.push(SpecError {
                path: path.to_owned(),
                message,
            });
        };
        if !MAX_RETRY_COUNT.contains(&self.max_retry_count) {
            let message = format!("is {}: it takes 1 to 10", self.max_retry_count);
            error("max_retry_count", message);
        }
        if let Some(n) = self.max_retries.filter(|n| !MAX_RETRIES.contains(n)) {
            error("max_retries", format!("is {n}: it takes 1 to 3"));
        }
        for (i, tier) in self.tier_nums.iter().flatten().enumerate() {
            if usize::from(*tier) >= tiers {
                let last = tiers.saturating_sub(1);
                error(
                    &format!("tier_nums[{i}]"),
                    format!("is {tier}: the batch has tiers 0 to {last}"),
                );
            }
        }
        if self.canary_success.is_some() && self.canary.is_none() {
            let message = "says how well a sample has to succeed, but canary names no sample";
            error("canary_success", message.to_owned());
        }
        let kinds = self.kinds.as_ref().map_or(0, Vec::len);
        if kinds > RETRY_KINDS {
            error(
                "kinds",
                format!("has {kinds} entries: it takes {RETRY_KINDS}"),
            );
        }
        let fingerprints = self.fingerprints.as_ref().map_or(0, Vec::len);
        if fingerprints > RETRY_FINGERPRINTS {
            error(
                "fingerprints",
                format!("has {fingerprints} entries: it takes {RETRY_FINGERPRINTS}"),
            );
        }
        let jobs = self.jobs.as_ref().map_or(0, Vec::len);
        if jobs > RETRY_JOBS {
            let message = format!("has {jobs} entries: it takes {RETRY_JOBS}");
            error("jobs", message);
        }
        if let Some(set) = &self.set {
            if self.tier_nums.as_ref().is_none_or(Vec::is_empty) {
                let message = "is missing: name the tiers that set is for".to_owned();
                error("tier_nums", message);
            }
            if set.is_empty() {
                let message = "changes nothing: name a parameter, or leave it out".to_owned();
                error("set", message);
            }
            errors.extend(set.errors());
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Invalid { errors })
        }
    }

    /// Whether failures of a job are wanted.
    #[must_use]
    pub fn wants_job(&self, job: &JobName) -> bool {
        match &self.jobs {
            Some(jobs) if !jobs.is_empty() => jobs.contains(job),
            _ => true,
        }
    }

    /// Whether failures of a tier are wanted.
    #[must_use]
    pub fn wants_tier(&self, tier: TierNum) -> bool {
        match &self.tier_nums {
            Some(tiers) if !tiers.is_empty() => tiers.contains(&tier),
            _ => true,
        }
    }

    /// Whether failures of a kind are wanted.
    #[must_use]
    pub fn wants_kind(&self, kind: &FailureKind) -> bool {
        match &self.kinds {
            Some(kinds) if !kinds.is_empty() => kinds.contains(kind),
            _ => true,
        }
    }

    /// The fingerprints that are wanted; none where all are.
    #[must_use]
    pub fn wanted_fingerprints(&self) -> Option<&[Fingerprint]> {
        self.fingerprints.as_deref().filter(|list| !list.is_empty())
    }
}

/// What a retry does, and what it leaves alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Retried {
    /// Documents that are executed again.
    pub documents: u64,
    /// Units that are executed again: a document that failed in two jobs counts twice.
    pub units: u64,
    /// Of these units, those that are segments of documents.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub segments: u64,
    /// Those units by tier.
    pub by_tier: BTreeMap<TierNum, u64>,
    /// Those units by kind.
    pub by_kind: BTreeMap<FailureKind, u64>,
    /// Failed units that are left as they are, and why.
    pub excluded: Excluded,
    /// The parameters that its jobs have from now on, where it names any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<SubmissionChange>,
    /// What of it is tried first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Sampled>,
}

/// The part of a retry that is tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Sampled {
    /// Documents of the sample.
    pub documents: u64,
    /// Units of the sample.
    pub units: u64,
    /// The part of these units that has to succeed.
    pub success: Share,
}

/// Why failed units are left out of a retry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Excluded {
    /// Their class is not asked for; by class.
    pub class: BTreeMap<FailureClass, u64>,
    /// Their document has been retried `max_retry_count` times.
    pub retry_limit: u64,
    /// Their tier is not asked for.
    pub tier: u64,
    /// Their kind is not asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kind: u64,
    /// Their fingerprint is not asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fingerprint: u64,
    /// Their job is not asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub job: u64,
    /// Their tier was cancelled.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cancelled: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde gives a reference
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Excluded {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let others = self.retry_limit + self.tier + self.kind + self.job + self.cancelled;
        self.class.values().sum::<u64>() + others + self.fingerprint
    }
}
