//! `cancel`.

use redrive_domain::{
    command::{Accepted, Cancel, Command},
    decide::ANY_BUCKET,
    ids::Bucket,
    query::BatchRef,
};

use super::control::names;
use crate::{
    app::App,
    args::{CancelArgs, Format},
    exit::Exit,
    identity,
    output::{self, counted},
    say,
};

pub(crate) async fn cancel(app: &App, args: CancelArgs) -> anyhow::Result<Exit> {
    let batch = match args.batch.batch {
        BatchRef::Id(batch) => batch,
        BatchRef::Last => app.view(BatchRef::Last, None).await?.summary.batch,
    };
    let in_part = args.of.tier.is_some() || args.of.job.is_some();
    let command = Command::Cancel(Cancel {
        tier: args.of.tier,
        job: args.of.job,
        reason: args.reason,
    });
    let bucket = Bucket::new(ANY_BUCKET)?;
    let accepted = app
        .client
        .command(&bucket, batch, identity::command(), &command)
        .await?;
    if app.output != Format::Table {
        output::one(app.output, &accepted, |_| String::new())?;
    } else if in_part {
        say!("{}", part(&accepted));
        say!("  see:  {}", app.hint(&format!("status {batch}")));
    } else {
        let open = counted(accepted.cancelled_documents.unwrap_or(0), "document");
        say!("{batch} is cancelled; {open} had not come through");
    }
    Ok(Exit::Done)
}

fn part(accepted: &Accepted) -> String {
    let Some(jobs) = names(accepted) else {
        return "That is cancelled already.".to_owned();
    };
    match accepted.cancelled_documents {
        Some(0) => {
            let units = counted(accepted.cancelled_units.unwrap_or(0), "document");
            format!("Cancelled: {jobs}. {units} had not come through; documents go on without it.")
        }
        stopped => {
            let stopped = counted(stopped.unwrap_or(0), "document");
            format!("Cancelled: {jobs}. {stopped} stop there; those that were through go on.")
        }
    }
}
