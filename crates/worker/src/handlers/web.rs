//! HTTP, as `fetch` and `http` have it: a client, and what an answer means, or that none came.

use std::{
    error::Error,
    iter,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use redrive_domain::{
    failure::{Failure, FailureKind},
    time::Millis,
};
use reqwest::{
    Client, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
    redirect::Policy,
};

/// The longest wait that another side can ask for.
const RETRY_AFTER_MAX: Millis = Millis::seconds(3_600);

/// A client with its connections, made when first needed.
#[derive(Debug, Default)]
pub(super) struct Web(OnceLock<Result<Client, String>>);

impl Web {
    /// The client, which follows no redirects.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn client(&self) -> Result<&Client, Failure> {
        let client = self
            .0
            .get_or_init(|| build().map_err(|error| chain(&error)));
        client.as_ref().map_err(|error| {
            let message = format!("there is no HTTP client: {error}");
            Failure::new(FailureKind::MISCONFIGURED, message)
        })
    }
}

fn build() -> reqwest::Result<Client> {
    // Somebody else may have chosen a provider already; that one serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        Client::builder()
            .redirect(Policy::none())
            .pool_idle_timeout(Duration::from_secs(30))
    };
    builder().build().or_else(|error| {
        tracing::warn!(error = %chain(&error), "no certificate store: https will be refused");
        builder().tls_certs_only([]).build()
    })
}

/// Says that an answer did not come in time.
pub(super) fn late() -> Failure {
    Failure::new(FailureKind::TIMEOUT, "was not there in time")
}

/// What a status means that is no success.
pub(super) fn refused(status: StatusCode, headers: &HeaderMap) -> Failure {
    let (kind, passes) = match status.as_u16() {
        408 => (FailureKind::TIMEOUT, true),
        429 => (FailureKind::RATE_LIMITED, true),
        425 | 500..=599 => (FailureKind::UNAVAILABLE, true),
        404 | 410 => (FailureKind::NOT_FOUND, false),
        406 | 415 => (FailureKind::UNSUPPORTED_FORMAT, false),
        _ => (FailureKind::REJECTED, false),
    };
    let failure = Failure::new(kind, format!("the server answered {status}"));
    let failure = failure.with_code(status.as_u16());
    match wait(headers).filter(|_| passes) {
        Some(wait) => failure.with_retry_after(wait),
        None => failure,
    }
}

/// How long the other side asks to wait.
pub(super) fn wait(headers: &HeaderMap) -> Option<Millis> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    retry_after(value, SystemTime::now())
}

/// Seconds or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str, now: SystemTime) -> Option<Millis> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().map_or(RETRY_AFTER_MAX, Millis::seconds)
    } else {
        let then = httpdate::parse_http_date(value).ok()?;
        then.duration_since(now).unwrap_or_default().into()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// What it means that no answer came, or only a part of one.
#[allow(clippy::needless_pass_by_value)]
pub(super) fn failed(error: reqwest::Error) -> Failure {
    if error.is_timeout() {
        return late();
    }
    if error.is_builder() {
        let message = format!("cannot be asked for: {}", chain(&error.without_url()));
        return Failure::new(FailureKind::INVALID_DATA, message);
    }
    let error = error.without_url();
    Failure::new(FailureKind::NETWORK, chain(&error))
}

/// An error with all its causes: the last one is the one that says something.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |error: &&dyn Error| (*error).source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_date_and_never_long() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let read = |value| retry_after(value, now);
        assert_eq!(read("120"), Some(Millis::seconds(120)));
        assert_eq!(
            read("Sun, 06 Nov 1994 08:50:37 GMT"),
            Some(Millis::seconds(60))
        );
        assert_eq!(
            read("Sunday, 06-Nov-94 08:50:37 GMT"),
            Some(Millis::seconds(60))
        );
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Millis(0)));
        assert_eq!(read("99999999999999999999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(read("86400"), Some(RETRY_AFTER_MAX));
        assert_eq!(read("soon"), None);
        assert_eq!(read(""), None);
    }
}
