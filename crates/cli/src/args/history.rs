//! Commands that read the log.

use clap::Args;
use redrive_broker::Until;
use redrive_domain::query::BatchRef;

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// The batch: its id, or the word last [default: all of the namespace]
    pub(crate) batch: Option<BatchRef>,
    /// Go on with what happens
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only of this type or its subtypes, for instance documents.failed or tier
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The batch: its id, or the word last [default: all of the namespace]
    pub(crate) batch: Option<BatchRef>,
    /// Stop after this log sequence or point in time
    #[arg(long, value_name = "SEQ|TIME", value_parser = parse_until)]
    pub(crate) until: Option<Until>,
    /// Compare the state with the projector's, field by field
    #[arg(long, conflicts_with = "until")]
    pub(crate) verify: bool,
}

fn parse_until(text: &str) -> Result<Until, &'static str> {
    let seq = text.parse().map(Until::Seq);
    seq.or_else(|_| text.parse().map(Until::Time))
        .map_err(|_| "give a log sequence such as 120, or a time such as 2026-01-31T12:00:00Z")
}
