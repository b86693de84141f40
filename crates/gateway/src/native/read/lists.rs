//! Batches, and what is in them.

use axum::response::Response;
use redrive_domain::{
    failure::{FailureClass, FailureKind, Fingerprint},
    ids::{Bucket, JobName},
    pipeline::TierNum,
    query::{
        At, BatchRef, BatchSummary, DocumentRow, DocumentStatus, FailureRow, ListBatches,
        ListDocuments, ListFailures, ListResults, Page, ResultRow,
    },
    status::BatchStatus,
};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::rows::{Shape, list};
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
        .routes(routes!(list_batches))
        .routes(routes!(list_documents))
        .routes(routes!(list_failures))
        .routes(routes!(list_results))
}

/// Which batches.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct OfBatches {
    /// Only of this bucket.
    #[param(inline)]
    bucket: Option<Bucket>,
    /// Only with this status: `pending`, `running`, `completed`, `completed_with_failures`, `failed` or `cancelled`.
    #[param(inline)]
    status: Option<BatchStatus>,
    /// Entries on a page, 1 to 1,000; 100 unless said. As lines: entries in all.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// Where the page before ended: its `next`.
    after: Option<String>,
    /// The answer has to include this log sequence.
    min_seq: Option<u64>,
    /// As of this moment: a log sequence, or a time (RFC 3339). A page has up to 20 then.
    #[param(inline)]
    at: Option<At>,
}

/// The namespace's batches, the last one first.
#[utoipa::path(
    get, path = "/v1/batches", tag = "Redrive", params(OfBatches),
    responses((
        status = 200,
        description = "A page, or with `Accept: application/x-ndjson` all of them, one a line",
        content((inline(Page<BatchSummary>) = "application/json"), (BatchSummary = "application/x-ndjson")),
    )),
)]
async fn list_batches(
    Reader(caller): Reader,
    shape: Shape,
    Params(of): Params<OfBatches>,
) -> Result<Response, Problem> {
    let query = ListBatches {
        bucket: of.bucket,
        status: of.status,
        limit: of.limit,
        after: of.after,
        min_seq: of.min_seq,
        at: of.at,
    };
    list(&caller, shape, query).await
}

/// Which documents: those of which all that is said is true.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct OfDocuments {
    /// Only with this status: `open`, `completed`, `failed` or `cancelled`.
    #[param(inline)]
    status: Option<DocumentStatus>,
    /// Only those that came to this tier last, or failed in it. With a class, a kind or a fingerprint: that failed in it
    /// so.
    tier: Option<TierNum>,
    /// Only those that failed with this class: `transient`, `permanent` or `unknown`.
    #[param(inline)]
    class: Option<FailureClass>,
    /// Only those that failed with this kind, for instance `timeout`.
    #[param(inline)]
    kind: Option<FailureKind>,
    /// Only those that failed with this fingerprint.
    #[param(inline)]
    fingerprint: Option<Fingerprint>,
    /// Whether to tell what the last tier made of them.
    #[serde(default)]
    outputs: bool,
    /// Entries on a page, 1 to 1,000; 100 unless said. As lines: entries in all.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// Where the page before ended: its `next`.
    after: Option<String>,
    /// The answer has to include this log sequence.
    min_seq: Option<u64>,
    /// As of this moment: a log sequence, or a time (RFC 3339). As of now unless said.
    #[param(inline)]
    at: Option<At>,
}

/// The documents of a batch, and where they stand.
#[utoipa::path(
    get, path = "/v1/batches/{batch}/documents", tag = "Redrive",
    params(("batch" = String, Path, description = "Its id, or `last`"), OfDocuments),
    responses(
        (
            status = 200,
            description = "A page, or with `Accept: application/x-ndjson` all of them, one a line",
            content((inline(Page<DocumentRow>) = "application/json"), (DocumentRow = "application/x-ndjson")),
        ),
        (status = 404, description = "There is no such batch", body = ErrorResponse),
    ),
)]
async fn list_documents(
    Reader(caller): Reader,
    shape: Shape,
    Path(batch): Path<BatchRef>,
    Params(of): Params<OfDocuments>,
) -> Result<Response, Problem> {
    let query = ListDocuments {
        batch,
        units: None,
        status: of.status,
        tier: of.tier,
        class: of.class,
        kind: of.kind,
        fingerprint: of.fingerprint,
        outputs: of.outputs,
        limit: of.limit,
        after: of.after,
        min_seq: of.min_seq,
        at: of.at,
    };
    list(&caller, shape, query).await
}

