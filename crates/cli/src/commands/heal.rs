//! `heal`.

use redrive_domain::{
    command::{Command, Heal},
    decide::ANY_BUCKET,
    heal::{DuplicateFinding, Execution, Healed, StuckFinding, StuckReason},
    ids::{BatchId, Bucket},
    query::BatchRef,
    time::Timestamp,
    units::UnitSet,
};

use crate::{
    app::App,
    args::{Format, HealArgs},
    exit::Exit,
    identity,
    output::{self, counted, table},
    say,
};

/// Ranges of documents that are shown of one finding.
const RANGES: usize = 4;

pub(crate) async fn heal(app: &App, args: HealArgs) -> anyhow::Result<Exit> {
    let batch = match args.batch.batch {
        BatchRef::Id(batch) => batch,
        BatchRef::Last => app.view(BatchRef::Last, None).await?.summary.batch,
    };
    let heal = Heal {
        tier: args.tier,
        fix: args.fix,
        idle_seconds: args.idle,
        ..Heal::new(args.action.into())
    };
    let bucket = Bucket::new(ANY_BUCKET)?;
    let command = Command::Heal(heal.clone());
    let accepted = app
        .client
        .command(&bucket, batch, identity::command(), &command)
        .await?;
    if app.output != Format::Table {
        output::one(app.output, &accepted, |_| String::new())?;
        return Ok(Exit::Done);
    }
    let Some(healed) = &accepted.heal else {
        say!("It was done before.");
        return Ok(Exit::Done);
    };
    if !healed.stuck.is_empty() {
        output::line(&stuck(&healed.stuck))?;
    }
    if !healed.duplicates.is_empty() {
        output::line(&duplicates(&healed.duplicates))?;
    }
    conclude(app, batch, &heal, healed);
    Ok(Exit::Done)
}

/// What was found, in a sentence, and what to do about it.
fn conclude(app: &App, batch: BatchId, heal: &Heal, healed: &Healed) {
    let chunks = counted(healed.chunks, "chunk");
    let verb = if healed.chunks == 1 { "is" } else { "are" };
    match (healed.stuck.len(), healed.duplicates.len()) {
        (0, 0) => {
            let what = match heal.action {
                redrive_domain::heal::HealAction::DetectStuck => "Nothing is stuck",
                redrive_domain::heal::HealAction::KillDuplicates => "Nothing is executed twice",
            };
            say!("{what}: {chunks} {verb} in progress.");
        }
        (0, found) => {
            let found = counted(found as u64, "duplicate");
            say!("{found} told to stop; what they report is refused.");
        }
        (found, _) => {
            let fixed = healed.stuck.iter().filter(|it| it.fixed).count();
            say!(
                "{found} of {chunks} in progress {} stuck; {} handed out again.",
                if found == 1 { "is" } else { "are" },
                if fixed == 0 {
                    "none".to_owned()
                } else if fixed == found {
                    "all".to_owned()
                } else {
                    fixed.to_string()
                }
            );
        }
    }
    if healed.more > 0 {
        say!("There is more of it ({}): do it again.", healed.more);
    }
    if let Some(flags) = remedy(heal, &healed.stuck) {
        let tier = heal
            .tier
            .map_or_else(String::new, |tier| format!(" --tier {tier}"));
        let fix = app.hint(&format!("heal {batch}{tier} --action detect_stuck {flags}"));
        say!("  hand them out again:  {fix}");
    }
}

/// The flags that put right what was found and left as it is.
fn remedy(heal: &Heal, stuck: &[StuckFinding]) -> Option<String> {
    let left = || stuck.iter().filter(|it| !it.fixed);
    left().next()?;
    let doubtful = left().any(|it| it.reason == StuckReason::NoSignOfLife);
    Some(match (doubtful, heal.idle_seconds) {
        (true, idle) => format!("--fix --idle {}s", idle.unwrap_or(60)),
        (false, _) => "--fix".to_owned(),
    })
}

fn stuck(found: &[StuckFinding]) -> String {
    let header = [
        "tier",
        "job",
        "documents",
        "attempt",
        "why",
        "for",
        "worker",
        "taken",
        "fixed",
    ];
    let now = identity::now();
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let rows = found.iter().map(|it| {
        vec![
            it.tier.to_string(),
            it.job.to_string(),
            ordinals(&it.units),
            it.attempt.to_string(),
            it.reason.to_string(),
            now.since(it.since).to_string(),
            it.worker
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
            time(it.taken_at),
            if it.fixed { "yes" } else { "no" }.to_owned(),
        ]
    });
    table(&header, rows)
}

fn duplicates(found: &[DuplicateFinding]) -> String {
    let name = |it: &Execution| format!("{} (attempt {})", it.worker, it.attempt);
    let rows = found.iter().map(|it| {
        let stopped: Vec<String> = it.superseded.iter().map(name).collect();
        vec![
            it.tier.to_string(),
            it.job.to_string(),
            ordinals(&it.units),
            it.kept.as_ref().map_or_else(|| "-".to_owned(), name),
            stopped.join(", "),
            it.since.to_string(),
        ]
    });
    let header = ["tier", "job", "documents", "kept", "stopped", "since"];
    table(&header, rows)
}

/// The places of documents in their batch: `0-4, 9`.
fn ordinals(units: &UnitSet) -> String {
    let ranges: Vec<_> = units.ranges().take(RANGES + 1).collect();
    let more = if ranges.len() > RANGES { ", …" } else { "" };
    let texts: Vec<String> = ranges
        .iter()
        .take(RANGES)
        .map(|range| match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("{}-{}", range.start(), range.end()),
        })
        .collect();
    format!("{}{more}", texts.join(", "))
}
