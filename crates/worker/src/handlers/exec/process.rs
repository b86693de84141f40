//! One process with its descendants: started, fed, read, and ended in time.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{ChildStdin, Command},
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    handler::Context,
    handlers::process::{BURIAL, Group, Tail, keep_last},
    limits::{Limits, Share, Used},
};

/// How long pipes that outlive the process are read on: whoever still holds them was left behind by it.
const LINGER: Duration = Duration::from_secs(1);

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
    pub(super) used: Used,
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
        .stderr(Stdio::piped());
    let started = Instant::now();
    let share = Share {
        memory_bytes: ctx.memory_bytes,
        num_cpus: ctx.num_cpus,
    };
    let (mut child, fence) = Limits::here().spawn(&mut command, share)?;
    drop(command);
    let mut group = Group::of(&child);

    let limit = ctx.max_output_bytes;
    let (mut stdout, mut stderr, mut broken) = (Vec::new(), Tail::default(), None);
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
    let used = fence.used();
    group.end();
    drop(fence);
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
        stderr: stderr.into_bytes(),
        took,
        used,
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
