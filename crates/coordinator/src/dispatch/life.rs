//! What workers show of the chunks that they have, and who has one that no longer counts.

use std::collections::BTreeMap;

use redrive_domain::{
    heal::{Execution, Holder, Out, Running, Seen, Superseded},
    ids::{BatchKey, ChunkId, WorkerId},
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{Heartbeat, InFlight, Outcome},
};

use super::{Dispatch, Held, JobKey};

/// How long ago a worker may have named a chunk and still have it: two heartbeats and a little.
const NAMED: Millis = Millis(2_200);
/// Chunks that were superseded and are remembered, and executions of them. Of more the oldest are forgotten: those are
/// stopped all the same, and only the log does not tell it.
const REMEMBERED: usize = 1_024;

/// What shows that a chunk gets on, by the leader's clock.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// When somebody first named it.
    taken_at: Option<Timestamp>,
    /// When something of it last ended, or its handler last said that it is alive.
    alive_at: Option<Timestamp>,
    /// Units that were running in each heartbeat since a time. Worked out here, so that no worker's clock and no word of
    /// its own about how long something takes counts.
    running: Option<Running>,
    /// A second worker that has it.
    rival: Option<Rival>,
}

#[derive(Debug)]
struct Rival {
    worker: WorkerId,
    since: Timestamp,
    /// Whether the first one has named the chunk again since. Until then it may have let go of it.
    sure: bool,
}

/// What a worker that names a chunk is to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// The one that goes on with it.
    Holder,
    /// Perhaps the next one to go on with it.
    Perhaps,
    /// One that executes it while another does.
    Rival,
}

impl Life {
    /// Its worker names it in a heartbeat.
    pub(super) fn named(&mut self, flight: &InFlight, beat: &Heartbeat, now: Timestamp) {
        // By the worker's clock these are of the past; how long ago is the same by every clock.
        let by_own_clock = |at: Timestamp| before(now, beat.at.since(at));
        let taken = flight.taken_at.map_or(now, by_own_clock);
        let taken = *self.taken_at.get_or_insert(taken);
        let alive = flight.alive_at.map_or(taken, by_own_clock);
        self.shown(alive.min(now));
        if flight.taken_at.is_none() {
            // It does not say what runs.
            self.running = None;
            return;
        }
        let all_along = self.running.as_ref().map(|running| Running {
            units: running.units.and(&flight.running),
            since: running.since,
        });
        self.running = Some(match all_along {
            Some(running) if !running.units.is_empty() => running,
            _ => Running {
                units: flight.running.clone(),
                since: now,
            },
        });
    }

    /// Another than its worker names it.
    fn contested(&mut self, worker: &WorkerId, now: Timestamp) -> Named {
        match &self.rival {
            Some(rival) if rival.worker == *worker && rival.sure => Named::Rival,
            Some(rival) if rival.worker == *worker => Named::Perhaps,
            _ => {
                self.rival = Some(Rival {
                    worker: worker.clone(),
                    since: now,
                    sure: false,
                });
                Named::Perhaps
            }
        }
    }

    /// It got on.
    pub(super) fn shown(&mut self, at: Timestamp) {
        self.alive_at = self.alive_at.max(Some(at));
    }
}

/// However odd the clock of a worker is, nothing takes longer than the longest timeout.
fn before(now: Timestamp, span: Millis) -> Timestamp {
    let span = span.min(Millis::seconds(7 * 24 * 3_600));
    Timestamp(now.0.saturating_sub_unsigned(span.0))
}

/// Chunks that were given to somebody else, and who has them all the same.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    chunks: BTreeMap<ChunkId, Ghost>,
    seen: BTreeMap<(ChunkId, WorkerId), Sighting>,
}

#[derive(Debug)]
struct Ghost {
    key: JobKey,
    attempt: u32,
    units: UnitSet,
}

#[derive(Debug)]
struct Sighting {
    first_at: Timestamp,
    last_at: Timestamp,
    told: bool,
}

impl Ghosts {
    /// A chunk no longer counts, whoever has it.
    pub(super) fn add(&mut self, id: ChunkId, held: &Held) {
        let ghost = Ghost {
            key: held.key.clone(),
            attempt: held.attempt,
            units: held.units.clone(),
        };
        self.chunks.insert(id, ghost);
        while self.chunks.len() > REMEMBERED {
            // Their ids begin with a time.
            self.chunks.pop_first();
        }
    }

    fn sight(&mut self, chunk: ChunkId, worker: &WorkerId, now: Timestamp) {
        let sighting = self
            .seen
            .entry((chunk, worker.clone()))
            .or_insert(Sighting {
                first_at: now,
                last_at: now,
                told: false,
            });
        sighting.last_at = now;
        while self.seen.len() > REMEMBERED {
            self.seen.pop_first();
        }
    }

    /// Forgets what was told, or cannot be told any more, and is not seen any more.
    fn tidy(&mut self, now: Timestamp, silence: Millis) {
        self.seen
            .retain(|_, it| !it.told || now.since(it.last_at) <= silence);
    }

    pub(super) fn forget(&mut self, batch: &BatchKey) {
        self.chunks.retain(|_, ghost| ghost.key.batch != *batch);
        let chunks = &self.chunks;
        self.seen.retain(|(id, _), _| chunks.contains_key(id));
    }
}

