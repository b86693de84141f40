//! CPUs by affinity: each process group gets those that the fewest others have.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that this process may use, and how many process groups each of them has.
pub(super) struct Cpus(Arc<Mutex<Vec<(usize, u32)>>>);

/// CPUs that a process group has, until this is dropped.
pub(super) struct Taken {
    of: Arc<Mutex<Vec<(usize, u32)>>>,
    cpus: Vec<usize>,
}

impl Cpus {
    /// Those of this process.
    pub(super) fn here() -> Self {
        let all = match sched_getaffinity(None) {
            Ok(set) => (0..CpuSet::MAX_CPU)
                .filter(|cpu| set.is_set(*cpu))
                .collect(),
            Err(_) => Vec::new(),
        };
        Self::of(all)
    }

    fn of(all: Vec<usize>) -> Self {
        let counted = all.into_iter().map(|cpu| (cpu, 0)).collect();
        Self(Arc::new(Mutex::new(counted)))
    }

    /// So many CPUs; `None` where there are no more than these, so that there is nothing to choose.
    pub(super) fn take(&self, count: u32) -> Option<Taken> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = usize::try_from(count).ok().filter(|n| *n < all.len())?;
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|at| all.get(*at).map(|(_, groups)| *groups));
        let mut cpus = Vec::with_capacity(count);
        for at in order.into_iter().take(count) {
            if let Some((cpu, groups)) = all.get_mut(at) {
                *groups += 1;
                cpus.push(*cpu);
            }
        }
        Some(Taken {
            of: self.0.clone(),
            cpus,
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut all = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        for (cpu, groups) in all.iter_mut() {
            if self.cpus.contains(cpu) {
                *groups = groups.saturating_sub(1);
            }
        }
    }
}

/// Does something on these CPUs. What it starts stays on them; this thread does not.
pub(super) fn on<T>(taken: Option<&Taken>, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some(taken) = taken else { return start() };
    let before = sched_getaffinity(None)?;
    let mut set = CpuSet::new();
    taken.cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set)?;
    let started = start();
    sched_setaffinity(None, &before)?;
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_the_cpus_that_the_fewest_have() {
        let cpus = Cpus::of(vec![2, 3, 5]);
        let first = cpus.take(2).unwrap();
        assert_eq!(first.cpus, [2, 3]);
        let second = cpus.take(1).unwrap();
        assert_eq!(second.cpus, [5]);
        drop(first);
        assert_eq!(cpus.take(1).unwrap().cpus, [2]);
        assert!(cpus.take(3).is_none(), "all of them are no choice");
    }

    #[test]
    fn what_is_started_keeps_them_and_this_thread_does_not() {
        let cpus = Cpus::here();
        let Some(taken) = cpus.take(1) else {
            return; // There is only one here.
        };
        let before = sched_getaffinity(None).unwrap();
        let seen = on(Some(&taken), || Ok(sched_getaffinity(None)?)).unwrap();
        assert_eq!(seen.count(), 1);
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
