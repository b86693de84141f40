//! What is handed out: who holds which chunk, who is alive, how long a unit takes. None of it is in the log; a new
//! leader learns it from the heartbeats.

mod doubt;
mod rate;

use std::collections::{BTreeMap, BTreeSet};

use redrive_domain::{
    decide::Lost,
    ids::{BatchKey, ChunkId, HandlerName, JobName, ResourceClass, WorkerId},
    pipeline::{JobSpec, TierNum},
    state::BatchState,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{Chunk, Heartbeat, InFlight, Input, Outcome, Source},
};

use crate::scheduler::{Capacity, Grant, Pool, Queue, Shares, plan};

/// A job of a batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobKey {
    pub(crate) batch: BatchKey,
    pub(crate) tier: TierNum,
    pub(crate) job: JobName,
}

/// Jobs of one namespace that compete at a time; the rest wait their turn in order of age. It bounds the model.
const COMPETING: usize = 64;
/// References into the log that one chunk may hold: it has to fit in a message.
const REFERENCES: usize = 4_000;
/// How long a chunk that a worker no longer names may go without a report.
const SILENCE: Millis = Millis::seconds(10);

/// The smallest key that a job of the batch can have: `-` is the smallest of all names.
fn first_job(batch: &BatchKey) -> std::ops::Bound<JobKey> {
    JobName::new("-").map_or(std::ops::Bound::Unbounded, |job| {
        std::ops::Bound::Included(JobKey {
            batch: batch.clone(),
            tier: 0,
            job,
        })
    })
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
    offered_at: Timestamp,
    holder: Option<WorkerId>,
    named_at: Timestamp,
    doubted_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct JobRun {
    out: UnitSet,
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
    ready: BTreeSet<JobKey>,
    timers: BTreeSet<(Timestamp, JobKey)>,
    shares: Shares<JobKey>,
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
                }
                continue;
            }
            if let Some(due) = job.next_due(now) {
                self.timers.insert((due, key.clone()));
            }
            self.ready.insert(key);
        }
    }

    /// Forgets a batch that is over, and says which chunks of it are still out.
    pub(crate) fn drop_batch(&mut self, key: &BatchKey) -> bool {
        let before = self.chunks.len();
        self.chunks.retain(|_, held| held.key.batch != *key);
        for job in jobs_of(
            key,
            self.jobs
                .range((first_job(key), std::ops::Bound::Unbounded))
                .map(|(job, _)| job),
        ) {
            self.jobs.remove(&job);
            self.shares.forget(&job);
        }
        for job in jobs_of(
            key,
            self.ready
                .range((first_job(key), std::ops::Bound::Unbounded)),
        ) {
            self.ready.remove(&job);
        }
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
        let tried = units.minus(&outcome.returned).len();
        if tried > 0 {
            // Smoothed, so that one odd chunk does not set the size of the next.
            #[allow(clippy::cast_precision_loss)]
            let sample = outcome.busy.0 as f64 / tried as f64;
            run.unit_ms = Some(run.unit_ms.map_or(sample, |ms| ms * 0.7 + sample * 0.3));
        }
        if let Some(held) = self.chunks.get_mut(&outcome.chunk) {
            run.out.remove(&units.and(&held.units));
            held.units.remove(&units);
            if held.units.is_empty() {
                self.chunks.remove(&outcome.chunk);
            }
        }
        self.ready.insert(key);
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
        self.ready.insert(held.key.clone());
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
            pools.entry(held.pool.clone()).or_default().out += 1;
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
            if let Some((_, key)) = self.timers.pop_first() {
                self.ready.insert(key);
            }
        }
        let pools = self.capacities();
        let mut queues = Vec::new();
        let mut competing: BTreeMap<_, usize> = BTreeMap::new();
        let mut idle = Vec::new();
        for key in &self.ready {
            let count = competing.entry(key.batch.namespace.clone()).or_default();
            if *count >= COMPETING {
                continue;
            }
            match queue_of(key, batches, &mut self.jobs, now) {
                Some(queue) if queue.ready > 0 => {
                    *count += 1;
                    queues.push(queue);
                }
                _ => idle.push(key.clone()),
            }
        }
        for key in idle {
            self.ready.remove(&key);
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
        for Grant { key, units } in grants {
            if let Some(chunk) = self.chunk_of(&key, batches.get(&key.batch), units, now, &mut id) {
                chunks.push(chunk);
            }
        }
        chunks
    }

    fn chunk_of(
        &mut self,
        key: &JobKey,
        batch: Option<&BatchState>,
        most: u64,
        now: Timestamp,
        id: &mut impl FnMut() -> ChunkId,
    ) -> Option<Chunk> {
        let batch = batch?;
        let (spec, job) = batch.job(key.tier, &key.job)?;
        let run = self.jobs.entry(key.clone()).or_default();
        let candidates = job.ready(now).minus(&run.out).take(most);
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

fn queue_of(
    key: &JobKey,
    batches: &BTreeMap<BatchKey, BatchState>,
    jobs: &mut BTreeMap<JobKey, JobRun>,
    now: Timestamp,
) -> Option<Queue<JobKey>> {
    let batch = batches
        .get(&key.batch)
        .filter(|batch| batch.status == redrive_domain::status::BatchStatus::Running)?;
    let (spec, job) = batch
        .job(key.tier, &key.job)
        .filter(|(_, job)| job.paused.is_none())?;
    let run = jobs.entry(key.clone()).or_default();
    Some(Queue {
        key: key.clone(),
        namespace: key.batch.namespace.clone(),
        pool: pool_of(spec),
        priority: spec.priority,
        ready: job.ready(now).minus(&run.out).len(),
        unit_ms: run.unit_ms,
        allowed: spec.rate_limit.map(|limit| run.refill(limit, now)),
    })
}

/// Where the documents and inputs of units stand in the log.
fn references(batch: &BatchState, tier: TierNum, units: &UnitSet) -> (Vec<Source>, Vec<Input>) {
    let documents = batch
        .pages
        .split(units)
        .into_iter()
        .map(|(seq, units)| Source { seq, units })
        .collect();
    let inputs = batch
        .jobs()
        .filter(|(num, _, _)| num.checked_add(1) == Some(tier))
        .flat_map(|(_, spec, job)| {
            job.outputs
                .split(units)
                .into_iter()
                .map(|(seq, units)| Input {
                    job: spec.name.clone(),
                    seq,
                    units,
                })
        })
        .collect();
    (documents, inputs)
}
