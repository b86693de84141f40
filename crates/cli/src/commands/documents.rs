//! `documents`.

use redrive_domain::query::{DocumentFailure, DocumentRow, DocumentStatus, ListDocuments};

use crate::{
    app::App,
    args::{DocumentsArgs, Format},
    exit::Exit,
    output::{self, brief},
    say,
};

pub(crate) async fn documents(app: &App, args: DocumentsArgs) -> anyhow::Result<Exit> {
    let query = ListDocuments {
        status: args.status,
        tier: args.tier,
        class: args.class,
        kind: args.kind,
        fingerprint: args.fingerprint,
        outputs: args.outputs,
        limit: args
            .limit
            .and_then(|n| u32::try_from(n.clamp(1, 1_000)).ok()),
        at: args.at,
        ..ListDocuments::of(args.batch.batch)
    };
    let mut header = vec!["document", "status", "tier", "retries", "why"];
    if args.outputs {
        header.push("output");
    }
    let row = |row: &DocumentRow| {
        let mut cells = vec![
            brief(&row.id, 60),
            row.status.to_string(),
            row.tier.to_string(),
            row.retry_count.to_string(),
            why(row),
        ];
        if row.outputs.is_some() {
            cells.push(made(row));
        }
        cells
    };
    let documents = app.client.pages(query);
    let count = output::list(app.output, documents, args.limit, &header, row).await?;
    if count == 0 && app.output == Format::Table {
        say!("No documents.");
    }
    Ok(Exit::Done)
}

/// What holds a document up, in short.
fn why(row: &DocumentRow) -> String {
    let more = |shown: u64, all: u64| match all > shown {
        true => format!(" (and {} more)", all - shown),
        false => String::new(),
    };
    match (row.failures.first(), row.status) {
        (Some(first), _) => {
            let DocumentFailure {
                job, kind, message, ..
            } = first;
            let more = more(1, row.failed_units);
            format!("{job}: {kind}: {}{more}", brief(message, 80))
        }
        (None, DocumentStatus::Open) => {
            let jobs: Vec<&str> = row.open.iter().map(|job| job.as_str()).collect();
            match jobs.is_empty() {
                true => "-".to_owned(),
                false => format!("waits for {}", jobs.join(", ")),
            }
        }
        (None, _) => "-".to_owned(),
    }
}

/// What the last tier made of it: the first of it that there is.
fn made(row: &DocumentRow) -> String {
    let outputs = row.outputs.iter().flatten();
    let shown = outputs.map(|made| match (&made.output, &made.hex) {
        (Some(serde_json::Value::String(text)), _) => brief(text, 120),
        (Some(value), _) => brief(&value.to_string(), 120),
        (None, Some(hex)) => format!("({} bytes)", hex.len() / 2),
        (None, None) if made.skipped => "(skipped)".to_owned(),
        (None, None) => "(no output)".to_owned(),
    });
    shown.into_iter().next().unwrap_or_else(|| "-".to_owned())
}
