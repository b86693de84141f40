//! What a retry would touch, as a word that can be given back.
//!
//! A plan holds no set: the log has it. It says what was asked, at which place in the log, and the digest of what that
//! came to. Whoever gives it back gets just that, or learns that it has become something else.

use std::{fmt, hash::Hasher, str::FromStr};

use data_encoding::BASE32_DNSSEC;
use serde::{Deserialize, Serialize};

use crate::{
    command::{Retry, RetryMode},
    event::Selected,
    failure::{FailureKind, Fingerprint},
    ids::{BatchKey, JobName},
    pipeline::{SubmissionChange, TierNum},
    share::Share,
    time::Timestamp,
};

/// What every plan begins with.
const PREFIX: &str = "plan-";
/// Longest plan, in characters: room for the most kinds of the longest names, and for the longest parameters.
const LONGEST: usize = 65_536;

/// A retry that was previewed. Its text form is one word of lower-case letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Plan {
    /// The log sequence of the batch's last event when the plan was made.
    pub seq: u64,
    batch: u32,
    digest: u64,
    asked: Asked,
}

/// What was asked. It is written without field names: their order is the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    all: bool,
    max_retry_count: u8,
    max_retries: Option<u8>,
    tiers: Vec<TierNum>,
    kinds: Vec<FailureKind>,
    #[serde(skip)]
    more: Box<More>,
}

/// What only some plans say, by name. A plan without any of it is written without it, as the first plans were.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct More {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fingerprints: Vec<Fingerprint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<Share>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canary_success: Option<Share>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jobs: Vec<JobName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<Box<SubmissionChange>>,
}

impl Plan {
    pub(crate) fn new(key: &BatchKey, seq: u64, retry: &Retry, selected: &[Selected]) -> Self {
        Self {
            seq,
            batch: mark(key),
            digest: digest(selected),
            asked: Asked {
                all: retry.retry_mode == RetryMode::All,
                max_retry_count: retry.max_retry_count,
                max_retries: retry.max_retries,
                tiers: retry.tier_nums.clone().unwrap_or_default(),
                kinds: retry.kinds.clone().unwrap_or_default(),
                more: Box::new(More {
                    fingerprints: retry.fingerprints.clone().unwrap_or_default(),
                    not_before: retry.not_before,
                    canary: retry.canary,
                    canary_success: retry.canary_success,
                    jobs: retry.jobs.clone().unwrap_or_default(),
                    set: retry.set.clone(),
                }),
            },
        }
    }

    /// Whether it was made for this batch.
    pub(crate) fn is_of(&self, key: &BatchKey) -> bool {
        self.batch == mark(key)
    }

    /// Whether it came to these units.
    pub(crate) fn is_for(&self, selected: &[Selected]) -> bool {
        self.digest == digest(selected)
    }

    /// The retry that was previewed.
    #[must_use]
    pub fn retry(&self) -> Retry {
        let asked = self.asked.clone();
        Retry {
            retry_mode: if asked.all {
                RetryMode::All
            } else {
                RetryMode::TransientOnly
            },
            tier_nums: (!asked.tiers.is_empty()).then_some(asked.tiers),
            kinds: (!asked.kinds.is_empty()).then_some(asked.kinds),
            max_retry_count: asked.max_retry_count,
            max_retries: asked.max_retries,
            fingerprints: Some(asked.more.fingerprints).filter(|list| !list.is_empty()),
            not_before: asked.more.not_before,
            canary: asked.more.canary,
            canary_success: asked.more.canary_success,
            dry_run: false,
            plan: None,
            jobs: Some(asked.more.jobs).filter(|list| !list.is_empty()),
            set: asked.more.set,
        }
    }
}

/// Tells batches apart well enough to say so when a plan of another one is given.
fn mark(key: &BatchKey) -> u32 {
    // The low bits of a UUIDv7 are random.
    u32::try_from(key.batch.0.as_u128() & u128::from(u32::MAX)).unwrap_or_default()
}

fn digest(selected: &[Selected]) -> u64 {
    let mut hasher = fnv::FnvHasher::default();
    for Selected { tier, job, units } in selected {
        hasher.write(&tier.to_be_bytes());
        hasher.write(job.as_str().as_bytes());
        hasher.write(&[0]);
        units.ranges().for_each(|range| {
            hasher.write(&range.start().to_be_bytes());
            hasher.write(&range.end().to_be_bytes());
        });
    }
    hasher.finish()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seq, batch, digest, asked) = (self.seq, self.batch, self.digest, &self.asked);
        let bytes = match *asked.more == More::default() {
            true => rmp_serde::to_vec(&(seq, batch, digest, asked)),
            false => {
                let more = serde_json::to_string(&asked.more).map_err(|_| fmt::Error)?;
                rmp_serde::to_vec(&(seq, batch, digest, asked, more))
            }
        };
        let bytes = bytes.map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", BASE32_DNSSEC.encode(&bytes))
    }
}

/// A text that is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a plan: give the word that a dry run printed, from plan- to its end")]
pub struct InvalidPlan(pub String);

impl FromStr for Plan {
    type Err = InvalidPlan;
    fn from_str(value: &str) -> Result<Self, InvalidPlan> {
        let invalid = || InvalidPlan(value.chars().take(80).collect());
        let text = value
            .strip_prefix(PREFIX)
            .filter(|text| text.len() <= LONGEST)
            .ok_or_else(invalid)?;
        let bytes = BASE32_DNSSEC
            .decode(text.as_bytes())
            .map_err(|_| invalid())?;
        let read: Result<(_, _, _, Asked, String), _> = rmp_serde::from_slice(&bytes);
        let (seq, batch, digest, asked) = match read {
            Ok((seq, batch, digest, mut asked, more)) => {
                asked.more = serde_json::from_str(&more).map_err(|_| invalid())?;
                (seq, batch, digest, asked)
            }
            Err(_) => rmp_serde::from_slice(&bytes).map_err(|_| invalid())?,
        };
        let plan = Self {
            seq,
            batch,
            digest,
            asked,
        };
        // One plan, one word: what is cut off or added would otherwise go unseen.
        (plan.to_string() == value)
            .then_some(plan)
            .ok_or_else(invalid)
    }
}

impl TryFrom<String> for Plan {
    type Error = InvalidPlan;
    fn try_from(value: String) -> Result<Self, InvalidPlan> {
        value.parse()
    }
}

impl From<Plan> for String {
    fn from(value: Plan) -> String {
        value.to_string()
    }
}
