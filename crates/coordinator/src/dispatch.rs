//! What is handed out: who holds which chunk, who is alive, how long a unit takes. None of it is in the log; a new
//! leader learns it from the heartbeats.

mod doubt;
mod pace;
mod queue;
mod rate;
mod ready;
mod references;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use redrive_domain::{
    decide::Lost,
    ids::{BatchKey, ChunkId, HandlerName, JobName, ResourceClass, WorkerId},
    pipeline::{JobSpec, TierNum},
    state::BatchState,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{Chunk, Heartbeat, InFlight, Outcome},
};

use self::{
    pace::{Kind, Paces},
    queue::queue_of,
    ready::Ready,
    references::references,
};
use crate::scheduler::{CHUNK_MS, Capacity, Grant, Pool, Shares, plan};

/// A job of a batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobKey {
    pub(crate) batch: BatchKey,
    pub(crate) tier: TierNum,
    pub(crate) job: JobName,
}

/// Jobs of one namespace that compete for a pool at a time; the rest wait their turn in order of age. It bounds the model.
const COMPETING: usize = 64;
/// References into the log that one chunk may hold: it has to fit in a message.
const REFERENCES: usize = 4_000;
/// How long a chunk that a worker no longer names may go without a report.
const SILENCE: Millis = Millis::seconds(10);

/// From the smallest key on that a job of the batch can have: `-` is the smallest of all names.
fn jobs_from(batch: &BatchKey) -> (Bound<JobKey>, Bound<JobKey>) {
    let first = JobName::new("-").map_or(Bound::Unbounded, |job| {
        Bound::Included(JobKey {
            batch: batch.clone(),
            tier: 0,
            job,
        })
    });
    (first, Bound::Unbounded)
}

fn jobs_of<'a>(batch: &BatchKey, jobs: impl Iterator<Item = &'a JobKey>) -> Vec<JobKey> {
    jobs.take_while(|job| job.batch == *batch)
        .cloned()
        .collect()
}

#[derive(Debug)]
struct Held {
    key: JobKey,
    pool: Pool,
    attempt: u32,
    units: UnitSet,
    /// How long it is thought to take, in milliseconds.
    work_ms: f64,
    offered_at: Timestamp,
    holder: Option<WorkerId>,
    named_at: Timestamp,
    doubted_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct JobRun {
    out: UnitSet,
    kind: Option<Kind>,
    unit_ms: Option<f64>,
    tokens: f64,
    refilled_at: Timestamp,
}

#[derive(Debug)]
struct WorkerRun {
    handlers: Vec<HandlerName>,
    classes: Vec<ResourceClass>,
    slots: u32,
    seen_at: Timestamp,
}

#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    chunks: BTreeMap<ChunkId, Held>,
    jobs: BTreeMap<JobKey, JobRun>,
    workers: BTreeMap<WorkerId, WorkerRun>,
    /// Jobs that may have something to hand out.
    ready: Ready,
    timers: BTreeSet<(Timestamp, JobKey)>,
    shares: Shares<JobKey>,
    paces: Paces,
}

/// What a heartbeat showed to be wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The chunk is no longer wanted: its worker should stop it.
    Stale(ChunkId),
}

impl Dispatch {
    /// Looks at a batch again after its state changed.
    pub(crate) fn touch(&mut self, batch: &BatchState, now: Timestamp) {
        let running = batch.status == redrive_domain::status::BatchStatus::Running;
        for (tier, spec, job) in batch.jobs() {
            if job.open.is_empty() || !running {
                continue;
            }
            let key = JobKey {
                batch: batch.key.clone(),
                tier,
                job: spec.name.clone(),
            };
            if job.paused.is_some() {
                // What failed at once says nothing of how long a unit takes: begin with one again.
                if let Some(run) = self.jobs.get_mut(&key) {
                    run.unit_ms = None;
                    run.kind.inspect(|kind| self.paces.forget(*kind));
                }
                continue;
            }
            if let Some(due) = job.next_due(now) {
                self.timers.insert((due, key.clone()));
            }
            self.ready.insert(&pool_of(spec), key);
        }
    }

    /// Forgets a batch that is over, and says which chunks of it are still out.
    pub(crate) fn drop_batch(&mut self, key: &BatchKey) -> bool {
        let before = self.chunks.len();
        self.chunks.retain(|_, held| held.key.batch != *key);
        for job in jobs_of(key, self.jobs.range(jobs_from(key)).map(|(job, _)| job)) {
            self.jobs.remove(&job);
            self.shares.forget(&job);
        }
        self.ready.remove_batch(key);
        // Its timers run out by themselves and find nothing.
        self.chunks.len() != before
    }

