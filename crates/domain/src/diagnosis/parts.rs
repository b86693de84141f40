//! What a diagnosis takes from parts of the state that are told of elsewhere: the one place that knows how they are kept.

use serde::{Deserialize, Serialize};

use crate::{
    command::Retry,
    ids::{BatchId, HandlerName, JobName},
    pause::Paused,
    pipeline::{JobSpec, TierNum},
    state::{BatchState, JobState},
    time::{Millis, Timestamp},
};

/// The parameters with which a job is submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Whether it needs a GPU.
    pub requires_gpu: bool,
    /// CPUs that one execution needs.
    pub num_cpus: u32,
    /// Memory that one execution may use, in bytes.
    pub memory_bytes: Option<u64>,
    /// From 0 to 100.
    pub priority: u8,
    /// The handler.
    pub extractor_name: HandlerName,
}

impl Submission {
    /// Those of a job.
    #[must_use]
    pub fn of(spec: &JobSpec) -> Self {
        Self {
            requires_gpu: spec.requires_gpu,
            num_cpus: spec.num_cpus,
            memory_bytes: spec.memory_bytes,
            priority: spec.priority,
            extractor_name: spec.handler.clone(),
        }
    }
}

/// Other parameters for a job.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Change {
    pub(super) memory_bytes: Option<u64>,
    pub(super) timeout: Option<Millis>,
    pub(super) rate_limit: Option<f64>,
    pub(super) max_concurrency: Option<u32>,
}

/// Puts a change of the parameters of what a retry means into it; whether that can be said.
pub(super) fn set(_retry: &mut Retry, change: &Change) -> bool {
    *change == Change::default()
}

/// Lets a retry mean this job alone.
pub(super) fn only_job(_retry: &mut Retry, _job: &JobName) {}

/// The flags of a retry beyond those by which it selects failures; none where there is no flag for what it says.
pub(super) fn flags(retry: &Retry) -> Option<String> {
    retry.not_before.is_none().then(String::new)
}

/// What to do about a job that is paused, and whether it goes on by itself.
pub(super) fn paused(_paused: &Paused) -> (String, bool) {
    let sentence = "Let it go on, once what it was paused for is over.";
    (sentence.to_owned(), false)
}

/// The command that looks for what is stuck.
pub(super) fn detect_stuck(_batch: BatchId, _tier: TierNum) -> String {
    "redrive doctor".to_owned()
}

/// The most memory that an execution used that succeeded, in bytes, where that was measured.
pub(super) fn peak_memory(_job: &JobState) -> Option<u64> {
    None
}

/// Units at once, over all workers, where that is limited.
pub(super) fn max_concurrency(_spec: &JobSpec) -> Option<u32> {
    None
}

/// Since when a job has had work that no live worker serves, where that is so.
pub(super) fn orphaned_since(_batch: &BatchState, _job: &JobState) -> Option<Timestamp> {
    None
}

pub(super) fn is_orphaned(batch: &BatchState, job: &JobState) -> bool {
    orphaned_since(batch, job).is_some()
}
