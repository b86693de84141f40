//! Redrive over HTTP: its own interface under `/v1`, and those of four services that its users come from.
//!
//! A gateway keeps nothing. Commands go to the coordinator, reads to a projector, events come from the log; so any number
//! of gateways can run, and one that is lost is missed by nobody.
//!
//! Handlers know nothing of how errors look: they return a [`Problem`](problem::Problem), and the
//! [`Surface`](surface::Surface) that the request came in on renders it.

mod caller;
mod dialects;
mod extract;
mod ids;
mod keys;
mod native;
mod openapi;
mod ops;
mod problem;
mod server;
mod surface;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::Router;
use redrive_broker::nats::NatsBroker;
use redrive_domain::ids::Namespace;
use serde_json::Value;

pub use openapi::document;
pub use server::{Bound, ServeError, bind};

/// How a gateway is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it answers. Port 0 is any that is free.
    pub listen: SocketAddr,
    /// Who may do what.
    pub auth: Auth,
    /// Pipelines that a request may name instead of giving one. `spidra`, `anchor` and `feather` are what those dialects
    /// run; what has a bucket's name is what batches of that bucket run unless they say otherwise.
    pub pipelines: BTreeMap<String, Value>,
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Whoever has a key may do what the key allows.
    Keys,
    /// Whoever reaches this address may do everything, in the namespace that they name, or in this one. Only for a machine
    /// of one's own: [`bind`] refuses any address but the loopback.
    Open {
        /// Where no namespace is named.
        namespace: Namespace,
    },
}

impl Config {
    /// For a machine of one's own: no keys, on the loopback.
    #[must_use]
    pub fn open(listen: SocketAddr, namespace: Namespace) -> Self {
        Self {
            listen,
            auth: Auth::Open { namespace },
            pipelines: BTreeMap::new(),
        }
    }
}

/// What all handlers share.
pub(crate) struct Gateway {
    pub(crate) broker: NatsBroker,
    pub(crate) config: Config,
    pub(crate) keys: keys::Keyring,
    pub(crate) streams: native::Streams,
}

/// What handlers are given as state.
pub(crate) type Shared = Arc<Gateway>;

/// All routes, and what is said of them in the OpenAPI document.
pub(crate) fn routes() -> utoipa_axum::router::OpenApiRouter<Shared> {
    openapi::router()
        .merge(native::router())
        .merge(dialects::router())
}

/// The whole service.
pub(crate) fn service(gateway: Shared) -> Router {
    let (router, document) = routes().split_for_parts();
    router
        .merge(openapi::serve(document))
        .fallback(surface::no_such_route)
        .method_not_allowed_fallback(surface::no_such_method)
        .layer(axum::middleware::from_fn(surface::speak))
        .with_state(gateway)
}
