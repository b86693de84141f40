//! What handlers take from a request, each with errors that name the place.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{header, request::Parts},
};
use bytes::BytesMut;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    Shared,
    problem::{Fault, Problem},
};

/// Largest body that is read whole, in bytes. What is larger comes as a stream of lines.
pub(crate) const BODY_BYTES: usize = 8 * 1024 * 1024;

/// How long a body that is read whole may take.
const IN_ALL: Duration = Duration::from_secs(60);
/// Bytes up to which a body takes no turn.
const SMALL: usize = 64 * 1024;
/// Larger bodies that are read at once; others wait for their turn.
static LARGE: Semaphore = Semaphore::const_new(32);
/// Bytes of a body that are read before it is cut off.
const HEARD_OUT: usize = 8 * BODY_BYTES;

/// A body of JSON. None at all is an object without fields.
pub(crate) struct Json<T>(pub(crate) T);

/// Whether a media type is JSON, with whatever parameters.
pub(crate) fn is_json(media_type: &str) -> bool {
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
        || media_type.to_ascii_lowercase().ends_with("+json")
}

/// The media type of a request's body, where it has one.
pub(crate) fn media_type(headers: &axum::http::HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// All of a body.
///
/// A client that is still writing does not look for an answer: one that writes too much is heard out for a while, so that
/// it learns why.
pub(crate) async fn whole_body(body: Body) -> Result<Bytes, Problem> {
    let late = || Problem::invalid("body", "", format!("did not come within {IN_ALL:?}"));
    let read = timeout(IN_ALL, read_whole(body)).await;
    read.map_err(|_| late())?
}

async fn read_whole(body: Body) -> Result<Bytes, Problem> {
    let mut body = body.into_data_stream();
    let mut read = BytesMut::new();
    let mut size = 0_usize;
    let mut turn = None;
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| {
            tracing::debug!(%error, "a body was not read");
            Problem::invalid(
                "body",
                "",
                "it broke off, or nothing of it came for a while",
            )
        })?;
        size = size.saturating_add(part.len());
        if size > SMALL && turn.is_none() {
            turn = Some(LARGE.acquire().await.map_err(Problem::internal)?);
        }
        if size <= BODY_BYTES {
            read.extend_from_slice(&part);
        } else if size > HEARD_OUT {
            break;
        }
    }
    if size > BODY_BYTES {
        let message = format!("the body is larger than the {BODY_BYTES} bytes that are taken");
        return Err(Problem::TooLarge { message });
    }
    Ok(read.freeze())
}

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Problem> {
        let typed = media_type(request.headers()).map(is_json);
        let body = whole_body(request.into_body()).await?;
        // Whoever sends nothing need not say of what type.
        if typed == Some(false) || (typed.is_none() && !body.is_empty()) {
            let expected = "application/json";
            return Err(Problem::UnsupportedType { expected });
        }
        read(if body.is_empty() { b"{}" } else { &body }).map(Self)
    }
}

/// serde takes a list for a struct, its entries for the fields in their order. Nobody means that.
pub(crate) fn must_be_object(json: &[u8]) -> Result<(), Problem> {
    if json.trim_ascii_start().starts_with(b"[") {
        let fault = Fault::at("body", "", "is to be an object", "type_error");
        return Err(Problem::Invalid(vec![fault]));
    }
    Ok(())
}

/// Reads JSON from a body.
///
/// # Errors
/// Names the place in the body.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    must_be_object(body)?;
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        Problem::Invalid(vec![fault("body", &path, error.inner())])
    })?;
    json.end()
        .map_err(|error| Problem::Invalid(vec![fault("body", "", &error)]))?;
    Ok(value)
}

/// What serde says of a field, in the words of validation errors.
fn fault(root: &str, path: &str, error: &serde_json::Error) -> Fault {
    let said = error.to_string();
    // Where it stands in the text is no help once the field is named.
    let msg = match said.rfind(" at line ") {
        Some(end) if error.is_data() => said[..end].to_owned(),
        _ => said,
    };
    if error.is_data() {
        data_fault(root, path, &msg)
    } else {
        Fault::at(root, path, &msg, "json_invalid")
    }
}

/// What serde says of a field whose text could be read.
fn data_fault(root: &str, path: &str, msg: &str) -> Fault {
    let kind = if msg.starts_with("missing field") {
        "missing"
    } else if msg.starts_with("unknown field") {
        "extra_forbidden"
    } else if msg.starts_with("unknown variant") {
        "enum"
    } else if msg.starts_with("invalid type") {
        "type_error"
    } else {
        "value_error"
    };
    let mut fault = Fault::at(root, path, msg, kind);
    // A field that is missing is the place itself.
    if let ("missing", Some(name)) = (kind, msg.split('`').nth(1)) {
        fault.loc.push(name.into());
    }
    fault
}

/// What stands behind the question mark.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let read = axum::extract::Query::try_from_uri(&parts.uri);
        let read: axum::extract::Query<T> = read.map_err(|error| {
            let said = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string);
            let (path, msg) = match said.split_once(": ") {
                Some((path, msg)) if !path.contains(' ') => (path, msg),
                _ => ("", said.as_str()),
            };
            Problem::Invalid(vec![data_fault("query", path, msg)])
        })?;
        Ok(Self(read.0))
    }
}

/// What the path names.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, Problem> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, gateway).await;
        let read = read.map_err(|error| {
            use axum::extract::path::ErrorKind;
            let axum::extract::rejection::PathRejection::FailedToDeserializePathParams(error) =
                error
            else {
                return Problem::internal(error);
            };
            match error.kind() {
                ErrorKind::DeserializeError { key, message, .. } => {
                    Problem::invalid("path", key, message)
                }
                ErrorKind::ParseErrorAtKey {
                    key, expected_type, ..
                } => Problem::invalid("path", key, format!("is to be a {expected_type}")),
                ErrorKind::InvalidUtf8InPathParam { key } => {
                    Problem::invalid("path", key, "is not UTF-8")
                }
                other => Problem::invalid("path", "", other.to_string()),
            }
        })?;
        Ok(Self(read.0))
    }
}
