//! Connecting, and what the connection tells while it lasts.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, Event, ServerError};
use redrive_domain::subject::Shard;
use tokio::{sync::watch, time};

use super::{
    denial::Denials,
    error,
    login::{Address, InUrl, InboxPrefix, Login},
};
use crate::{BrokerError, Result, metrics};

/// How to reach the broker, and which shard of it.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// One URL or several with commas between: `nats://host:4222`, `tls://host`, `nats://user:password@host`,
    /// `nats://token@host`.
    pub url: String,
    /// How to log in, where the URL does not say it.
    pub login: Option<Login>,
    /// What the connection is called at the broker.
    pub name: String,
    /// The shard.
    pub shard: Shard,
    /// How many copies new streams have.
    pub replicas: usize,
    /// How long a lease lasts without renewal. The broker takes no less than 100 ms.
    pub lease_ttl: Duration,
    /// The most bytes that a new stream of the log may hold; `None` for no limit. A full log refuses appends.
    pub max_log_bytes: Option<u64>,
    /// Where replies go, for users who may not subscribe to all of `_INBOX.>`.
    pub inbox_prefix: Option<InboxPrefix>,
    /// How long the first connection may take.
    pub connect_timeout: Duration,
    /// How long to wait for the broker's answer to one operation.
    pub answer_timeout: Duration,
}

impl ConnectOptions {
    /// Options with defaults for all but the URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            login: None,
            name: "redrive".to_owned(),
            shard: 0,
            replicas: 1,
            lease_ttl: Duration::from_secs(3),
            max_log_bytes: None,
            inbox_prefix: None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(5),
        }
    }
}

/// A live connection and what watches it.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) denials: Denials,
    /// Counts the times that the connection came up.
    pub(super) epoch: watch::Receiver<u64>,
    pub(super) url: String,
}

pub(super) async fn connect(options: &ConnectOptions) -> Result<Connection> {
    let address = Address::parse(&options.url);
    let url = address.printable();
    let denials = Denials::default();
    let (epoch_sender, epoch) = watch::channel(0);
    let epoch_sender = Arc::new(epoch_sender);
    let end = time::Instant::now() + options.connect_timeout;
    loop {
        let client_options = client_options(options, &address, &denials, &epoch_sender).await?;
        let attempt = client_options.connect(address.plain.clone());
        let (error, again) = match time::timeout_at(end, attempt).await {
            Ok(Ok(client)) => {
                return Ok(Connection {
                    client,
                    denials,
                    epoch,
                    url,
                });
            }
            Ok(Err(error)) => error::connect(&url, &error),
            Err(_) => (BrokerError::Unreachable(url.clone()), false),
        };
        if !again || time::Instant::now() + Duration::from_millis(200) >= end {
            return Err(error);
        }
        time::sleep(Duration::from_millis(200)).await;
    }
}

async fn client_options(
    options: &ConnectOptions,
    address: &Address,
    denials: &Denials,
    epoch: &Arc<watch::Sender<u64>>,
) -> Result<async_nats::ConnectOptions> {
    let mut client = async_nats::ConnectOptions::new();
    client = match (&address.login, &options.login) {
        (InUrl::Token(token), _) => client.token(token.clone()),
        (InUrl::User(user, password), _) => {
            client.user_and_password(user.clone(), password.clone())
        }
        (InUrl::None, Some(Login::Creds(path))) => client
            .credentials_file(path)
            .await
            .map_err(|error| BrokerError::Denied(format!("{}: {error}", path.display())))?,
        (InUrl::None, Some(Login::User { name, password })) => {
            client.user_and_password(name.clone(), password.reveal())
        }
        (InUrl::None, None) => client,
    };
    if let Some(prefix) = &options.inbox_prefix {
        client = client.custom_inbox_prefix(prefix);
        denials.replies_at(prefix.as_str());
    }
    let (denials, epoch) = (denials.clone(), epoch.clone());
    Ok(client
        .name(&options.name)
        .connection_timeout(options.connect_timeout)
        .request_timeout(Some(options.answer_timeout))
        .ping_interval(Duration::from_secs(10))
        .reconnect_delay_callback(|attempts| {
            let doubled = 20_u64 << attempts.min(6);
            Duration::from_millis(doubled.min(1000))
        })
        .event_callback(move |event| {
            observe(&event, &denials, &epoch);
            async {}
        }))
}

fn observe(event: &Event, denials: &Denials, epoch: &watch::Sender<u64>) {
    let kind = match event {
        Event::Connected => {
            denials.reconnected();
            epoch.send_modify(|count| *count += 1);
            tracing::info!("connected to the broker");
            "connected"
        }
        Event::Disconnected => {
            tracing::warn!("the connection to the broker is lost");
            "disconnected"
        }
        Event::LameDuckMode => {
            tracing::info!("the broker is about to shut down");
            "lame_duck"
        }
        Event::Draining | Event::Closed => {
            tracing::debug!(%event, "the connection to the broker ends");
            "closed"
        }
        Event::SlowConsumer(_) => {
            tracing::warn!(%event, "messages were dropped");
            "slow_consumer"
        }
        Event::ServerError(ServerError::Other(text)) if denials.note(text) => {
            tracing::warn!(error = %text, "the broker does not allow it");
            "denied"
        }
        Event::ServerError(error) => {
            tracing::warn!(%error, "the broker reports an error");
            "server_error"
        }
        Event::ClientError(error) => {
            tracing::debug!(%error, "the client reports an error");
            "client_error"
        }
    };
    metrics::connection(kind);
}
