//! Short-lived commands, each with a bound on its time.

use std::io::{self, Read, Seek, SeekFrom};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How a bounded command ended.
pub(crate) struct Output {
    /// `None` when the bound was reached and the command was killed.
    pub(crate) status: Option<ExitStatus>,
    /// Standard output and standard error, in the order of writing.
    pub(crate) text: String,
}

impl Output {
    pub(crate) fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// Runs a command to its end, or kills it at the bound.
///
/// The output goes to an unlinked file and not through pipes: a full pipe
/// would block the command, and a grandchild that keeps a pipe open would
/// block the reader past the bound.
pub(crate) fn run_bounded(command: &mut Command, bound: Duration) -> io::Result<Output> {
    let mut file = tempfile::tempfile()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file.try_clone()?)
        .spawn()?;
    let status = wait_bounded(&mut child, bound)?;
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Output { status, text })
}

fn wait_bounded(child: &mut Child, bound: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + bound;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_command_that_hangs_is_killed_at_the_bound() {
        let began = Instant::now();
        let output = run_bounded(
            Command::new("sh").args(["-c", "echo first; exec sleep 60"]),
            Duration::from_millis(300),
        )
        .unwrap();
        assert!(output.status.is_none());
        assert!(!output.success());
        assert_eq!(output.text, "first\n");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn both_streams_are_kept_however_long() {
        let output = run_bounded(
            Command::new("sh").args(["-c", "head -c 300000 /dev/zero | tr '\\0' x; echo end >&2"]),
            Duration::from_secs(30),
        )
        .unwrap();
        assert!(output.success());
        assert_eq!(output.text.len(), 300_004);
        assert!(output.text.ends_with("end\n"));
    }
}
