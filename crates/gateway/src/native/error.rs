//! How Redrive's own interface says that something went wrong.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    fill::Progress,
    problem::{Fault, Problem},
};

/// An error, of everything but a request that is not valid.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorResponse {
    /// Always false.
    pub(crate) success: bool,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What it is.
    pub(crate) error: ErrorDetail,
}

/// What an error is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorDetail {
    /// For people.
    pub(crate) message: String,
    /// For programs; it does not change.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// More exactly, where programs may want to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'static str>,
    /// What belongs to it: ids, numbers, limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) details: Option<Value>,
}

/// A request that is not valid.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = HTTPValidationError)]
pub(crate) struct HttpValidationError {
    /// All that is wrong with it.
    pub(crate) detail: Vec<Fault>,
}

/// What an error is here. Where another surface speaks alike, it differs only in the status.
pub(crate) fn describe(problem: &Problem) -> (StatusCode, ErrorDetail) {
    let (status, kind, message, details) = match problem {
        Problem::Invalid(faults) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "ValidationError",
            "the request is not valid".to_owned(),
            Some(json!({ "detail": faults })),
        ),
        Problem::Unauthenticated { message } => (
            StatusCode::UNAUTHORIZED,
            "UnauthorizedError",
            message.clone(),
            None,
        ),
        Problem::Forbidden { message } | Problem::NotAllowed { message } => (
            StatusCode::FORBIDDEN,
            "ForbiddenError",
            message.clone(),
            None,
        ),
        Problem::NotFound { what } => (
            StatusCode::NOT_FOUND,
            "NotFoundError",
            format!("there is no {what}"),
            None,
        ),
        Problem::NoSuchRoute { path } => (
            StatusCode::NOT_FOUND,
            "NotFoundError",
            format!("there is nothing at {path}: GET /docs tells what there is"),
            None,
        ),
        Problem::NoSuchMethod => (
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowedError",
            "this path does not take this method".to_owned(),
            None,
        ),
        Problem::Conflict { message } => {
            (StatusCode::CONFLICT, "ConflictError", message.clone(), None)
        }
        Problem::Stale(stale) => (
            StatusCode::CONFLICT,
            "ConflictError",
            stale.to_string(),
            serde_json::to_value(stale).ok(),
        ),
        Problem::KeyReused => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "IdempotencyError",
            "this Idempotency-Key came with another request: take a new key for each request"
                .to_owned(),
            None,
        ),
        Problem::NothingToRetry => (
            StatusCode::BAD_REQUEST,
            "BadRequestError",
            "there is nothing to retry".to_owned(),
            None,
        ),
        Problem::Credits(shortage) => (
            StatusCode::FORBIDDEN,
            "ForbiddenError",
            shortage.to_string(),
            serde_json::to_value(shortage).ok(),
        ),
        Problem::TooLarge { message } => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "PayloadTooLargeError",
            message.clone(),
            None,
        ),
        Problem::UnsupportedType { expected } => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaTypeError",
            format!("the Content-Type is to be {expected}"),
            None,
        ),
        Problem::TooMany { message, .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequestsError",
            message.clone(),
            None,
        ),
        Problem::Unavailable { message } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailableError",
            message.clone(),
            None,
        ),
        Problem::Internal { id } => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            format!("something broke here: the log of the gateway has more under {id}"),
            Some(json!({ "id": id })),
        ),
    };
    let code = code(problem);
    let detail = ErrorDetail {
        message,
        kind,
        code,
        details,
    };
    (status, detail)
}

/// Finer than the type, where programs may want to tell.
fn code(problem: &Problem) -> Option<&'static str> {
    match problem {
        Problem::Stale(_) => Some("plan_stale"),
        Problem::Credits(_) => Some("credits_exhausted"),
        Problem::KeyReused => Some("idempotency_key_reused"),
        Problem::NothingToRetry => Some("nothing_to_retry"),
        Problem::Forbidden { .. } => Some("scope_missing"),
        Problem::NotAllowed { .. } => Some("not_allowed"),
        _ => None,
    }
}

/// The whole answer.
pub(crate) fn render(problem: &Problem) -> Response {
    render_with(problem, |status| status)
}

/// The whole answer, where some statuses are others.
pub(crate) fn render_with(
    problem: &Problem,
    status_of: impl Fn(StatusCode) -> StatusCode,
) -> Response {
    let (status, error) = describe(problem);
    let status = status_of(status);
    if let Problem::Invalid(faults) = problem {
        let detail = faults.clone();
        return (status, Json(HttpValidationError { detail })).into_response();
    }
    let body = ErrorResponse {
        success: false,
        status: status.as_u16(),
        error,
    };
    (status, Json(body)).into_response()
}

/// The answer to a request that was carried out in part: how far it came stands beside what went wrong.
pub(crate) fn render_after(problem: &Problem, progress: &Progress) -> Response {
    let (status, mut error) = describe(problem);
    if let Problem::Invalid(faults) = problem {
        let body = json!({ "detail": faults, "progress": progress });
        return (status, Json(body)).into_response();
    }
    let mut details = error.details.take().unwrap_or_else(|| json!({}));
    if let Some(details) = details.as_object_mut() {
        let progress = serde_json::to_value(progress).unwrap_or_default();
        details.insert("progress".to_owned(), progress);
    }
    error.details = Some(details);
    let body = ErrorResponse {
        success: false,
        status: status.as_u16(),
        error,
    };
    (status, Json(body)).into_response()
}
