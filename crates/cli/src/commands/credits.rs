//! `credits`: what the namespace may spend a month, and what it has spent.

use redrive_domain::{
    command::{Command, SetCredits},
    credits::{Charge, NO_BATCH},
    decide::ANY_BUCKET,
    ids::Bucket,
    query::{CreditsView, OfNamespace},
};

use crate::{app::App, args::CreditsArgs, exit::Exit, identity, output, say};

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
                "  credits:  it takes {takes}, and {left} are left for {month}: {missing} are missing"
            );
        }
    }
}
