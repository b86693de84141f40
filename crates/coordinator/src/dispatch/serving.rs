//! Jobs that nobody serves.

use std::collections::BTreeMap;

use redrive_domain::{
    evolve::Batches, ids::BatchKey, pause::JobRef, pipeline::JobSpec, status::BatchStatus,
    time::Timestamp,
};

use super::{Dispatch, JobKey};

impl Dispatch {
    /// Whether a live worker does such a job.
    pub(crate) fn serves(&self, spec: &JobSpec) -> bool {
        self.workers.values().any(|run| {
            run.slots > 0
                && run.handlers.contains(&spec.handler)
                && run.classes.contains(&spec.class)
        })
    }

    /// Notes which jobs have work that nobody serves.
    pub(crate) fn note_unserved(&mut self, batches: &Batches, now: Timestamp) {
        let mut unserved = BTreeMap::new();
        for batch in batches.values() {
            if batch.status != BatchStatus::Running {
                continue;
            }
            for (tier, spec, job) in batch.jobs() {
                if job.open.is_empty() || job.paused.is_some() || self.serves(spec) {
                    continue;
                }
                let key = JobKey {
                    batch: batch.key.clone(),
                    tier,
                    job: spec.name.clone(),
                };
                let out = self.jobs.get(&key).is_some_and(|run| !run.out.is_empty());
                if out || !job.ready(now).is_empty() {
                    let since = self.unserved.get(&key).copied().unwrap_or(now);
                    unserved.insert(key, since);
                }
            }
        }
        self.unserved = unserved;
    }

    /// Since when a job has had work that nobody serves.
    pub(crate) fn unserved_since(&self, batch: &BatchKey, at: &JobRef) -> Option<Timestamp> {
        let key = JobKey {
            batch: batch.clone(),
            tier: at.tier,
            job: at.job.clone(),
        };
        self.unserved.get(&key).copied()
    }
}
