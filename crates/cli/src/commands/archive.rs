//! `export`, and `replay` of what it wrote.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use futures::{Stream, stream};
use redrive_client::{Export, ExportError};
use redrive_domain::{
    diagnosis::{Diagnosis, FailureCategory},
    export::{Broken, Trailer},
    query::{At, BatchRef, BatchView, FailureRow, ListFailures, PAGE, PAGE_MAX},
    time::Timestamp,
};
use redrive_projector::{Archive, ArchiveError};
use serde::Serialize;

use super::{
    diagnose,
    history::SHARD,
    look::{self, FAILURES},
    time::{self, TIMELINE},
};
use crate::{
    app::App,
    args::{ExportArgs, Format, ReplayArgs, Show},
    exit::{Exit, failed, usage},
    identity,
    output::{self, counted},
    say,
};

pub(crate) async fn export(app: &App, args: ExportArgs) -> anyhow::Result<Exit> {
    if io::stdout().is_terminal() {
        return Err(usage(
            "an export is a file: redirect it, as in `redrive export last > incident.jsonl`",
        ));
    }
    let batch = match args.batch.batch {
        BatchRef::Id(batch) => batch,
        BatchRef::Last => app.view(BatchRef::Last, None).await?.summary.batch,
    };
    let ask = Export {
        shard: SHARD,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        now: identity::now(),
        at: args.at,
        redact: args.redact,
    };
    let mut out = io::BufWriter::with_capacity(1 << 20, io::stdout());
    let written = app
        .client
        .export(batch, &ask, |line| out.write_all(line.as_bytes()))
        .await;
    let flushed = written.and_then(|trailer| {
        out.flush()?;
        Ok(trailer)
    });
    let trailer = flushed.map_err(|error| match error {
        ExportError::Client(error) => error.into(),
        error => anyhow::Error::from(error),
    })?;
    say!("{}", written_out(&trailer, args.redact));
    Ok(Exit::Done)
}

fn written_out(trailer: &Trailer, redact: bool) -> String {
    let events = counted(trailer.events, "event");
    let left_out = match trailer.left_out {
        0 => String::new(),
        n => format!(", {n} of a later version left out"),
    };
    let holds = if redact {
        "It holds ids of documents, failures with their messages, and names of workers and users; no data, URIs, \
         outputs, parameters or details."
    } else {
        "It holds all of the batch: data, URIs and outputs of documents, and parameters of jobs. --redact leaves \
         these out."
    };
    format!("Exported {events}{left_out}. {holds}")
}

/// What is printed of a file as JSON.
#[derive(Serialize)]
struct Incident<'a> {
    file: About<'a>,
    status: BatchView,
    /// The first of them.
    failures: Vec<FailureRow>,
    /// Whether there are more failures.
    more_failures: bool,
    diagnosis: Diagnosis,
}

/// What a file is.
#[derive(Serialize)]
struct About<'a> {
    exported_at: Timestamp,
    program: &'a str,
    redacted: bool,
    events: u64,
    unreadable: u64,
}

/// Replays a file. It needs no system.
pub(crate) async fn replay(format: Format, args: ReplayArgs) -> anyhow::Result<Exit> {
    let path = args.file().unwrap_or_default();
    let archive = open(path.clone(), args.until).await?;
    if archive.unreadable() > 0 {
        say!(
            "{} events are of a later version and were passed over.",
            archive.unreadable()
        );
    }
    if args.verify {
        return verify(archive, &path).await;
    }
    match args.show {
        None => show(format, &archive).await?,
        Some(Show::Status) => output::one(format, &archive.status(), look::show)?,
        Some(Show::Failures) => {
            output::list(format, failures(&archive), None, &FAILURES, look::failure).await?;
        }
        Some(Show::Timeline) => {
            let rows = stream::iter(archive.timeline());
            output::list(format, rows, None, &TIMELINE, time::line).await?;
        }
        Some(Show::State) => match format {
            Format::Table => output::line(&look::show(&archive.status()))?,
            format => output::one(format, archive.state(), |_| String::new())?,
        },
        Some(Show::Diagnosis) => output::one(format, &archive.diagnosis().await?, diagnosis)?,
    }
    Ok(Exit::Done)
}