    /// When to look again, if nothing else happens.
    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(due, _)| *due)
    }

    pub(crate) fn live_workers(&self) -> usize {
        self.workers.len()
    }

    pub(crate) fn chunks_out(&self) -> usize {
        self.chunks.len()
    }

    /// A report came: its units are no longer out.
    pub(crate) fn reported(&mut self, outcome: &Outcome) {
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
        self.ready.insert(&held.pool, key);
        if held.units.is_empty() {
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
            let run = WorkerRun {
                handlers: beat.handlers.clone(),
                classes: beat.classes.clone(),
                slots: if beat.draining { 0 } else { beat.slots },
                seen_at: now,
            };
            self.workers.insert(beat.worker.clone(), run);
        }
        for flight in &beat.in_flight {
            if let Some(held) = self.chunks.get_mut(&flight.chunk) {
                held.holder = Some(beat.worker.clone());
                held.named_at = now;
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
                let held = self.release(id)?;
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

    fn release(&mut self, id: ChunkId) -> Option<Held> {
        let held = self.chunks.remove(&id)?;
        if let Some(run) = self.jobs.get_mut(&held.key) {
            run.out.remove(&held.units);
        }
        self.ready.insert(&held.pool, held.key.clone());
        Some(held)
    }

    fn capacities(&self) -> BTreeMap<Pool, Capacity> {
        let mut pools: BTreeMap<Pool, Capacity> = BTreeMap::new();
        for worker in self.workers.values() {
            for handler in &worker.handlers {
                for class in &worker.classes {
                    let pool = Pool {
                        handler: handler.clone(),
                        class: class.clone(),
                    };
                    pools.entry(pool).or_default().slots += worker.slots;
                }
            }
        }
        for held in self.chunks.values() {
            pools
                .entry(held.pool.clone())
                .or_default()
                .add(held.work_ms);
        }
        pools
    }

    /// What is to be handed out now. The chunks count as handed out from here on.
    pub(crate) fn hand_out(
        &mut self,
        batches: &BTreeMap<BatchKey, BatchState>,
        now: Timestamp,
        mut id: impl FnMut() -> ChunkId,
    ) -> Vec<Chunk> {
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.timers.pop_first() else {
                break;
            };
            let batch = batches.get(&key.batch);
            if let Some((spec, _)) = batch.and_then(|batch| batch.job(key.tier, &key.job)) {
                self.ready.insert(&pool_of(spec), key);
            }
        }
        let pools = self.capacities();
        let mut queues = Vec::new();
        let mut idle = Vec::new();
        for pool in self.ready.pools() {
            if pools.get(pool).is_some_and(|capacity| !capacity.has_room()) {
                continue;
            }
            self.ready.compete(pool, COMPETING, |key| {
                match queue_of(key, batches, &mut self.jobs, &self.paces, now) {
                    Some(queue) if queue.ready > 0 => {
                        queues.push(queue);
                        true
                    }
                    _ => {
                        idle.push((pool.clone(), key.clone()));
                        false
                    }
                }
            });
        }
        for (pool, key) in idle {
            self.ready.remove(&pool, &key);
        }
        for queue in &queues {
            // A rate limit is a timer too.
            if queue.allowed == Some(0) {
                self.timers
                    .insert((now.plus(Millis(50)), queue.key.clone()));
            }
        }
        let grants = plan(&queues, &pools, &mut self.shares);
        let mut chunks = Vec::new();
        for grant in grants {
            let batch = batches.get(&grant.key.batch);
            chunks.extend(self.chunk_of(&grant, batch, now, &mut id));
        }
        chunks
    }

    fn chunk_of(
        &mut self,
        Grant {
            key,
            units: most,
            work_ms,
        }: &Grant<JobKey>,
        batch: Option<&BatchState>,
        now: Timestamp,
        id: &mut impl FnMut() -> ChunkId,
    ) -> Option<Chunk> {
        let batch = batch?;
        let (spec, job) = batch.job(key.tier, &key.job)?;
        let run = self.jobs.entry(key.clone()).or_default();
        let candidates = job.ready(now).minus(&run.out).take(*most);
        // A chunk is of one attempt; others follow in chunks of their own.
        let (ended, mut units) = job.attempts.split(&candidates).into_iter().next()?;
        let (documents, inputs) = loop {
            let (documents, inputs) = references(batch, key.tier, &units);
            if documents.len() + inputs.len() <= REFERENCES || units.len() <= 1 {
                break (documents, inputs);
            }
            units = units.take(units.len() / 2);
        };
        let chunk = Chunk {
            id: id(),
            namespace: batch.key.namespace.clone(),
            bucket: batch.bucket.clone(),
            batch: batch.key.batch,
            tier: key.tier,
            job: key.job.clone(),
            handler: spec.handler.clone(),
            params: spec.params.clone(),
            attempt: ended.saturating_add(1),
            timeout: spec.timeout,
            memory_bytes: spec.memory_bytes,
            num_cpus: spec.num_cpus,
            max_output_bytes: spec.max_output_bytes,
            units: units.clone(),
            documents,
            inputs,
            at: now,
            trace: None,
        };
        run.out.add(&units);
        #[allow(clippy::cast_precision_loss)]
        if spec.rate_limit.is_some() {
            run.tokens -= units.len() as f64;
        }
        self.chunks.insert(
            chunk.id,
            Held {
                key: key.clone(),
                pool: pool_of(spec),
                attempt: chunk.attempt,
                units,
                work_ms: *work_ms,
                offered_at: now,
                holder: None,
                named_at: now,
                doubted_at: None,
            },
        );
        Some(chunk)
    }
}

pub(crate) fn pool_of(spec: &JobSpec) -> Pool {
    Pool {
        handler: spec.handler.clone(),
        class: spec.class.clone(),
    }
}
