//! `credits`: what the namespace may spend a month, and what it has spent.

use redrive_broker::{Folded, Until, fold};
use redrive_client::{ClientError, UploadError};
use redrive_domain::{
    command::{Command, Refusal, SetCredits},
    credits::{Charge, NO_BATCH},
    decide::ANY_BUCKET,
    ids::Bucket,
    query::{CreditsView, OfNamespace},
    subject,
};

use super::history::SHARD;
use crate::{
    app::App,
    args::CreditsArgs,
    exit::{Exit, failed},
    identity, output, say,
};

pub(crate) async fn credits(app: &App, args: CreditsArgs) -> anyhow::Result<Exit> {
    let mut min_seq = None;
    if args.set.is_some() || args.unlimited {
        let set = Command::SetCredits(SetCredits { limit: args.set });
        let accepted = app
            .client
            .command(
                &Bucket::new(ANY_BUCKET)?,
                NO_BATCH,
                identity::command(),
                &set,
            )
            .await?;
        min_seq = Some(accepted.seq);
    }
    let query = OfNamespace {
        min_seq,
        at: args.at,
    };
    let view = app.client.credits(&query).await?;
    output::one(app.output, &view, show)?;
    Ok(Exit::Done)
}

fn show(view: &CreditsView) -> String {
    let facts = [
        (
            "limit",
            view.limit
                .map_or_else(|| "none".to_owned(), |limit| format!("{limit} a month")),
        ),
        (
            "left",
            view.left.map_or_else(
                || "-".to_owned(),
                |left| format!("{left} for {}", view.month),
            ),
        ),
    ];
    let facts: Vec<String> = facts
        .iter()
        .map(|(name, value)| format!("{name:14} {value}"))
        .collect();
    let header = ["month", "reserved", "settled", "released", "held"];
    let months = view.months.iter().map(|month| {
        let numbers = [month.reserved, month.settled, month.released, month.held];
        let mut row = vec![month.month.to_string()];
        row.extend(numbers.iter().map(ToString::to_string));
        row
    });
    format!("{}\n\n{}", facts.join("\n"), output::table(&header, months))
}

/// Tells what a command takes of the credits, or would take.
pub(super) fn say_charge(charge: &Charge, would: bool) {
    let Charge {
        month,
        limit,
        left,
        takes,
    } = charge;
    match (would, charge.missing()) {
        (false, _) => say!(
            "  credits:  reserved {takes}, and {} of {limit} are left for {month}",
            left.saturating_sub(*takes)
        ),
        (true, 0) => say!("  credits:  it takes {takes} of the {left} that are left for {month}"),
        (true, missing) => {
            say!(
                "  credits:  it takes {takes}, and {left} are left for {month}: {missing} missing"
            );
        }
    }
}

/// Says how a batch goes on later whose documents were handed over, where it is credits that are missing.
pub(super) fn say_how_to_go_on(error: &UploadError, how: &str) {
    if let UploadError::Client(ClientError::Refused(Refusal::Credits(_))) = error {
        say!(
            "What was handed over of the batch is kept. When there are more credits, go on:  {how}"
        );
    }
}

/// Compares a fresh fold of the namespace's ledger with the projector's, and with what its batches hold.
pub(super) async fn verify(app: &App, folded: &Folded) -> anyhow::Result<()> {
    let namespace = app.client.namespace();
    let mut ledger = folded.ledgers.of(namespace).cloned().unwrap_or_default();
    for (month, account) in &ledger.months {
        let held = folded.batches.values().filter_map(|batch| {
            let held = batch.credits.held.get(month)?;
            Some(held.len() * batch.pipeline.credits_per_document)
        });
        let (held, says) = (held.sum::<u64>(), account.held());
        if held != says {
            let problem = format!("the ledger holds {says} credits of {month}, and batches {held}");
            return Err(failed(Exit::Conflict, problem));
        }
    }
    // While batches run, both move.
    for _ in 0..20 {
        let said = app.client.credits(&OfNamespace::default()).await?;
        if said.last_seq == ledger.last_seq {
            let right = CreditsView::of(&ledger, said.month, said.as_of);
            if said == right {
                return Ok(());
            }
            let problem = format!("the projector says {said:?}, and the log {right:?}");
            return Err(failed(Exit::Conflict, problem));
        }
        let filter = subject::events_about_credits(SHARD, namespace);
        let until = Until::Seq(said.last_seq);
        let folded = fold(app.client.broker(), Some(filter), until).await?;
        ledger = folded.ledgers.of(namespace).cloned().unwrap_or_default();
    }
    anyhow::bail!("the ledger of {namespace} changes too fast to be compared")
}
