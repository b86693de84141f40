//! Putting right what is stuck and what is executed twice, and telling of jobs that nobody serves.

use redrive_broker::Broker;
use redrive_domain::{
    command::Command,
    decide,
    event::{Cause, Event},
    ids::BatchKey,
    pause::JobRef,
    pipeline::JobSpec,
    time::{Millis, Timestamp},
    work::Signal,
};

use super::Leader;
use crate::{
    metrics,
    round::{Origin, Round},
};

/// How often somebody asks whether all jobs are served.
const SERVED_EVERY: Millis = Millis::seconds(1);

impl<B: Broker> Leader<'_, B> {
    /// Shows a command what it is about, where that is not in the log.
    pub(super) fn show(&mut self, key: &BatchKey, command: &mut Command) {
        if let Command::Heal(heal) = command {
            let now = self.clock.now();
            let mut all = self.dispatch.seen(now, self.worker_timeout);
            heal.seen = all.remove(key).unwrap_or_default();
            heal.seen.at = now;
        }
    }

    /// Looks for what is surely wrong, now and then.
    pub(super) async fn heal(&mut self, round: &mut Round, now: Timestamp) {
        if self.heal_every == Millis(0) || now.since(self.healed_at) < self.heal_every {
            return;
        }
        self.healed_at = now;
        for (key, seen) in self.dispatch.seen(now, self.worker_timeout) {
            let batch = self.batches.get(&key);
            let events = batch.map_or_else(Vec::new, |batch| decide::heal_by_itself(batch, &seen));
            self.carry_out(&key, &events).await;
            for event in events {
                let origin = origin_of(&Origin::state(), &event);
                self.emit(round, &key, &origin, event);
            }
        }
    }

    /// Does what the healing of a batch decided: gives chunks to somebody else, and tells who has them to stop.
    pub(super) async fn carry_out(&mut self, key: &BatchKey, events: &[Event]) {
        for event in events {
            match event {
                Event::StuckDetected { fixed: false, .. } => {}
                Event::StuckDetected { attempt, .. } | Event::DocumentsFailed { attempt, .. } => {
                    let chunk = attempt.chunk;
                    tracing::warn!(batch = %key, %chunk, worker = ?attempt.worker, event = event.name(), "units were stuck");
                    ::metrics::counter!(metrics::HEALED, "what" => "stuck").increment(1);
                    self.dispatch.supersede(chunk);
                    self.withdraw_chunk(key, chunk).await;
                    self.signal(&Signal::StopChunk(chunk)).await;
                }
                Event::DuplicatesKilled { superseded, .. } => {
                    for execution in superseded {
                        let (worker, chunk) = (execution.worker.clone(), execution.chunk);
                        tracing::warn!(batch = %key, %chunk, %worker, "executes what another one does");
                        ::metrics::counter!(metrics::HEALED, "what" => "duplicate").increment(1);
                        self.dispatch.told(execution);
                        self.signal(&Signal::StopExecution { worker, chunk }).await;
                    }
                }
                _ => {}
            }
        }
    }

    /// Tells of jobs that have work and nobody to do it, and of those that have somebody again.
    pub(super) fn look_who_serves(&mut self, round: &mut Round, now: Timestamp) {
        if now.since(self.served_at) < SERVED_EVERY {
            return;
        }
        self.served_at = now;
        self.dispatch.note_unserved(&self.batches, now);
        let mut changes = Vec::new();
        for (key, batch) in &self.batches {
            let serves = |spec: &JobSpec| self.dispatch.serves(spec);
            let since = |at: &JobRef| self.dispatch.unserved_since(key, at);
            for event in decide::serving(batch, now, serves, since) {
                changes.push((key.clone(), event));
            }
        }
        for (key, event) in changes {
            tracing::info!(batch = %key, event = event.name(), ?event, "who is served has changed");
            self.emit(round, &key, &Origin::state(), event);
        }
    }
}

/// What caused an event of a decision: what becomes of units is the doing of their chunk, whoever found it out.
pub(super) fn origin_of(decision: &Origin, event: &Event) -> Origin {
    match event {
        Event::DocumentsFailed { attempt, .. } => Origin {
            cause: Cause::Chunk(attempt.chunk),
            ..decision.clone()
        },
        _ => decision.clone(),
    }
}
