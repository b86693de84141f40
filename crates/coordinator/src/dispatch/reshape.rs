//! What is out of jobs that are not what they were when it was handed out.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use redrive_domain::{
    ids::ChunkId,
    pipeline::JobSpec,
    state::{BatchState, JobState},
    time::Timestamp,
};

use super::{Dispatch, JobKey};

/// What of a job's parameters goes along with a chunk: a hash of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape(u64);

impl Shape {
    pub(super) fn of(spec: &JobSpec) -> Self {
        // Fixed keys: the same in every run of a simulation.
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let resources = (&spec.class, spec.num_cpus, spec.memory_bytes, spec.timeout);
        let deployment = (
            &spec.entrypoint,
            &spec.deployment_mode,
            &spec.plugin_archives,
        );
        Self(hasher.hash_one((resources, deployment)))
    }
}

/// What is to become of chunks that are out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reshaped {
    /// They are not wanted any more: whoever has one is to stop it, and nobody else is to get it.
    pub(crate) unwanted: Vec<ChunkId>,
    /// Nobody is known to have taken them: they are to be taken back, so that their units go out with the parameters
    /// that the job has now.
    pub(crate) outdated: Vec<ChunkId>,
}

impl Dispatch {
    /// Looks at what is out of a batch of which jobs were cancelled or have other parameters now. What is not wanted is
    /// forgotten. What nobody has named may just have been taken, so it goes out again only when nobody names it (see
    /// `doubt`). What a worker is known to have goes on as it is.
    pub(crate) fn reshape(&mut self, batch: &BatchState, now: Timestamp) -> Reshaped {
        let jobs: BTreeMap<JobKey, (&JobSpec, &JobState)> = batch
            .jobs()
            .map(|(tier, spec, job)| {
                let key = JobKey {
                    batch: batch.key.clone(),
                    tier,
                    job: spec.name.clone(),
                };
                (key, (spec, job))
            })
            .collect();
        let mut reshaped = Reshaped::default();
        for (id, held) in &mut self.chunks {
            let Some((spec, job)) = jobs.get(&held.key) else {
                continue;
            };
            if job.cancellation.is_some() {
                reshaped.unwanted.push(*id);
            } else if held.holder.is_none()
                && held.doubted_at.is_none()
                && held.shape != Some(Shape::of(spec))
            {
                held.doubted_at = Some(now);
                reshaped.outdated.push(*id);
            }
        }
        for id in &reshaped.unwanted {
            self.give_up(*id);
        }
        for (key, (spec, job)) in jobs {
            if job.cancellation.is_some() {
                self.jobs.remove(&key);
                self.shares.forget(&key);
                continue;
            }
            let shape = Some(Shape::of(spec));
            if let Some(run) = self.jobs.get_mut(&key)
                && run.shape.is_some()
                && run.shape != shape
            {
                // How long a unit took with other resources says nothing of how long it takes now.
                run.shape = shape;
                run.unit_ms = None;
                run.kind.inspect(|kind| self.paces.forget(*kind));
            }
        }
        reshaped
    }
}