/// Reading a file may take a while, and waits for the disk.
async fn open(path: PathBuf, at: Option<At>) -> anyhow::Result<Archive> {
    let shown = path.display().to_string();
    let opened = tokio::task::spawn_blocking(move || Archive::open(&path, at)).await?;
    opened.map_err(|error| match error {
        ArchiveError::Io { source, .. } => usage(format!(
            "{shown} names no batch (give its id, or the word last), and cannot be read as a file: {source}"
        )),
        ArchiveError::Broken {
            broken: Broken::NotAnExport,
            ..
        } => usage(error.to_string()),
        ArchiveError::Broken { .. } => failed(Exit::Conflict, error.to_string()),
        ArchiveError::Nothing { .. } => failed(Exit::NotFound, error.to_string()),
        error => error.into(),
    })
}

/// For people. The commands are for the system that the file is of; which one that is, it does not say.
fn diagnosis(diagnosis: &Diagnosis) -> String {
    diagnose::shown(diagnosis, |command| format!("redrive {command}"))
}

async fn show(format: Format, archive: &Archive) -> anyhow::Result<()> {
    let page = archive.failures(&asked(PAGE, None)).await?;
    let (status, more) = (archive.status(), page.next.is_some());
    let diagnosis = archive.diagnosis().await?;
    if format != Format::Table {
        let (header, trailer) = (archive.header(), archive.trailer());
        let incident = Incident {
            file: About {
                exported_at: header.exported_at,
                program: &header.program,
                redacted: header.redacted,
                events: trailer.events,
                unreadable: archive.unreadable(),
            },
            status,
            failures: page.items,
            more_failures: more,
            diagnosis,
        };
        return output::one(format, &incident, |_| String::new());
    }
    output::line(&look::show(&status))?;
    if !page.items.is_empty() {
        let rows = page.items.iter().map(look::failure);
        output::line(&format!("\n{}", output::table(&FAILURES, rows)))?;
    }
    if more {
        say!("There are more failures: --show failures prints all of them.");
    }
    if diagnosis.failure_category != FailureCategory::None {
        say!("--show diagnosis tells why, and what to do about it.");
    }
    Ok(())
}

fn asked(limit: u32, after: Option<String>) -> ListFailures {
    ListFailures {
        batch: BatchRef::Last,
        tier: None,
        class: None,
        kind: None,
        fingerprint: None,
        limit: Some(limit),
        after,
        min_seq: None,
        at: None,
    }
}

/// All failures, page by page.
fn failures(archive: &Archive) -> impl Stream<Item = Result<FailureRow, ArchiveError>> + '_ {
    use futures::StreamExt;
    let pages = stream::unfold(Some(asked(PAGE_MAX, None)), move |ask| async move {
        let page = archive.failures(&ask?).await;
        Some(match page {
            Ok(page) => {
                let next = page.next.map(|after| asked(PAGE_MAX, Some(after)));
                let rows: Vec<_> = page.items.into_iter().map(Ok).collect();
                (stream::iter(rows), next)
            }
            Err(error) => (stream::iter(vec![Err(error)]), None),
        })
    });
    pages.flatten()
}

async fn verify(archive: Archive, path: &Path) -> anyhow::Result<Exit> {
    let checked = tokio::task::spawn_blocking(move || archive.verify()).await??;
    for problem in &checked.problems {
        output::line(problem)?;
    }
    let path = path.display();
    if !checked.problems.is_empty() {
        let count = counted(checked.problems.len() as u64, "thing");
        return Err(failed(
            Exit::Conflict,
            format!("{path}: {count} not as it was when it was written"),
        ));
    }
    say!(
        "{path} is whole. Folded {} afresh: the batch comes to what it came to when it was exported.",
        counted(checked.events, "event")
    );
    Ok(Exit::Done)
}
