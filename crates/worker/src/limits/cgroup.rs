//! Control groups, version 2 (the kernel's Documentation/admin-guide/cgroup-v2.rst).
//!
//! A group that gives memory out to groups below it has no processes of its own, so the worker moves itself into a leaf of
//! the group in which it was started, and makes a leaf beside it for each process group that it starts. It does so only
//! where it is alone in its group: under systemd with `Delegate=yes`, or as the one process of a container whose cgroup
//! file system is writable.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use super::Share;

/// The span over which CPU time is given out, in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;
/// How often processes that were started before their leader was moved are looked for.
const ROUNDS: usize = 8;
/// How often a leaf that is being emptied is tried to be removed, with a wait in between.
const REMOVALS: u32 = 20;

/// The group below which leaves are made.
#[derive(Debug)]
pub(super) struct Parent {
    dir: PathBuf,
    /// Whether CPU time can be given out, too.
    cpu: bool,
    next: AtomicU64,
}

/// The group of one process group. It is killed and removed when this is dropped.
#[derive(Debug)]
pub(super) struct Leaf {
    dir: PathBuf,
}

impl Parent {
    /// Makes the group of this process a parent.
    ///
    /// # Errors
    /// Why that cannot be, in words that follow "since".
    pub(super) fn find() -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mount = mount(&read("/proc/self/mounts"))
            .ok_or_else(|| "no cgroup v2 is mounted".to_owned())?;
        let groups = read("/proc/self/cgroup");
        let path =
            own(&groups).ok_or_else(|| "the process is in no group of cgroup v2".to_owned())?;
        Self::at(mount.join(path.trim_start_matches('/')), std::process::id())
    }

    /// Makes a group a parent whose only process is this one.
    fn at(dir: PathBuf, pid: u32) -> Result<Self, String> {
        let shown = dir.display();
        let controllers = fs::read_to_string(dir.join("cgroup.controllers"))
            .map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let has = |name: &str| controllers.split_whitespace().any(|it| it == name);
        if !has("memory") {
            return Err(format!("cgroup v2 has no memory controller in {shown}"));
        }
        let others = fs::read_to_string(dir.join("cgroup.procs"))
            .map_err(|error| format!("{shown} cannot be read: {error}"))?;
        if others.split_whitespace().any(|it| it != pid.to_string()) {
            return Err(format!("other processes are in {shown}, too"));
        }
        let own = dir.join(format!("redrive-worker-{pid}"));
        let denied = |error: io::Error| format!("{shown} cannot be written: {error}");
        fs::create_dir(&own).map_err(denied)?;
        let enabled = fs::write(own.join("cgroup.procs"), pid.to_string())
            .and_then(|()| fs::write(dir.join("cgroup.subtree_control"), "+memory"));
        if let Err(error) = enabled {
            // As it was before; where even that fails, the process is in a group below, which does no harm.
            let _ = fs::write(dir.join("cgroup.procs"), pid.to_string());
            let _ = fs::remove_dir(&own);
            return Err(denied(error));
        }
        let cpu = has("cpu") && fs::write(dir.join("cgroup.subtree_control"), "+cpu").is_ok();
        Ok(Self {
            dir,
            cpu,
            next: AtomicU64::new(0),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes a leaf.
    ///
    /// # Errors
    /// Where the kernel does not take it, or its limits.
    pub(super) fn leaf(&self, share: Share) -> io::Result<Leaf> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("redrive-{}-{number}", std::process::id());
        let leaf = Leaf {
            dir: self.dir.join(name),
        };
        fs::create_dir(&leaf.dir)?;
        if let Some(bytes) = share.memory_bytes {
            leaf.write("memory.max", &bytes.to_string())?;
            leaf.write("memory.oom.group", "1")?;
            // Without swap there is no such file.
            match leaf.write("memory.swap.max", "0") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.cpu {
            leaf.write("cpu.max", &cpu_max(share.num_cpus))?;
        }
        Ok(leaf)
    }
}

impl Leaf {
    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        // Not created: what the kernel does not have is not there.
        let path = self.dir.join(file);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(cfg!(test)).open(path)?;
        io::Write::write_all(&mut file, text.as_bytes())
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.dir.join(file)).ok()
    }

    /// Takes a process in, with what it has started by now.
    ///
    /// # Errors
    /// Where the kernel does not take it. One that has ended already is none.
    pub(super) fn enter(&self, pid: u32) -> io::Result<()> {
        let mut next = vec![pid.to_string()];
        for _ in 0..ROUNDS {
            let mut children = Vec::new();
            for pid in next {
                match self.write("cgroup.procs", &pid) {
                    // ESRCH: it has ended.
                    Err(error) if error.raw_os_error() != Some(3) => return Err(error),
                    _ => {}
                }
                let started = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
                let started = started.unwrap_or_default();
                children.extend(started.split_whitespace().map(str::to_owned));
            }
            let inside = self.read("cgroup.procs").unwrap_or_default();
            children.retain(|child| !inside.split_whitespace().any(|it| it == child));
            if children.is_empty() {
                break;
            }
            next = children;
        }
        Ok(())
    }

    /// The most memory so far, in bytes; `None` where the kernel is older than 5.19 and does not say.
    pub(super) fn peak(&self) -> Option<u64> {
        self.read("memory.peak")?.trim().parse().ok()
    }

    /// Whether the kernel killed something in it for its memory.
    pub(super) fn was_killed(&self) -> bool {
        let events = self.read("memory.events").unwrap_or_default();
        count(&events, "oom_kill") > 0 || count(&events, "oom_group_kill") > 0
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        // What has left its process group is in it all the same.
        let _ = self.write("cgroup.kill", "1");
        if fs::remove_dir(&self.dir).is_ok() || !self.dir.exists() {
            return;
        }
        // Those that were just killed are in it until they are gone, which is soon.
        let dir = self.dir.clone();
        let removing = move || {
            for _ in 0..REMOVALS {
                thread::sleep(Duration::from_millis(50));
                if fs::remove_dir(&dir).is_ok() {
                    return;
                }
            }
            tracing::warn!(?dir, "a group of processes could not be removed");
        };
        let _ = thread::Builder::new()
            .name("redrive-cgroup".to_owned())
            .spawn(removing);
    }
}

