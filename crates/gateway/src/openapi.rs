//! What is said of the interface, for people and programs: an OpenAPI document that comes from the code, and a page that
//! shows it and needs nothing from outside.

mod common;
mod page;
pub(crate) mod tidy;

use axum::{Router, response::IntoResponse, routing::get};
use bytes::Bytes;
use serde_json::Value;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    Shared,
    native::error::{ErrorResponse, HttpValidationError},
};

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Redrive",
    license(name = "Apache-2.0", identifier = "Apache-2.0")
))]
struct About;

/// Where routes are collected.
pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(About::openapi())
}

/// The OpenAPI document of all routes.
#[must_use]
pub fn document() -> Value {
    finished(&crate::routes().to_openapi())
}

/// What routes say of themselves, with what holds for all of them.
fn finished(routes: &utoipa::openapi::OpenApi) -> Value {
    // It came from values, so it is one.
    let mut document = serde_json::to_value(routes).unwrap_or_default();
    tidy::tidy(&mut document);
    common::complete(&mut document);
    document
}

/// The routes that show it.
pub(crate) fn serve(routes: &utoipa::openapi::OpenApi) -> Router<Shared> {
    let document = Bytes::from(finished(routes).to_string());
    let answer = move || {
        let json = [(axum::http::header::CONTENT_TYPE, "application/json")];
        std::future::ready((json, document.clone()).into_response())
    };
    Router::new()
        .route("/openapi.json", get(answer))
        .merge(page::router())
}
