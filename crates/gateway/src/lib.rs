//! Redrive over HTTP: its own interface under `/v1`, and those of four services that its users come from.
//!
//! A gateway keeps nothing. Commands go to the coordinator, reads to a projector, events come from the log; so any number
//! of gateways can run, and one that is lost is missed by nobody.
//!
//! Handlers know nothing of how errors look: they return a `Problem`, and the
//! `Surface` that the request came in on renders it.

mod asyncapi;
mod caller;
mod config;
mod dev;
mod dialects;
mod extract;
mod fill;
mod guard;
mod health;
mod ids;
mod keys;
mod limits;
mod lines;
pub mod metrics;
mod native;
mod openapi;
mod ops;
mod problem;
mod server;
mod surface;
mod tls;

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Method, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use redrive_broker::nats::NatsBroker;
use tokio_util::sync::CancellationToken;
use tower::util::option_layer;
use tower_http::{catch_panic::CatchPanicLayer, cors::CorsLayer, timeout::RequestBodyTimeoutLayer};
use utoipa_axum::router::OpenApiRouter;

use crate::{problem::Problem, surface::Surface};

pub use asyncapi::document as asyncapi;
pub use config::{Auth, Config, InvalidOrigin, Origin, RATE, Tls};
pub use health::Vitals;
pub use openapi::document;
pub use server::{Bound, ServeError, bind};
pub use tls::TlsError;

/// A body of which nothing comes for so long is given up.
const BODY_IDLE: Duration = Duration::from_secs(30);
/// How long a browser may remember what it was told of other origins.
const CORS_AGE: Duration = Duration::from_secs(600);

/// What all handlers share.
pub(crate) struct Gateway {
    pub(crate) broker: NatsBroker,
    pub(crate) config: Config,
    pub(crate) keys: keys::Keyring,
    pub(crate) streams: native::Streams,
    pub(crate) rates: limits::Rates,
    /// Answers that go on for ever end with it.
    pub(crate) stop: CancellationToken,
}

/// What handlers are given as state.
pub(crate) type Shared = Arc<Gateway>;

/// The routes of each surface, and what is said of them in the OpenAPI document.
pub(crate) fn routers() -> impl Iterator<Item = (Surface, OpenApiRouter<Shared>)> {
    [(Surface::Native, native::router())]
        .into_iter()
        .chain(dialects::routers())
}

/// The whole service.
pub(crate) fn service(gateway: Shared) -> Router {
    let router = routers().fold(Router::new(), |all, (_, own)| all.merge(Router::from(own)));
    let cors = cors(&gateway.config);
    let router = router
        .merge(openapi::serve())
        .merge(health::router())
        .fallback(surface::no_such_route)
        .method_not_allowed_fallback(surface::no_such_method);
    let guard = from_fn_with_state(gateway.clone(), guard::watch);
    finish(router.layer(guard))
        .layer(option_layer(cors))
        .layer(from_fn(metrics::observe))
        .with_state(gateway)
}

/// What holds for all routes: bounds of bodies, and that whatever goes wrong is said in the words of its surface.
fn finish<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .layer(RequestBodyTimeoutLayer::new(BODY_IDLE))
        .layer(CatchPanicLayer::custom(broken))
        .layer(from_fn(surface::speak))
}

/// A handler broke. The process lives on.
#[allow(clippy::needless_pass_by_value)] // the layer gives it away
fn broken(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no message".to_owned());
    Problem::internal(format!("a handler panicked: {text}")).into_response()
}

/// Nothing for pages of other origins, unless somebody asked for it.
fn cors(config: &Config) -> Option<CorsLayer> {
    let origins: Vec<_> = config.cors.iter().map(|origin| origin.0.clone()).collect();
    let cors = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::HeaderName::from_static("idempotency-key"),
            header::HeaderName::from_static("last-event-id"),
            header::HeaderName::from_static("x-namespace"),
            header::HeaderName::from_static("x-api-key"),
            header::HeaderName::from_static("anchor-api-key"),
        ])
        .expose_headers([
            header::RETRY_AFTER,
            header::HeaderName::from_static("redrive-as-of"),
            header::HeaderName::from_static("idempotent-replayed"),
        ])
        .max_age(CORS_AGE);
    (!config.cors.is_empty()).then_some(cors)
}

#[cfg(test)]
mod tests;
