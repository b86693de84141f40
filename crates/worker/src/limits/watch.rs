//! Watching the memory of process groups: one thread for all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::procfs::{self, Status};

/// How often a process group is looked at.
const EVERY: Duration = Duration::from_millis(20);
/// How often while one is young: most programs are over soon, and their memory would never be seen.
const AT_FIRST: Duration = Duration::from_millis(5);
/// How long it is young.
const YOUNG: Duration = Duration::from_millis(50);
/// How often all processes are looked through for members of a group, at most.
const SEARCH: Duration = Duration::from_millis(100);
/// That search takes this part of the time at most: one in so many.
const SEARCH_PART: u32 = 50;
/// So do exact counts of a group that seems to have too much.
const EXACT_PART: u32 = 10;
/// Members of one group that are looked at.
const MEMBERS: usize = 4_096;

/// The process groups that are watched.
#[derive(Default)]
pub(super) struct Watch {
    groups: Mutex<Groups>,
    added: Condvar,
}

#[derive(Default)]
struct Groups {
    all: BTreeMap<u64, Arc<Group>>,
    next: u64,
    /// Whether the thread runs.
    looking: bool,
}

struct Group {
    leader: Pid,
    limit: Option<u64>,
    since: Instant,
    peak: AtomicU64,
    killed: AtomicBool,
    /// Only the thread looks at these.
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    pids: BTreeSet<i32>,
    /// Not counted exactly before this.
    exact_from: Option<Instant>,
}

/// A process group that is watched until this is dropped.
pub(super) struct Watched {
    watch: Arc<Watch>,
    number: u64,
    group: Arc<Group>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Watches the group of this leader, and kills it when it has more memory than the limit.
    pub(super) fn add(self: &Arc<Self>, leader: Pid, limit: Option<u64>) -> Watched {
        let group = Arc::new(Group {
            leader,
            limit,
            since: Instant::now(),
            peak: AtomicU64::new(0),
            killed: AtomicBool::new(false),
            members: Mutex::new(Members {
                pids: BTreeSet::from([leader.as_raw_nonzero().get()]),
                exact_from: None,
            }),
        });
        let mut groups = lock(&self.groups);
        let number = groups.next;
        groups.next += 1;
        groups.all.insert(number, group.clone());
        if !groups.looking {
            let watch = self.clone();
            let thread = thread::Builder::new().name("redrive-watch".to_owned());
            match thread.spawn(move || watch.look()) {
                Ok(_) => groups.looking = true,
                Err(error) => tracing::error!(%error, "the memory of processes is not watched"),
            }
        }
        drop(groups);
        self.added.notify_one();
        Watched {
            watch: self.clone(),
            number,
            group,
        }
    }

    /// Looks at all groups, for ever.
    fn look(&self) {
        let mut search_from = Instant::now();
        loop {
            let groups = self.wait();
            let now = Instant::now();
            let mut found: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
            if now >= search_from {
                for (pid, group) in procfs::all() {
                    found.entry(group).or_default().push(pid);
                }
                let took = now.elapsed();
                search_from = now + (took * SEARCH_PART).max(SEARCH);
            }
            let mut pause = EVERY;
            for (number, group) in groups {
                let found = found.get(&group.leader.as_raw_nonzero().get());
                if group.measure(found.map_or(&[], Vec::as_slice)) {
                    self.kill(number, &group);
                }
                if group.since.elapsed() < YOUNG {
                    pause = AT_FIRST;
                }
            }
            thread::sleep(pause);
        }
    }

    /// The groups that there are, as soon as there are any.
    fn wait(&self) -> Vec<(u64, Arc<Group>)> {
        let mut groups = lock(&self.groups);
        while groups.all.is_empty() {
            groups = self
                .added
                .wait(groups)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let all = groups.all.iter();
        all.map(|(number, group)| (*number, group.clone()))
            .collect()
    }

    /// Only while it is registered: afterwards its number may belong to somebody else.
    fn kill(&self, number: u64, group: &Group) {
        let groups = lock(&self.groups);
        if groups.all.contains_key(&number) {
            // First, so that whoever sees its end sees why.
            group.killed.store(true, Ordering::Release);
            let _ = kill_process_group(group.leader, Signal::KILL);
        }
    }
}

impl Group {
    /// Looks at its members; whether they have more than they may.
    fn measure(&self, found: &[i32]) -> bool {
        let mut members = lock(&self.members);
        members.pids.extend(found);
        let mut waiting: Vec<i32> = members.pids.iter().copied().collect();
        let (mut sum, mut peak) = (0_u64, 0_u64);
        while let Some(pid) = waiting.pop() {
            let status = Status::of(pid);
            let Some(status) = status.filter(|it| self.leader.as_raw_nonzero().get() == it.group)
            else {
                members.pids.remove(&pid);
                continue;
            };
            sum = sum.saturating_add(status.now);
            peak = peak.max(status.most);
            for child in procfs::children(pid) {
                if members.pids.len() < MEMBERS && members.pids.insert(child) {
                    waiting.push(child);
                }
            }
        }
        let over = |sum: u64| self.limit.is_some_and(|limit| sum > limit);
        if over(sum) && members.pids.len() > 1 {
            // Processes that were forked share pages, which are counted once for each of them so far.
            let now = Instant::now();
            if members.exact_from.is_some_and(|from| now < from) {
                return false;
            }
            let exact = members.pids.iter().map(|pid| {
                let plain = || Status::of(*pid).map(|status| status.now);
                procfs::proportional_of(*pid).or_else(plain).unwrap_or(0)
            });
            sum = exact.sum();
            members.exact_from = Some(now + now.elapsed() * EXACT_PART);
        }
        self.peak.fetch_max(sum.max(peak), Ordering::Relaxed);
        over(sum)
    }
}

impl Watched {
    /// The most memory that was seen so far, in bytes.
    pub(super) fn peak(&self) -> Option<u64> {
        match self.group.peak.load(Ordering::Relaxed) {
            0 => None,
            bytes => Some(bytes),
        }
    }

    /// Whether it was killed for its memory.
    pub(super) fn was_killed(&self) -> bool {
        self.group.killed.load(Ordering::Acquire)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.watch.groups).all.remove(&self.number);
    }
}
