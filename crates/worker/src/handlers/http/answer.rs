//! What the answer of an endpoint means.

use redrive_domain::{
    document::Output,
    failure::{Failure, FailureClass, FailureKind},
};
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, LOCATION},
};
use serde_json::{Map, Value};

use crate::{
    handler::Done,
    handlers::{
        envelope,
        params::misconfigured,
        web::{failed, refused, wait},
    },
};

/// The most that is read of an answer that is no success, in bytes: more is no description of a problem.
const PROBLEM_BYTES: u64 = 64 * 1024;
/// What is shown of an address or a type.
const SHOWN: usize = 120;

/// Reads an answer: an output, nothing, or a failure.
pub(super) async fn read(response: Response, limit: u64) -> Result<Done, Failure> {
    let status = response.status();
    let headers = response.headers().clone();
    let essence = essence(&headers);
    if essence == "application/problem+json" {
        let problem = body(response, PROBLEM_BYTES).await?.unwrap_or_default();
        return Err(problem_of(status, &headers, &problem));
    }
    if !status.is_success() {
        return Err(meaning(status, &headers));
    }
    if status == StatusCode::NO_CONTENT || status == StatusCode::RESET_CONTENT {
        return Ok(Done::Completed(None));
    }
    let Some(body) = body(response, limit).await? else {
        let message = format!(
            "the endpoint answered with more than {limit} bytes: the job's max_output_bytes"
        );
        return Err(Failure::new(FailureKind::OUTPUT_TOO_LARGE, message));
    };
    if body.is_empty() {
        return Ok(Done::Completed(None));
    }
    let is_json = essence == "application/json" || essence.ends_with("+json");
    if !is_json {
        let what = match essence.as_str() {
            "" => "something without a content type".to_owned(),
            essence => short(essence),
        };
        return Err(misconfigured(format!(
            "the endpoint answered {status} with {what}: it is to answer with application/json, or with 204 and nothing"
        ))
        .with_code(status.as_u16()));
    }
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
        let message =
            format!("the endpoint answered {status} with JSON that cannot be read: {error}");
        return Err(Failure::new(FailureKind::FAILED, message).with_code(status.as_u16()));
    }
    Ok(Done::Completed(Some(Output {
        media_type: essence,
        body,
    })))
}

/// The media type, without its parameters; empty where there is none.
fn essence(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next();
    essence.unwrap_or_default().trim().to_ascii_lowercase()
}

/// The content; nothing where it is larger.
async fn body(mut response: Response, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// What a status means that is no success: as for `fetch`, but for what says that the endpoint is not set up rightly,
/// and would say so of every document.
fn meaning(status: StatusCode, headers: &HeaderMap) -> Failure {
    let what = match status.as_u16() {
        300..=399 => match headers.get(LOCATION) {
            Some(location) => format!(
                " and redirects to {}: write that into the param \"url\", since a POST is not redirected",
                short(&String::from_utf8_lossy(location.as_bytes()))
            ),
            None => String::new(),
        },
        401 | 403 => ": check the job's param \"headers\"".to_owned(),
        404 | 405 => ": check the job's param \"url\"".to_owned(),
        _ => return refused(status, headers),
    };
    misconfigured(format!("the endpoint answered {status}{what}")).with_code(status.as_u16())
}

/// What a description of a problem (RFC 9457) says over what its status means. The members `class`, `kind`, `code` and
/// `retry_after` extend it.
fn problem_of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let mut failure = match status.is_success() {
        // A problem is none less for the status that somebody chose for it.
        true => Failure::new(
            FailureKind::FAILED,
            format!("the endpoint answered {status}"),
        )
        .with_code(status.as_u16()),
        false => meaning(status, headers),
    };
    let problem: Map<String, Value> = match serde_json::from_slice(body) {
        Ok(problem) => problem,
        Err(error) => return failure.with_detail(format!("no problem can be read: {error}")),
    };
    let text = |name: &str| {
        let text = problem.get(name).and_then(Value::as_str).map(str::trim);
        text.filter(|text| !text.is_empty())
    };
    let mut notes = Vec::new();
    if let Some(kind) = text("kind") {
        match kind.parse::<FailureKind>() {
            Ok(kind) => {
                failure.class = kind.usual_class();
                failure.kind = kind;
            }
            Err(error) => notes.push(format!("the problem's kind is passed over: {error}")),
        }
    }
    if let Some(class) = text("class") {
        match class.parse::<FailureClass>() {
            Ok(class) => failure.class = class,
            Err(error) => notes.push(format!("the problem's class is passed over: {error}")),
        }
    }
    let (title, detail) = (text("title"), text("detail"));
    let mut said = Failure::new(failure.kind, title.or(detail).unwrap_or(&failure.message))
        .with_class(failure.class);
    said = match problem.get("code") {
        Some(Value::String(code)) => said.with_code(code),
        Some(Value::Number(code)) => said.with_code(code),
        _ => said.with_code(status.as_u16()),
    };
    notes.extend(title.and(detail).map(str::to_owned));
    if !notes.is_empty() {
        said = said.with_detail(notes.join("\n"));
    }
    let asked = problem.get("retry_after").and_then(envelope::wait);
    match asked.or_else(|| wait(headers)) {
        Some(wait) if said.class != FailureClass::Permanent => said.with_retry_after(wait),
        _ => said,
    }
}

fn short(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
