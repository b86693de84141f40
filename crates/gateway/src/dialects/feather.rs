//! Ingestion jobs with segments, as in the API of Feather (1.21). A job is a batch of one document: what prepares it splits
//! it, each segment is processed on its own, and what came of them is put together.
//!
//! A knowledge base is a bucket with a UUID for a name; jobs without one are in the bucket `feather`.

mod jobs;
mod model;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    Shared,
    native::error::{HttpValidationError, describe},
    problem::{Fault, Problem},
};

/// The name of the pipeline that jobs run, and of the bucket of those without a knowledge base.
const NAME: &str = "feather";

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    jobs::router()
}

/// What jobs run unless the operator configured something else: handlers of their own workers.
fn usual_pipeline() -> Value {
    json!({
        "name": NAME,
        "tiers": [
            { "name": "prepare", "jobs": [{ "handler": "prepare_document", "segments": true }] },
            { "name": "segments", "jobs": [{ "handler": "process_segment" }] },
            { "name": "finish", "join": true, "jobs": [{ "handler": "finish_document" }] },
        ],
    })
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = feather::ErrorResponse)]
struct ErrorResponse {
    /// For programs.
    error: &'static str,
    /// For people.
    message: String,
}

/// How it says that something went wrong. It knows neither 403 nor 409.
pub(crate) fn render(problem: &Problem) -> Response {
    let (status, detail) = describe(problem);
    let (status, error) = match problem {
        Problem::Invalid(faults) => return invalid(faults.clone()),
        Problem::UnsupportedType { expected } => {
            let msg = format!("Input should be {expected}");
            return invalid(vec![Fault::at(
                "header",
                "content-type",
                msg,
                "value_error",
            )]);
        }
        Problem::Unauthenticated { .. }
        | Problem::Forbidden { .. }
        | Problem::NotAllowed { .. } => (StatusCode::UNAUTHORIZED, "unauthorized"),
        Problem::Conflict { .. } | Problem::Stale(_) => (StatusCode::BAD_REQUEST, "invalid_state"),
        Problem::NothingToRetry => (StatusCode::BAD_REQUEST, "nothing_to_retry"),
        Problem::Credits(_) => (StatusCode::BAD_REQUEST, "credits_exhausted"),
        Problem::KeyReused => (StatusCode::BAD_REQUEST, "idempotency_key_reused"),
        Problem::NotFound { .. } | Problem::NoSuchRoute { .. } => (status, "not_found"),
        Problem::NoSuchMethod => (status, "method_not_allowed"),
        Problem::TooLarge { .. } => (status, "payload_too_large"),
        Problem::TooMany { .. } => (status, "rate_limited"),
        Problem::Unavailable { .. } => (status, "unavailable"),
        Problem::Internal { .. } => (status, "internal_error"),
    };
    let message = detail.message;
    (status, Json(ErrorResponse { error, message })).into_response()
}

fn invalid(detail: Vec<Fault>) -> Response {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    (status, Json(HttpValidationError { detail })).into_response()
}

/// What every request may be answered, for the document.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "it is only described")]
enum Errors {
    /// Bad request
    #[response(status = 400)]
    BadRequest(#[to_schema] ErrorResponse),
    /// Authentication required
    #[response(status = 401)]
    Unauthorized(#[to_schema] ErrorResponse),
    /// Resource not found
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorResponse),
    /// Validation Error
    #[response(status = 422)]
    Invalid(#[to_schema] HttpValidationError),
}

#[cfg(test)]
mod tests {
    use redrive_domain::pipeline::Pipeline;

    #[test]
    fn the_usual_pipeline_is_one() {
        let pipeline = Pipeline::from_value(&super::usual_pipeline());
        assert_eq!(pipeline.map(|pipeline| pipeline.tiers.len()), Ok(3));
    }
}
