//! What happened to a batch, and what came of it.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use redrive_domain::query::{
    At, BatchRef, Change, Diff, ListChanges, Page, ReadTimeline, TimelineRow,
};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    not_read, reachable,
    rows::{Shape, list},
};
use crate::{
    Shared,
    caller::Reader,
    extract::{Params, Path},
    native::error::ErrorResponse,
    problem::Problem,
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(diff))
        .routes(routes!(timeline))
}

/// Between which moments.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Between {
    /// The earlier moment: a log sequence, or a time (RFC 3339).
    #[param(inline, example = "41")]
    from: At,
    /// The later moment; now unless said. `at` says the same.
    #[serde(alias = "at")]
    #[param(inline)]
    to: Option<At>,
    /// Documents on a page, 1 to 1,000; 100 unless said. As lines: documents in all.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// Where the page before ended: its `next`. All pages are of the same two moments.
    after: Option<String>,
    /// The answer has to include this log sequence.
    min_seq: Option<u64>,
}

/// What changed between two moments, document by document.
#[utoipa::path(
    get, path = "/v1/batches/{batch}/diff", tag = "Redrive",
    params(("batch" = String, Path, description = "Its id, or `last`"), Between),
    responses(
        (
            status = 200,
            description = "A page, or with `Accept: application/x-ndjson` all documents that changed, one a line",
            content((Diff = "application/json"), (Change = "application/x-ndjson")),
        ),
        (status = 404, description = "There is no such batch", body = ErrorResponse),
    ),
)]
async fn diff(
    Reader(caller): Reader,
    shape: Shape,
    Path(batch): Path<BatchRef>,
    Params(between): Params<Between>,
) -> Result<Response, Problem> {
    let query = ListChanges {
        batch,
        from: between.from,
        to: between.to,
        limit: between.limit,
        after: between.after,
        min_seq: between.min_seq,
    };
    match shape {
        // A page has more to say than what is on it.
        Shape::Page => {
            reachable(&caller, query.min_seq).await?;
            let diff = caller.client.diff(&query).await.map_err(not_read)?;
            Ok(Json(diff).into_response())
        }
        Shape::Lines => list(&caller, shape, query).await,
    }
}

/// How much of what happened.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct UpTo {
    /// Lines on a page, 1 to 1,000; 100 unless said. As lines: lines in all.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// Where the page before ended: its `next`.
    after: Option<String>,
    /// The answer has to include this log sequence.
    min_seq: Option<u64>,
    /// Up to this moment: a log sequence, or a time (RFC 3339). Up to now unless said.
    #[param(inline)]
    at: Option<At>,
}

/// What happened to a batch, in few lines.
#[utoipa::path(
    get, path = "/v1/batches/{batch}/timeline", tag = "Redrive",
    params(("batch" = String, Path, description = "Its id, or `last`"), UpTo),
    responses(
        (
            status = 200,
            description = "A page, or with `Accept: application/x-ndjson` all of it, one entry a line",
            content((inline(Page<TimelineRow>) = "application/json"), (TimelineRow = "application/x-ndjson")),
        ),
        (status = 404, description = "There is no such batch", body = ErrorResponse),
    ),
)]
async fn timeline(
    Reader(caller): Reader,
    shape: Shape,
    Path(batch): Path<BatchRef>,
    Params(up_to): Params<UpTo>,
) -> Result<Response, Problem> {
    let query = ReadTimeline {
        batch,
        limit: up_to.limit,
        after: up_to.after,
        min_seq: up_to.min_seq,
        at: up_to.at,
    };
    list(&caller, shape, query).await
}
