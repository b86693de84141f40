//! Buckets and batches, as in the API of Mixpeek (0.82): batches of a bucket's objects that go through tiers of extractor
//! jobs. A bucket is one of Redrive's, an object is a document, an extractor job is a job.
//!
//! Ids of batches are texts there: what is no id of ours names no batch (404).

mod answers;
mod control;
mod create;
mod diagnose;
mod model;
mod objects;
mod read;
mod words;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use redrive_domain::{
    ids::{BatchId, Bucket},
    query::{BatchRef, BatchView, TierView},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    Shared,
    caller::Caller,
    native::error::{ErrorResponse, HttpValidationError, describe},
    problem::Problem,
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .merge(create::router())
        .merge(objects::router())
        .merge(read::router())
        .merge(control::router())
}

/// How it says that something went wrong: as Redrive itself, but that nothing is a conflict.
pub(crate) fn render(problem: &Problem) -> Response {
    let (status, mut error) = describe(problem);
    let status = match problem {
        Problem::Invalid(faults) => {
            let detail = faults.clone();
            return (status, Json(HttpValidationError { detail })).into_response();
        }
        Problem::Conflict { .. } | Problem::Stale(_) | Problem::KeyReused => {
            error.kind = "BadRequestError";
            StatusCode::BAD_REQUEST
        }
        Problem::Unauthenticated { .. }
        | Problem::Forbidden { .. }
        | Problem::NotFound { .. }
        | Problem::NoSuchRoute { .. }
        | Problem::NoSuchMethod
        | Problem::NothingToRetry
        | Problem::NotAllowed { .. }
        | Problem::Credits(_)
        | Problem::TooLarge { .. }
        | Problem::UnsupportedType { .. }
        | Problem::TooMany { .. }
        | Problem::Unavailable { .. }
        | Problem::Internal { .. } => status,
    };
    let body = ErrorResponse {
        success: false,
        status: status.as_u16(),
        error,
    };
    (status, Json(body)).into_response()
}

/// What every request may be answered, for the document.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "it is only described")]
enum Errors {
    /// Bad Request
    #[response(status = 400)]
    BadRequest(#[to_schema] ErrorResponse),
    /// Unauthorized
    #[response(status = 401)]
    Unauthorized(#[to_schema] ErrorResponse),
    /// Forbidden
    #[response(status = 403)]
    Forbidden(#[to_schema] ErrorResponse),
    /// Not Found
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorResponse),
    /// Validation Error
    #[response(status = 422)]
    Invalid(#[to_schema] HttpValidationError),
    /// Internal Server Error
    #[response(status = 500)]
    Internal(#[to_schema] ErrorResponse),
}

/// A name from a path, cut to a printable length.
fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The batch of a bucket that a path names.
///
/// # Errors
/// Where the bucket has no such batch in the caller's namespace.
async fn find(caller: &Caller, bucket: &str, batch: &str) -> Result<BatchView, Problem> {
    let nothing = || Problem::NotFound {
        what: format!("batch {} in bucket {}", cut(batch), cut(bucket)),
    };
    let id: BatchId = batch.parse().map_err(|_| nothing())?;
    let view = caller.view(BatchRef::Id(id)).await?;
    match view.summary.bucket.as_str() == bucket {
        true => Ok(view),
        false => Err(nothing()),
    }
}

/// The bucket that a path names.
fn bucket(name: &str) -> Result<Bucket, Problem> {
    Bucket::new(name)
        .map_err(|error| Problem::invalid("path", "bucket_identifier", error.to_string()))
}

/// The tier of a batch that a path names.
fn tier(view: &BatchView, number: i64) -> Result<&TierView, Problem> {
    let found = usize::try_from(number).ok();
    found.and_then(|num| view.tiers.get(num)).ok_or_else(|| {
        let (batch, last) = (view.summary.batch, view.tiers.len().saturating_sub(1));
        Problem::NotFound {
            what: format!("tier {number} in batch {batch}: it has tiers 0 to {last}"),
        }
    })
}
