//! What is out: reports and heartbeats on it, and what is lost.

use redrive_domain::{
    decide::Lost,
    ids::{BatchKey, ChunkId},
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{Heartbeat, InFlight, Outcome},
};

use super::{
    Dispatch, Finding, Held, JobKey, WorkerRun,
    life::{Life, Named},
    pace,
};
use crate::scheduler::{CHUNK_MS, Pool};

/// How long a chunk that a worker no longer names may go without a report.
const SILENCE: Millis = Millis::seconds(10);

impl Dispatch {
    /// A report came: its units are no longer out.
    pub(crate) fn reported(&mut self, outcome: &Outcome, now: Timestamp) {
        let units = outcome.units();
        let key = JobKey {
            batch: outcome.key(),
            tier: outcome.tier,
            job: outcome.job.clone(),
        };
        let run = self.jobs.entry(key.clone()).or_default();
        if let Some(sample) = pace::sample(outcome) {
            // Smoothed, so that one odd chunk does not set the size of the next.
            let unit_ms = run.unit_ms.map_or(sample, |ms| ms * 0.7 + sample * 0.3);
            run.unit_ms = Some(unit_ms);
            // What failed at once says nothing of how long others take.
            if let (Some(kind), true) = (run.kind, outcome.failures.is_empty()) {
                self.paces.learn(kind, unit_ms);
            }
        }
        let Some(held) = self.chunks.get_mut(&outcome.chunk) else {
            return;
        };
        run.out.remove(&units.and(&held.units));
        held.units.remove(&units);
        held.life.shown(now);
        self.ready.insert(&held.pool, key);
        if held.units.is_empty() {
            run.ended(outcome.chunk);
            self.chunks.remove(&outcome.chunk);
        }
    }

    /// A worker says what it holds.
    pub(crate) fn heard(
        &mut self,
        beat: &Heartbeat,
        now: Timestamp,
        wanted: impl Fn(&InFlight) -> Option<(Pool, UnitSet)>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        if beat.draining && beat.in_flight.is_empty() {
            self.workers.remove(&beat.worker);
        } else {
            let before = self.workers.get(&beat.worker);
            let idle_since = before.and_then(|run| run.idle_since).unwrap_or(now);
            let run = WorkerRun {
                handlers: beat.handlers.clone(),
                classes: beat.classes.clone(),
                slots: if beat.draining { 0 } else { beat.slots },
                seen_at: now,
                idle_since: beat.in_flight.is_empty().then_some(idle_since),
            };
            self.workers.insert(beat.worker.clone(), run);
        }
        for flight in &beat.in_flight {
            if let Some(held) = self.chunks.get_mut(&flight.chunk) {
                if held.named(flight, beat, now) == Named::Rival {
                    self.named_in_vain(flight.chunk, &beat.worker, now);
                    findings.push(Finding::Rival(beat.worker.clone(), flight.chunk));
                }
                continue;
            }
            let key = JobKey {
                batch: BatchKey {
                    namespace: flight.namespace.clone(),
                    batch: flight.batch,
                },
                tier: flight.tier,
                job: flight.job.clone(),
            };
            let Some((pool, outstanding)) = wanted(flight) else {
                self.named_in_vain(flight.chunk, &beat.worker, now);
                findings.push(Finding::Stale(flight.chunk));
                continue;
            };
            // Handed out by the leader before; what is with somebody else by now is not taken twice.
            let run = self.jobs.entry(key.clone()).or_default();
            let units = outstanding.minus(&run.out);
            if units.is_empty() {
                continue;
            }
            run.out.add(&units);
            let mut life = Life::default();
            life.named(flight, beat, now);
            self.chunks.insert(
                flight.chunk,
                Held {
                    key,
                    pool,
                    attempt: flight.attempt,
                    units,
                    work_ms: CHUNK_MS,
                    offered_at: now,
                    holder: Some(beat.worker.clone()),
                    named_at: now,
                    doubted_at: None,
                    life,
                    shape: None,
                },
            );
        }
        findings
    }

    /// Chunks whose worker is gone, or says nothing of them any more.
    pub(crate) fn lost(&mut self, now: Timestamp) -> Vec<(BatchKey, Lost)> {
        let workers = &self.workers;
        let is_lost = |held: &Held| {
            held.holder.as_ref().is_some_and(|worker| {
                !workers.contains_key(worker) || now.since(held.named_at) > SILENCE
            })
        };
        let ids: Vec<ChunkId> = self
            .chunks
            .iter()
            .filter(|(_, held)| is_lost(held))
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter()
            .filter_map(|id| {
                let held = self.release_as_ghost(id)?;
                let lost = Lost {
                    tier: held.key.tier,
                    job: held.key.job,
                    attempt: held.attempt,
                    chunk: id,
                    worker: held.holder,
                    units: held.units,
                };
                Some((held.key.batch, lost))
            })
            .collect()
    }

    /// Chunks that nobody has named for this long.
    pub(crate) fn unclaimed(&self, now: Timestamp, age: Millis) -> Vec<ChunkId> {
        self.chunks
            .iter()
            .filter(|(_, held)| held.holder.is_none() && now.since(held.offered_at) > age)
            .map(|(id, _)| *id)
            .collect()
    }

    /// A chunk never came about: its units can be handed out again as they are.
    pub(crate) fn give_up(&mut self, id: ChunkId) {
        self.release(id);
    }

    pub(super) fn release(&mut self, id: ChunkId) -> Option<Held> {
        let held = self.chunks.remove(&id)?;
        if let Some(run) = self.jobs.get_mut(&held.key) {
            run.out.remove(&held.units);
            run.ended(id);
        }
        self.ready.insert(&held.pool, held.key.clone());
        Some(held)
    }
}
