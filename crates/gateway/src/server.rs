//! Connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum_server::Handle;
use redrive_broker::nats::NatsBroker;
use tokio_util::sync::CancellationToken;

use crate::{Auth, Config, Gateway, keys::Keyring, native::Streams, service};

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
        "{0} can be reached from elsewhere, and no key would be needed: use 127.0.0.1, or ask for keys"
    )]
    OpenToAll(SocketAddr),
    /// It ended by itself.
    #[error("answering HTTP ended: {0}")]
    Ended(#[source] io::Error),
}

/// A gateway that has its address, and does not answer yet.
pub struct Bound {
    listener: std::net::TcpListener,
    address: SocketAddr,
    gateway: Arc<Gateway>,
    stop: CancellationToken,
}

/// Takes the address.
///
/// # Errors
/// Where it cannot be used.
pub fn bind(
    broker: NatsBroker,
    config: Config,
    stop: CancellationToken,
) -> Result<Bound, ServeError> {
    let address = config.listen;
    if matches!(config.auth, Auth::Open { .. }) && !address.ip().is_loopback() {
        return Err(ServeError::OpenToAll(address));
    }
    let cannot = |error| ServeError::Bind { address, error };
    let listener = std::net::TcpListener::bind(address).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    let keys = Keyring::follow(&broker, &stop);
    let gateway = Arc::new(Gateway {
        broker,
        config,
        keys,
        streams: Streams::new(stop.clone()),
    });
    Ok(Bound {
        listener,
        address,
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

    /// Answers until it is told to stop.
    ///
    /// # Errors
    /// Where it ends by itself.
    pub async fn run(self) -> Result<(), ServeError> {
        let handle = Handle::new();
        let told = handle.clone();
        let stop = self.stop;
        tokio::spawn(async move {
            stop.cancelled().await;
            told.graceful_shutdown(Some(LAST_ANSWERS));
        });
        axum_server::from_tcp(self.listener)
            .map_err(ServeError::Ended)?
            .handle(handle)
            .serve(service(self.gateway).into_make_service_with_connect_info::<SocketAddr>())
            .await
            .map_err(ServeError::Ended)
    }
}
