//! Connecting, and what the connection tells while it lasts.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_nats::{Client, Event, ServerError};
use redrive_domain::subject::Shard;
use tokio::{sync::watch, time};

use super::{denial::Denials, error};
use crate::{BrokerError, Result, metrics};

/// How to reach the broker, and which shard of it.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// One URL or several with commas between: `nats://host:4222`, `tls://host`, `nats://user:password@host`,
    /// `nats://token@host`.
    pub url: String,
    /// A credentials file (a user's JWT and key).
    pub creds: Option<PathBuf>,
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
    /// Where replies go, for accounts that may not use `_INBOX.>`.
    pub inbox_prefix: Option<String>,
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
            creds: None,
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

/// What a URL says, with the secrets apart from it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The URLs without secrets, to connect to and to print.
    pub(super) plain: Vec<String>,
    login: Login,
}

#[derive(Clone, PartialEq, Eq)]
enum Login {
    None,
    Token(String),
    User(String, String),
}

impl Address {
    pub(super) fn parse(text: &str) -> Self {
        let mut plain = Vec::new();
        let mut login = Login::None;
        for url in text.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
            // A password may hold an '@' of its own, a host cannot; it ends where a path begins.
            let end = rest.rfind('@').map_or(0, |at| at + 1);
            let (secret, host) = rest.split_at(end);
            plain.push(format!("{scheme}://{host}"));
            let secret = secret.strip_suffix('@').filter(|text| !text.is_empty());
            if let (Some(secret), Login::None) = (secret, &login) {
                login = match secret.split_once(':') {
                    Some((user, password)) => Login::User(decode(user), decode(password)),
                    None => Login::Token(decode(secret)),
                };
            }
        }
        Self { plain, login }
    }

    pub(super) fn printable(&self) -> String {
        self.plain.join(",")
    }
}

/// The URL, or several with commas between, as it may be shown: the secrets in it are replaced by `***`.
#[must_use]
pub fn masked(urls: &str) -> String {
    let mask = |url: &str| {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://***@{host}"),
            None => url.to_owned(),
        }
    };
    let all: Vec<String> = urls.split(',').map(|url| mask(url.trim())).collect();
    all.join(",")
}

/// Resolves `%41` and the like; what is not such an escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
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
    if let Some(path) = &options.creds {
        client = client
            .credentials_file(path)
            .await
            .map_err(|error| BrokerError::Denied(format!("{}: {error}", path.display())))?;
    }
    client = match &address.login {
        Login::None => client,
        Login::Token(token) => client.token(token.clone()),
        Login::User(user, password) => client.user_and_password(user.clone(), password.clone()),
    };
    if let Some(prefix) = &options.inbox_prefix {
        client = client.custom_inbox_prefix(prefix);
        denials.replies_at(prefix);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_the_url() {
        let user = Address::parse("nats://ann:p%40ss@w:rd@host:4222, nats://other");
        assert_eq!(user.printable(), "nats://host:4222,nats://other");
        assert!(user.login == Login::User("ann".to_owned(), "p@ss@w:rd".to_owned()));
        let token = Address::parse("tls://s%e9cret%2@host");
        assert_eq!(token.printable(), "tls://host");
        assert!(token.login == Login::Token("s\u{fffd}cret%2".to_owned()));
        let none = Address::parse("host:4222");
        assert_eq!(none.printable(), "nats://host:4222");
        let shown = masked("nats://ann:p%40ss@w:rd@host:4222, tls://s3cret@other,third:1");
        assert_eq!(shown, "nats://***@host:4222,tls://***@other,third:1");
        assert!(none.login == Login::None);
    }
}
