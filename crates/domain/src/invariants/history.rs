//! What must hold of a log as it grows, event by event. It keeps one entry a unit where the fold keeps sets, and shares
//! no code with it, so that a mistake in the one shows against the other. It is for checking logs of moderate size: its
//! memory grows with them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cancel::CancelEffect,
    command::Accepted,
    credits::Month,
    event::{Cause, Envelope, Event},
    failure::FailureKind,
    ids::{BatchKey, CommandId, EventId, JobName, Namespace},
    pause::{JobRef, PauseReason},
    pipeline::TierNum,
    time::Timestamp,
    units::Ordinal,
};

mod control;
mod credits;
mod keys;
mod split;
#[cfg(test)]
mod tests;
mod units;

use split::Split;
use units::{Ending, Unit};

/// Reads a log and says what must not be. One clock is assumed for all who write it.
#[derive(Debug, Clone, Default)]
pub struct History {
    last_seq: u64,
    ids: BTreeSet<EventId>,
    batches: BTreeMap<BatchKey, Story>,
    books: credits::Books,
}

/// What was told of one batch.
#[derive(Debug, Clone, Default)]
struct Story {
    created: bool,
    submitted: bool,
    cancelled_seq: Option<u64>,
    /// Whether it was given up, and nobody has gone on since.
    aborted: bool,
    documents: u32,
    /// The names of the jobs, by tier.
    jobs: Vec<Vec<JobName>>,
    split: Split,
    units: BTreeMap<(TierNum, JobName, Ordinal), Unit>,
    /// Jobs that nobody served, until they were served.
    orphaned: BTreeSet<JobRef>,
    /// Jobs that are paused, since which sequence, and until when, where that ends by itself.
    paused: BTreeMap<JobRef, (u64, Option<Timestamp>)>,
    /// Jobs that are cancelled, and what that means.
    ended: BTreeMap<JobRef, (CancelEffect, u64)>,
    commands: BTreeMap<CommandId, Act>,
    refused: BTreeSet<CommandId>,
    seqs: BTreeSet<u64>,
    keys: keys::Told,
}

/// A command that was carried out.
#[derive(Debug, Clone, Copy)]
struct Act {
    last_seq: u64,
    whole: bool,
}

impl History {
    /// Takes the next event of the log, and says what of it must not be.
    pub fn take(&mut self, seq: u64, envelope: &Envelope) -> Vec<String> {
        let mut found = Vec::new();
        if seq <= self.last_seq {
            found.push(format!("it stands at {seq}, after {}", self.last_seq));
        }
        self.last_seq = seq;
        if !self.ids.insert(envelope.id) {
            found.push(format!("a second event has the id {}", envelope.id));
        }
        let story = self.batches.entry(envelope.key()).or_default();
        story.seqs.insert(seq);
        if let (Event::CommandRefused { .. }, Cause::Command(id)) =
            (&envelope.event, envelope.cause)
        {
            story.refused.insert(id);
        } else {
            let ends = matches!(
                envelope.event,
                Event::CreditsSettled { .. } | Event::CreditsReleased { .. }
            );
            if story.cancelled_seq.is_some() && !ends {
                found.push("something happens to a batch after its cancellation".to_owned());
            }
            if let Cause::Command(id) = envelope.cause {
                story.act(seq, id, &envelope.event, &mut found);
            }
            story.take(seq, envelope, &mut found);
            let through = |ordinal| story.is_through(ordinal);
            // Behind a barrier even what has nothing to do there waits, and may be cancelled there.
            let surely = |ordinal| through(ordinal) && !story.split.is_without(ordinal);
            let document = |unit| story.split.document(unit);
            self.books
                .take(envelope, (through, surely), document, &mut found);
        }
        let (name, key) = (envelope.event.name(), envelope.key());
        for problem in &mut found {
            *problem = format!("{key} at {seq}, {name}: {problem}");
        }
        found
    }

