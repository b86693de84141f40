//! How a gateway is set up.

use std::{
    collections::BTreeMap, net::SocketAddr, num::NonZeroU32, path::PathBuf, str::FromStr,
    time::Duration,
};

use axum::http::HeaderValue;
use redrive_domain::{ids::Namespace, subject::Shard};
use serde_json::Value;
use tokio::sync::watch;

use crate::health::Vitals;

/// How a gateway is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The shard whose log it reads.
    pub shard: Shard,
    /// Where it answers. Port 0 is any that is free.
    pub listen: SocketAddr,
    /// Who may do what.
    pub auth: Auth,
    /// With what it speaks HTTPS; without, it speaks HTTP.
    pub tls: Option<Tls>,
    /// Origins (RFC 6454) whose pages may ask from a browser; none unless said.
    pub cors: Vec<Origin>,
    /// Requests a second that one key may make, with twice as many at once; without keys, one namespace.
    pub rate: NonZeroU32,
    /// How long a request waits for a coordinator or a projector where none answers, before it is told to come again.
    pub patience: Duration,
    /// Pipelines that a request may name instead of giving one. `spidra`, `anchor` and `feather` are what those dialects
    /// run; what has a bucket's name is what batches of that bucket run unless they say otherwise.
    pub pipelines: BTreeMap<String, Value>,
    /// Where it says how it is doing, every second.
    pub vitals: watch::Sender<Vitals>,
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Whoever has a key may do what the key allows.
    Keys,
    /// Whoever reaches this address may do everything, in the namespace that they name, or in this one. Only for a machine
    /// of one's own: [`crate::bind`] refuses any address but the loopback.
    Open {
        /// Where no namespace is named.
        namespace: Namespace,
    },
}

/// With what it speaks HTTPS. Files that change are read again within a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificates, the gateway's own first, as PEM.
    pub cert: PathBuf,
    /// The private key, as PEM.
    pub key: PathBuf,
}

/// Requests a second that one key may make, unless said otherwise.
pub const RATE: NonZeroU32 = NonZeroU32::new(500).expect("500 is not 0");

impl Config {
    /// At this address, with the usual limits and no pipelines.
    #[must_use]
    pub fn new(listen: SocketAddr, auth: Auth) -> Self {
        Self {
            shard: 0,
            listen,
            auth,
            tls: None,
            cors: Vec::new(),
            rate: RATE,
            patience: redrive_client::PATIENCE,
            pipelines: BTreeMap::new(),
            vitals: watch::Sender::default(),
        }
    }

    /// For a machine of one's own: no keys, on the loopback.
    #[must_use]
    pub fn open(listen: SocketAddr, namespace: Namespace) -> Self {
        Self::new(listen, Auth::Open { namespace })
    }
}

/// An origin (RFC 6454), as a browser sends it: a scheme, a host, and maybe a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(pub(crate) HeaderValue);

/// A text that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no origin: it takes a scheme, a host and maybe a port, for instance https://console.example.com"
)]
pub struct InvalidOrigin(String);

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let rest = ["http://", "https://"]
            .into_iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        rest.filter(|rest| !rest.is_empty() && !rest.contains(['/', '*', ' ']))
            .and_then(|_| text.parse().ok().map(Self))
            .ok_or_else(|| InvalidOrigin(text.chars().take(80).collect()))
    }
}
