//! An event without what may be nobody else's business.

use serde_json::Value;

use crate::{
    event::{Envelope, Event},
    failure::Failure,
    ids::is_name,
    keys::SecretHash,
    packed::{Packed, Unreadable},
    pause::PauseReason,
};

/// The same event without inline data and URIs of documents, outputs, parameters of jobs, and details of failures (the
/// end of standard error), and without names of pipelines and tiers that are more than a word. Ids, places, statuses, failures with their messages, and times stay, so that it folds to the
/// same but for these names, the parameters, and the detail of why a job is paused.
///
/// # Errors
/// Where documents cannot be read.
pub fn redacted(mut envelope: Envelope) -> Result<Envelope, Unreadable> {
    // Without a wildcard, so that whoever adds an event thinks of what it carries.
    match &mut envelope.event {
        Event::BatchCreated { pipeline, .. } => {
            plain(&mut pipeline.name);
            for tier in &mut pipeline.tiers {
                plain(&mut tier.name);
                for job in &mut tier.jobs {
                    job.params = Value::Null;
                    job.entrypoint = None;
                    job.plugin_archives = Vec::new();
                }
            }
        }
        Event::DocumentsAdded { documents, .. } => {
            let mut open = documents.open()?;
            for document in &mut open {
                document.uri = None;
                document.data = None;
            }
            *documents = Packed::new(&open)?;
        }
        // That there were outputs is part of the state.
        Event::DocumentsCompleted { outputs, .. } => {
            if let Some(outputs) = outputs {
                *outputs = Packed::new(&Vec::new())?;
            }
        }
        Event::AttemptFailed { units, .. } | Event::DocumentsFailed { units, .. } => {
            let failures = units.iter_mut().map(|failed| &mut failed.failure);
            failures.for_each(without_detail);
        }
        Event::DispatchPaused { reason, .. } => match reason {
            PauseReason::Misconfigured(failure) => without_detail(failure),
            PauseReason::Asked(_) | PauseReason::Breaker(_) => {}
        },
        Event::BatchSubmitted { .. }
        | Event::BatchCompleted { .. }
        | Event::BatchCancelled { .. }
        | Event::TierStarted { .. }
        | Event::TierCompleted { .. }
        | Event::RetryScheduled { .. }
        | Event::DispatchResumed { .. }
        | Event::WorkerLost { .. }
        | Event::CommandRefused { .. }
        | Event::StuckDetected { .. }
        | Event::DuplicatesKilled { .. }
        | Event::DispatchOrphaned { .. }
        | Event::DispatchServed { .. }
        | Event::CreditsLimitSet { .. }
        | Event::CreditsReserved { .. }
        | Event::CreditsSettled { .. }
        | Event::CreditsReleased { .. }
        | Event::BatchAborted { .. }
        | Event::CanaryJudged { .. }
        | Event::DispatchLimited { .. }
        | Event::TierCancelled { .. }
        | Event::JobCancelled { .. }
        | Event::KeyRevoked { .. } => {}
        // No secret has this hash.
        Event::KeyCreated(key) => key.hash = SecretHash::NONE,
        Event::TierResubmitted { change, .. } => {
            change.entrypoint = None;
            change.plugin_archives = None;
        }
    }
    Ok(envelope)
}

/// Where nobody gave a name, `run` calls a pipeline by its command, with all that stands in it.
fn plain(name: &mut String) {
    if !is_name(name) {
        *name = "redacted".to_owned();
    }
}

fn without_detail(failure: &mut Failure) {
    failure.detail = None;
}
