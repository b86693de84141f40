//! One server a store: the lock of the owner, and the server that an owner
//! left over when it died.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long an owner that is just ending may take to let go of its store.
const LOCK_BOUND: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);
const KILL_BOUND: Duration = Duration::from_secs(10);

/// Takes the owner's lock; `None` if a live process holds it. The system
/// lets go of it when the owner dies, however it dies.
pub(crate) fn lock_store(path: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    let end = Instant::now() + LOCK_BOUND;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => return Ok(None),
            Err(TryLockError::WouldBlock) => thread::sleep(POLL),
        }
    }
}

/// The process that a pid file names.
pub(crate) fn read_pid(pid_file: &Path) -> Option<u32> {
    fs::read_to_string(pid_file).ok()?.trim().parse().ok()
}

/// Stops the server that a pid file names, if it is still there and was
/// started on this configuration file. The error is the id of a process that
/// would not go.
pub(crate) fn stop_left_over(
    pid_file: &Path,
    config_file: &Path,
    bound: Duration,
) -> Result<(), u32> {
    let Some(id) = read_pid(pid_file) else {
        return Ok(());
    };
    let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    // The id may by now be that of an unrelated process.
    let serves = || command_line(id).is_some_and(|line| line.names(config_file));
    if !serves() {
        return Ok(());
    }
    tracing::warn!(
        pid = id,
        "stopping a nats-server that was left over on this store"
    );
    // The verdict is whether it is gone, not whether a signal arrived.
    let _ = kill_process(pid, Signal::TERM);
    let _ = kill_process(pid, Signal::CONT);
    if until(bound, || !serves()) {
        return Ok(());
    }
    let _ = kill_process(pid, Signal::KILL);
    match until(KILL_BOUND, || !serves()) {
        true => Ok(()),
        false => Err(id),
    }
}

fn until(bound: Duration, done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + bound;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(POLL);
    }
}

struct CommandLine(Vec<u8>);

impl CommandLine {
    /// Whether this is a server on that configuration: `… -c <config file>`.
    fn names(&self, config_file: &Path) -> bool {
        let config_file = config_file.as_os_str().as_encoded_bytes();
        #[cfg(target_os = "linux")]
        {
            let arguments: Vec<&[u8]> = self.0.split(|byte| *byte == 0).collect();
            arguments
                .windows(2)
                .any(|pair| pair == [b"-c", config_file])
        }
        #[cfg(not(target_os = "linux"))]
        {
            self.0.trim_ascii_end().ends_with(config_file)
        }
    }
}

/// `None` if there is no such process; empty for one that has ended and was
/// not reaped.
#[cfg(target_os = "linux")]
fn command_line(id: u32) -> Option<CommandLine> {
    fs::read(format!("/proc/{id}/cmdline"))
        .ok()
        .map(CommandLine)
}

#[cfg(not(target_os = "linux"))]
fn command_line(id: u32) -> Option<CommandLine> {
    let output = std::process::Command::new("ps")
        .args(["-ww", "-o", "args=", "-p", &id.to_string()])
        .output()
        .ok()?;
    output
        .status
        .success()
        .then_some(CommandLine(output.stdout))
}
