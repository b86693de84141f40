//! The demo: a real batch over real files and a web server that really misbehaves, from the first failure to a verified
//! history.

mod extract;
mod search;
mod texts;
mod web;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use redrive_client::Upload;
use redrive_domain::{
    command::{Command, Create, Retry, Start},
    decide::ANY_BUCKET,
    document::Document,
    ids::Bucket,
    query::{BatchRef, BatchView},
};
use redrive_worker::handlers;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{history, look};
use crate::{
    app::{App, quoted},
    args::{DemoArgs, Of, ReplayArgs},
    exit::Exit,
    identity,
    progress::{Followed, follow, summary},
    say,
    settings::Settings,
    signals,
    system::{Folder, Life, System},
    vigil::Vigil,
};

pub(crate) async fn demo(
    settings: &Settings,
    args: DemoArgs,
    data_given: bool,
) -> anyhow::Result<Exit> {
    let data = if data_given {
        settings.data.clone()
    } else {
        settings.data.join("demo")
    };
    let folder = Folder::new(&data)?;
    say!(
        "Starting a broker, a coordinator, a projector and a worker, with their data in {} …",
        folder.path().display()
    );
    let stop = signals::shutdown()?;
    let broken = texts::write_broken(folder.path())?;
    let mut system = System::start(folder.clone(), None, Life::Own, Vigil::default()).await?;
    let mut config = redrive_worker::Config::new(0, identity::worker()?);
    config.host = identity::host();
    let mut served = handlers::builtin()?;
    served.extend(extract::handlers()?);
    system.start_worker(config, served);
    let flags = format!(" --data {}", quoted(&folder.path().to_string_lossy()));
    let app = App::of(system.broker().clone(), settings, flags);
    let shown = tokio::select! {
        shown = show(&app, &args, broken, &stop) => shown,
        error = system.failed() => Err(error),
    };
    system.stop().await?;
    shown
}

async fn show(
    app: &App,
    args: &DemoArgs,
    broken: Vec<PathBuf>,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let web = web::serve().await?;
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => std::env::current_dir()?,
    };
    let dir = dir.canonicalize().with_context(|| context(&dir))?;
    let files = texts::find(&dir)?;
    if files.is_empty() {
        say!(
            "There are no texts in {}; going on with the pages and the broken files.",
            dir.display()
        );
    }
    let pages = web.urls();
    say!(
        "A batch of {} texts of {}, {} pages of a web server that is busy, slow or forgetful at times, and {} broken files.",
        files.len(),
        dir.display(),
        pages.len(),
        broken.len()
    );
    say!(
        "Each is fetched (tier 0), read by two extractors side by side (tier 1), and entered in an index (tier 2).\n"
    );
    let documents = files
        .iter()
        .chain(&broken)
        .map(|path| file(path, &dir))
        .chain(pages.into_iter().map(Document::new));
    let (batch, seq) = hand_over(app, documents.collect()).await?;
    let Followed::Over(first) = follow(app, batch, Some(seq), None, stop).await? else {
        return Ok(Exit::Interrupted);
    };
    say!("\n{}\n", summary(&first));
    say!(
        "What failed, by tier and kind:\n\n{}\n",
        look::failure_table(&first)
    );

    say!("Retrying what may pass by itself (redrive retry last) …");
    let retry = Command::Retry(Retry::default());
    let bucket = Bucket::new(ANY_BUCKET)?;
    let accepted = app
        .client
        .command(&bucket, first.summary.batch, identity::command(), &retry)
        .await?;
    let retried = accepted.retry.clone().unwrap_or_default();
    let left = retried.excluded.total();
    say!(
        "  {} documents are executed again; {left} permanent failures are left alone.",
        retried.documents
    );
    let Followed::Over(second) = follow(app, batch, Some(accepted.seq), None, stop).await? else {
        return Ok(Exit::Interrupted);
    };
    say!("\n{}\n", summary(&second));
    untouched(app, &first, &second, retried.documents).await?;

    say!("Replaying the log from its first event …");
    let replay = ReplayArgs {
        of: Some(Of::Batch(batch)),
        until: None,
        verify: true,
        show: None,
    };
    history::replay(app, replay).await?;

    let index = search::Index::read(app, batch).await?;
    say!(
        "\nAsking the index of {} documents: {:?}",
        index.len(),
        args.ask
    );
    for (place, hit) in (1..).zip(index.ask(&args.ask, 5)) {
        say!("  {place}. {}  {}", hit.document, hit.title);
    }
    say!("\nThe data stays. To look around:");
    for command in [
        "status last",
        "failures last",
        "results last --limit 3 -o jsonl",
        "events last --type documents.failed",
        "replay last --verify",
    ] {
        say!("  {}", app.hint(command));
    }
    say!("And with your own files:\n  redrive run --exec 'wc -w {{}}' *.md");
    Ok(Exit::Done)
}

