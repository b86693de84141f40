//! A job as the scheduler sees it.

use std::collections::BTreeMap;

use redrive_domain::{ids::BatchKey, state::BatchState, status::BatchStatus, time::Timestamp};

use super::{
    JobKey, JobRun,
    pace::{Kind, Paces},
    pool_of,
    reshape::Shape,
    suspects::candidates,
};
use crate::scheduler::Queue;

/// `None` where nothing of it may be handed out.
pub(super) fn queue_of(
    key: &JobKey,
    batches: &BTreeMap<BatchKey, BatchState>,
    jobs: &mut BTreeMap<JobKey, JobRun>,
    paces: &Paces,
    now: Timestamp,
) -> Option<Queue<JobKey>> {
    let batch = batches
        .get(&key.batch)
        .filter(|batch| batch.status == BatchStatus::Running)?;
    let (spec, job) = batch.job(key.tier, &key.job)?;
    let run = jobs.entry(key.clone()).or_default();
    let most = match &job.paused {
        None => u64::MAX,
        // One at a time finds out whether the other side is back.
        Some(paused) => {
            paused.outage().filter(|outage| outage.until <= now)?;
            u64::from(run.probe.is_none())
        }
    };
    if run.kind.is_none() {
        run.pressure.restore(job.concurrency);
    }
    let kind = *run
        .kind
        .get_or_insert_with(|| Kind::of(&key.batch.namespace, spec));
    let candidates = candidates(job, now, &run.out);
    run.shape.get_or_insert_with(|| Shape::of(spec));
    let out = run.out.len();
    let asked = spec
        .max_concurrency
        .map(|most| u64::from(most.max(1)).saturating_sub(out));
    let borne = run.pressure.room(out);
    Some(Queue {
        key: key.clone(),
        namespace: key.batch.namespace.clone(),
        pool: pool_of(spec),
        priority: spec.priority,
        ready: candidates.count.min(most),
        together: candidates.together,
        unit_ms: run.unit_ms.or_else(|| paces.get(kind)),
        room: asked.into_iter().chain(borne).min(),
        allowed: spec.rate_limit.map(|limit| run.refill(limit, now)),
    })
}
