//! HTTP: one request, its redirects, and what the answer means.

use std::{
    error::Error,
    iter,
    path::Path,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use redrive_domain::{
    failure::{Failure, FailureKind},
    time::Millis,
};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION,
        RETRY_AFTER, USER_AGENT,
    },
    redirect::Policy,
};
use tokio::time::Instant;

use super::{Found, MediaType, Settings, late, too_large};

/// The longest wait that another side can ask for.
const RETRY_AFTER_MAX: Millis = Millis::seconds(3_600);

/// A client with its connections, made when first needed.
#[derive(Debug, Default)]
pub(super) struct Http(OnceLock<Result<Client, String>>);

impl Http {
    fn client(&self) -> Result<&Client, Failure> {
        let client = self
            .0
            .get_or_init(|| build().map_err(|error| chain(&error)));
        client.as_ref().map_err(|error| {
            let message = format!("there is no HTTP client: {error}");
            Failure::new(FailureKind::MISCONFIGURED, message)
        })
    }

    /// What is at that URL; nothing where the server says that there is no content.
    pub(super) async fn get(
        &self,
        url: Url,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<Option<Found>, Failure> {
        let client = self.client()?;
        let (mut at, mut hops) = (url.clone(), 0);
        let response = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let request = client
                .get(at.clone())
                .timeout(left.max(Duration::from_millis(1)))
                .headers(headers(settings, same_origin(&url, &at)));
            let response = request.send().await.map_err(failed)?;
            let Some(next) = redirect(&at, &response)? else {
                break response;
            };
            hops += 1;
            if hops > settings.max_redirects {
                let message = format!(
                    "was redirected more than {} times: the job's param max_redirects",
                    settings.max_redirects
                );
                return Err(rejected(message).with_code(response.status().as_u16()));
            }
            at = next;
        };
        let status = response.status();
        if !status.is_success() {
            return Err(refused(status, response.headers()));
        }
        if status == StatusCode::NO_CONTENT || status == StatusCode::RESET_CONTENT {
            return Ok(None);
        }
        read(response, &at, settings).await.map(Some)
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

/// The job's own headers may hold secrets, so that another server does not get them.
fn headers(settings: &Settings, own: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, settings.user_agent.clone());
    headers.insert(
        ACCEPT_ENCODING,
        const { reqwest::header::HeaderValue::from_static("identity") },
    );
    if own {
        headers.extend(settings.headers.clone());
    }
    headers
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Where it says to look instead.
fn redirect(at: &Url, response: &Response) -> Result<Option<Url>, Failure> {
    let status = response.status();
    if ![301, 302, 303, 307, 308].contains(&status.as_u16()) {
        return Ok(None);
    }
    let refuse = |what: &str| {
        let message = format!("was redirected to {what}");
        Err(rejected(message).with_code(status.as_u16()))
    };
    let Some(location) = response.headers().get(LOCATION) else {
        return refuse("nowhere: the answer has no Location");
    };
    let Ok(next) = at.join(&String::from_utf8_lossy(location.as_bytes())) else {
        return refuse("something that is not a URL");
    };
    match next.scheme() {
        "http" | "https" => Ok(Some(next)),
        other => refuse(&format!(
            "a URL with the scheme {other:?}, which is not followed"
        )),
    }
}

async fn read(mut response: Response, at: &Url, settings: &Settings) -> Result<Found, Failure> {
    let limit = settings.max_bytes;
    let header = |name: HeaderName| {
        let value = response.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let coding = header(CONTENT_ENCODING).filter(|coding| {
        let coding = coding.trim();
        !(coding.is_empty() || coding.eq_ignore_ascii_case("identity"))
    });
    if let Some(coding) = coding {
        let message = format!("came with Content-Encoding {coding}, which was not asked for");
        return Err(Failure::new(FailureKind::UNSUPPORTED_FORMAT, message));
    }
    let media = header(CONTENT_TYPE).and_then(|value| MediaType::parse(&value));
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_large(limit));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(too_large(limit));
        }
        body.extend_from_slice(&chunk);
    }
    let extension = Path::new(at.path()).extension();
    Ok(Found {
        media,
        extension: extension.map(|e| e.to_string_lossy().into_owned()),
        body,
    })
}

fn rejected(message: String) -> Failure {
    Failure::new(FailureKind::REJECTED, message)
}

/// What a status means that is no success.
fn refused(status: StatusCode, headers: &HeaderMap) -> Failure {
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
    let wait = headers.get(RETRY_AFTER).and_then(|value| {
        let value = value.to_str().ok()?;
        retry_after(value, SystemTime::now())
    });
    match wait.filter(|_| passes) {
        Some(wait) => failure.with_retry_after(wait),
        None => failure,
    }
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
fn failed(error: reqwest::Error) -> Failure {
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
