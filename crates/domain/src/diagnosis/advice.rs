//! What to do, cause by cause.

mod failures;
mod held;
mod resources;

use serde::{Deserialize, Serialize};

use super::{
    Recommendation,
    command::{Planned, planned},
    evidence::Evidence,
    figures::counted,
    parts::{self, Change},
};
use crate::{
    command::{Retry, RetryMode},
    failure::{FailureClass, FailureKind, Fingerprint},
    limits::RECOMMENDATIONS,
    state::BatchState,
    status::BatchStatus,
    time::Timestamp,
};

/// What a recommendation is for, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = RecommendationCause))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No live worker does the work.
    Orphaned,
    /// More failed than `max_failed` allows, so the batch was given up.
    Aborted,
    /// The handler is set up wrongly, and the job is paused for it.
    Misconfigured,
    /// Somebody paused a job.
    Paused,
    /// Nothing has happened for longer than an attempt may take.
    Stuck,
    /// Attempts used more memory than they may.
    OutOfMemory,
    /// Attempts took longer than they may.
    Timeout,
    /// The other side asked for fewer requests.
    RateLimited,
    /// Machines were taken away, or workers stopped answering.
    Lost,
    /// Something else that passes by itself.
    Transient,
    /// Documents took their workers with them.
    Poison,
    /// The handler ended in a way that it did not choose.
    Crashed,
    /// The documents, or something else that stays until somebody changes it.
    Permanent,
    /// Nobody said whether it passes.
    Unknown,
    /// The batch was cancelled.
    Cancelled,
    /// Nothing is wrong.
    None,
}

/// What to do about a batch; never empty.
pub(super) fn recommendations(batch: &BatchState, now: Timestamp) -> Vec<Recommendation> {
    if batch.status == BatchStatus::Cancelled {
        return vec![held::cancelled(batch)];
    }
    let mut found = Vec::from_iter(held::aborted(batch));
    for job in Evidence::all(batch, now) {
        found.extend(held::held(&job));
        for (class, kind, units) in job.kinds() {
            found.extend(of_kind(&job, class, &kind, units.len()));
        }
    }
    // Stable: of one cause and size, those of the first tiers come first.
    found.sort_by_key(|one| (one.cause, std::cmp::Reverse(one.units)));
    found.truncate(RECOMMENDATIONS);
    if found.is_empty() {
        found.push(held::nothing(batch, now));
    }
    found
}

fn of_kind(
    job: &Evidence<'_>,
    class: FailureClass,
    kind: &FailureKind,
    units: u64,
) -> Vec<Recommendation> {
    let one = |recommendation| vec![recommendation];
    match kind.as_str() {
        "out_of_memory" => one(resources::out_of_memory(job, units)),
        "timeout" => one(resources::timeout(job, units)),
        "rate_limited" => one(resources::rate_limited(job, units)),
        "preempted" | "worker_lost" => one(failures::lost(job, kind, units)),
        "poison" => one(failures::poison(job, kind, units)),
        "crashed" => one(failures::crashed(job, kind, units)),
        // A job that is paused for it was told of already.
        "misconfigured" if held::is_misconfigured(job) => Vec::new(),
        "misconfigured" => one(held::misconfigured(job, units)),
        _ => match class {
            FailureClass::Transient => one(failures::transient(job, kind, units)),
            FailureClass::Permanent => failures::permanent(job, kind),
            FailureClass::Unknown => failures::unknown(job, kind),
        },
    }
}

/// A recommendation in the making.
struct Draft {
    cause: Cause,
    units: u64,
    fingerprint: Option<Fingerprint>,
    sentence: String,
    reason: String,
}

impl Draft {
    fn new(
        cause: Cause,
        units: u64,
        sentence: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            cause,
            units,
            fingerprint: None,
            sentence: sentence.into(),
            reason: reason.into(),
        }
    }

    /// With a command that is no retry, or with none.
    fn with(self, job: Option<&Evidence<'_>>, command: Option<String>) -> Recommendation {
        Recommendation {
            cause: self.cause,
            tier: job.map(|job| job.tier),
            job: job.map(|job| job.spec.name.clone()),
            fingerprint: self.fingerprint,
            units: self.units,
            sentence: self.sentence,
            reason: self.reason,
            command,
            plan: None,
        }
    }

    /// With the retry that does it, for this job alone.
    fn retrying(mut self, job: &Evidence<'_>, mut retry: Retry, change: &Change) -> Recommendation {
        retry.tier_nums = Some(vec![job.tier]);
        if !job.is_alone() {
            parts::only_job(&mut retry, &job.spec.name);
        }
        let changed = *change != Change::default();
        parts::set(&mut retry, change);
        let Planned {
            what,
            left_out,
            takes_them,
        } = planned(job.batch, retry, changed);
        let most = Retry::default().max_retry_count;
        match &what {
            Some(_) if takes_them => {
                let units = counted(left_out, "unit");
                let word = format!(" {units} of them had been retried {most} times or more.");
                self.reason.push_str(&word);
            }
            None if takes_them => self
                .reason
                .push_str(" They have been retried as often as can be: submit them anew."),
            _ => {}
        }
        let (command, plan) = what.unzip();
        Recommendation {
            plan,
            ..self.with(Some(job), command)
        }
    }
}

/// A retry of all failures of a kind.
fn of(kind: &FailureKind) -> Retry {
    Retry {
        retry_mode: RetryMode::All,
        kinds: Some(vec![kind.clone()]),
        ..Retry::default()
    }
}
