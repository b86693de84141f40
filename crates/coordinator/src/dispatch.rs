//! What is handed out: who holds which chunk, who is alive, how long a unit takes. None of it is in the log; a new
//! leader learns it from the heartbeats.

mod adapt;
mod breaker;
mod doubt;
mod held;
mod life;
mod offer;
mod pace;
mod queue;
mod rate;
mod ready;
mod references;
mod reshape;
mod serving;
mod suspects;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use redrive_domain::{
    ids::{BatchKey, ChunkId, HandlerName, JobName, ResourceClass, WorkerId},
    pipeline::{JobSpec, TierNum},
    state::BatchState,
    time::Timestamp,
    units::UnitSet,
};

use self::{
    adapt::Pressure,
    breaker::Window,
    life::{Ghosts, Life},
    pace::{Kind, Paces},
    ready::Ready,
    reshape::Shape,
};
use crate::scheduler::{Pool, Shares};

/// A job of a batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobKey {
    pub(crate) batch: BatchKey,
    pub(crate) tier: TierNum,
    pub(crate) job: JobName,
}

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
    life: Life,
    /// What it was handed out with, where this leader did that.
    shape: Option<Shape>,
}

#[derive(Debug, Default)]
struct JobRun {
    out: UnitSet,
    kind: Option<Kind>,
    unit_ms: Option<f64>,
    shape: Option<Shape>,
    tokens: f64,
    refilled_at: Timestamp,
    /// How its latest attempts ended.
    window: Window,
    /// How much of it may be out at once.
    pressure: Pressure,
    /// The chunk that finds out whether the other side is back.
    probe: Option<ChunkId>,
}

#[derive(Debug)]
struct WorkerRun {
    handlers: Vec<HandlerName>,
    classes: Vec<ResourceClass>,
    slots: u32,
    seen_at: Timestamp,
    /// Since when it has had nothing to do.
    idle_since: Option<Timestamp>,
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
    ghosts: Ghosts,
    /// Jobs with work that no live worker serves, and since when.
    unserved: BTreeMap<JobKey, Timestamp>,
}

/// What a heartbeat showed to be wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The chunk is no longer wanted: its worker should stop it.
    Stale(ChunkId),
    /// The worker executes a chunk that another one executes: it should stop.
    Rival(WorkerId, ChunkId),
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
            if let Some(paused) = &job.paused {
                // What failed at once says nothing of how long a unit takes: begin with one again.
                if let Some(run) = self.jobs.get_mut(&key) {
                    run.unit_ms = None;
                    run.kind.inspect(|kind| self.paces.forget(*kind));
                }
                let Some(outage) = paused.outage() else {
                    continue;
                };
                self.timers.insert((outage.until, key.clone()));
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
        self.ghosts.forget(key);
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
}

pub(crate) fn pool_of(spec: &JobSpec) -> Pool {
    Pool {
        handler: spec.handler.clone(),
        class: spec.class.clone(),
    }
}
