//! The roles, and the demo.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use redrive_domain::{
    ids::{HandlerName, ResourceClass},
    time::Millis,
};
use redrive_gateway::Origin;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The folder whose texts are indexed [default: Redrive's own texts]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// What to ask the index in the end
    #[arg(long, default_value = "retry failed documents")]
    pub(crate) ask: String,
}

/// Where a role is watched.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct HttpArg {
    /// Answer /metrics, /livez and /readyz over HTTP at this address, for instance 127.0.0.1:9464
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// The broker's port on 127.0.0.1; 0 for any that is free
    #[arg(long, default_value_t = 4222)]
    pub(crate) port: u16,
    /// Documents to work on at once [default: the number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroU32>,
    /// Where the gateway answers, on this machine only: it asks for no keys [default: 127.0.0.1:7070, or any port that is free]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) http: HttpArg,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// Where to answer [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Who may ask: those who have a key, or everybody on this machine [default: keys]
    #[arg(long, value_enum, value_name = "WHO")]
    pub(crate) auth: Option<AuthKind>,
    /// Speak HTTPS with this certificate (PEM, with those that it needs)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// An origin (scheme, host, and maybe port) whose pages may ask from a browser; may be repeated [default: none]
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) cors: Vec<Origin>,
    /// Requests a second that one key may make, with twice as many at once [default: 500]
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<std::num::NonZeroU32>,
    /// A pipeline that requests may name, or that a bucket or a dialect has; may be repeated
    #[arg(long, value_name = "NAME=FILE")]
    pub(crate) pipeline: Vec<String>,
    #[command(flatten)]
    pub(crate) http: HttpArg,
}

/// Who may ask a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuthKind {
    /// Those who have a key (redrive keys).
    #[default]
    Keys,
    /// Everybody on this machine.
    None,
}

#[derive(Debug, Args)]
pub(crate) struct CoordinatorArgs {
    /// A name that no other coordinator has [default: host and process]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// How long a worker may be silent before it counts as lost, at least 2s: it says each second that it is there
    #[arg(long, default_value = "4s", value_name = "SPAN")]
    pub(crate) worker_timeout: Millis,
    /// How often to put right what is surely stuck or executed twice; 0s for never [default: 30s]
    #[arg(long, value_name = "SPAN")]
    pub(crate) heal_every: Option<Millis>,
    #[command(flatten)]
    pub(crate) http: HttpArg,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// A name that no other worker has [default: host and process]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Handlers to serve. exec and stdio run whatever command a pipeline names: serve them only where all who may submit are trusted
    #[arg(long = "handler", value_name = "NAME", default_values = ["exec", "fetch", "http", "stdio"], value_delimiter = ',')]
    pub(crate) handlers: Vec<HandlerName>,
    /// Resource classes to serve
    #[arg(long = "class", value_name = "NAME", default_values = ["cpu"], value_delimiter = ',')]
    pub(crate) classes: Vec<ResourceClass>,
    /// Documents to work on at once [default: the number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroU32>,
    /// How long what runs may go on after SIGTERM
    #[arg(long, default_value = "30s", value_name = "SPAN")]
    pub(crate) drain: Millis,
    #[command(flatten)]
    pub(crate) http: HttpArg,
}

#[derive(Debug, Args)]
pub(crate) struct ProjectorArgs {
    /// Where to keep the read model; a cache that may be deleted at any time [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) http: HttpArg,
}
