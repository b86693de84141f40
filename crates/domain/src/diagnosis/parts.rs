//! What a diagnosis takes from parts of the state that are told of elsewhere: the one place that knows how they are kept.

use crate::{
    command::Retry,
    ids::{BatchId, JobName},
    pause::Paused,
    pipeline::{JobSpec, SubmissionChange, TierNum},
    state::{BatchState, JobState},
    status::BatchStatus,
    time::{Millis, Timestamp},
};

/// Other parameters for a job.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Change {
    pub(super) memory_bytes: Option<u64>,
    pub(super) timeout: Option<Millis>,
    pub(super) rate_limit: Option<f64>,
    pub(super) max_concurrency: Option<u32>,
}

/// Puts a change of the parameters of what a retry means into it.
pub(super) fn set(retry: &mut Retry, change: &Change) {
    let set = SubmissionChange {
        memory_bytes: change.memory_bytes,
        timeout: change.timeout,
        rate_limit: change.rate_limit,
        max_concurrency: change.max_concurrency,
        ..SubmissionChange::default()
    };
    retry.set = (!set.is_empty()).then(|| Box::new(set));
}

/// Lets a retry mean this job alone.
pub(super) fn only_job(retry: &mut Retry, job: &JobName) {
    retry.jobs = Some(vec![job.clone()]);
}

/// The flags of a retry beyond those by which it selects failures.
pub(super) fn flags(retry: &Retry) -> String {
    let mut flags = String::new();
    for job in retry.jobs.iter().flatten() {
        flags.push_str(&format!(" --job {job}"));
    }
    if let Some(time) = retry.not_before {
        flags.push_str(&format!(" --not-before {time}"));
    }
    for setting in retry.set.iter().flat_map(|set| set.settings()) {
        flags.push_str(&format!(" --set {setting}"));
    }
    flags
}

/// What to do about a job that is paused, and whether it goes on by itself.
pub(super) fn paused(paused: &Paused) -> (String, bool) {
    match paused.outage() {
        Some(outage) => {
            let until = outage.until;
            let sentence =
                format!("Wait: it goes on by itself; from {until} on one unit at a time is tried.");
            (sentence, true)
        }
        None => {
            let sentence = "Let it go on, once what it was paused for is over.";
            (sentence.to_owned(), false)
        }
    }
}

/// The command that looks for what is stuck.
pub(super) fn detect_stuck(batch: BatchId, tier: TierNum) -> String {
    format!("redrive heal {batch} --tier {tier} --action detect_stuck")
}

/// The most memory that an execution used that succeeded, in bytes, where that was measured.
pub(super) fn peak_memory(job: &JobState) -> Option<u64> {
    job.peak_memory
}

/// Units at once, over all workers, where that is limited.
pub(super) fn max_concurrency(spec: &JobSpec) -> Option<u32> {
    spec.max_concurrency
}

/// Since when a job has had work that no live worker serves, where that is so.
pub(super) fn orphaned_since(batch: &BatchState, job: &JobState) -> Option<Timestamp> {
    job.orphaned
        .filter(|_| batch.status == BatchStatus::Running)
}

pub(super) fn is_orphaned(batch: &BatchState, job: &JobState) -> bool {
    orphaned_since(batch, job).is_some()
}
