//! `workers`.

use redrive_domain::{
    ids::{HandlerName, ResourceClass, WorkerId},
    time::{Millis, Timestamp},
    work::Heartbeat,
};
use serde::Serialize;

use crate::{
    app::App,
    args::{Format, WorkersArgs},
    exit::Exit,
    identity, output,
    roll::{self, Heard},
    say,
};

/// A worker, as the last heartbeat showed it.
#[derive(Debug, Serialize)]
struct Row {
    worker: WorkerId,
    host: String,
    pid: u32,
    version: Option<String>,
    handlers: Vec<HandlerName>,
    classes: Vec<ResourceClass>,
    slots: u32,
    draining: bool,
    /// How it keeps processes within their memory and CPUs, where it starts any.
    limits: Option<String>,
    /// Chunks that it holds, and their units that are not reported yet.
    chunks: u64,
    units: u64,
    started_at: Timestamp,
    /// When the last heartbeat came, by the clock here.
    heard_at: Timestamp,
}

impl Row {
    fn of(heard: Heard<Heartbeat>) -> Self {
        let age = Millis::from(heard.at.elapsed());
        let beat = heard.what;
        Self {
            chunks: beat.in_flight.len() as u64,
            units: beat.in_flight.iter().map(|held| held.units.len()).sum(),
            worker: beat.worker,
            host: beat.host,
            pid: beat.pid,
            version: beat.version,
            handlers: beat.handlers,
            classes: beat.classes,
            slots: beat.slots,
            draining: beat.draining,
            limits: beat.limits,
            started_at: beat.started_at,
            heard_at: Timestamp(identity::now().0 - i64::try_from(age.0).unwrap_or(0)),
        }
    }
}

/// Names with commas between.
pub(crate) fn names<T: ToString>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(",")
}

pub(crate) async fn workers(app: &App, args: WorkersArgs) -> anyhow::Result<Exit> {
    let roll = roll::call(app.client.broker(), args.wait.into()).await?;
    let rows = roll.workers.into_values().map(Row::of);
    let header = [
        "worker", "host", "pid", "version", "handlers", "classes", "slots", "chunks", "units",
        "limits", "state", "up", "heard",
    ];
    let row = |row: &Row| {
        let now = identity::now();
        vec![
            row.worker.to_string(),
            row.host.clone(),
            row.pid.to_string(),
            row.version.clone().unwrap_or_else(|| "-".to_owned()),
            names(&row.handlers),
            names(&row.classes),
            row.slots.to_string(),
            row.chunks.to_string(),
            row.units.to_string(),
            row.limits.clone().unwrap_or_else(|| "-".to_owned()),
            if row.draining { "draining" } else { "working" }.to_owned(),
            now.since(row.started_at).to_string(),
            format!("{} ago", now.since(row.heard_at)),
        ]
    };
    let items = futures::stream::iter(rows.map(Ok::<_, anyhow::Error>));
    let count = output::list(app.output, items, None, &header, row).await?;
    if count == 0 && app.output == Format::Table {
        say!(
            "No worker was heard of within {}: start one with `{}`.",
            args.wait,
            app.hint("worker")
        );
    }
    Ok(Exit::Done)
}
