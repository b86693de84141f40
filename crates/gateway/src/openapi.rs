//! What is said of the interface, for people and programs: an OpenAPI document that comes from the code.

use axum::{Json, Router, routing::get};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

use crate::Shared;

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Redrive",
    description = "See what failed in a batch, where and why, and redrive only that."
))]
struct About;

/// Where routes are collected.
pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(About::openapi())
}

/// The OpenAPI document of all routes.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    crate::routes().to_openapi()
}

/// The routes that show it.
pub(crate) fn serve(document: utoipa::openapi::OpenApi) -> Router<Shared> {
    let answer = move || std::future::ready(Json(document.clone()));
    Router::new().route("/openapi.json", get(answer))
}
