//! `retry` and `cancel`.

use redrive_domain::{
    command::{Accepted, Cancel, Command, Retried, Retry, RetryMode},
    decide::ANY_BUCKET,
    ids::Bucket,
    query::BatchRef,
};

use super::run;
use crate::{
    app::App,
    args::{CancelArgs, Format, Mode, RetryArgs},
    exit::{Exit, usage},
    identity,
    output::{self, counted},
    say, signals,
};

pub(crate) async fn retry(app: &App, args: RetryArgs) -> anyhow::Result<Exit> {
    let view = app.view(args.batch.batch, None).await?;
    let batch = view.summary.batch;
    let tiers = view.tiers.len();
    if let Some(tier) = args.tier.iter().find(|tier| usize::from(**tier) >= tiers) {
        let there = match tiers {
            1 => "only tier 0".to_owned(),
            _ => format!("tiers 0 to {}", tiers.saturating_sub(1)),
        };
        return Err(usage(format!("--tier {tier}: the batch has {there}")));
    }
    let stop = signals::shutdown()?;
    let command = Command::Retry(Retry {
        retry_mode: match args.mode {
            Mode::TransientOnly => RetryMode::TransientOnly,
            Mode::All => RetryMode::All,
        },
        tier_nums: (!args.tier.is_empty()).then_some(args.tier),
        max_retry_count: args.max_retry_count,
        max_retries: args.max_retries,
    });
    let bucket = Bucket::new(ANY_BUCKET)?;
    let accepted = app
        .client
        .command(&bucket, batch, identity::command(), &command)
        .await?;
    let retried = accepted.retry.clone().unwrap_or_default();
    show(app, &accepted, &retried)?;
    if retried.units == 0 && view.summary.status.is_over() {
        return Ok(Exit::Done);
    }
    if run::runs_here(&view) {
        return run::work_here(app, &view, accepted.seq, args.jobs, &stop).await;
    }
    if args.watch {
        return run::watch(app, BatchRef::Id(batch), Some(accepted.seq), None, &stop).await;
    }
    Ok(Exit::Done)
}

fn show(app: &App, accepted: &Accepted, retried: &Retried) -> anyhow::Result<()> {
    if app.output != Format::Table {
        return output::one(app.output, accepted, |_| String::new());
    }
    let sum = |parts: Vec<String>| {
        if parts.is_empty() {
            String::new()
        } else {
            format!(" ({})", parts.join(", "))
        }
    };
    let by_kind = retried
        .by_kind
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    let by_tier: Vec<String> = retried
        .by_tier
        .iter()
        .map(|(tier, n)| format!("{n} in tier {tier}"))
        .collect();
    say!(
        "Retrying {}{}{}",
        counted(retried.documents, "document"),
        sum(by_kind),
        if by_tier.len() > 1 {
            format!(": {}", by_tier.join(", "))
        } else {
            String::new()
        }
    );
    let excluded = &retried.excluded;
    for (class, count) in &excluded.class {
        let failures = counted(*count, &format!("{class} failure"));
        say!("  left alone: {failures} (--mode all takes these too)");
    }
    if excluded.retry_limit > 0 {
        say!(
            "  left alone: {} of documents that were retried as often as --max-retry-count allows",
            counted(excluded.retry_limit, "failure")
        );
    }
    if excluded.tier > 0 {
        let failures = counted(excluded.tier, "failure");
        say!("  left alone: {failures} in other tiers");
    }
    Ok(())
}

pub(crate) async fn cancel(app: &App, args: CancelArgs) -> anyhow::Result<Exit> {
    let batch = match args.batch.batch {
        BatchRef::Id(batch) => batch,
        BatchRef::Last => app.view(BatchRef::Last, None).await?.summary.batch,
    };
    let command = Command::Cancel(Cancel {
        reason: args.reason,
    });
    let bucket = Bucket::new(ANY_BUCKET)?;
    let accepted = app
        .client
        .command(&bucket, batch, identity::command(), &command)
        .await?;
    if app.output == Format::Table {
        let open = counted(accepted.cancelled_documents.unwrap_or(0), "document");
        say!("{batch} is cancelled; {open} had not come through");
    } else {
        output::one(app.output, &accepted, |_| String::new())?;
    }
    Ok(Exit::Done)
}