/// Where cgroup v2 is mounted, from the text of `/proc/self/mounts`.
fn mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (at, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    })
}

/// The process's own group of version 2, from the text of `/proc/self/cgroup`.
fn own(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// A number of `memory.events`.
fn count(events: &str, name: &str) -> u64 {
    let mut lines = events.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(key, _)| *key == name);
    found.map_or(0, |(_, number)| number.trim().parse().unwrap_or(0))
}

/// So many CPUs, as `cpu.max` takes it.
fn cpu_max(cpus: u32) -> String {
    format!("{} {PERIOD}", u64::from(cpus.max(1)) * PERIOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount("proc /proc proc rw 0 0\n"), None);
        assert_eq!(own("4:memory:/a\n0::/b/c\n"), Some("/b/c"));
        assert_eq!(own("4:memory:/a\n"), None);
        let events = "low 0\nhigh 0\nmax 17\noom 1\noom_kill 3\noom_group_kill 1\n";
        assert_eq!((count(events, "oom_kill"), count(events, "oom_x")), (3, 0));
        assert_eq!(cpu_max(2), "200000 100000");
    }

    /// A folder that looks like a group of version 2.
    fn folder(controllers: &str, processes: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        fs::write(dir.path().join("cgroup.procs"), processes).unwrap();
        dir
    }

    #[test]
    fn a_group_that_is_shared_or_without_memory_is_no_parent() {
        let pid = std::process::id();
        let why = |dir: &tempfile::TempDir| Parent::at(dir.path().to_owned(), pid).unwrap_err();
        let shared = folder("cpu memory", &format!("{pid}\n1\n"));
        assert!(why(&shared).contains("other processes"));
        let without = folder("cpu pids", &format!("{pid}\n"));
        assert!(why(&without).contains("no memory controller"));
        assert_eq!(fs::read_dir(shared.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_leaf_has_the_limits_of_its_share() {
        let pid = std::process::id();
        let dir = folder("cpu memory", &format!("{pid}\n"));
        let parent = Parent::at(dir.path().to_owned(), pid).unwrap();
        let share = Share {
            memory_bytes: Some(1 << 26),
            num_cpus: 3,
        };
        let leaf = parent.leaf(share).unwrap();
        let has = |file: &str| leaf.read(file).unwrap();
        assert_eq!(has("memory.max"), "67108864");
        assert_eq!(
            (has("memory.swap.max"), has("memory.oom.group")),
            ("0".into(), "1".into())
        );
        assert_eq!(has("cpu.max"), "300000 100000");
        assert_eq!((leaf.peak(), leaf.was_killed()), (None, false));
        fs::write(leaf.dir.join("memory.peak"), "4096\n").unwrap();
        fs::write(leaf.dir.join("memory.events"), "oom 1\noom_kill 1\n").unwrap();
        assert_eq!((leaf.peak(), leaf.was_killed()), (Some(4_096), true));
        // The folder is not the kernel's: what stands in it has to go by hand.
        fs::remove_dir_all(&leaf.dir).unwrap();
    }

    #[test]
    fn the_kernel_kills_what_takes_too_much() {
        let parent = match Parent::find() {
            Ok(parent) => parent,
            Err(why) => {
                #[allow(
                    clippy::print_stderr,
                    reason = "whoever reads the test's output is to know"
                )]
                {
                    eprintln!("skipped: {why}");
                }
                return;
            }
        };
        let share = Share {
            memory_bytes: Some(32 << 20),
            num_cpus: 1,
        };
        let leaf = parent.leaf(share).unwrap();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read go; head -c 200000000 /dev/zero | tail"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        leaf.enter(child.id()).unwrap();
        io::Write::write_all(&mut child.stdin.take().unwrap(), b"go\n").unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(leaf.was_killed());
    }
}
