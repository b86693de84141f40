//! The names of the broker's metrics, in one place. Labels never hold ids.

use std::time::Instant;

use crate::{BrokerError, Result};

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What only grows.
    Counter,
    /// What goes up and down.
    Gauge,
    /// How often something took how long, in seconds.
    Histogram,
}

/// A metric, as it is explained to those who read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

impl Described {
    /// A counter.
    #[must_use]
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            labels,
            help,
        }
    }

    /// A gauge.
    #[must_use]
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            labels,
            help,
        }
    }

    /// A histogram of seconds.
    #[must_use]
    pub const fn seconds(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Histogram,
            labels,
            help,
        }
    }
}

/// Explains metrics to the recorder of this process.
pub fn describe(all: &[Described]) {
    use metrics::Unit;
    for one in all {
        let unit = match one.name {
            name if name.contains("_bytes") => Unit::Bytes,
            name if name.ends_with("_seconds") => Unit::Seconds,
            _ => Unit::Count,
        };
        match one.kind {
            Kind::Counter => metrics::describe_counter!(one.name, unit, one.help),
            Kind::Gauge => metrics::describe_gauge!(one.name, unit, one.help),
            Kind::Histogram => metrics::describe_histogram!(one.name, unit, one.help),
        }
    }
}

/// Messages appended to the log.
const APPENDED: &str = "redrive_broker_append_messages_total";
/// Bytes of payload appended to the log.
const APPENDED_BYTES: &str = "redrive_broker_append_bytes_total";
/// How long an append took, from the first message to the last acknowledgement.
const APPEND_SECONDS: &str = "redrive_broker_append_seconds";
/// Acknowledgements of the log that were lost and settled by reading back.
const READ_BACK: &str = "redrive_broker_append_read_back_total";
/// Entries read from the log.
const READ: &str = "redrive_broker_read_messages_total";
/// Times that a reader of the log had to start a new consumer, by reason.
const RESUMED: &str = "redrive_broker_read_resumed_total";
/// Messages handed to a taker, by source (`inbox`, `work`).
const DELIVERED: &str = "redrive_broker_delivered_messages_total";
/// Those of them that had been delivered before.
const REDELIVERED: &str = "redrive_broker_redelivered_messages_total";
/// Chunks put up for workers.
const OFFERED: &str = "redrive_broker_offered_messages_total";
/// Messages handed over to the inbox.
const SUBMITTED: &str = "redrive_broker_submitted_messages_total";
/// Publishes that had to be repeated, by operation.
const RETRIED: &str = "redrive_broker_publish_retries_total";
/// Operations that failed, by operation and reason.
const FAILED: &str = "redrive_broker_errors_total";
/// Events of the connection, by kind.
const CONNECTION: &str = "redrive_broker_connection_events_total";

/// All of this crate.
pub const METRICS: &[Described] = &[
    Described::counter(APPENDED, &[], "Messages appended to the log"),
    Described::counter(APPENDED_BYTES, &[], "Bytes of payload appended to the log"),
    Described::seconds(
        APPEND_SECONDS,
        &[],
        "Time from the first message of an append to its last acknowledgement",
    ),
    Described::counter(
        READ_BACK,
        &[],
        "Acknowledgements of the log that were lost and settled by reading back",
    ),
    Described::counter(READ, &[], "Entries read from the log"),
    Described::counter(
        RESUMED,
        &["reason"],
        "Times that a reader of the log had to start anew",
    ),
    Described::counter(
        DELIVERED,
        &["source"],
        "Messages taken from the inbox or from work",
    ),
    Described::counter(
        REDELIVERED,
        &["source"],
        "Those of them that had been delivered before",
    ),
    Described::counter(OFFERED, &[], "Chunks put up for workers"),
    Described::counter(SUBMITTED, &[], "Messages handed over to the inbox"),
    Described::counter(RETRIED, &["operation"], "Publishes that had to be repeated"),
    Described::counter(
        FAILED,
        &["operation", "reason"],
        "Operations of the broker that failed",
    ),
    Described::counter(
        CONNECTION,
        &["kind"],
        "Events of the connection to the broker",
    ),
];

pub(crate) fn appended(messages: usize, bytes: usize, since: Instant) {
    metrics::counter!(APPENDED).increment(messages as u64);
    metrics::counter!(APPENDED_BYTES).increment(bytes as u64);
    metrics::histogram!(APPEND_SECONDS).record(since.elapsed().as_secs_f64());
}

pub(crate) fn read_back() {
    metrics::counter!(READ_BACK).increment(1);
}

pub(crate) fn read(entries: u64) {
    metrics::counter!(READ).increment(entries);
}

pub(crate) fn resumed(reason: &'static str) {
    metrics::counter!(RESUMED, "reason" => reason).increment(1);
}

pub(crate) fn delivered(source: &'static str, messages: usize, again: usize) {
    metrics::counter!(DELIVERED, "source" => source).increment(messages as u64);
    if again > 0 {
        metrics::counter!(REDELIVERED, "source" => source).increment(again as u64);
    }
}

pub(crate) fn offered(messages: usize) {
    metrics::counter!(OFFERED).increment(messages as u64);
}

pub(crate) fn submitted() {
    metrics::counter!(SUBMITTED).increment(1);
}

pub(crate) fn retried(operation: &'static str) {
    metrics::counter!(RETRIED, "operation" => operation).increment(1);
}

pub(crate) fn connection(kind: &'static str) {
    metrics::counter!(CONNECTION, "kind" => kind).increment(1);
}

/// Counts the error of an operation, and passes the result on.
pub(crate) fn counted<T>(operation: &'static str, result: Result<T>) -> Result<T> {
    if let Err(error) = &result {
        let reason = match error {
            BrokerError::Unreachable(_) => "unreachable",
            BrokerError::Timeout(_) => "timeout",
            BrokerError::Denied(_) => "denied",
            BrokerError::Conflict { .. } => "conflict",
            BrokerError::TooLarge { .. } => "too_large",
            BrokerError::NoResponders(_) => "no_responders",
            BrokerError::Missing(_) => "missing",
            BrokerError::Other(_) => "other",
        };
        tracing::debug!(operation, %error, "the broker did not do it");
        metrics::counter!(FAILED, "operation" => operation, "reason" => reason).increment(1);
    }
    result
}
