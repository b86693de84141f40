//! How a command ends.

use std::process::ExitCode;

use redrive_broker::BrokerError;
use redrive_client::{ClientError, UploadError};
use redrive_domain::{command::Refusal, status::BatchStatus};

/// The end of a command, as a script sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    /// Something unforeseen.
    Error = 1,
    Usage = 2,
    Failures = 3,
    NotFound = 4,
    Conflict = 5,
    NotAllowed = 6,
    Unreachable = 7,
    /// A batch waits for somebody to resume it.
    Paused = 8,
    TimedOut = 124,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that knows its exit code; others exit with 1.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failed {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    failed(Exit::Usage, message)
}

pub(crate) fn failed(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    let message = message.into();
    Failed { exit, message }.into()
}

impl Exit {
    /// The code for an error, by what lies at its root.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_one).unwrap_or(Self::Error)
    }

    fn of_one(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(failed) = error.downcast_ref::<Failed>() {
            return Some(failed.exit);
        }
        if let Some(UploadError::Document { .. }) = error.downcast_ref() {
            return Some(Self::Usage);
        }
        if let Some(error) = error.downcast_ref::<UploadError>() {
            return match error {
                UploadError::Client(error) => Self::of_one(error),
                UploadError::Document { .. } => Some(Self::Usage),
            };
        }
        if let Some(error) = error.downcast_ref::<ClientError>() {
            return match error {
                ClientError::Refused(refusal) => Self::of_one(refusal),
                ClientError::Broker(error) => Self::of_one(error),
                ClientError::NobodyServes(_) => Some(Self::Unreachable),
                ClientError::Unreadable(_) => None,
            };
        }
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return Some(match refusal {
                Refusal::Invalid { .. } => Self::Usage,
                Refusal::NotFound { .. } => Self::NotFound,
                Refusal::Conflict { .. } | Refusal::Stale(_) | Refusal::KeyReused => Self::Conflict,
                Refusal::NotAllowed { .. } | Refusal::Credits(_) => Self::NotAllowed,
                Refusal::Unavailable { .. } => Self::Error,
            });
        }
        match error.downcast_ref::<BrokerError>()? {
            BrokerError::Denied(_) => Some(Self::NotAllowed),
            BrokerError::Unreachable(_)
            | BrokerError::Timeout(_)
            | BrokerError::NoResponders(_) => Some(Self::Unreachable),
            BrokerError::TooLarge { .. } => Some(Self::Usage),
            _ => None,
        }
    }

    /// The code for a batch that is over.
    pub(crate) fn of_batch(status: BatchStatus) -> Self {
        match status {
            BatchStatus::CompletedWithFailures | BatchStatus::Failed => Self::Failures,
            BatchStatus::Cancelled => Self::Conflict,
            _ => Self::Done,
        }
    }
}
