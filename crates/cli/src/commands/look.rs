//! `status`, `failures`, `results`, `batches`.

use redrive_domain::{
    query::{
        BatchSummary, BatchView, FailureRow, ListBatches, ListFailures, ListResults, ResultRow,
        SegmentCounts,
    },
    time::Timestamp,
};

use super::outages;
use crate::{
    app::App,
    args::{BatchesArgs, FailuresArgs, Format, ResultsArgs, StatusArgs},
    exit::Exit,
    output::{self, brief, table},
    say,
};

pub(crate) async fn status(app: &App, args: StatusArgs) -> anyhow::Result<Exit> {
    let view = app.view_at(args.batch.batch, None, args.at).await?;
    output::one(app.output, &view, show)?;
    Ok(Exit::Done)
}

fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

fn number(n: u64) -> String {
    if n == 0 {
        "-".to_owned()
    } else {
        n.to_string()
    }
}

/// The place behind the line that tells of documents.
const AFTER_DOCUMENTS: usize = 4;

pub(super) fn show(view: &BatchView) -> String {
    let summary = &view.summary;
    let counts = summary.counts;
    let facts = [
        ("batch", summary.batch.to_string()),
        ("status", summary.status.to_string()),
        ("pipeline", summary.pipeline.clone()),
        (
            "documents",
            format!(
                "{}: {} completed, {} failed, {} cancelled, {} open",
                summary.documents, counts.completed, counts.failed, counts.cancelled, counts.open
            ),
        ),
        ("retries", view.retries.to_string()),
        ("created", time(Some(summary.created_at))),
        ("submitted", time(view.submitted_at)),
        ("ended", time(view.ended_at)),
        ("last activity", time(Some(summary.last_activity_at))),
        ("bucket", summary.bucket.to_string()),
    ];
    let segments = view.tiers.iter().filter_map(|tier| {
        let SegmentCounts {
            entered,
            completed,
            failed,
        } = tier.segments?;
        let text = format!(
            "{entered}: {completed} completed, {failed} failed (tier {} {})",
            tier.tier,
            brief(&tier.name, 20)
        );
        Some(("segments", text))
    });
    let mut facts = Vec::from(facts);
    facts.splice(AFTER_DOCUMENTS..AFTER_DOCUMENTS, segments);
    let spent = view.credits.map(|credits| {
        let (held, settled, released) = (credits.held, credits.settled, credits.released);
        let text = format!("{settled} settled, {held} held, {released} released");
        ("credits", text)
    });
    let facts: Vec<String> = facts
        .iter()
        .chain(&spent)
        .map(|(name, value)| format!("{name:14} {value}"))
        .collect();
    let jobs = view.tiers.iter().flat_map(|tier| {
        tier.jobs.iter().map(|job| {
            let took = tier.started_at.map_or_else(
                || "-".to_owned(),
                |start| {
                    tier.ended_at
                        .or(tier.last_activity_at)
                        .unwrap_or(start)
                        .since(start)
                        .to_string()
                },
            );
            vec![
                format!("{} {}", tier.tier, brief(&tier.name, 20)),
                job.job.to_string(),
                job.status.to_string(),
                number(job.completed),
                number(job.skipped),
                number(job.failed),
                number(job.open),
                number(job.waiting),
                number(job.cancelled),
                job.attempts.to_string(),
                took,
            ]
        })
    });
    let header = [
        "tier",
        "job",
        "status",
        "done",
        "skipped",
        "failed",
        "open",
        "waiting",
        "cancelled",
        "attempts",
        "time",
    ];
    let mut parts = vec![facts.join("\n"), table(&header, jobs)];
    let failures: Vec<Vec<String>> = view
        .tiers
        .iter()
        .flat_map(|tier| tier.jobs.iter().map(move |job| (tier, job)))
        .flat_map(|(tier, job)| {
            job.failures.iter().flat_map(move |(class, kinds)| {
                kinds.iter().map(move |(kind, count)| {
                    vec![
                        format!("{} {}", tier.tier, brief(&tier.name, 20)),
                        job.job.to_string(),
                        class.to_string(),
                        kind.to_string(),
                        count.to_string(),
                    ]
                })
            })
        })
        .collect();
    let paused: Vec<String> = view
        .paused()
        .map(|(tier, job, paused)| {
            let reason = brief(&paused.reason.to_string(), 200);
            format!(
                "paused: {} in tier {tier} since {}: {reason}",
                job.job, paused.at
            )
        })
        .collect();
    let cancelled = view.cancelled().map(|(tier, job, cancellation)| {
        let reason = cancellation.reason.as_deref();
        let reason = reason.map_or_else(String::new, |text| format!(": {}", brief(text, 200)));
        let (job, at, effect) = (&job.job, cancellation.at, cancellation.effect);
        format!("cancelled: {job} in tier {tier} at {at}; {effect}{reason}")
    });
    let notes: Vec<String> = super::parameters::lines(view)
        .into_iter()
        .chain(paused)
        .chain(cancelled)
        .collect();
    if !notes.is_empty() {
        parts.push(notes.join("\n"));
    }
    let outages = outages::lines(view);
    if !outages.is_empty() {
        parts.push(outages.join("\n"));
    }
    let orphaned: Vec<String> = view
        .orphaned()
        .map(|(tier, job, since)| {
            format!(
                "orphaned: {} in tier {tier} since {since}: no live worker serves handler {} with class {}",
                job.job, job.handler, job.class
            )
        })
        .collect();
    if !orphaned.is_empty() {
        parts.push(orphaned.join("\n"));
    }
    if !failures.is_empty() {
        parts.push(table(&["tier", "job", "class", "kind", "failed"], failures));
    }
    parts.join("\n\n")
}

