//! What is said of the interface, for people and programs: an OpenAPI document that comes from the code, and a page that
//! shows it and needs nothing from outside.

mod common;
mod merge;
mod page;
pub(crate) mod tidy;

#[cfg(test)]
mod tests;

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use bytes::Bytes;
use redrive_domain::{
    failure::{FailureClass, FailureKind, Fingerprint},
    ids::{BatchId, Bucket, JobName, KeyId, Namespace},
    query::{At, BatchRef, DocumentStatus},
    status::BatchStatus,
    time::{Millis, Timestamp},
};
use serde_json::{Value, json};
use utoipa::OpenApi as _;

use crate::{
    Shared,
    native::error::{ErrorResponse, HttpValidationError},
};

/// What routes refer to without bringing it: errors that are told of for all of them, and types of parameters.
#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(
    ErrorResponse,
    HttpValidationError,
    At,
    BatchId,
    BatchRef,
    BatchStatus,
    Bucket,
    DocumentStatus,
    FailureClass,
    FailureKind,
    Fingerprint,
    JobName,
    KeyId,
    Millis,
    Namespace,
    Timestamp,
)))]
struct Known;

/// The OpenAPI document of all routes, as JSON.
#[must_use]
pub fn document() -> Value {
    let mut document = json!({ "openapi": "3.1.0", "info": { "title": "Redrive" } });
    let known = Known::openapi();
    for (surface, mut router) in crate::routers() {
        let own = router.to_openapi().merge_from(known.clone());
        // It came from values, so it is one.
        let mut own = serde_json::to_value(own).unwrap_or_default();
        tidy::tidy(&mut own);
        merge::merge(&mut document, own, surface);
    }
    common::complete(&mut document);
    merge::prune(&mut document);
    document
}

/// The routes that show it.
pub(crate) fn serve() -> Router<Shared> {
    let document = Bytes::from(document().to_string());
    let answer = move || {
        let headers = [(CONTENT_TYPE, "application/json")];
        std::future::ready((headers, document.clone()).into_response())
    };
    Router::new()
        .route("/openapi.json", get(answer))
        .merge(page::router())
}
