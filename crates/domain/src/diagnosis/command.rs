//! Commands as they can be pasted.

use super::parts;
use crate::{
    command::{Retry, RetryMode},
    decide,
    ids::{BatchId, JobName},
    limits::MAX_RETRY_COUNT,
    pipeline::TierNum,
    plan::Plan,
    state::BatchState,
};

/// A retry as a command, with its plan.
#[derive(Default)]
pub(super) struct Planned {
    /// Both, unless it would be refused or would do nothing.
    pub(super) what: Option<(String, Plan)>,
    /// Units that the usual `max_retry_count` leaves out.
    pub(super) left_out: u64,
    /// Whether the command takes these as well.
    pub(super) takes_them: bool,
}

/// The command for a retry, and what a dry run of it would answer. What is retried in another way than before is worth
/// that however often it was retried, and so is what there is, where there is nothing else.
pub(super) fn planned(batch: &BatchState, mut retry: Retry, differs: bool) -> Planned {
    let previewed = |retry: &Retry| {
        let accepted = decide::preview(batch, retry).ok()?;
        Some((accepted.retry?, accepted.plan?))
    };
    let Some((mut retried, mut plan)) = previewed(&retry) else {
        return Planned::default();
    };
    let left_out = retried.excluded.retry_limit;
    let takes_them = left_out > 0 && (differs || retried.units == 0);
    if takes_them {
        retry.max_retry_count = *MAX_RETRY_COUNT.end();
        if let Some(found) = previewed(&retry) {
            (retried, plan) = found;
        }
    }
    let found = retried.units > 0;
    Planned {
        what: found.then(|| (text(batch.key.batch, &retry), plan)),
        left_out,
        takes_them,
    }
}

fn text(batch: BatchId, retry: &Retry) -> String {
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
    words.push_str(&parts::flags(retry));
    words
}

/// Goes on with jobs that are paused.
pub(super) fn resume(batch: BatchId, tier: TierNum, job: &JobName) -> String {
    format!("redrive resume {batch} --tier {tier} --job {job}")
}
