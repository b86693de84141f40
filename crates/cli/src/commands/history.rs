//! `events` and `replay`: the log, as it is and as what it amounts to.

use anyhow::{Context, bail};
use futures::StreamExt;
use redrive_broker::{Broker, Range, Until, fold};
use redrive_domain::{
    event::Envelope,
    evolve::Batches,
    ids::BatchKey,
    invariants::violations,
    query::{At, BatchRef, BatchView, ListDocuments, ReadState},
    segments::Segments,
    state::BatchState,
    subject,
};
use serde_json::{Value, json};

use crate::{
    app::App,
    args::{EventsArgs, Format, ReplayArgs},
    exit::{Exit, failed, usage},
    output, say,
};

/// Documents that are named with an event at most; the rest are counted.
const NAMED: u32 = 100;

/// The shard: there is one so far.
pub(super) const SHARD: subject::Shard = 0;

async fn key_of(app: &App, batch: BatchRef) -> anyhow::Result<BatchKey> {
    let batch = match batch {
        BatchRef::Id(batch) => batch,
        BatchRef::Last => app.view(BatchRef::Last, None).await?.summary.batch,
    };
    Ok(BatchKey {
        namespace: app.client.namespace().clone(),
        batch,
    })
}

async fn filter_of(app: &App, batch: Option<BatchRef>) -> anyhow::Result<String> {
    Ok(match batch {
        Some(batch) => subject::events_of_batch(SHARD, &key_of(app, batch).await?),
        None => subject::events_of_namespace(SHARD, app.client.namespace()),
    })
}

