//! Certificates.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::Tls;

/// How often to look whether the files have changed.
const LOOK: Duration = Duration::from_secs(30);

/// Why there is no HTTPS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {file}: {error}")]
    File {
        /// Which.
        file: String,
        /// Why.
        error: rustls::pki_types::pem::Error,
    },
    /// They do not belong together, or are of a kind that is not known.
    #[error("the certificate and the key cannot be used: {0}")]
    Unusable(#[source] rustls::Error),
}

/// The certificate that is in use, read again when its files change.
#[derive(Clone)]
pub(crate) struct Certified(Arc<Mutex<TlsAcceptor>>);

impl Certified {
    /// Reads the files, and again whenever they change.
    pub(crate) fn read(tls: &Tls, stop: &CancellationToken) -> Result<Self, TlsError> {
        let certified = Self(Arc::new(Mutex::new(acceptor(tls)?)));
        tokio::spawn(follow(certified.clone(), tls.clone(), stop.clone()));
        Ok(certified)
    }

    /// What new connections are met with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn follow(certified: Certified, tls: Tls, stop: CancellationToken) {
    let mut seen = changed(&tls);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = changed(&tls);
        if now == seen {
            continue;
        }
        match acceptor(&tls) {
            Ok(acceptor) => {
                tracing::info!("the certificate has changed");
                *certified.0.lock().unwrap_or_else(PoisonError::into_inner) = acceptor;
                seen = now;
            }
            // One of the two may have been written, and the other not yet.
            Err(error) => tracing::warn!(%error, "the changed certificate is not used"),
        }
    }
}

/// When the files last changed.
fn changed(tls: &Tls) -> [Option<SystemTime>; 2] {
    [&tls.cert, &tls.key].map(|file| std::fs::metadata(file).ok()?.modified().ok())
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, TlsError> {
    let failed = |file: &Path, error| TlsError::File {
        file: file.display().to_string(),
        error,
    };
    let of_cert = |error| failed(&tls.cert, error);
    let certs: Vec<_> = CertificateDer::pem_file_iter(&tls.cert)
        .map_err(of_cert)?
        .collect::<Result<_, _>>()
        .map_err(of_cert)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| failed(&tls.key, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
