//! The names of the gateway's metrics, in one place. Labels never hold ids, keys or paths that a caller made up.

use std::time::Duration;

use axum::{
    extract::{MatchedPath, Request},
    http::Method,
    middleware::Next,
    response::Response,
};
use redrive_broker::metrics::Described;
use tokio::time::Instant;

/// Requests, by route, method and status.
const REQUESTS: &str = "redrive_gateway_requests_total";
/// Time until the head of the answer, by route and method.
const SECONDS: &str = "redrive_gateway_request_seconds";
/// Connections that are open.
const CONNECTIONS: &str = "redrive_gateway_connections";
/// Requests that were turned away for who asked, by reason.
const TURNED_AWAY: &str = "redrive_gateway_turned_away_total";

/// All of this crate.
pub const METRICS: &[Described] = &[
    Described::counter(
        REQUESTS,
        &["route", "method", "status"],
        "Requests, by what they were answered with",
    ),
    Described::seconds(
        SECONDS,
        &["route", "method"],
        "Time until the head of the answer",
    ),
    Described::gauge(CONNECTIONS, &[], "Connections that are open"),
    Described::counter(
        TURNED_AWAY,
        &["reason"],
        "Requests that were turned away for who asked",
    ),
];

/// So many connections more, or fewer, are open.
pub(crate) fn connections(change: f64) {
    metrics::gauge!(CONNECTIONS).increment(change);
}

/// Somebody may not ask.
pub(crate) fn turned_away(reason: &'static str) {
    metrics::counter!(TURNED_AWAY, "reason" => reason).increment(1);
}

/// Counts a request and takes its time.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    let method = method(request.method());
    let response = next.run(request).await;
    note(route, method, response.status().as_u16(), begun.elapsed());
    response
}

/// The word for a method; whatever else callers make up is one.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn note(route: String, method: &'static str, status: u16, took: Duration) {
    tracing::debug!(route, method, status, ?took, "answered");
    metrics::histogram!(SECONDS, "route" => route.clone(), "method" => method).record(took);
    let status = status.to_string();
    metrics::counter!(REQUESTS, "route" => route, "method" => method, "status" => status)
        .increment(1);
}
