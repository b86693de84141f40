//! The names of the coordinator's metrics.

use redrive_broker::metrics::Described;

/// Events appended.
pub const EVENTS: &str = "redrive_coordinator_events_total";
/// Inputs taken, by `kind`: `command`, `request`, `outcome`, `heartbeat`.
pub const INPUTS: &str = "redrive_coordinator_inputs_total";
/// Commands that were refused, by `code`.
pub const REFUSED: &str = "redrive_coordinator_refused_commands_total";
/// Units whose outcome came too late, twice, or for a superseded attempt.
pub const SUPERSEDED: &str = "redrive_coordinator_superseded_units_total";
/// Chunks handed out.
pub const CHUNKS: &str = "redrive_coordinator_chunks_total";
/// Chunks lost with their worker.
pub const LOST: &str = "redrive_coordinator_lost_chunks_total";
/// Chunks that were taken from a worker, by `what`: `stuck` or `duplicate`.
pub const HEALED: &str = "redrive_coordinator_healed_chunks_total";
/// Breakers that opened: jobs that were held up because the other side was away.
pub const BREAKERS: &str = "redrive_coordinator_breakers_opened_total";
/// Chunks handed out and not yet reported.
pub const CHUNKS_OUT: &str = "redrive_coordinator_chunks_out";
/// Batches held in memory.
pub const BATCHES: &str = "redrive_coordinator_batches";
/// Live workers.
pub const WORKERS: &str = "redrive_coordinator_workers";
/// Snapshots kept.
pub const SNAPSHOTS: &str = "redrive_coordinator_snapshots_total";
/// Size of the last snapshot, in bytes.
pub const SNAPSHOT_BYTES: &str = "redrive_coordinator_snapshot_bytes";
/// Whether this coordinator leads: 1 or 0.
pub const LEADS: &str = "redrive_coordinator_leads";
/// Time from taking inputs to having their events in the log, in seconds.
pub const ROUND: &str = "redrive_coordinator_round_seconds";

/// All of this crate.
pub const METRICS: &[Described] = &[
    Described::counter(EVENTS, &[], "Events appended"),
    Described::counter(
        INPUTS,
        &["kind"],
        "Inputs taken: command, request, outcome or heartbeat",
    ),
    Described::counter(REFUSED, &["code"], "Commands that were refused"),
    Described::counter(
        SUPERSEDED,
        &[],
        "Units whose outcome came too late, twice, or for a superseded attempt",
    ),
    Described::counter(CHUNKS, &[], "Chunks handed out"),
    Described::counter(LOST, &[], "Chunks lost with their worker"),
    Described::counter(
        HEALED,
        &["what"],
        "Chunks that were taken from a worker: stuck or duplicate",
    ),
    Described::counter(
        BREAKERS,
        &[],
        "Jobs that were held up because the other side was away",
    ),
    Described::gauge(CHUNKS_OUT, &[], "Chunks handed out and not yet reported"),
    Described::gauge(BATCHES, &[], "Batches held in memory"),
    Described::gauge(WORKERS, &[], "Live workers"),
    Described::counter(SNAPSHOTS, &[], "Snapshots kept"),
    Described::gauge(SNAPSHOT_BYTES, &[], "Size of the last snapshot"),
    Described::gauge(LEADS, &[], "Whether this coordinator leads: 1 or 0"),
    Described::seconds(
        ROUND,
        &[],
        "Time from taking inputs to having their events in the log",
    ),
];
