//! What is to be done with each document: an ordered list of tiers, each with one or more jobs.

mod outage;
mod parse;
mod segmentation;
mod submission;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ids::{HandlerName, JobName, ResourceClass},
    limits::{OUTPUT_BYTES, TIERS},
    time::Millis,
};

pub use outage::{Breaker, MaxFailed};
pub use parse::{InvalidPipeline, SpecError};
pub use segmentation::Segmentation;
pub use submission::{InvalidSetting, JobLimits, Submission, SubmissionChange};

/// The number of a tier, from 0.
pub type TierNum = u16;

/// The tiers that a batch goes through. It is copied whole into the batch when the batch is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Pipeline {
    /// A name for people.
    pub name: String,
    /// At least one.
    pub tiers: Vec<TierSpec>,
    /// How many documents may fail before nothing more is handed out; any number unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed: Option<MaxFailed>,
    /// What a document takes of the namespace's credits, 0 to 1,000,000.
    #[serde(default = "one_credit", skip_serializing_if = "is_one_credit")]
    pub credits_per_document: u64,
}

/// One stage. A document goes on to the next when all jobs of this one succeeded for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TierSpec {
    /// A name for people.
    pub name: String,
    /// Whether documents wait until the whole tier before this one has finished; otherwise each enters as soon as it
    /// is ready.
    #[serde(default)]
    pub barrier: bool,
    /// Whether units are documents again, each with what became of all its segments.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub join: bool,
    /// At least one; their names differ.
    pub jobs: Vec<JobSpec>,
}

/// One handler running within a tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobSpec {
    /// Its name within the tier.
    pub name: JobName,
    /// The handler that workers run for it.
    pub handler: HandlerName,
    /// Whatever the handler takes.
    #[serde(default)]
    pub params: Value,
    /// Which workers may run it: `gpu` where a GPU is required, else `cpu`, or a label of the operator's.
    pub class: ResourceClass,
    /// Whether it needs a GPU.
    #[serde(default)]
    pub requires_gpu: bool,
    /// CPUs that one execution needs.
    #[serde(default = "one")]
    pub num_cpus: u32,
    /// Memory that one execution may use.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// From 0 to 100; a higher one gets a larger share.
    #[serde(default = "middle")]
    pub priority: u8,
    /// How long one attempt may take.
    pub timeout: Millis,
    /// Attempts before a unit counts as failed.
    pub max_attempts: u32,
    /// The wait between attempts.
    #[serde(default)]
    pub backoff: Backoff,
    /// How fast units may be started, over all workers.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// The largest output that is kept.
    #[serde(default = "output_bytes")]
    pub max_output_bytes: u64,
    /// When it is held up because the other side is away; never, where there is none.
    #[serde(default = "Breaker::usual")]
    pub breaker: Option<Breaker>,
    /// Whether its output is the document's segments, one JSON value a line: they are the units of the tiers that follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub segments: bool,
    /// Units at once, over all workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// What is to be started, for handlers that want to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
    /// Where it is to run, for handlers that want to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_mode: Option<String>,
    /// Archives to be loaded, for handlers that want to know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugin_archives: Vec<String>,
}

fn one() -> u32 {
    1
}

fn one_credit() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde gives a reference
fn is_one_credit(credits: &u64) -> bool {
    *credits == one_credit()
}

fn middle() -> u8 {
    JobSpec::PRIORITY
}

fn output_bytes() -> u64 {
    OUTPUT_BYTES
}

impl JobSpec {
    /// The usual priority.
    pub const PRIORITY: u8 = 50;
    /// The usual timeout.
    pub const TIMEOUT: Millis = Millis::seconds(300);
    /// The usual number of attempts.
    pub const MAX_ATTEMPTS: u32 = 3;
}

/// Exponential backoff with jitter: `base × factor^(n-1)`, at most `max`, of which up to the part `jitter` is taken
/// away at random, so that those that failed together do not come back together (Brooker, "Exponential Backoff And
/// Jitter", 2015).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Backoff {
    /// The wait after the first failed attempt.
    pub base: Millis,
    /// By how much it grows each time; at least 1.
    pub factor: f64,
    /// The longest wait.
    pub max: Millis,
    /// From 0 (none) to 1 (anything down to no wait).
    pub jitter: f64,
}

impl Eq for Backoff {}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Millis::seconds(1),
            factor: 2.0,
            max: Millis::seconds(60),
            jitter: 0.5,
        }
    }
}

impl Backoff {
    /// The wait after the `failed`-th failed attempt (from 1); `random` is uniform over all of `u64`.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub fn wait(&self, failed: u32, random: u64) -> Millis {
        let power = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let full = (self.base.0 as f64 * self.factor.powi(power)).min(self.max.0 as f64);
        let fraction = (random >> 11) as f64 / (1u64 << 53) as f64;
        // A cast from a float saturates, and NaN becomes 0.
        Millis((full * (1.0 - self.jitter * fraction)) as u64)
    }
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RateLimit {
    /// Units started a second, in the long run.
    pub per_second: f64,
    /// Units that may start at once after a pause; at least 1.
    pub burst: u32,
}

impl Eq for RateLimit {}

impl Pipeline {
    /// The tier of that number.
    #[must_use]
    pub fn tier(&self, tier: TierNum) -> Option<&TierSpec> {
        self.tiers.get(usize::from(tier))
    }

    /// Whether it has the shape that the fold relies on: at least one tier, each with jobs whose names differ. Every
    /// pipeline that was read with [`Pipeline::from_value`] has.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let tier_is_sound = |tier: &TierSpec| {
            let mut names: Vec<&JobName> = tier.jobs.iter().map(|job| &job.name).collect();
            names.sort_unstable();
            names.dedup();
            !names.is_empty() && names.len() == tier.jobs.len()
        };
        (1..=TIERS).contains(&self.tiers.len())
            && self.tiers.iter().all(tier_is_sound)
            && self.segmentation_errors().is_empty()
    }

    /// Reads a pipeline as people write it (from TOML or JSON) and checks it whole.
    ///
    /// # Errors
    /// All that is wrong with it, each with its path.
    pub fn from_value(value: &Value) -> Result<Self, InvalidPipeline> {
        parse::pipeline(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_limit_and_jitter_only_shortens() {
        let backoff = Backoff::default();
        assert_eq!(backoff.wait(1, 0), Millis(1_000));
        assert_eq!(backoff.wait(3, 0), Millis(4_000));
        assert_eq!(backoff.wait(1_000, 0), Millis(60_000));
        let most = backoff.wait(3, u64::MAX);
        assert!((2_000..=2_001).contains(&most.0), "{most:?}");
    }
}
