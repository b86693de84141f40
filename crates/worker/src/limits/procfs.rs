//! What /proc says of processes.

use std::{fs, str::FromStr};

/// What one process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Status {
    /// Its process group.
    pub(super) group: i32,
    /// Memory that is its own, in bytes: pages of files can be had again, and do not count.
    pub(super) now: u64,
    /// The most that it ever had, in bytes.
    pub(super) most: u64,
}

impl Status {
    /// From the text of `/proc/<pid>/status`; `None` of a process that has ended.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let anonymous = kib(text, "RssAnon:")?;
        let shared = kib(text, "RssShmem:")?;
        let files = kib(text, "RssFile:")?;
        let most = kib(text, "VmHWM:")?;
        let now = anonymous + shared;
        Some(Self {
            group: field(text, "NSpgid:")?,
            now,
            most: most.saturating_sub(files).max(now),
        })
    }

    pub(super) fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }
}

fn field<T: FromStr>(text: &str, name: &str) -> Option<T> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A field that is written in kB, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    field::<u64>(text, name)?.checked_mul(1_024)
}

/// Memory of a process where pages that it shares with others count in part, in bytes, from `smaps_rollup`.
fn proportional(text: &str) -> Option<u64> {
    Some(kib(text, "Pss_Anon:")? + kib(text, "Pss_Shmem:").unwrap_or(0))
}

/// The same of a process. It takes the kernel longer than [`Status::of`].
pub(super) fn proportional_of(pid: i32) -> Option<u64> {
    proportional(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

/// The processes that a process's first thread has started.
pub(super) fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let text = text.unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// All processes, each with its process group.
pub(super) fn all() -> Vec<(i32, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, group_of(&stat)?))
    })
    .collect()
}

/// The process group, from the text of `/proc/<pid>/stat`. The name in it may hold anything.
fn group_of(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_is_its_own() {
        let text = "Name:\tcat\nNSpgid:\t42\t7\nVmHWM:\t  900 kB\nVmRSS:\t 800 kB\nRssAnon:\t  300 kB\nRssFile:\t  450 kB\nRssShmem:\t   50 kB\n";
        let status = Status {
            group: 42,
            now: 350 * 1_024,
            most: 450 * 1_024,
        };
        assert_eq!(Status::parse(text), Some(status));
        assert_eq!(Status::parse("Name:\tcat\nState:\tZ (zombie)\n"), None);
        let rollup = "Rss:  900 kB\nPss:  500 kB\nPss_Anon:  100 kB\nPss_Shmem:  7 kB\n";
        assert_eq!(proportional(rollup), Some(107 * 1_024));
    }

    #[test]
    fn a_name_may_hold_anything() {
        assert_eq!(group_of("12 (a) b (c) S 1 34 34 0"), Some(34));
        assert_eq!(group_of("12"), None);
    }

    #[test]
    fn this_process_is_there() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let status = Status::of(pid).unwrap();
        assert!(status.now > 0 && status.most >= status.now);
        assert!(all().contains(&(pid, status.group)));
    }
}
