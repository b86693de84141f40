//! What commands that use a system have at hand.

use std::path::PathBuf;

use redrive_broker::nats::{self, ConnectOptions, NatsBroker};
use redrive_client::Client;
use redrive_domain::query::{At, BatchRef, BatchView, OfBatch};

use crate::{
    args::{Format, Global},
    embedded::{self, Share},
    identity,
    login::{Login, Role},
    settings::Settings,
    system::{Folder, Life},
};

pub(crate) struct App {
    pub(crate) client: Client<NatsBroker>,
    pub(crate) output: Format,
    /// How to name the system on the command line, for hints.
    pub(crate) flags: String,
    /// The broker, as it may be shown.
    pub(crate) url: String,
    share: Option<Share>,
}

/// Connects to the broker that is configured.
pub(crate) async fn connect(
    settings: &Settings,
    url: &str,
    role: Role,
) -> anyhow::Result<NatsBroker> {
    let mut options = ConnectOptions::new(url);
    options.login = settings.login.as_ref().map(Login::read).transpose()?;
    options.inbox_prefix = Some(match &settings.inbox_prefix {
        Some(prefix) => prefix.clone(),
        None => role.inbox()?,
    });
    options.name = identity::unique("redrive");
    Ok(NatsBroker::connect(options).await?)
}

impl App {
    /// Connects to the broker that is configured, or to the system of the data folder.
    pub(crate) async fn open(settings: &Settings, given: &Global) -> anyhow::Result<Self> {
        let (broker, share) = if let Some(url) = &settings.nats_url {
            (connect(settings, url, Role::Operator).await?, None)
        } else {
            let share = embedded::join(&Folder::new(&settings.data)?).await?;
            (share.broker.clone(), Some(share))
        };
        let url = match (&settings.nats_url, &share) {
            (Some(url), _) => nats::masked(url),
            (None, Some(share)) => share.running.url.clone(),
            (None, None) => String::new(),
        };
        Ok(Self {
            client: Client::new(broker, settings.namespace.clone(), identity::actor()),
            output: settings.output,
            flags: flags(given),
            url,
            share,
        })
    }

    /// With a system of one's own.
    pub(crate) fn of(broker: NatsBroker, settings: &Settings, flags: String) -> Self {
        Self {
            client: Client::new(broker, settings.namespace.clone(), identity::actor()),
            output: settings.output,
            flags,
            url: String::new(),
            share: None,
        }
    }

    /// How long the system goes on, where it is that of a data folder.
    pub(crate) fn life(&self) -> Option<Life> {
        self.share.as_ref().map(|share| share.running.life)
    }

    /// How a batch is doing.
    pub(crate) async fn view(
        &self,
        batch: BatchRef,
        min_seq: Option<u64>,
    ) -> anyhow::Result<BatchView> {
        self.view_at(batch, min_seq, None).await
    }

    /// How a batch was doing at a moment.
    pub(crate) async fn view_at(
        &self,
        batch: BatchRef,
        min_seq: Option<u64>,
        at: Option<At>,
    ) -> anyhow::Result<BatchView> {
        let query = OfBatch { batch, min_seq, at };
        Ok(self.client.status(&query).await?)
    }

    /// A command to try next, as it can be pasted.
    pub(crate) fn hint(&self, command: &str) -> String {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let rest = if rest.is_empty() {
            String::new()
        } else {
            format!(" {rest}")
        };
        format!("redrive {verb}{rest}{}", self.flags)
    }
}

/// The flags that say which system is meant, as they were given: the environment and the files still say theirs.
fn flags(given: &Global) -> String {
    let path = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| path.to_string_lossy().into_owned())
    };
    // A password is not repeated on a screen.
    let url = given.nats_url.clone().filter(|url| !url.contains('@'));
    [
        ("nats-url", url),
        ("creds", path(&given.creds)),
        (
            "namespace",
            given.namespace.as_ref().map(ToString::to_string),
        ),
        ("data", path(&given.data)),
        ("config", path(&given.config)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(format!(" --{name} {}", quoted(&value?))))
    .collect()
}

/// A word as a shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    let plain = !word.is_empty()
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-+=:@".contains(c));
    if plain {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