impl Held {
    /// A worker names it. Of two that have it, the one that had it first goes on.
    pub(super) fn named(&mut self, flight: &InFlight, beat: &Heartbeat, now: Timestamp) -> Named {
        let other = self.holder.as_ref().is_some_and(|it| *it != beat.worker);
        if other && now.since(self.named_at) <= NAMED {
            return self.life.contested(&beat.worker, now);
        }
        if other {
            // The one before has let go of it.
            self.life = Life::default();
        }
        if let Some(rival) = &mut self.life.rival {
            rival.sure |= rival.since < now;
        }
        self.holder = Some(beat.worker.clone());
        self.named_at = now;
        self.life.named(flight, beat, now);
        Named::Holder
    }
}

impl Dispatch {
    /// Somebody names a chunk that is not wanted of it.
    pub(super) fn named_in_vain(&mut self, chunk: ChunkId, worker: &WorkerId, now: Timestamp) {
        if self.chunks.contains_key(&chunk) || self.ghosts.chunks.contains_key(&chunk) {
            self.ghosts.sight(chunk, worker, now);
        }
    }

    /// Whether what a worker reports of a chunk is refused: another one has it, which goes on.
    pub(crate) fn refuses(&self, outcome: &Outcome) -> bool {
        self.chunks.get(&outcome.chunk).is_some_and(|held| {
            let rival = held.life.rival.as_ref();
            rival.is_some_and(|rival| rival.sure && rival.worker == outcome.worker)
        })
    }

    /// Gives a chunk's units to somebody else; who has it.
    pub(crate) fn supersede(&mut self, id: ChunkId) -> Option<WorkerId> {
        self.release_as_ghost(id)?.holder
    }

    pub(super) fn release_as_ghost(&mut self, id: ChunkId) -> Option<Held> {
        let held = self.release(id)?;
        self.ghosts.add(id, &held);
        Some(held)
    }

    /// What there is to be seen, batch by batch.
    pub(crate) fn seen(&mut self, now: Timestamp, silence: Millis) -> BTreeMap<BatchKey, Seen> {
        self.ghosts.tidy(now, silence);
        let mut all: BTreeMap<BatchKey, Seen> = BTreeMap::new();
        let empty = || Seen {
            at: now,
            silence,
            ..Seen::default()
        };
        for (id, held) in &self.chunks {
            let seen = all.entry(held.key.batch.clone()).or_insert_with(empty);
            seen.out.push(self.out(*id, held));
        }
        for ((chunk, worker), sighting) in &self.ghosts.seen {
            // One that has let go of it by now is no news, but the log is told of it once.
            if sighting.told && now.since(sighting.last_at) > NAMED {
                continue;
            }
            if let Some((key, duplicate)) = self.duplicate(*chunk, worker, sighting) {
                let seen = all.entry(key).or_insert_with(empty);
                seen.duplicates.push(duplicate);
            }
        }
        all
    }

    fn out(&self, chunk: ChunkId, held: &Held) -> Out {
        let holder = held.holder.as_ref().map(|worker| {
            let heard_at = self.workers.get(worker).map(|run| run.seen_at);
            let taken_at = held.life.taken_at.unwrap_or(held.offered_at);
            Holder {
                worker: worker.clone(),
                heard_at,
                taken_at,
                alive_at: held.life.alive_at.unwrap_or(taken_at),
                running: held.life.running.clone(),
            }
        });
        Out {
            tier: held.key.tier,
            job: held.key.job.clone(),
            attempt: held.attempt,
            chunk,
            units: held.units.clone(),
            passed_over_since: match holder {
                Some(_) => None,
                None => self.idle_since(held).map(|at| at.max(held.offered_at)),
            },
            holder,
        }
    }

    /// Since when a worker that could do a chunk has had nothing to do.
    fn idle_since(&self, held: &Held) -> Option<Timestamp> {
        let able = self.workers.values().filter(|run| {
            run.slots > 0
                && run.handlers.contains(&held.pool.handler)
                && run.classes.contains(&held.pool.class)
        });
        able.filter_map(|run| run.idle_since).min()
    }

    fn duplicate(
        &self,
        chunk: ChunkId,
        worker: &WorkerId,
        sighting: &Sighting,
    ) -> Option<(BatchKey, Superseded)> {
        let execution = |worker: &WorkerId, chunk, attempt| Execution {
            worker: worker.clone(),
            chunk,
            attempt,
        };
        let (key, attempt, units, kept) = match self.chunks.get(&chunk) {
            Some(held) => {
                let kept = held.holder.as_ref().filter(|holder| *holder != worker)?;
                let kept = execution(kept, chunk, held.attempt);
                (&held.key, held.attempt, &held.units, Some(kept))
            }
            None => {
                let ghost = self.ghosts.chunks.get(&chunk)?;
                let mut others = self.chunks.iter().filter(|(_, held)| {
                    held.key == ghost.key && !held.units.is_disjoint(&ghost.units)
                });
                let kept = others.find_map(|(id, held)| {
                    let holder = held.holder.as_ref()?;
                    Some(execution(holder, *id, held.attempt))
                });
                (&ghost.key, ghost.attempt, &ghost.units, kept)
            }
        };
        let duplicate = Superseded {
            tier: key.tier,
            job: key.job.clone(),
            units: units.clone(),
            execution: execution(worker, chunk, attempt),
            kept,
            since: sighting.first_at,
            told: sighting.told,
        };
        Some((key.batch.clone(), duplicate))
    }

    /// The log tells of an execution that does not count.
    pub(crate) fn told(&mut self, execution: &Execution) {
        let place = (execution.chunk, execution.worker.clone());
        if let Some(sighting) = self.ghosts.seen.get_mut(&place) {
            sighting.told = true;
        }
    }
}
