//! Keys to the HTTP interface.

use clap::{Args, Subcommand};
use redrive_domain::{
    ids::{KeyId, KeyName},
    keys::Scopes,
    time::Millis,
};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysAction {
    /// Make a key and print it; it is shown this once and kept nowhere
    #[command(
        after_help = "Example:\n  redrive keys create ci --scope read,operate --expires 90d > ci.key"
    )]
    Create(CreateKeyArgs),
    /// List the namespace's keys, without their secrets, which nobody has
    List(ListKeysArgs),
    /// End a key for good, on all gateways within seconds
    Revoke(RevokeKeyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateKeyArgs {
    /// What to call it, for instance who will use it
    pub(crate) name: KeyName,
    /// What it is good for: some of read, operate, admin, with commas between
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scope: Scopes,
    /// After how long it is good for nothing, for instance 90d or 12h [default: never]
    #[arg(long, value_name = "SPAN", value_parser = parse_expiry)]
    pub(crate) expires: Option<Millis>,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ListKeysArgs {
    /// With those that are revoked or expired, as far as they are remembered
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct RevokeKeyArgs {
    /// Which: its id, as `redrive keys list` prints it
    pub(crate) id: KeyId,
}

/// Unlike other spans these are of days and weeks.
fn parse_expiry(text: &str) -> Result<Millis, String> {
    let span = || {
        let span: jiff::Span = text.trim().parse().ok()?;
        let days = jiff::SpanRelativeTo::days_are_24_hours();
        let millis = span.to_duration(days).ok()?.as_millis();
        u64::try_from(millis).ok().filter(|millis| *millis > 0)
    };
    let millis =
        span().ok_or_else(|| "it takes a span of time such as 90d, 2w or 12h".to_owned())?;
    Ok(Millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_span_of_days() {
        let day = 86_400;
        for (text, seconds) in [("90d", 90 * day), ("2w", 14 * day), ("1d 12h", 36 * 3_600)] {
            assert_eq!(parse_expiry(text), Ok(Millis::seconds(seconds)), "{text}");
        }
        for bad in ["", "0s", "-1d", "soon", "90", "3 months"] {
            assert!(parse_expiry(bad).is_err(), "{bad}");
        }
    }
}
