//! One process with its descendants: started, fed, read, and ended in time.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{ChildStdin, Command},
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use crate::handler::Context;

/// How long pipes that outlive the process are read on: whoever still holds them was left behind by it.
const LINGER: Duration = Duration::from_secs(1);
/// How long to wait for a process that was killed. Only the kernel can hold it longer.
const BURIAL: Duration = Duration::from_secs(5);
/// What is read of standard error at once.
const STDERR_CHUNK: usize = 8 * 1024;
/// What is kept of standard error in the end. In between there is twice as much at most.
const STDERR_KEPT: usize = 32 * 1024;

/// How it came to an end.
#[derive(Debug)]
pub(super) enum End {
    Exited(ExitStatus),
    TimedOut,
    Cancelled,
    TooLarge,
}

/// What there is to say of a process that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) stdout: Vec<u8>,
    /// The last of it.
    pub(super) stderr: Vec<u8>,
    /// Until it ended, or was told to.
    pub(super) took: Duration,
}

/// The process group that a process leads. It is killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // That it is gone already is what is wanted.
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Kills what is left of it, for good: its number may belong to somebody else from now on.
    fn end(&mut self) {
        self.signal(Signal::KILL);
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a command to its end. Nothing of its process group is left when this returns, nor when it is dropped.
///
/// # Errors
/// Where it cannot be started, or where its pipes break.
pub(super) async fn run(
    mut command: Command,
    stdin: Option<Vec<u8>>,
    grace: Duration,
    ctx: &Context,
) -> io::Result<Ended> {
    let piped = |yes| if yes { Stdio::piped() } else { Stdio::null() };
    command
        .stdin(piped(stdin.is_some()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let started = Instant::now();
    let mut child = command.spawn()?;
    drop(command);
    let leader = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(leader.and_then(Pid::from_raw));

    let limit = ctx.max_output_bytes;
    let (mut stdout, mut stderr, mut broken) = (Vec::new(), Vec::new(), None);
    let full = Notify::new();
    let (to, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let collecting = async {
        if let Some(out) = out {
            let mut out = out.take(limit.saturating_add(1));
            broken = out.read_to_end(&mut stdout).await.err();
        }
        if stdout.len() as u64 > limit {
            full.notify_one();
        }
    };
    let pipes = async { tokio::join!(feed(to, stdin), collecting, keep_last(err, &mut stderr)) };
    let took;
    let end = {
        tokio::pin!(pipes);
        let mut closed = false;
        let end = loop {
            tokio::select! {
                biased;
                () = ctx.cancelled.cancelled() => break match Instant::now() >= ctx.deadline {
                    true => End::TimedOut,
                    false => End::Cancelled,
                },
                () = sleep_until(ctx.deadline) => break End::TimedOut,
                () = full.notified() => break End::TooLarge,
                _ = &mut pipes, if !closed => closed = true,
                status = child.wait() => break End::Exited(status?),
            }
        };
        took = started.elapsed();
        let patience = match end {
            End::Exited(_) => LINGER,
            _ => {
                group.signal(Signal::TERM);
                grace
            }
        };
        let rest = async {
            if !closed {
                pipes.await;
            }
            child.wait().await
        };
        // What is not over by then is killed below.
        let _ = timeout(patience, rest).await;
        end
    };
    group.end();
    let _ = timeout(BURIAL, child.wait()).await;

    if let Some(error) = broken {
        return Err(error);
    }
    Ok(Ended {
        end: match end {
            End::Exited(_) if stdout.len() as u64 > limit => End::TooLarge,
            end => end,
        },
        stdout,
        stderr,
        took,
    })
}

/// Writes what the process is to read. A process that does not want it has ended or closed its end; either is its own
/// affair.
async fn feed(pipe: Option<ChildStdin>, bytes: Option<Vec<u8>>) {
    if let (Some(mut pipe), Some(bytes)) = (pipe, bytes) {
        let _ = pipe.write_all(&bytes).await;
        let _ = pipe.shutdown().await;
    }
}

/// Reads to the end and keeps the last of it.
async fn keep_last(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = vec![0; STDERR_CHUNK];
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        if kept.len() > 2 * STDERR_KEPT - STDERR_CHUNK {
            kept.drain(..kept.len() - STDERR_KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_a_flood_only_the_end_is_held() {
        let mut flood = vec![b'x'; 1 << 20];
        flood.extend_from_slice(b"the end");
        let mut kept = Vec::new();
        keep_last(Some(flood.as_slice()), &mut kept).await;
        assert!(kept.len() <= 2 * STDERR_KEPT && kept.capacity() <= 4 * STDERR_KEPT);
        assert!(kept.ends_with(b"xxthe end"));
    }
}