    /// What of an answer must not be: whoever is told that a command was carried out finds it in the log by then.
    #[must_use]
    pub fn acknowledged(
        &self,
        key: &BatchKey,
        id: CommandId,
        accepted: &Accepted,
    ) -> Option<String> {
        let seq = accepted.seq;
        let story = self.batches.get(key);
        if !story.is_some_and(|story| story.seqs.contains(&seq)) {
            return Some(format!(
                "{key}: an answer names {seq}, where the log has nothing of the batch"
            ));
        }
        let act = story.and_then(|story| story.commands.get(&id));
        match act {
            None if accepted.repeated || accepted.plan.is_some() => None,
            // Where it broke off half way, the rest may have been put right by then.
            act if found_nothing(accepted) && act.is_none_or(|act| !act.whole) => None,
            Some(act)
                if act.whole
                    && accepted.plan.is_none()
                    && (accepted.repeated || act.last_seq == seq) =>
            {
                None
            }
            act => Some(format!(
                "{key}: command {id} was acknowledged at {seq}, but the log has {act:?}"
            )),
        }
    }

    /// Whether the log says what became of this command: it was carried out, or refused.
    #[must_use]
    pub fn has_dealt_with(&self, key: &BatchKey, id: CommandId) -> bool {
        self.batches
            .get(key)
            .is_some_and(|story| story.commands.contains_key(&id) || story.refused.contains(&id))
    }

    /// Where the cancellation of a batch stands.
    #[must_use]
    pub fn cancelled_at(&self, key: &BatchKey) -> Option<u64> {
        self.batches.get(key)?.cancelled_seq
    }

    /// Since which sequence a job of a batch is paused, and until when, where it is and that ends by itself.
    #[must_use]
    pub fn paused_since(&self, key: &BatchKey, job: &JobRef) -> Option<(u64, Option<Timestamp>)> {
        self.batches.get(key)?.paused.get(job).copied()
    }

    /// Documents of a batch for which credits are held.
    #[must_use]
    pub fn holds(&self, key: &BatchKey) -> u64 {
        self.books.holds(key)
    }

    /// Credits of a month that are held in a namespace.
    #[must_use]
    pub fn held(&self, namespace: &Namespace, month: Month) -> u64 {
        self.books.held(namespace, month)
    }

    /// Since which sequence a job of a batch is cancelled, where it is.
    #[must_use]
    pub fn ended_since(&self, key: &BatchKey, job: &JobRef) -> Option<u64> {
        let (_, seq) = self.batches.get(key)?.ended.get(job)?;
        Some(*seq)
    }

    /// The last sequence that was taken.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

/// A look that found nothing leaves no trace.
fn found_nothing(accepted: &Accepted) -> bool {
    let healed = accepted.heal.as_ref();
    healed.is_some_and(|healed| healed.stuck.is_empty() && healed.duplicates.is_empty())
}

impl Story {
    /// A command acts once.
    fn act(&mut self, seq: u64, id: CommandId, event: &Event, found: &mut Vec<String>) {
        let act = Act {
            last_seq: seq,
            whole: event.is_last(),
        };
        if self
            .commands
            .insert(id, act)
            .is_some_and(|before| before.whole)
        {
            found.push(format!("command {id} is carried out twice"));
        }
    }

