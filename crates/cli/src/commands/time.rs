//! `diff` and `timeline`.

use futures::{StreamExt, stream};
use redrive_client::ClientError;
use redrive_domain::query::{Change, Diff, ListChanges, ReadTimeline, TimelineRow};

use crate::{
    app::App,
    args::{DiffArgs, Format, TimelineArgs},
    exit::Exit,
    output::{self, brief, counted},
    say,
};

/// Entries of a page where so many are wanted.
fn page(limit: Option<usize>) -> Option<u32> {
    u32::try_from(limit.unwrap_or(1_000).clamp(1, 1_000)).ok()
}

pub(crate) async fn diff(app: &App, args: DiffArgs) -> anyhow::Result<Exit> {
    let mut query = ListChanges {
        batch: args.batch.batch,
        from: args.from,
        to: args.to,
        limit: page(args.limit),
        after: None,
        min_seq: None,
    };
    let first = app.client.diff(&query).await?;
    say!("{}", in_short(&first));
    let rest = first.page.next.map(|next| {
        query.after = Some(next);
        app.client.pages(query)
    });
    let here = first.page.items.into_iter().map(Ok::<_, ClientError>);
    let changes = stream::iter(here).chain(stream::iter(rest).flatten());
    let header = ["document", "before", "after", "retries"];
    output::list(app.output, changes, args.limit, &header, change).await?;
    Ok(Exit::Done)
}

/// A difference in a sentence.
fn in_short(diff: &Diff) -> String {
    let how = diff.transitions.iter().map(|transition| {
        let before = transition.before.map(|status| status.to_string());
        format!(
            "{} {} -> {}",
            transition.documents,
            before.as_deref().unwrap_or("new"),
            transition.after
        )
    });
    let how: Vec<String> = how.collect();
    let (from, to) = (diff.from, diff.to);
    match diff.changed {
        0 => format!("No document changed from event {from} to event {to}."),
        changed => format!(
            "{} changed from event {from} to event {to}: {}.",
            counted(changed, "document"),
            how.join(", ")
        ),
    }
}

fn change(change: &Change) -> Vec<String> {
    let before = change.before.as_ref();
    let (was, is) = (
        before.map_or(0, |standing| standing.retry_count),
        change.after.retry_count,
    );
    vec![
        brief(&change.document, 60),
        before.map_or_else(
            || "-".to_owned(),
            |standing| brief(&standing.to_string(), 80),
        ),
        brief(&change.after.to_string(), 80),
        if was == is {
            is.to_string()
        } else {
            format!("{was} -> {is}")
        },
    ]
}

/// The columns of a timeline.
pub(super) const TIMELINE: [&str; 5] = ["time", "for", "seq", "events", "what"];

/// A line of it.
pub(super) fn line(row: &TimelineRow) -> Vec<String> {
    let took = row.until.since(row.at);
    let by = row.actor.as_ref().filter(|_| row.events == 1);
    let by = by.map_or_else(String::new, |actor| format!(" (by {actor})"));
    vec![
        row.at.to_string(),
        if took.is_zero() {
            "-".to_owned()
        } else {
            took.to_string()
        },
        if row.seq == row.last_seq {
            row.seq.to_string()
        } else {
            format!("{}-{}", row.seq, row.last_seq)
        },
        row.events.to_string(),
        brief(&format!("{}{by}", row.sentence()), 160),
    ]
}

pub(crate) async fn timeline(app: &App, args: TimelineArgs) -> anyhow::Result<Exit> {
    let query = ReadTimeline {
        batch: args.batch.batch,
        limit: page(args.limit),
        after: None,
        min_seq: None,
        at: args.at,
    };
    let rows = app.client.pages(query);
    let told = output::list(app.output, rows, args.limit, &TIMELINE, line).await?;
    if told == 0 && app.output == Format::Table {
        say!("Nothing happened.");
    }
    Ok(Exit::Done)
}
