//! Metrics and health of a role over HTTP: `/metrics`, `/livez`, `/readyz`. It changes nothing and needs no secret, so
//! it is to be reachable only from where such things are watched.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::vigil::{Health, Vigil};

/// Connections at once; more of them wait.
const CONNECTIONS: usize = 64;
/// How long one may take, from its first byte to the last of the answer.
const CONNECTION: Duration = Duration::from_secs(20);
/// How long to wait for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// How often what was recorded is gathered up.
const UPKEEP: Duration = Duration::from_secs(5);
/// Upper bounds of the buckets of times, in seconds.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];
const TEXT: &str = "text/plain; charset=utf-8";
/// The text format of Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answering of HTTP, for as long as this lives.
pub(crate) struct Served {
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// Begins to record metrics, and answers at the address, if there is one. Begin with it: what is recorded before is lost.
///
/// # Errors
/// Where the address cannot be used.
pub(crate) async fn serve(
    address: Option<SocketAddr>,
    vigil: &Vigil,
) -> anyhow::Result<Option<Served>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot answer HTTP at {address}: give another address with --http")
    })?;
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .context("the buckets of times")?
        .install_recorder()
        .context("metrics cannot be recorded")?;
    for all in [
        redrive_broker::metrics::METRICS,
        redrive_coordinator::metrics::METRICS,
        redrive_projector::metrics::METRICS,
        redrive_worker::metrics::METRICS,
        redrive_gateway::metrics::METRICS,
    ] {
        redrive_broker::metrics::describe(all);
    }
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(%address, "answering HTTP: /metrics, /livez, /readyz");
    let upkeep = metrics.clone();
    let answers = Arc::new(Answers {
        vigil: vigil.clone(),
        metrics,
    });
    let gathering = tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    let accepting = tokio::spawn(accept(listener, answers));
    Ok(Some(Served {
        _tasks: [gathering, accepting].map(AbortOnDropHandle::new),
    }))
}

struct Answers {
    vigil: Vigil,
    metrics: PrometheusHandle,
}

async fn accept(listener: TcpListener, answers: Arc<Answers>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answers.answer(request.method(), request.uri().path());
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = timeout(CONNECTION, connection).await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
}

impl Answers {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned(), TEXT);
            let allowed = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(header::ALLOW, allowed);
            return refused;
        }
        match path {
            "/metrics" => text(StatusCode::OK, self.metrics.render(), EXPOSITION),
            "/livez" => self.health(true, |health| health.live),
            "/readyz" => self.health(false, |health| health.ready),
            _ => {
                let known = "there are /metrics, /livez and /readyz\n".to_owned();
                text(StatusCode::NOT_FOUND, known, TEXT)
            }
        }
    }

    /// A line for each role; an error where one is not well. `starting`: whether it is well before there is any.
    fn health(&self, starting: bool, is_well: impl Fn(&Health) -> bool) -> Response<Full<Bytes>> {
        let roles = self.vigil.health();
        let well = match roles.is_empty() {
            true => starting,
            false => roles.iter().all(|(_, health)| is_well(health)),
        };
        let lines: String = roles
            .iter()
            .map(|(role, health)| {
                let mark = if is_well(health) { "ok" } else { "failed" };
                format!("{mark} {role}: {}\n", health.state)
            })
            .collect();
        let status = match well {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = match lines.is_empty() {
            true => "starting\n".to_owned(),
            false => lines,
        };
        text(status, body, TEXT)
    }
}

fn text(status: StatusCode, body: String, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
