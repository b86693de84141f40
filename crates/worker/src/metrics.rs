//! The names of the worker's metrics, in one place. Labels never hold ids of batches, chunks or documents.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use redrive_broker::metrics::Described;
use redrive_domain::ids::HandlerName;

/// Units, by handler and by what became of them (`completed`, `skipped`, `failed`, `returned`, `stopped`).
const UNITS: &str = "redrive_worker_units_total";
/// Time in the handler per unit. Units that are done at once are noted with the mean of their chunk.
const UNIT_SECONDS: &str = "redrive_worker_unit_seconds";
/// Chunks, by handler and by what became of them (`done`, `stopped`, `kept`, `poison`).
const CHUNKS: &str = "redrive_worker_chunks_total";
/// Chunks held now.
const IN_FLIGHT: &str = "redrive_worker_chunks_in_flight";
/// Outcomes handed over, by handler.
const REPORTS: &str = "redrive_worker_reports_total";
/// Their bytes.
const REPORT_BYTES: &str = "redrive_worker_report_bytes_total";
/// Reads of the log for documents and inputs that were not at hand.
const READS: &str = "redrive_worker_log_reads_total";
/// Errors of the broker that the worker went on after, by operation.
const ERRORS: &str = "redrive_worker_broker_errors_total";

/// All of this crate.
pub const METRICS: &[Described] = &[
    Described::counter(
        UNITS,
        &["handler", "result"],
        "Units, by what became of them: completed, skipped, failed, returned or stopped",
    ),
    Described::seconds(UNIT_SECONDS, &["handler"], "Time in the handler for a unit"),
    Described::counter(
        CHUNKS,
        &["handler", "result"],
        "Chunks, by what became of them: done, stopped, kept or poison",
    ),
    Described::gauge(IN_FLIGHT, &["handler"], "Chunks held now"),
    Described::counter(REPORTS, &["handler"], "Outcomes handed over"),
    Described::counter(REPORT_BYTES, &["handler"], "Their bytes"),
    Described::counter(
        READS,
        &[],
        "Reads of the log for documents and inputs that were not at hand",
    ),
    Described::counter(
        ERRORS,
        &["operation"],
        "Errors of the broker that the worker went on after",
    ),
];

/// What is counted for the chunks of one handler.
#[derive(Clone)]
pub(crate) struct HandlerMetrics {
    handler: String,
    seconds: Histogram,
    reports: Counter,
    report_bytes: Counter,
    in_flight: Gauge,
}

impl HandlerMetrics {
    pub(crate) fn new(handler: &HandlerName) -> Self {
        let handler = handler.as_str().to_owned();
        Self {
            seconds: metrics::histogram!(UNIT_SECONDS, "handler" => handler.clone()),
            reports: metrics::counter!(REPORTS, "handler" => handler.clone()),
            report_bytes: metrics::counter!(REPORT_BYTES, "handler" => handler.clone()),
            in_flight: metrics::gauge!(IN_FLIGHT, "handler" => handler.clone()),
            handler,
        }
    }

    fn units(&self, result: &'static str, count: u64) {
        if count > 0 {
            metrics::counter!(UNITS, "handler" => self.handler.clone(), "result" => result)
                .increment(count);
        }
    }

    pub(crate) fn chunk(&self, result: &'static str) {
        metrics::counter!(CHUNKS, "handler" => self.handler.clone(), "result" => result)
            .increment(1);
    }

    pub(crate) fn unit_took(&self, time: Duration) {
        self.seconds.record(time.as_secs_f64());
    }

    fn units_took(&self, count: u32, together: Duration) {
        if let Some(mean) = together.checked_div(count) {
            self.seconds.record_many(mean.as_secs_f64(), count as usize);
        }
    }

    pub(crate) fn reported(&self, bytes: usize) {
        self.reports.increment(1);
        self.report_bytes.increment(bytes as u64);
    }

    /// Counts a chunk in flight until the answer is dropped.
    pub(crate) fn begin(&self) -> InFlight {
        self.in_flight.increment(1);
        InFlight(self.in_flight.clone())
    }
}

pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// What became of the units of one chunk: counted plainly, and noted once.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) completed: u64,
    pub(crate) skipped: u64,
    pub(crate) failed: u64,
    pub(crate) returned: u64,
    pub(crate) stopped: u64,
    /// Units that were done when first looked at, and their time together.
    pub(crate) instant: u32,
    pub(crate) instant_time: Duration,
}

impl Counts {
    pub(crate) fn note(&self, metrics: &HandlerMetrics) {
        metrics.units("completed", self.completed);
        metrics.units("skipped", self.skipped);
        metrics.units("failed", self.failed);
        metrics.units("returned", self.returned);
        metrics.units("stopped", self.stopped);
        metrics.units_took(self.instant, self.instant_time);
    }
}

pub(crate) fn read() {
    metrics::counter!(READS).increment(1);
}

pub(crate) fn broker_error(operation: &'static str) {
    metrics::counter!(ERRORS, "operation" => operation).increment(1);
}
