//! What goes out next.

use std::collections::BTreeMap;

use redrive_domain::{
    decide::probed_unit,
    ids::{BatchKey, ChunkId},
    pause::Paused,
    state::BatchState,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::Chunk,
};

use super::{
    Dispatch, Held, JobKey, life::Life, pool_of, queue::queue_of, references::References,
    reshape::Shape, suspects::candidates,
};
use crate::scheduler::{Capacity, Grant, Pool, plan};

/// Jobs of one namespace that compete for a pool at a time; the rest wait their turn in order of age. It bounds the model.
const COMPETING: usize = 64;
/// References into the log that one chunk may hold: it has to fit in a message.
const REFERENCES: usize = 4_000;
/// Segments of all documents that one chunk joins, unless it is one document.
const SEGMENTS_JOINED: u64 = 65_536;

impl Dispatch {
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
        let mut moved = Vec::new();
        for pool in self.ready.pools() {
            if pools.get(pool).is_some_and(|capacity| !capacity.has_room()) {
                continue;
            }
            self.ready.compete(pool, COMPETING, |key| {
                match queue_of(key, batches, &mut self.jobs, &self.paces, now) {
                    // It has another class since it was put here.
                    Some(queue) if queue.pool != *pool => {
                        idle.push((pool.clone(), key.clone()));
                        moved.push((queue.pool, key.clone()));
                        false
                    }
                    Some(queue) if queue.ready > 0 && queue.room != Some(0) => {
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
        for (pool, key) in moved {
            self.ready.insert(&pool, key);
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
        let candidates = candidates(job, now, &run.out);
        let outage = job.paused.as_ref().and_then(Paused::outage);
        let next = match outage {
            None => candidates.next.take((*most).min(candidates.together)),
            Some(outage) => UnitSet::from([probed_unit(outage, &candidates.next)?]),
        };
        // A chunk is of one attempt; others follow in chunks of their own.
        let (ended, units) = job.attempts.split(&next).into_iter().next()?;
        let mut units = References::within(batch, key.tier, units, SEGMENTS_JOINED);
        // What one unit refers to always fits: `Segmentation::most` bounds what a join may be of.
        let references = loop {
            let references = References::of(batch, key.tier, &units);
            if references.count() <= REFERENCES || units.len() <= 1 {
                break references;
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
            documents: references.documents,
            inputs: references.inputs,
            at: now,
            strikes: candidates.strikes,
            entrypoint: spec.entrypoint.clone(),
            deployment_mode: spec.deployment_mode.clone(),
            plugin_archives: spec.plugin_archives.clone(),
            trace: None,
            splits: spec.segments,
            segments: references.segments,
            joins: references.joins,
        };
        run.out.add(&units);
        run.probe = outage.map(|_| chunk.id).or(run.probe);
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
                life: Life::default(),
                shape: Some(Shape::of(spec)),
            },
        );
        Some(chunk)
    }
}
