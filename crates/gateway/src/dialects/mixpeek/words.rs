//! Words for what Redrive has others for.

use redrive_domain::{
    failure::{FailureClass, FailureKind},
    status::BatchStatus,
};
use serde::Serialize;
use utoipa::ToSchema;

/// How a batch, a tier or a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = mixpeek::TaskStatusEnum)]
pub(super) enum TaskStatus {
    /// It was not submitted yet.
    Draft,
    /// It has not begun.
    Pending,
    /// It is going on.
    InProgress,
    /// All of it succeeded.
    Completed,
    /// It is over; some of it failed.
    CompletedWithErrors,
    /// It is over; nothing of it succeeded.
    Failed,
    /// It was stopped.
    Canceled,
}

impl TaskStatus {
    /// That of something that is or was worked on.
    pub(super) fn of(status: BatchStatus) -> Self {
        match status {
            BatchStatus::Pending => Self::Pending,
            BatchStatus::Running => Self::InProgress,
            BatchStatus::Completed => Self::Completed,
            BatchStatus::CompletedWithFailures => Self::CompletedWithErrors,
            BatchStatus::Failed => Self::Failed,
            BatchStatus::Cancelled => Self::Canceled,
        }
    }

    /// That of a batch.
    pub(super) fn of_batch(status: BatchStatus, submitted: bool) -> Self {
        match (status, submitted) {
            (BatchStatus::Pending, false) => Self::Draft,
            (status, _) => Self::of(status),
        }
    }

    /// What batches with this status have as their own, at least.
    pub(super) fn known_as(self) -> BatchStatus {
        match self {
            Self::Draft | Self::Pending => BatchStatus::Pending,
            Self::InProgress => BatchStatus::Running,
            Self::Completed => BatchStatus::Completed,
            Self::CompletedWithErrors => BatchStatus::CompletedWithFailures,
            Self::Failed => BatchStatus::Failed,
            Self::Canceled => BatchStatus::Cancelled,
        }
    }
}

/// What sort of error it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = mixpeek::ErrorCategory)]
pub(super) enum ErrorCategory {
    /// What the job needs is not there.
    Dependency,
    /// The object is to blame.
    Validation,
    /// The extractor failed.
    Runtime,
    /// The other side could not be reached, was too slow, or asked for fewer requests.
    Network,
    /// The machine was lost, or had too little memory.
    Resource,
}

impl ErrorCategory {
    /// That of failures of a kind.
    pub(super) fn of(kind: &FailureKind, class: FailureClass) -> Self {
        let is_one_of = |kinds: &[FailureKind]| kinds.contains(kind);
        if is_one_of(&[
            FailureKind::NETWORK,
            FailureKind::TIMEOUT,
            FailureKind::RATE_LIMITED,
            FailureKind::UNAVAILABLE,
        ]) {
            Self::Network
        } else if is_one_of(&[
            FailureKind::OUT_OF_MEMORY,
            FailureKind::PREEMPTED,
            FailureKind::WORKER_LOST,
        ]) {
            Self::Resource
        } else if *kind == FailureKind::MISCONFIGURED {
            Self::Dependency
        } else if class == FailureClass::Permanent && *kind != FailureKind::POISON {
            Self::Validation
        } else {
            Self::Runtime
        }
    }
}

/// What may be asked for in lists. What nothing here ever is, finds nothing.
pub(super) const STATUSES: [(&str, Option<TaskStatus>); 13] = [
    ("PENDING", Some(TaskStatus::Pending)),
    ("IN_PROGRESS", Some(TaskStatus::InProgress)),
    ("PROCESSING", Some(TaskStatus::InProgress)),
    ("COMPLETED", Some(TaskStatus::Completed)),
    (
        "COMPLETED_WITH_ERRORS",
        Some(TaskStatus::CompletedWithErrors),
    ),
    ("FAILED", Some(TaskStatus::Failed)),
    ("CANCELED", Some(TaskStatus::Canceled)),
    ("DRAFT", Some(TaskStatus::Draft)),
    ("UNKNOWN", None),
    ("SKIPPED", None),
    ("ACTIVE", None),
    ("ARCHIVED", None),
    ("SUSPENDED", None),
];

/// What happened to machines and processes, as one word.
pub(super) fn infrastructure(kind: &FailureKind) -> &str {
    match kind.as_str() {
        "out_of_memory" => "oom",
        "preempted" => "preemption",
        "worker_lost" => "node_failure",
        "crashed" => "crash",
        other => other,
    }
}
