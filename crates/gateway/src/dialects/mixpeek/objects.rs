//! The objects of a batch: adding some, and where they stand.

use axum::Json;
use redrive_domain::{
    pipeline::TierNum,
    query::{BatchRef, DocumentRow, DocumentStatus, ListDocuments, PAGE_MAX},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Errors,
    create::Objects,
    find,
    model::BatchModel,
    words::{ErrorCategory, TaskStatus},
};
use crate::{
    Shared,
    caller::{Operator, Reader},
    dialects::fields::{Body, Fields},
    extract::{Params, Path},
    fill::Fill,
    ids::Ids,
    problem::Problem,
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(add_objects))
        .routes(routes!(documents))
}

/// Adds objects to a batch that was not submitted yet.
#[utoipa::path(
    post, path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/objects", tag = "Mixpeek",
    operation_id = "mixpeek_add_objects",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
    ),
    request_body = Objects,
    responses((status = 200, description = "They are added", body = BatchModel), Errors),
)]
async fn add_objects(
    Operator(caller): Operator,
    ids: Ids,
    Path((bucket, batch)): Path<(String, String)>,
    Body(mut fields): Body,
) -> Result<Json<BatchModel>, Problem> {
    let objects = Objects::read(&mut fields);
    fields.done()?;
    let view = find(&caller, &bucket, &batch).await?;
    let (bucket, batch) = (&view.summary.bucket, view.summary.batch);
    let fill = Fill::new(&caller, &ids, bucket.clone(), batch, &[]);
    // They come after those that are there.
    let mut fill = fill.starting_at(None);
    for document in objects.into_documents() {
        fill.add(document).await?;
    }
    fill.flush().await?;
    Ok(Json(BatchModel::of(
        &caller.view(BatchRef::Id(batch)).await?,
        None,
    )))
}

/// Objects of a batch, in their order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::BatchDocumentsResponse)]
struct Listed {
    /// The batch.
    batch_id: String,
    /// Those of this page.
    documents: Vec<Object>,
    /// Where the next page begins; null where this was the last.
    next_cursor: Option<String>,
}

/// An object of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::BatchDocument)]
struct Object {
    /// Its id.
    document_id: String,
    /// The same.
    object_id: String,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    /// How it is doing.
    status: TaskStatus,
    /// The tier that it came to last.
    tier_num: TierNum,
    /// How often it was retried.
    retry_count: u32,
    /// What sorts of errors it failed with.
    error_types: Vec<ErrorCategory>,
    /// What went wrong first, for people.
    error: Option<String>,
}

impl From<DocumentRow> for Object {
    fn from(row: DocumentRow) -> Self {
        let failures = row.failures.iter();
        let mut error_types: Vec<_> = failures
            .map(|failure| ErrorCategory::of(&failure.kind, failure.class))
            .collect();
        error_types.sort_unstable();
        error_types.dedup();
        Self {
            object_id: row.id.clone(),
            document_id: row.id,
            uri: row.uri,
            status: match row.status {
                DocumentStatus::Open => TaskStatus::InProgress,
                DocumentStatus::Completed => TaskStatus::Completed,
                DocumentStatus::Failed => TaskStatus::Failed,
                DocumentStatus::Cancelled => TaskStatus::Canceled,
            },
            tier_num: row.tier,
            retry_count: row.retry_count,
            error_types,
            error: row.failures.into_iter().next().map(|first| first.message),
        }
    }
}

const STATUSES: [(&str, DocumentStatus); 5] = [
    ("IN_PROGRESS", DocumentStatus::Open),
    ("PROCESSING", DocumentStatus::Open),
    ("COMPLETED", DocumentStatus::Completed),
    ("FAILED", DocumentStatus::Failed),
    ("CANCELED", DocumentStatus::Cancelled),
];

/// The objects of a batch, and where they stand.
#[utoipa::path(
    get, path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/documents", tag = "Mixpeek",
    operation_id = "mixpeek_batch_documents",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
        ("status" = Option<String>, Query, description = "Only with this status"),
        ("tier_num" = Option<u16>, Query, description = "Only those that came to this tier last"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "At most so many; 100 unless said"),
        ("cursor" = Option<String>, Query, description = "Where the page before ended"),
    ),
    responses((status = 200, description = "A page of them", body = Listed), Errors),
)]
async fn documents(
    Reader(caller): Reader,
    Path((bucket, batch)): Path<(String, String)>,
    Params(query): Params<Vec<(String, String)>>,
) -> Result<Json<Listed>, Problem> {
    let mut fields = Fields::of_query(query);
    let status = fields.word("status", &STATUSES);
    let tier = fields.optional_int("tier_num", 0..=u64::from(TierNum::MAX));
    let limit = fields.optional_int("limit", 1..=u64::from(PAGE_MAX));
    let after = fields.optional_text("cursor", 1..=200);
    fields.done()?;
    let batch = find(&caller, &bucket, &batch).await?.summary.batch;
    let query = ListDocuments {
        status,
        tier: tier.and_then(|num| TierNum::try_from(num).ok()),
        limit: limit.and_then(|limit| u32::try_from(limit).ok()),
        after,
        ..ListDocuments::of(BatchRef::Id(batch))
    };
    let page = caller.client.page(&query).await;
    let page = page.map_err(|error| Problem::of(error, "query"))?;
    Ok(Json(Listed {
        batch_id: batch.to_string(),
        documents: page.items.into_iter().map(Object::from).collect(),
        next_cursor: page.next,
    }))
}