pub(crate) async fn events(app: &App, args: EventsArgs) -> anyhow::Result<Exit> {
    let broker = app.client.broker();
    let filter = filter_of(app, args.batch).await?;
    let last = broker.last_seq().await?;
    if last == 0 && !args.follow {
        return Ok(Exit::Done);
    }
    let mut entries = broker.read(Range {
        from: 1,
        until: (!args.follow).then_some(last),
        filter: Some(filter),
    });
    let mut found = false;
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        found = true;
        let kind: String = entry
            .subject
            .split('.')
            .skip(5)
            .collect::<Vec<_>>()
            .join(".");
        let wanted = args.kind.as_ref().is_none_or(|wanted| {
            kind.strip_prefix(wanted.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        if !wanted {
            continue;
        }
        let shown = match Envelope::decode(&entry.payload) {
            Ok(envelope) => shown(app, entry.seq, &kind, &envelope).await?,
            Err(error) => {
                json!({ "seq": entry.seq, "type": kind, "undecodable": error.to_string() })
            }
        };
        output::line(&shown.to_string())?;
    }
    if let (false, Some(BatchRef::Id(batch))) = (found, args.batch) {
        return Err(failed(
            Exit::NotFound,
            format!(
                "there is no batch {batch} in namespace {}",
                app.client.namespace()
            ),
        ));
    }
    Ok(Exit::Done)
}

/// The events of a batch up to the one that a view speaks of.
pub(super) async fn read_batch(
    app: &App,
    view: &BatchView,
) -> anyhow::Result<
    futures::stream::BoxStream<'static, redrive_broker::Result<redrive_broker::Entry>>,
> {
    let filter = filter_of(app, Some(BatchRef::Id(view.summary.batch))).await?;
    Ok(app.client.broker().read(Range {
        from: 1,
        until: Some(view.last_seq),
        filter: Some(filter),
    }))
}

async fn shown(app: &App, seq: u64, kind: &str, envelope: &Envelope) -> anyhow::Result<Value> {
    let mut line = envelope.shown(seq, kind)?;
    let units = envelope.event.units();
    if !units.is_empty() {
        let query = ListDocuments {
            units: Some(units.take(u64::from(NAMED))),
            limit: Some(NAMED),
            min_seq: Some(seq),
            ..ListDocuments::of(BatchRef::Id(envelope.batch))
        };
        let page = app.client.page(&query).await?;
        line["documents"] = page.items.into_iter().map(|row| row.id).collect();
        let total = match Segments::are_in(&units) {
            true => "segments_total",
            false => "documents_total",
        };
        line[total] = units.len().into();
    }
    Ok(line)
}

pub(crate) async fn replay(app: &App, args: ReplayArgs) -> anyhow::Result<Exit> {
    if args.show.is_some() {
        return Err(usage("--show is for a file that `redrive export` wrote"));
    }
    let batch = args.batch();
    let filter = filter_of(app, batch).await?;
    let until = args.until.map_or(Until::End, Until::from);
    let folded = fold(app.client.broker(), Some(filter), until).await?;
    if args.verify && args.batch().is_none() {
        super::credits::verify(app, &folded).await?;
    }
    let (batches, count) = (folded.batches, folded.events);
    if folded.unreadable > 0 {
        say!(
            "{} events are of a later version and were passed over.",
            folded.unreadable
        );
    }
    if let (true, Some(BatchRef::Id(batch))) = (batches.is_empty(), batch) {
        return Err(failed(
            Exit::NotFound,
            format!(
                "there is no batch {batch} in namespace {} at that point",
                app.client.namespace()
            ),
        ));
    }
    if args.verify {
        return verify(app, batches, count, args.until.is_some()).await;
    }
    match (app.output, batch) {
        (Format::Table, _) => {
            for state in batches.values() {
                let view = BatchView::of(state, state.last_at);
                output::line(&super::look::show(&view))?;
                output::line("")?;
            }
        }
        (format, Some(_)) => {
            for state in batches.values() {
                output::one(format, state, |_| String::new())?;
            }
        }
        (format, None) => {
            let states: Vec<_> = batches.into_values().map(Ok::<_, anyhow::Error>).collect();
            output::list(format, futures::stream::iter(states), None, &[], |_| {
                Vec::new()
            })
            .await?;
        }
    }
    Ok(Exit::Done)
}

/// Compares a fresh fold of each batch with the projector's state as of the same event.
async fn verify(app: &App, batches: Batches, count: u64, is_past: bool) -> anyhow::Result<Exit> {
    let mut wrong = 0;
    let total = batches.len();
    for (key, folded) in batches {
        let (folded, theirs) = if is_past {
            let at = Some(At::Seq(folded.last_seq));
            let theirs = state_of(app, &key, at).await?;
            (folded, theirs)
        } else {
            same_moment(app, key.clone(), folded).await?
        };
        let mut problems = violations(&folded);
        if folded.encode()? != theirs.encode()? {
            let differences = redrive_projector::differences(&folded, &theirs);
            problems.extend(differences.iter().map(ToString::to_string));
        }
        for problem in &problems {
            output::line(&format!("{}: {problem}", key.batch))?;
        }
        wrong += usize::from(!problems.is_empty());
    }
    if wrong > 0 {
        return Err(failed(
            Exit::Conflict,
            format!("{wrong} of {total} batches differ from what the log says"),
        ));
    }
    say!(
        "Folded {count} events afresh: {total} {} identical with the projector's, byte for byte.",
        if total == 1 { "state," } else { "states, each" }
    );
    Ok(Exit::Done)
}

/// The projector's state, and the fold as of the same event: while a batch runs, both move.
async fn same_moment(
    app: &App,
    key: BatchKey,
    folded: BatchState,
) -> anyhow::Result<(BatchState, BatchState)> {
    let mut folded = folded;
    for _ in 0..20 {
        let theirs = state_of(app, &key, None).await?;
        if theirs.last_seq == folded.last_seq {
            return Ok((folded, theirs));
        }
        let filter = subject::events_of_batch(SHARD, &key);
        let until = Until::Seq(theirs.last_seq);
        let mut batches = fold(app.client.broker(), Some(filter), until)
            .await?
            .batches;
        folded = batches
            .remove(&key)
            .context("the batch is gone from the log")?;
        if folded.last_seq == theirs.last_seq {
            return Ok((folded, theirs));
        }
    }
    bail!("batch {} changes too fast to be compared", key.batch)
}

async fn state_of(app: &App, key: &BatchKey, at: Option<At>) -> anyhow::Result<BatchState> {
    let mut bytes = Vec::new();
    let mut as_of = None;
    loop {
        let query = ReadState {
            batch: BatchRef::Id(key.batch),
            offset: bytes.len() as u64,
            min_seq: None,
            at,
        };
        let piece = app.client.state(&query).await?;
        if as_of.is_some_and(|seq| seq != piece.last_seq) {
            // It changed from piece to piece.
            bytes.clear();
            as_of = None;
            continue;
        }
        as_of = Some(piece.last_seq);
        bytes.extend(from_hex(&piece.hex).context("the projector's answer is not in base 16")?);
        if bytes.len() as u64 >= piece.total || piece.hex.is_empty() {
            return BatchState::decode(&bytes).context("the projector's state cannot be read");
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?))
        .collect()
}