    fn take(&mut self, seq: u64, envelope: &Envelope, found: &mut Vec<String>) {
        let at = envelope.at;
        if let Event::BatchCreated { pipeline, .. } = &envelope.event {
            if std::mem::replace(&mut self.created, true) {
                found.push("the batch is made twice".to_owned());
            }
            let names = |jobs: &[crate::pipeline::JobSpec]| {
                jobs.iter().map(|job| job.name.clone()).collect::<Vec<_>>()
            };
            self.jobs = pipeline
                .tiers
                .iter()
                .map(|tier| names(&tier.jobs))
                .collect();
            self.split = Split::of(pipeline);
            return;
        }
        let is_the_namespaces = matches!(
            envelope.event,
            Event::CreditsLimitSet { .. } | Event::KeyCreated(_) | Event::KeyRevoked { .. }
        );
        if !self.created && !is_the_namespaces {
            found.push("something happens to a batch that was never made".to_owned());
        }
        match &envelope.event {
            Event::DocumentsAdded { first, count, .. } => {
                if *first != self.documents || self.submitted {
                    let has = self.documents;
                    found.push(format!("documents from {first} come to {has} others"));
                }
                self.documents = first.saturating_add(*count);
            }
            Event::BatchSubmitted { documents } => {
                if self.submitted || *documents != self.documents {
                    let has = self.documents;
                    found.push(format!("{documents} are submitted, of {has}"));
                }
                self.submitted = true;
            }
            Event::BatchCancelled { .. } => {
                self.cancelled_seq = Some(seq);
                self.paused.clear();
            }
            Event::TierCompleted { tier, .. } => self.paused.retain(|job, _| job.tier != *tier),
            Event::DispatchPaused { jobs, reason } => {
                let until = match reason {
                    PauseReason::Breaker(outage) => Some(outage.until),
                    PauseReason::Asked(_) | PauseReason::Misconfigured(_) => None,
                };
                for job in jobs {
                    let standing = self.paused.entry(job.clone()).or_insert((seq, until));
                    if standing.1.is_some() {
                        *standing = (seq, until);
                    }
                }
            }
            Event::BatchAborted { .. } => {
                let again = std::mem::replace(&mut self.aborted, true);
                if again {
                    found.push("it is given up twice".to_owned());
                }
            }
            Event::DispatchResumed { jobs } => {
                self.aborted = false;
                self.paused.retain(|job, _| !jobs.contains(job));
            }
            Event::BatchCompleted {
                completed,
                failed,
                cancelled,
                ..
            } => self.complete(*completed, *failed, *cancelled, found),
            Event::TierCancelled { tier, .. }
            | Event::JobCancelled {
                tier,
                waived: false,
                ..
            } => self.cancel_tier(seq, *tier, found),
            Event::JobCancelled { tier, job, .. } => {
                let at = JobRef {
                    tier: *tier,
                    job: job.clone(),
                };
                self.cancel_job(seq, at, CancelEffect::Waived, found);
            }
            Event::DocumentsCompleted {
                attempt, segments, ..
            } => {
                let units = envelope.event.units();
                if let Some(segments) = segments {
                    self.split.take(attempt.tier, &units, segments, found);
                }
                self.end(attempt, &units, Ending::Done, at, found);
            }
            Event::DocumentsFailed { attempt, .. } => {
                let units = envelope.event.units();
                self.end(attempt, &units, Ending::Failed, at, found);
            }
            Event::AttemptFailed {
                attempt,
                retry_at,
                kind,
                ..
            } => {
                let again = Ending::Again {
                    due: Some(*retry_at),
                    strike: *kind == FailureKind::OUT_OF_MEMORY,
                };
                let units = envelope.event.units();
                self.end(attempt, &units, again, at, found);
            }
            Event::WorkerLost { attempt, units } => {
                let again = Ending::Again {
                    due: None,
                    strike: true,
                };
                self.end(attempt, units, again, at, found);
            }
            Event::RetryScheduled { selected, .. } => {
                self.aborted &= selected.is_empty();
                for part in selected {
                    let at = JobRef {
                        tier: part.tier,
                        job: part.job.clone(),
                    };
                    if self.ended.contains_key(&at) {
                        found.push(format!("{at:?} is retried, and is cancelled"));
                    }
                    self.paused
                        .retain(|at, _| (at.tier, &at.job) != (part.tier, &part.job));
                    self.reopen(part, found);
                }
            }
            Event::StuckDetected {
                attempt,
                units,
                fixed: true,
                ..
            } => self.end(
                attempt,
                units,
                Ending::Again {
                    due: None,
                    strike: false,
                },
                at,
                found,
            ),
            Event::DispatchOrphaned { jobs, since } => {
                if *since > at {
                    found.push(format!("nobody serves them since {since}, which is later"));
                }
                self.orphaned.extend(jobs.iter().cloned());
            }
            Event::DispatchServed { jobs } => {
                for job in jobs {
                    if !self.orphaned.remove(job) {
                        found.push(format!("{job:?} is served, and was not orphaned"));
                    }
                }
            }
            Event::KeyCreated(_) | Event::KeyRevoked { .. } => self.keys.take(envelope, found),
            _ => {}
        }
    }
}
