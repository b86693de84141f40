//! The child process: who spawns it, who reaps it, who may signal it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child as StdChild, Command};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A child that dies with this process.
///
/// It is spawned by a thread of its own that lives as long as the child: the
/// kernel ties the parent-death signal to the thread that forked, and a
/// caller's thread (one of a pool, say) may end long before the process.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How the child ended. It is reaped only while this is locked and set
    /// in the same step, so a signal under the lock never hits a reused id.
    ended: Mutex<Option<String>>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_end(&self, pid: Pid, child: &mut StdChild) {
        // The child stays a zombie, and its id taken, until it is reaped
        // under the lock.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(
            waitid(WaitId::Pid(pid), options),
            Err(rustix::io::Errno::INTR)
        ) {}
        let mut ended = self.lock();
        *ended = Some(match child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        });
        self.changed.notify_all();
    }
}

impl Child {
    pub(crate) fn spawn(mut command: Command) -> io::Result<Self> {
        // A terminal's Ctrl-C goes to the whole foreground group; the server
        // must outlive it until its owner has finished and stops it.
        command.process_group(0);
        die_with_this_thread(&mut command);
        let shared = Arc::new(Shared::default());
        let (report, started) = mpsc::sync_channel(1);
        let of_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("nats-server".to_owned())
            .spawn(move || match command.spawn() {
                Ok(mut child) => {
                    let pid = Pid::from_child(&child);
                    // The receiver waits below; it cannot be gone.
                    let _ = report.send(Ok(pid));
                    of_thread.await_end(pid, &mut child);
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                }
            })?;
        let pid = started
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the spawning thread ended")))?;
        Ok(Self { pid, shared })
    }

    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal; `false` if the child has already ended.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<bool> {
        let ended = self.shared.lock();
        if ended.is_some() {
            return Ok(false);
        }
        kill_process(self.pid, signal)?;
        Ok(true)
    }

    /// Halts the child; `false` if it has already ended. SIGSTOP alone is
    /// only a request: the threads of a process go on until each has seen it.
    pub(crate) fn pause(&self) -> io::Result<bool> {
        const BOUND: Duration = Duration::from_secs(10);
        let ended = self.shared.lock();
        if ended.is_some() {
            return Ok(false);
        }
        kill_process(self.pid, Signal::STOP)?;
        let options = WaitIdOptions::STOPPED
            | WaitIdOptions::EXITED
            | WaitIdOptions::NOWAIT
            | WaitIdOptions::NOHANG;
        let end = Instant::now() + BOUND;
        while Instant::now() < end {
            if let Some(status) = waitid(WaitId::Pid(self.pid), options)? {
                return Ok(status.stopped());
            }
            thread::sleep(Duration::from_millis(1));
        }
        let text = format!("process {} does not halt", self.id());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }

    /// How the child ended, if it has.
    pub(crate) fn ended(&self) -> Option<String> {
        self.shared.lock().clone()
    }

    /// Waits for the end of the child; `None` if it still runs at the bound.
    pub(crate) fn wait_ended(&self, bound: Duration) -> Option<String> {
        let (ended, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), bound, |ended| ended.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        ended.clone()
    }

    /// Ends the child by force.
    pub(crate) fn kill(&self) -> io::Result<()> {
        // Death by SIGKILL is only ever late for a process that hangs in the
        // kernel, on a dead disk say.
        const BOUND: Duration = Duration::from_secs(10);
        self.signal(Signal::KILL)?;
        self.wait_ended(BOUND).map(drop).ok_or_else(|| {
            let text = format!("process {} outlives SIGKILL", self.id());
            io::Error::new(io::ErrorKind::TimedOut, text)
        })
    }

    /// Asks the child to end, and ends it by force at the bound.
    pub(crate) fn stop(&self, bound: Duration) -> io::Result<()> {
        self.signal(Signal::TERM)?;
        // A paused process acts on no signal until it is resumed.
        self.signal(Signal::CONT)?;
        if self.wait_ended(bound).is_some() {
            return Ok(());
        }
        tracing::warn!(
            pid = self.id(),
            ?bound,
            "nats-server did not stop; killing it"
        );
        self.kill()
    }
}

/// Has the kernel kill the child when the thread that forks it ends.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn die_with_this_thread(command: &mut Command) {
    let parent = rustix::process::getpid();
    let in_child = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the line above took effect.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed.
    // The closure makes two system calls; it allocates nothing, takes no
    // lock, and captures one plain number.
    unsafe {
        command.pre_exec(in_child);
    }
}

/// Elsewhere there is no such signal; a server that was left over is stopped
/// by the next start on its store.
#[cfg(not(target_os = "linux"))]
fn die_with_this_thread(_command: &mut Command) {}