/// The table of failures by tier and kind of a status.
pub(crate) fn failure_table(view: &BatchView) -> String {
    show(view)
        .rsplit("\n\n")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The columns of a table of failures.
pub(super) const FAILURES: [&str; 11] = [
    "document", "tier", "job", "class", "kind", "code", "message", "attempts", "retries", "worker",
    "time",
];

/// A row of it.
pub(super) fn failure(row: &FailureRow) -> Vec<String> {
    vec![
        named(&row.document, row.segment),
        row.tier.to_string(),
        row.job.to_string(),
        row.failure.class.to_string(),
        row.failure.kind.to_string(),
        row.failure.code.clone().unwrap_or_else(|| "-".to_owned()),
        brief(&row.failure.message, 80),
        row.attempts.to_string(),
        row.retry_count.to_string(),
        row.worker
            .as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string),
        row.at.to_string(),
    ]
}

/// A document, or a segment of one.
fn named(document: &str, segment: Option<u32>) -> String {
    let document = brief(document, 60);
    match segment {
        Some(index) => format!("{document} [{index}]"),
        None => document,
    }
}

pub(crate) async fn failures(app: &App, args: FailuresArgs) -> anyhow::Result<Exit> {
    let query = ListFailures {
        batch: args.batch.batch,
        tier: args.tier,
        class: args.class,
        kind: args.kind,
        fingerprint: args.fingerprint,
        limit: args
            .limit
            .and_then(|n| u32::try_from(n.clamp(1, 1_000)).ok()),
        after: None,
        min_seq: None,
        at: args.at,
    };
    let count = output::list(
        app.output,
        app.client.pages(query),
        args.limit,
        &FAILURES,
        failure,
    )
    .await?;
    if count == 0 && app.output == Format::Table {
        say!("No failures.");
    }
    Ok(Exit::Done)
}

pub(crate) async fn results(app: &App, args: ResultsArgs) -> anyhow::Result<Exit> {
    let query = ListResults {
        batch: args.batch.batch,
        tier: args.tier,
        job: args.job,
        limit: args
            .limit
            .and_then(|n| u32::try_from(n.clamp(1, 1_000)).ok()),
        after: None,
        min_seq: None,
        at: args.at,
    };
    let header = ["document", "tier", "job", "output"];
    let row = |row: &ResultRow| {
        let output = match (&row.output, &row.hex) {
            (Some(serde_json::Value::String(text)), _) => brief(text, 120),
            (Some(value), _) => brief(&value.to_string(), 120),
            (None, Some(hex)) => format!(
                "({} bytes of {})",
                hex.len() / 2,
                row.media_type.as_deref().unwrap_or("-")
            ),
            (None, None) if row.skipped => "(skipped)".to_owned(),
            (None, None) => "(no output)".to_owned(),
        };
        vec![
            named(&row.document, row.segment),
            row.tier.to_string(),
            row.job.to_string(),
            output,
        ]
    };
    let count = output::list(
        app.output,
        app.client.pages(query),
        args.limit,
        &header,
        row,
    )
    .await?;
    if count == 0 && app.output == Format::Table {
        say!("No results.");
    }
    Ok(Exit::Done)
}

pub(crate) async fn batches(app: &App, args: BatchesArgs) -> anyhow::Result<Exit> {
    let query = ListBatches {
        bucket: args.bucket,
        status: args.status,
        limit: u32::try_from(args.limit.clamp(1, 1_000)).ok(),
        at: args.at,
        ..ListBatches::default()
    };
    let header = [
        "batch",
        "status",
        "documents",
        "completed",
        "failed",
        "open",
        "pipeline",
        "bucket",
        "created",
    ];
    let row = |batch: &BatchSummary| {
        vec![
            batch.batch.to_string(),
            batch.status.to_string(),
            batch.documents.to_string(),
            number(batch.counts.completed),
            number(batch.counts.failed),
            number(batch.counts.open),
            brief(&batch.pipeline, 40),
            batch.bucket.to_string(),
            batch.created_at.to_string(),
        ]
    };
    let count = output::list(
        app.output,
        app.client.pages(query),
        Some(args.limit),
        &header,
        row,
    )
    .await?;
    if count == 0 && app.output == Format::Table {
        say!("No batches.");
    }
    Ok(Exit::Done)
}
