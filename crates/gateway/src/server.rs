//! Connections: how many, how long, and how they end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::{ConnectInfo, Request},
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use redrive_broker::nats::NatsBroker;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    Gateway,
    config::{Auth, Config},
    health,
    keys::Keyring,
    limits::Rates,
    metrics,
    native::Streams,
    service,
    tls::{Certified, TlsError},
};

/// Connections at once; more of them wait at the door.
const CONNECTIONS: usize = 4_096;
/// How long a connection may take to say what it wants, and to say who it is.
const HEAD: Duration = Duration::from_secs(15);
/// How long the other side of a connection may take nothing of what is sent to it.
const STALLED: Duration = Duration::from_secs(60);
/// Headers of one request.
const HEADERS: usize = 100;
/// Bytes of all headers of one request.
const HEADER_BYTES: usize = 32 * 1024;
/// Requests at once on one connection of HTTP/2.
const STREAMS: u32 = 100;
/// How long requests that are being answered may take when the gateway is told to end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Why a gateway cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be used.
    #[error("cannot answer HTTP at {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Without keys only the loopback is served.
    #[error(
        "{0} can be reached from elsewhere, and without keys everybody could do everything: use 127.0.0.1, or ask for keys (auth = \"keys\")"
    )]
    OpenToAll(SocketAddr),
    /// There is no HTTPS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A gateway that has its address, and does not answer yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    certified: Option<Certified>,
    gateway: Arc<Gateway>,
    stop: CancellationToken,
}

/// Takes the address, and begins to listen to what the gateway needs.
///
/// # Errors
/// Where the address or the certificate cannot be used.
pub async fn bind(
    broker: NatsBroker,
    config: Config,
    stop: CancellationToken,
) -> Result<Bound, ServeError> {
    let address = config.listen;
    if matches!(config.auth, Auth::Open { .. }) && !address.ip().is_loopback() {
        return Err(ServeError::OpenToAll(address));
    }
    let tls = config.tls.as_ref();
    let certified = tls.map(|tls| Certified::read(tls, &stop)).transpose()?;
    let cannot = |error| ServeError::Bind { address, error };
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    let keys = Keyring::follow(&broker, &config, &stop);
    tokio::spawn(health::watch(
        broker.clone(),
        config.clone(),
        keys.clone(),
        stop.clone(),
    ));
    let gateway = Arc::new(Gateway {
        broker,
        rates: Rates::new(config.rate),
        config,
        keys,
        streams: Streams::default(),
        stop: stop.clone(),
    });
    Ok(Bound {
        listener,
        address,
        certified,
        gateway,
        stop,
    })
}

impl Bound {
    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers, as a client writes it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.certified.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// Answers until it is told to stop; then what is being answered has some seconds to end.
    pub async fn run(self) {
        let service = service(self.gateway);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                accepted = accept(&self.listener, &places) => accepted,
            };
            let Some((stream, peer, place)) = accepted else {
                continue;
            };
            let service = service.clone().layer(Extension(ConnectInfo(peer)));
            let stop = self.stop.clone();
            let acceptor = self.certified.as_ref().map(Certified::acceptor);
            let watcher = graceful.watcher();
            tokio::spawn(async move {
                metrics::connections(1.0);
                match acceptor {
                    None => answer(stream, service, watcher).await,
                    Some(acceptor) => tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        shaken = timeout(HEAD, acceptor.accept(stream)) => match shaken {
                            Ok(Ok(stream)) => answer(stream, service, watcher).await,
                            Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                            Err(_) => tracing::debug!("a handshake took too long"),
                        },
                    },
                }
                metrics::connections(-1.0);
                drop(place);
            });
        }
        drop(self.listener);
        if timeout(LAST_ANSWERS, graceful.shutdown()).await.is_err() {
            tracing::info!("requests that were being answered are cut off");
        }
    }
}

/// The next connection, with its place among them.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // An answer is small, and somebody waits for it.
            let _ = stream.set_nodelay(true);
            let_go_of_the_stalled(&stream);
            Some((stream, peer, place))
        }
        Err(error) => {
            tracing::debug!(%error, "a connection was not accepted");
            // There may be no file descriptor left until another connection ends.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// Whoever takes nothing of an answer for so long is let go, whatever is being sent. Elsewhere than on Linux nothing says so.
fn let_go_of_the_stalled(_stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        let limit = u32::try_from(STALLED.as_millis()).unwrap_or(u32::MAX);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(_stream, limit);
    }
}

async fn answer<S>(stream: S, service: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEADERS)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES as u32)
        .keep_alive_interval(HEAD);
    let asked = CancellationToken::new();
    let first = asked.clone();
    let service = service.map_request(move |request: Request<Incoming>| {
        first.cancel();
        request.map(Body::new)
    });
    let service = TowerToHyperService::new(service);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        ended = watcher.watch(connection.into_owned()) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        }
        // Which version of HTTP it is to be is waited for without a bound, and so is a first request of HTTP/2.
        () = silent(&asked) => tracing::debug!("a connection asked for nothing"),
    }
}

/// Comes when nothing has been asked for a while since the connection was there.
async fn silent(asked: &CancellationToken) {
    if timeout(HEAD, asked.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}
