//! How a process ends, and what that means for the units that it holds.

use std::{process::ExitStatus, time::Duration};

use redrive_domain::failure::{Failure, FailureKind};
use tokio::time::{Instant, timeout};

use super::{How, LINGER, Running, reply, stopped, wire};
use crate::{
    handler::Done,
    handlers::{
        exits::{ExitCodes, Meaning},
        params::misconfigured,
        process::{BURIAL, keep_last},
    },
};

/// Why a process has ended, or is to end.
#[derive(Debug)]
pub(super) enum Why {
    /// By itself, and all that it said was heard.
    Exited(ExitStatus),
    /// It closed what it needs.
    Closed(&'static str),
    /// It said something that it cannot mean.
    Nonsense(String),
    /// It wrote a line without an end.
    TooLong,
    /// It did not say hello.
    NoHello,
    /// It said nothing for so long.
    Silent(Duration),
    /// It did not stop a document.
    NotStopped,
    /// It was let go, and did not end by itself.
    Left,
}

impl Running {
    /// Ends it, with all that it started, and answers for what it holds.
    pub(super) async fn end(mut self, why: Why) -> How {
        self.stdin = None;
        // Before it is ended here, so that only what ended it counts.
        let out_of_memory = self.fence.used().failure();
        self.group.end();
        let rest = keep_last(self.stderr.take(), &mut self.tail);
        let _ = timeout(LINGER, rest).await;
        let _ = timeout(BURIAL, self.child.wait()).await;
        tracing::debug!(?why, held = self.held.len(), "a process has ended");
        let now = Instant::now();
        let failure = match out_of_memory.clone() {
            Some(failure) if self.held.len() > 1 => {
                let held = self.held.len();
                let message = format!(
                    "the process, which had {held} documents, {}",
                    failure.message
                );
                self.detailed(Failure::new(failure.kind, message))
            }
            Some(failure) => self.detailed(failure),
            None => self.failure(&why),
        };
        let (held_some, held_one) = (!self.held.is_empty(), self.held.len() == 1);
        for held in std::mem::take(&mut self.held).into_values() {
            let answer = match (&why, held.stop_by) {
                (Why::NotStopped, Some(by)) if by <= now => {
                    self.detailed(stopped(held.ask.deadline))
                }
                (Why::TooLong, _) if held_one => Failure::new(
                    FailureKind::OUTPUT_TOO_LARGE,
                    format!(
                        "the process answered with more than {} bytes",
                        wire::LINE_BYTES
                    ),
                ),
                _ => failure.clone(),
            };
            reply(held.ask, Err::<Done, _>(answer));
        }
        match why {
            Why::Left | Why::NotStopped => How::Ended,
            // A document was too large for it, which says nothing of the next one.
            _ if out_of_memory.is_some() && held_some => How::Ended,
            _ if self.leaving => How::Ended,
            _ if !self.answered && !held_some => How::NotStarted(failure),
            _ => How::Broken,
        }
    }

    fn failure(&self, why: &Why) -> Failure {
        let spec = &self.spec;
        let crashed = |message: &str| Failure::new(FailureKind::CRASHED, message);
        self.detailed(match why {
            Why::Exited(status) => self.exited(*status),
            Why::Closed(pipe) => crashed(&format!("the process closed its {pipe}")),
            Why::Nonsense(what) => {
                misconfigured(format!("the process does not speak the protocol: {what}"))
            }
            Why::TooLong => crashed(&format!(
                "the process wrote a line of more than {} bytes and was killed",
                wire::LINE_BYTES
            )),
            Why::NoHello => misconfigured(format!(
                "the process did not say hello within {:?} (param \"start_timeout\"): is it a handler for stdio, and does it flush its standard output?",
                spec.start_timeout
            )),
            Why::Silent(span) => Failure::new(
                FailureKind::TIMEOUT,
                format!("the process said nothing for {span:?} and was killed"),
            ),
            Why::NotStopped => Failure::new(
                FailureKind::PREEMPTED,
                "the process was killed, since it did not stop another document",
            ),
            Why::Left => Failure::new(FailureKind::PREEMPTED, "the process was let go"),
        })
    }

    fn exited(&self, status: ExitStatus) -> Failure {
        let exit = ExitCodes::default().judge(status);
        let stderr = self.tail.text();
        let last = match stderr.lines().next_back() {
            Some(line) => format!(": {}", line.trim()),
            None => String::new(),
        };
        let sentence = &exit.sentence;
        if self.hello.is_some() {
            let when = match self.held.is_empty() {
                true => "before it had a document",
                false => "while it held the document",
            };
            let message = format!("the process {sentence} {when}{last}");
            return Failure::new(FailureKind::CRASHED, message).with_code(&exit.code);
        }
        let message = format!("the process {sentence} before it said hello{last}");
        let kind = match exit.meaning {
            // What passes by itself may pass at the start too; anything else would be the same for every document.
            Meaning::Failed(kind, _)
                if exit.signal
                    || [FailureKind::UNAVAILABLE, FailureKind::NETWORK].contains(&kind) =>
            {
                kind
            }
            _ => FailureKind::MISCONFIGURED,
        };
        Failure::new(kind, message).with_code(&exit.code)
    }

    fn detailed(&self, failure: Failure) -> Failure {
        match self.tail.text().as_str() {
            "" => failure,
            stderr => failure.with_detail(stderr),
        }
    }
}