/// A file under its path below the folder, with an absolute URI.
fn file(path: &Path, dir: &Path) -> Document {
    let id = path.strip_prefix(dir).unwrap_or(path);
    let mut document = Document::new(id.to_string_lossy());
    document.uri = Some(path.to_string_lossy().into_owned());
    document
}

fn pipeline() -> Value {
    let quick = json!({ "base": "200ms", "max": "2s" });
    json!({
        "name": "demo",
        "tiers": [
            { "name": "fetch", "jobs": [{
                "handler": "fetch",
                "timeout": "1500ms",
                "max_attempts": 2,
                "backoff": quick,
                "max_output_bytes": 524_288,
            }] },
            { "name": "extract", "jobs": [
                { "handler": "demo-words" , "name": "words" },
                { "handler": "demo-outline", "name": "outline" },
            ] },
            { "name": "index", "jobs": [{ "handler": "demo-index", "name": "index" }] },
        ],
    })
}

async fn hand_over(app: &App, documents: Vec<Document>) -> anyhow::Result<(BatchRef, u64)> {
    let batch = identity::batch();
    let bucket = Bucket::new("demo")?;
    let create = Command::Create(Create {
        pipeline: pipeline(),
        start: Start::OnSubmit,
    });
    app.client
        .command(&bucket, batch, identity::command(), &create)
        .await?;
    let mut upload = Upload::new(&app.client, bucket, batch, identity::command);
    for document in documents {
        upload.add(document).await?;
    }
    Ok((BatchRef::Id(batch), upload.finish().await?.seq))
}

/// Shows that the retry executed what had failed, and what came after it, and nothing else.
async fn untouched(
    app: &App,
    first: &BatchView,
    second: &BatchView,
    retried: u64,
) -> anyhow::Result<()> {
    let fetched = |view: &BatchView| {
        view.tiers
            .first()
            .map(|tier| (tier.completed, tier.failed))
            .unwrap_or_default()
    };
    let ((before, _), (after, _)) = (fetched(first), fetched(second));
    let mut again = 0;
    let mut completions = std::collections::BTreeMap::<u32, u32>::new();
    let (mut entries, last) = (history::read_batch(app, second).await?, second.last_seq);
    use futures::StreamExt;
    while let Some(entry) = entries.next().await {
        let envelope = redrive_domain::event::Envelope::decode(&entry?.payload)?;
        if let redrive_domain::event::Event::DocumentsCompleted { attempt, units, .. } =
            &envelope.event
            && attempt.tier == 0
        {
            units
                .iter()
                .for_each(|unit| *completions.entry(unit).or_default() += 1);
        }
    }
    again += completions.values().filter(|count| **count > 1).count();
    if again > 0 {
        bail!("{again} documents that had succeeded were executed again");
    }
    say!(
        "Of {retried} retried, {} came through. The log up to event {last} has one success for each of the {after} documents \
         that were fetched: none of the {before} that had succeeded was touched.\n",
        after.saturating_sub(before)
    );
    Ok(())
}

fn context(path: &Path) -> String {
    format!("cannot use {}", path.display())
}

/// Reads a folder, with its name in the error.
fn read_dir(path: &Path) -> anyhow::Result<std::fs::ReadDir> {
    std::fs::read_dir(path).with_context(|| context(path))
}
