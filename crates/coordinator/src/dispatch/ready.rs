//! Jobs that may have something to hand out, by who can do it: those that wait for a pool without room cost nothing, and
//! keep nobody else from being seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use redrive_domain::ids::{BatchId, BatchKey, JobName};
use uuid::Uuid;

use super::JobKey;
use crate::scheduler::Pool;

#[derive(Debug, Default)]
pub(super) struct Ready(BTreeMap<Pool, BTreeSet<JobKey>>);

impl Ready {
    pub(super) fn insert(&mut self, pool: &Pool, job: JobKey) {
        match self.0.get_mut(pool) {
            Some(jobs) => {
                jobs.insert(job);
            }
            None => {
                self.0.insert(pool.clone(), BTreeSet::from([job]));
            }
        }
    }

    pub(super) fn remove(&mut self, pool: &Pool, job: &JobKey) {
        if let Some(jobs) = self.0.get_mut(pool) {
            jobs.remove(job);
            if jobs.is_empty() {
                self.0.remove(pool);
            }
        }
    }

    pub(super) fn remove_batch(&mut self, batch: &BatchKey) {
        for jobs in self.0.values_mut() {
            for job in super::jobs_of(batch, jobs.range(super::jobs_from(batch))) {
                jobs.remove(&job);
            }
        }
        self.0.retain(|_, jobs| !jobs.is_empty());
    }

    pub(super) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.0.keys()
    }

    /// Looks at the jobs of a pool in order of age, in each namespace until so many were taken.
    pub(super) fn compete(&self, pool: &Pool, most: usize, mut take: impl FnMut(&JobKey) -> bool) {
        let Some(jobs) = self.0.get(pool) else {
            return;
        };
        let mut taken = 0;
        let mut from = Bound::Unbounded;
        let mut before: Option<&JobKey> = None;
        while let Some(job) = jobs.range((from, Bound::Unbounded)).next() {
            if before.is_none_or(|it| it.batch.namespace != job.batch.namespace) {
                taken = 0;
            }
            before = Some(job);
            from = if taken < most {
                taken += usize::from(take(job));
                Bound::Excluded(job.clone())
            } else {
                after_namespace(job)
            };
        }
    }
}

/// Beyond nearly all that a namespace can have; the rest is passed over one by one.
fn after_namespace(job: &JobKey) -> Bound<JobKey> {
    let batch = BatchKey {
        namespace: job.batch.namespace.clone(),
        batch: BatchId(Uuid::max()),
    };
    match JobName::new("-") {
        Ok(name) if job.batch.batch.0 != Uuid::max() => Bound::Excluded(JobKey {
            batch,
            tier: 0,
            job: name,
        }),
        _ => Bound::Excluded(job.clone()),
    }
}

#[cfg(test)]
mod tests {
    use redrive_domain::ids::{HandlerName, Namespace, ResourceClass};

    use super::*;

    fn pool(class: &str) -> Pool {
        Pool {
            handler: HandlerName::new("h").unwrap(),
            class: ResourceClass::new(class).unwrap(),
        }
    }

    fn job(namespace: &str, batch: u128) -> JobKey {
        JobKey {
            batch: BatchKey {
                namespace: Namespace::new(namespace).unwrap(),
                batch: BatchId(Uuid::from_u128(batch)),
            },
            tier: 0,
            job: JobName::new("job").unwrap(),
        }
    }

    #[test]
    fn each_namespace_shows_its_oldest() {
        let mut ready = Ready::default();
        for namespace in ["a", "b"] {
            for batch in [1, 2, 3, u128::MAX] {
                ready.insert(&pool("cpu"), job(namespace, batch));
            }
        }
        let mut seen = Vec::new();
        ready.compete(&pool("cpu"), 2, |it| {
            seen.push(it.clone());
            // One that has nothing to hand out does not count.
            *it != job("a", 1)
        });
        assert_eq!(
            seen,
            [
                job("a", 1),
                job("a", 2),
                job("a", 3),
                job("b", 1),
                job("b", 2)
            ]
        );
    }

    #[test]
    fn a_batch_leaves_whole_and_pools_do_not_hide_each_other() {
        let mut ready = Ready::default();
        for class in ["cpu", "gpu"] {
            ready.insert(&pool(class), job("a", 1));
        }
        ready.insert(&pool("gpu"), job("a", 2));
        ready.remove_batch(&job("a", 1).batch);
        assert_eq!(ready.pools().collect::<Vec<_>>(), [&pool("gpu")]);
        ready.remove(&pool("gpu"), &job("a", 2));
        assert_eq!(ready.pools().count(), 0);
    }
}
