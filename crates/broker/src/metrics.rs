//! The names of the broker's metrics, in one place. Labels never hold ids.

use std::time::Instant;

use crate::{BrokerError, Result};

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
