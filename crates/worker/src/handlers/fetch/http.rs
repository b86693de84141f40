//! HTTP: one request, its redirects, and what the answer means.

use std::{path::Path, time::Duration};

use redrive_domain::failure::{Failure, FailureKind};
use reqwest::{
    Response, StatusCode, Url,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION,
        USER_AGENT,
    },
};
use tokio::time::Instant;

use super::{Found, MediaType, Settings, too_large};
use crate::handlers::web::{Web, failed, refused};

/// What is at that URL; nothing where the server says that there is no content.
pub(super) async fn get(
    web: &Web,
    url: Url,
    settings: &Settings,
    deadline: Instant,
) -> Result<Option<Found>, Failure> {
    let client = web.client()?;
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
