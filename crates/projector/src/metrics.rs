//! The names of all metrics of this crate. No label holds an id: their number is bounded.

use std::time::Duration;

use redrive_broker::metrics::Described;

/// Gauge: the log sequence up to which the view has read.
pub const APPLIED_SEQUENCE: &str = "redrive_projector_applied_sequence";
/// Gauge: messages of the log that the view has not read yet.
pub const LAG_MESSAGES: &str = "redrive_projector_lag_messages";
/// Counter: events folded.
pub const EVENTS_TOTAL: &str = "redrive_projector_events_total";
/// Counter: messages of the log that this version cannot read.
pub const UNDECODABLE_TOTAL: &str = "redrive_projector_undecodable_total";
/// Counter: rebuilds of the view from the log.
pub const REBUILDS_TOTAL: &str = "redrive_projector_rebuilds_total";
/// Counter: checkpoints written.
pub const CHECKPOINTS_TOTAL: &str = "redrive_projector_checkpoints_total";
/// Histogram: how long a checkpoint took.
pub const CHECKPOINT_SECONDS: &str = "redrive_projector_checkpoint_seconds";
/// Histogram by `query` and `code`: how long an answer took, with waiting for the log.
pub const QUERY_SECONDS: &str = "redrive_projector_query_seconds";

/// All of this crate.
pub const METRICS: &[Described] = &[
    Described::gauge(
        APPLIED_SEQUENCE,
        &[],
        "The log sequence up to which the view has read",
    ),
    Described::gauge(
        LAG_MESSAGES,
        &[],
        "Messages of the log that the view has not read yet; looked at every five seconds",
    ),
    Described::counter(EVENTS_TOTAL, &[], "Events folded"),
    Described::counter(
        UNDECODABLE_TOTAL,
        &[],
        "Messages of the log that this version cannot read",
    ),
    Described::counter(REBUILDS_TOTAL, &[], "Rebuilds of the view from the log"),
    Described::counter(CHECKPOINTS_TOTAL, &[], "Checkpoints written"),
    Described::seconds(CHECKPOINT_SECONDS, &[], "How long a checkpoint took"),
    Described::seconds(
        QUERY_SECONDS,
        &["query", "code"],
        "How long an answer took, with waiting for the log",
    ),
];

pub(crate) fn applied(seq: u64) {
    ::metrics::gauge!(APPLIED_SEQUENCE).set(seq as f64);
}

pub(crate) fn lag(messages: u64) {
    ::metrics::gauge!(LAG_MESSAGES).set(messages as f64);
}

pub(crate) fn events(count: usize) {
    ::metrics::counter!(EVENTS_TOTAL).increment(count as u64);
}

pub(crate) fn undecodable() {
    ::metrics::counter!(UNDECODABLE_TOTAL).increment(1);
}

pub(crate) fn rebuild() {
    ::metrics::counter!(REBUILDS_TOTAL).increment(1);
}

pub(crate) fn checkpoint(took: Duration) {
    ::metrics::counter!(CHECKPOINTS_TOTAL).increment(1);
    ::metrics::histogram!(CHECKPOINT_SECONDS).record(took.as_secs_f64());
}

pub(crate) fn query(name: &'static str, code: u16, took: Duration) {
    let code = code.to_string();
    ::metrics::histogram!(QUERY_SECONDS, "query" => name, "code" => code)
        .record(took.as_secs_f64());
}
