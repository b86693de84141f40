//! Commands as they can be pasted.

use super::parts;
use crate::{
    command::{Retry, RetryMode},
    decide,
    ids::{BatchId, JobName},
    pipeline::TierNum,
    plan::Plan,
    state::BatchState,
};

/// A retry as a command, with its plan.
pub(super) struct Planned {
    pub(super) command: String,
    pub(super) plan: Plan,
    pub(super) retry: Retry,
}

/// The command for a retry, and what a dry run of it would answer. None where it would be refused, would do nothing, or
/// where there is no command for it.
pub(super) fn planned(batch: &BatchState, mut retry: Retry, again: bool) -> Option<Planned> {
    let usual = decide::preview(batch, &retry).ok()?;
    let left_out = usual.retry.as_ref().map_or(0, |r| r.excluded.retry_limit);
    let found = usual.retry.as_ref().is_some_and(|r| r.units > 0);
    let mut accepted = usual;
    // What is changed, or all that there is, is worth another round however often it was retried.
    if left_out > 0 && (again || !found) {
        retry.max_retry_count = *crate::limits::MAX_RETRY_COUNT.end();
        accepted = decide::preview(batch, &retry).ok()?;
    }
    accepted.retry.filter(|retried| retried.units > 0)?;
    Some(Planned {
        command: text(batch.key.batch, &retry)?,
        plan: accepted.plan?,
        retry,
    })
}

fn text(batch: BatchId, retry: &Retry) -> Option<String> {
    let mut words = format!("redrive retry {batch}");
    let kinds = retry.kinds.iter().flatten();
    // Kinds alone mean all classes already.
    if retry.retry_mode == RetryMode::All && kinds.clone().next().is_none() {
        words.push_str(" --mode all");
    }
    for tier in retry.tier_nums.iter().flatten() {
        words.push_str(&format!(" --tier {tier}"));
    }
    for kind in kinds {
        words.push_str(&format!(" --kind {kind}"));
    }
    for fingerprint in retry.fingerprints.iter().flatten() {
        words.push_str(&format!(" --fingerprint {fingerprint}"));
    }
    if retry.max_retry_count != Retry::default().max_retry_count {
        words.push_str(&format!(" --max-retry-count {}", retry.max_retry_count));
    }
    if let Some(attempts) = retry.max_retries {
        words.push_str(&format!(" --max-retries {attempts}"));
    }
    words.push_str(&parts::flags(retry)?);
    Some(words)
}

/// Goes on with jobs that are paused.
pub(super) fn resume(batch: BatchId, tier: TierNum, job: &JobName) -> String {
    format!("redrive resume {batch} --tier {tier} --job {job}")
}
