//! Keeping processes within the memory and the CPUs that their job gives them.
//!
//! There are two ways. With cgroup v2, where the worker may make groups of its own, the kernel does it: each process
//! group has a leaf with `memory.max` and `cpu.max`, and the kernel says that it killed one. Elsewhere the worker *watches*:
//! it looks at the memory of each process group every few milliseconds and kills the one that has too much, which is
//! why it knows the cause; a limit on the address space is a backstop, and CPUs are given out by affinity. Nothing is ever
//! inferred from an exit code.

mod cgroup;
mod cpus;
mod procfs;
mod watch;

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use redrive_domain::failure::{Failure, FailureKind};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group};
use tokio::process::{Child, Command};

use self::{
    cgroup::{Leaf, Parent},
    cpus::{Cpus, Taken},
    watch::{Watch, Watched},
};

/// What a process with all that it starts may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Share {
    /// Memory, in bytes.
    pub(crate) memory_bytes: Option<u64>,
    /// CPUs at once.
    pub(crate) num_cpus: u32,
}

/// The way of this worker process. There is one, however many workers run in it.
pub(crate) struct Limits {
    way: Way,
    watch: Arc<Watch>,
}

enum Way {
    Cgroup(Parent),
    Watch {
        cpus: Cpus,
        /// Why it is not cgroup v2.
        why: String,
    },
}

/// A process group that is kept within its share. Its numbers go on counting until it is ended or dropped.
pub(crate) struct Fence {
    share: Share,
    watched: Option<Watched>,
    leaf: Option<Leaf>,
    _cpus: Option<Taken>,
}

/// What a process group used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Used {
    /// The most memory at once, in bytes, where that was measured.
    pub(crate) peak: Option<u64>,
    /// It was killed because it had more memory than this, in bytes.
    pub(crate) killed_above: Option<u64>,
}

impl Limits {
    /// The way that there is here, which is found out the first time.
    pub(crate) fn here() -> &'static Self {
        static HERE: OnceLock<Limits> = OnceLock::new();
        HERE.get_or_init(|| Self {
            way: match Parent::find() {
                Ok(parent) => Way::Cgroup(parent),
                Err(why) => Way::Watch {
                    cpus: Cpus::here(),
                    why,
                },
            },
            watch: Arc::default(),
        })
    }

    /// As heartbeats say it.
    pub(crate) fn word(&self) -> &'static str {
        match self.way {
            Way::Cgroup(_) => "cgroup_v2",
            Way::Watch { .. } => "watch",
        }
    }

    /// Starts a command, as the leader of a process group of its own, within its share.
    ///
    /// # Errors
    /// Where it cannot be started. Where it cannot be kept within its share it is not started either.
    pub(crate) fn spawn(&self, command: &mut Command, share: Share) -> io::Result<(Child, Fence)> {
        command.process_group(0);
        let mut fence = Fence {
            share,
            watched: None,
            leaf: None,
            _cpus: None,
        };
        let child = match &self.way {
            Way::Cgroup(parent) => {
                let leaf = fence.leaf.insert(parent.leaf(share)?);
                let child = command.spawn()?;
                // What it started in the meantime, which is next to no time, is taken along.
                if let Some(pid) = child.id()
                    && let Err(error) = leaf.enter(pid)
                {
                    kill(&child);
                    return Err(error);
                }
                child
            }
            Way::Watch { cpus, .. } => {
                fence._cpus = cpus.take(share.num_cpus);
                cpus::on(fence._cpus.as_ref(), || command.spawn())?
            }
        };
        let Some(leader) = leader(&child) else {
            return Ok((child, fence));
        };
        match &fence.leaf {
            Some(leaf) if leaf.peak().is_some() => {}
            // An older kernel counts no peak.
            Some(_) => fence.watched = Some(self.watch.add(leader, None)),
            None => {
                backstop(leader, share);
                fence.watched = Some(self.watch.add(leader, share.memory_bytes));
            }
        }
        Ok((child, fence))
    }
}

fn leader(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

/// Ends a process group that is not to be.
fn kill(child: &Child) {
    if let Some(leader) = leader(child) {
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way {
            Way::Cgroup(parent) => write!(f, "cgroup v2, below {}", parent.path().display()),
            Way::Watch { why, .. } => write!(f, "watching the processes, since {why}"),
        }
    }
}

/// A single allocation may be larger than what watching sees in time. Only memory that a program can write counts, so that
/// one which merely reserves a lot of address space is left alone; and far more than it may have, so that the watch, which
/// knows what it does, is first.
fn backstop(leader: Pid, share: Share) {
    if let Some(bytes) = share.memory_bytes {
        let most = Some(bytes.saturating_mul(4).saturating_add(1 << 30));
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        if let Err(error) = rustix::process::prlimit(Some(leader), Resource::Data, limit) {
            tracing::debug!(%error, "a process has no limit on its address space");
        }
    }
}

impl Fence {
    /// The most memory so far, in bytes, where that was measured.
    pub(crate) fn peak(&self) -> Option<u64> {
        let leaf = self.leaf.as_ref().and_then(Leaf::peak);
        leaf.or_else(|| self.watched.as_ref().and_then(Watched::peak))
    }

    /// What it used in all. To be asked when the leader has ended, before the group is given up.
    pub(crate) fn used(&self) -> Used {
        let killed = match (&self.leaf, &self.watched) {
            (Some(leaf), _) => leaf.was_killed(),
            (None, Some(watched)) => watched.was_killed(),
            (None, None) => false,
        };
        Used {
            peak: self.peak(),
            killed_above: self.share.memory_bytes.filter(|_| killed),
        }
    }
}

impl Used {
    /// The failure of what was killed for its memory.
    pub(crate) fn failure(self) -> Option<Failure> {
        let limit = self.killed_above?;
        let peak = match self.peak {
            Some(peak) => format!("used {}", mib(peak)),
            None => "used more".to_owned(),
        };
        Some(Failure::new(
            FailureKind::OUT_OF_MEMORY,
            format!(
                "{peak} of memory and was killed: the job allows {} (memory_bytes = {limit})",
                mib(limit)
            ),
        ))
    }
}

#[allow(clippy::cast_precision_loss, reason = "to a tenth")]
fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_killed_for_its_memory_failed_for_it() {
        let used = Used {
            peak: Some(70 << 20),
            killed_above: None,
        };
        assert_eq!(used.failure(), None);
        let killed_above = Some(64 << 20);
        let failure = Used {
            killed_above,
            ..used
        }
        .failure()
        .unwrap();
        assert_eq!(failure.kind, FailureKind::OUT_OF_MEMORY);
        assert_eq!(
            failure.message,
            "used 70.0 MiB of memory and was killed: the job allows 64.0 MiB (memory_bytes = 67108864)"
        );
    }
}
