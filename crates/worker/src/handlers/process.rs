//! Processes, as `exec` and `stdio` have them: started, in groups of their own, and ended with all that they started.

use std::{io, path::Path, time::Duration};

use redrive_domain::failure::{Failure, FailureKind};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Child,
};

use super::params::misconfigured;

/// How long to wait for a process that was killed. Only the kernel can hold it longer.
pub(super) const BURIAL: Duration = Duration::from_secs(5);
/// What is read of standard error at once.
const STDERR_CHUNK: usize = 8 * 1024;
/// What is kept of standard error in the end. In between there is twice as much at most.
const STDERR_KEPT: usize = 32 * 1024;

/// The process group that a process leads. It is killed when this is dropped.
pub(super) struct Group(Option<Pid>);

impl Group {
    /// The group of a process that was started as the leader of one.
    pub(super) fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        Self(leader.and_then(Pid::from_raw))
    }

    /// Sends a signal to all of it.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // That it is gone already is what is wanted.
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Kills what is left of it, for good: its number may belong to somebody else from now on.
    pub(super) fn end(&mut self) {
        self.signal(Signal::KILL);
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// What it means that a program could not be started.
pub(super) fn not_started(program: &str, cwd: Option<&Path>, error: &io::Error) -> Failure {
    let wrong = [
        Errno::NOENT,
        Errno::ACCESS,
        Errno::PERM,
        Errno::NOTDIR,
        Errno::ISDIR,
        Errno::LOOP,
        Errno::NAMETOOLONG,
        Errno::NOEXEC,
        Errno::TOOBIG,
        Errno::INVAL,
    ];
    let is_wrong = Errno::from_io_error(error).is_none_or(|errno| wrong.contains(&errno));
    let what = match cwd.filter(|cwd| is_wrong && !cwd.is_dir()) {
        Some(cwd) => format!("cannot run {program:?}: cwd {cwd:?} is not a directory"),
        None => format!("cannot run {program:?}: {error}"),
    };
    match is_wrong {
        true => misconfigured(what),
        false => Failure::new(FailureKind::UNAVAILABLE, what),
    }
}

/// The last of what was written somewhere.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// Reads once; whether there may be more. A call that is given up has read nothing.
    pub(super) async fn read(&mut self, pipe: &mut (impl AsyncRead + Unpin)) -> bool {
        if self.0.len() > 2 * STDERR_KEPT - STDERR_CHUNK {
            self.0.drain(..self.0.len() - STDERR_KEPT);
        }
        self.0.reserve(STDERR_CHUNK);
        let mut chunk = pipe.take(STDERR_CHUNK as u64);
        matches!(chunk.read_buf(&mut self.0).await, Ok(1..))
    }

    /// It, as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).trim().to_owned()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads to the end and keeps the last of it.
pub(super) async fn keep_last(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Tail) {
    let Some(mut pipe) = pipe else { return };
    while kept.read(&mut pipe).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_a_flood_only_the_end_is_held() {
        let mut flood = vec![b'x'; 1 << 20];
        flood.extend_from_slice(b"the end");
        let mut kept = Tail::default();
        keep_last(Some(flood.as_slice()), &mut kept).await;
        let kept = kept.into_bytes();
        assert!(kept.len() <= 2 * STDERR_KEPT && kept.capacity() <= 4 * STDERR_KEPT);
        assert!(kept.ends_with(b"xxthe end"));
    }
}
