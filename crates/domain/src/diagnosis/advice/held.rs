//! What holds a batch up, and what is to be said where nothing does.

use super::{Cause, Draft, of};
use crate::{
    diagnosis::{
        Recommendation, command,
        evidence::Evidence,
        figures::counted,
        parts::{self, Change},
    },
    failure::FailureKind,
    pause::PauseReason,
    state::BatchState,
    status::BatchStatus,
    time::Timestamp,
};

/// Why a job does not go on by itself, where that is so.
pub(super) fn held(job: &Evidence<'_>) -> Option<Recommendation> {
    if let Some(since) = parts::orphaned_since(job.batch, job.job) {
        return Some(orphaned(job, since));
    }
    if is_misconfigured(job) {
        let failed = job.kinds();
        let failed = failed
            .iter()
            .find(|(_, kind, _)| *kind == FailureKind::MISCONFIGURED);
        return Some(misconfigured(
            job,
            failed.map_or(0, |(_, _, units)| units.len()),
        ));
    }
    if let Some(paused) = &job.job.paused {
        let (sentence, goes_on) = parts::paused(paused);
        let reason = format!(
            "{} of {} in tier {} wait since {}: {}.",
            counted(job.job.open.len(), "unit"),
            job.spec.name,
            job.tier,
            paused.at,
            paused.reason
        );
        let command = command::resume(job.batch.key.batch, job.tier, &job.spec.name);
        let draft = Draft::new(Cause::Paused, job.job.open.len(), sentence, reason);
        return Some(draft.with(Some(job), (!goes_on).then_some(command)));
    }
    if job.batch.status != BatchStatus::Running {
        return None;
    }
    let quiet = job.quiet_for()?;
    let open = job.job.open.len();
    let sentence = "Look for what is stuck.";
    let reason = format!(
        "{} of {} in tier {} could be done, and nothing has ended for {quiet}, though an attempt takes at most {}.",
        counted(open, "unit"),
        job.spec.name,
        job.tier,
        job.spec.timeout
    );
    let command = parts::detect_stuck(job.batch.key.batch, job.tier);
    Some(Draft::new(Cause::Stuck, open, sentence, reason).with(Some(job), Some(command)))
}

fn orphaned(job: &Evidence<'_>, since: Timestamp) -> Recommendation {
    let (handler, class) = (&job.spec.handler, &job.spec.class);
    let open = job.job.open.len();
    let reason = format!(
        "{} of {} in tier {} wait since {since}: no live worker serves handler {handler} for class {class}.",
        counted(open, "unit"),
        job.spec.name,
        job.tier
    );
    let (sentence, command) = if class.is_of_one_terminal() {
        let sentence = "Go on with it in a terminal where its files and programs are.";
        (
            sentence.to_owned(),
            format!("redrive resume {}", job.batch.key.batch),
        )
    } else {
        let sentence = format!("Start a worker that serves handler {handler} for class {class}.");
        (
            sentence,
            format!("redrive worker --handler {handler} --class {class}"),
        )
    };
    Draft::new(Cause::Orphaned, open, sentence, reason).with(Some(job), Some(command))
}

/// Whether it is paused because its handler is set up wrongly.
pub(super) fn is_misconfigured(job: &Evidence<'_>) -> bool {
    let paused = job.job.paused.as_ref();
    paused.is_some_and(|paused| matches!(paused.reason, PauseReason::Misconfigured(_)))
}

pub(super) fn misconfigured(job: &Evidence<'_>, units: u64) -> Recommendation {
    let kind = &FailureKind::MISCONFIGURED;
    let sentence = "Put the handler or its settings right, then go on.";
    let mut reason = format!(
        "every document of {} in tier {} would fail as {} did: {}.",
        job.spec.name,
        job.tier,
        counted(units, "unit"),
        job.said(kind)
    );
    if let Some(paused) = &job.job.paused {
        let open = counted(job.job.open.len(), "unit");
        reason.push_str(&format!(" {open} wait since {}.", paused.at));
    }
    let about = units + job.job.open.len();
    Draft::new(Cause::Misconfigured, about, sentence, reason).retrying(
        job,
        of(kind),
        &Change::default(),
    )
}

/// That the batch was given up.
pub(super) fn aborted(batch: &BatchState) -> Option<Recommendation> {
    let aborted = batch.aborted?;
    let open = batch.counts().open;
    let reason = format!(
        "{} failed by {}, more than max_failed = {} allows, so nothing more was handed out: {} wait.",
        counted(aborted.failed, "document"),
        aborted.at,
        aborted.max_failed,
        counted(open, "document")
    );
    let sentence = "Put right what most of it failed with, then go on with what is left; a retry goes on with it, too.";
    let command = (open > 0).then(|| format!("redrive resume {}", batch.key.batch));
    Some(Draft::new(Cause::Aborted, open, sentence, reason).with(None, command))
}

pub(super) fn cancelled(batch: &BatchState) -> Recommendation {
    let counts = batch.counts();
    let reason = format!(
        "Of {} documents {} completed, {} failed and {} were stopped on the way.",
        batch.documents, counts.completed, counts.failed, counts.cancelled
    );
    let sentence = "Submit anew what is still to be done: a cancelled batch cannot be retried.";
    Draft::new(Cause::Cancelled, counts.cancelled, sentence, reason).with(None, None)
}

/// What is to be said where nothing failed and nothing holds the batch up.
pub(super) fn nothing(batch: &BatchState, now: Timestamp) -> Recommendation {
    let counts = batch.counts();
    let mut reason = format!(
        "{} of {} completed, {} open.",
        counts.completed,
        counted(u64::from(batch.documents), "document"),
        counts.open
    );
    let mut again = 0;
    let mut next = None;
    for (_, _, job) in batch.jobs() {
        again += job.open.len() - job.ready(now).len();
        next = next.into_iter().chain(job.next_due(now)).min();
    }
    if let Some(next) = next.filter(|_| again > 0) {
        let units = counted(again, "unit");
        reason.push_str(&format!(
            " {units} wait for another attempt, the first until {next}."
        ));
    }
    let lost: u64 = batch.infrastructure.attempts.values().sum();
    if lost > 0 {
        let attempts = counted(lost, "attempt");
        reason.push_str(&format!(
            " {attempts} ended with a process or a machine; what they worked on went out again by itself."
        ));
    }
    let sentence = match batch.status {
        BatchStatus::Pending if !batch.submitted => {
            "Nothing is wrong: the batch waits for the rest of its documents."
        }
        status if status.is_over() => "Nothing is wrong, and nothing is left to do.",
        _ => "Nothing is wrong: let it go on.",
    };
    Draft::new(Cause::None, 0, sentence, reason).with(None, None)
}