/// Which failures.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct OfFailures {
    /// Only of this tier.
    tier: Option<TierNum>,
    /// Only of this class: `transient`, `permanent` or `unknown`.
    #[param(inline)]
    class: Option<FailureClass>,
    /// Only of this kind, for instance `timeout`.
    #[param(inline)]
    kind: Option<FailureKind>,
    /// Only with this fingerprint.
    #[param(inline)]
    fingerprint: Option<Fingerprint>,
    /// Entries on a page, 1 to 1,000; 100 unless said. As lines: entries in all.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// Where the page before ended: its `next`.
    after: Option<String>,
    /// The answer has to include this log sequence.
    min_seq: Option<u64>,
    /// As of this moment: a log sequence, or a time (RFC 3339). As of now unless said.
    #[param(inline)]
    at: Option<At>,
}

/// What failed in a batch and is failed now, where, and why.
#[utoipa::path(
    get, path = "/v1/batches/{batch}/failures", tag = "Redrive",
    params(("batch" = String, Path, description = "Its id, or `last`"), OfFailures),
    responses(
        (
            status = 200,
            description = "A page, or with `Accept: application/x-ndjson` all of them, one a line",
            content((inline(Page<FailureRow>) = "application/json"), (FailureRow = "application/x-ndjson")),
        ),
        (status = 404, description = "There is no such batch", body = ErrorResponse),
    ),
)]
async fn list_failures(
    Reader(caller): Reader,
    shape: Shape,
    Path(batch): Path<BatchRef>,
    Params(of): Params<OfFailures>,
) -> Result<Response, Problem> {
    let query = ListFailures {
        batch,
        tier: of.tier,
        class: of.class,
        kind: of.kind,
        fingerprint: of.fingerprint,
        limit: of.limit,
        after: of.after,
        min_seq: of.min_seq,
        at: of.at,
    };
    list(&caller, shape, query).await
}

/// Which results.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct OfResults {
    /// Of this tier; the last one unless said.
    tier: Option<TierNum>,
    /// Of this job; all of the tier unless said.
    #[param(inline)]
    job: Option<JobName>,
    /// Entries on a page, 1 to 1,000; 100 unless said. As lines: entries in all.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// Where the page before ended: its `next`.
    after: Option<String>,
    /// The answer has to include this log sequence.
    min_seq: Option<u64>,
    /// As of this moment: a log sequence, or a time (RFC 3339). As of now unless said.
    #[param(inline)]
    at: Option<At>,
}

/// What the jobs of a tier made of the documents of a batch.
#[utoipa::path(
    get, path = "/v1/batches/{batch}/results", tag = "Redrive",
    params(("batch" = String, Path, description = "Its id, or `last`"), OfResults),
    responses(
        (
            status = 200,
            description = "A page, or with `Accept: application/x-ndjson` all of them, one a line",
            content((inline(Page<ResultRow>) = "application/json"), (ResultRow = "application/x-ndjson")),
        ),
        (status = 404, description = "There is no such batch", body = ErrorResponse),
    ),
)]
async fn list_results(
    Reader(caller): Reader,
    shape: Shape,
    Path(batch): Path<BatchRef>,
    Params(of): Params<OfResults>,
) -> Result<Response, Problem> {
    let query = ListResults {
        batch,
        tier: of.tier,
        job: of.job,
        limit: of.limit,
        after: of.after,
        min_seq: of.min_seq,
        at: of.at,
    };
    list(&caller, shape, query).await
}
