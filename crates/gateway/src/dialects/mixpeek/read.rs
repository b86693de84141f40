//! Looking at batches.

use axum::Json;
use futures::{StreamExt, TryStreamExt, stream};
use redrive_domain::{
    limits::TIERS,
    pipeline::TierNum,
    query::{
        BatchRef, BatchSummary, BatchView, ListBatches, ListDocuments, ListFailures, OfBatch,
        PAGE_MAX,
    },
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Errors, bucket,
    create::NAMED,
    diagnose::{BatchDiagnosis, FailedDocument},
    find,
    model::BatchModel,
    words::{STATUSES, TaskStatus},
};
use crate::{
    Shared,
    caller::{Caller, Reader},
    dialects::fields::{Fields, OptionalBody},
    extract::{Params, Path},
    problem::Problem,
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(get_batch))
        .routes(routes!(list_batches))
        .routes(routes!(get_batches))
        .routes(routes!(failed_documents))
        .routes(routes!(diagnose))
}

/// Batches that a list looks through at most.
const LISTED: usize = 1_000;
/// Batches on one page of a list.
const PAGE: u64 = 100;
/// Batches that are asked about at once.
const AT_ONCE: usize = 8;
/// Failures that may be skipped in a list of them.
const SKIPPED: u64 = 100_000;

/// How a batch is doing.
#[utoipa::path(
    get, path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}", tag = "Mixpeek",
    operation_id = "mixpeek_get_batch",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
    ),
    responses((status = 200, description = "How it is doing", body = BatchModel), Errors),
)]
async fn get_batch(
    Reader(caller): Reader,
    Path((bucket, batch)): Path<(String, String)>,
) -> Result<Json<BatchModel>, Problem> {
    let view = find(&caller, &bucket, &batch).await?;
    let object_ids = object_ids(&caller, &view).await?;
    Ok(Json(BatchModel::of(&view, Some(object_ids))))
}

/// The first objects of a batch.
async fn object_ids(caller: &Caller, view: &BatchView) -> Result<Vec<String>, Problem> {
    if view.summary.documents == 0 {
        return Ok(Vec::new());
    }
    let query = ListDocuments {
        limit: Some(NAMED),
        ..ListDocuments::of(BatchRef::Id(view.summary.batch))
    };
    let page = caller.client.page(&query).await;
    let page = page.map_err(|error| Problem::of(error, "query"))?;
    Ok(page.items.into_iter().map(|row| row.id).collect())
}

/// Which batches to list.
#[derive(Debug, ToSchema)]
#[schema(as = mixpeek::ListBatchesRequest)]
struct List {
    /// Only with this status.
    #[schema(value_type = Option<String>)]
    status: Option<Option<TaskStatus>>,
    /// Batches to skip.
    #[schema(value_type = u32, required = false, default = 0, minimum = 0, maximum = 1_000)]
    offset: usize,
    /// Batches to tell of.
    #[schema(value_type = u32, required = false, default = 100, minimum = 1, maximum = 100)]
    limit: usize,
}

impl List {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let null = fields.is_null("status");
        let status = if null {
            fields.take("status");
            None
        } else {
            fields.word("status", &STATUSES)
        };
        let size = |number: Option<u64>, usual: usize| {
            number.map_or(usual, |n| usize::try_from(n).unwrap_or(usual))
        };
        let offset = fields.optional_int("offset", 0..=LISTED as u64);
        let limit = fields.optional_int("limit", 1..=PAGE);
        fields.done()?;
        Ok(Self {
            status,
            offset: size(offset, 0),
            limit: size(limit, 100),
        })
    }
}

/// Batches of a bucket, the last one first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::ListBatchesResponse)]
struct Listed {
    /// Those of this page.
    results: Vec<BatchModel>,
    /// How many there are; more than 1,000 are not counted.
    total_count: usize,
}

/// The bucket's batches, the last one first.
#[utoipa::path(
    post, path = "/v1/buckets/{bucket_identifier}/batches/list", tag = "Mixpeek",
    operation_id = "mixpeek_list_batches",
    params(("bucket_identifier" = String, Path, description = "The bucket")),
    request_body = Option<List>,
    responses((status = 200, description = "A page of them", body = Listed), Errors),
)]
async fn list_batches(
    Reader(caller): Reader,
    Path(bucket): Path<String>,
    OptionalBody(fields): OptionalBody,
) -> Result<Json<Listed>, Problem> {
    listed(&caller, &bucket, List::read(fields)?).await
}

/// The bucket's batches, the last one first.
#[utoipa::path(
    get, path = "/v1/buckets/{bucket_identifier}/batches", tag = "Mixpeek",
    operation_id = "mixpeek_get_batches",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("status" = Option<String>, Query, description = "Only with this status"),
        ("offset" = Option<u32>, Query, minimum = 0, maximum = 1_000, description = "Batches to skip"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Batches to tell of"),
    ),
    responses((status = 200, description = "A page of them", body = Listed), Errors),
)]
async fn get_batches(
    Reader(caller): Reader,
    Path(bucket): Path<String>,
    Params(query): Params<Vec<(String, String)>>,
) -> Result<Json<Listed>, Problem> {
    listed(&caller, &bucket, List::read(Fields::of_query(query))?).await
}

async fn listed(caller: &Caller, name: &str, list: List) -> Result<Json<Listed>, Problem> {
    let wanted = match list.status {
        Some(None) => {
            return Ok(Json(Listed {
                results: Vec::new(),
                total_count: 0,
            }));
        }
        Some(wanted) => wanted,
        None => None,
    };
    let query = ListBatches {
        bucket: Some(bucket(name)?),
        status: wanted.map(TaskStatus::known_as),
        limit: Some(PAGE_MAX),
        ..ListBatches::default()
    };
    let found = caller.client.pages(query).take(LISTED);
    let found: Vec<BatchSummary> = found
        .try_collect()
        .await
        .map_err(|error| Problem::of(error, "query"))?;
    // Whether a batch that has not begun was submitted is not in the list.
    let known = !matches!(wanted, Some(TaskStatus::Draft | TaskStatus::Pending));
    let (total_count, page) = if known {
        let page = found.iter().skip(list.offset).take(list.limit);
        (found.len(), views(caller, page.cloned().collect()).await?)
    } else {
        let mut all = views(caller, found).await?;
        all.retain(|view| {
            Some(TaskStatus::of_batch(view.summary.status, view.submitted)) == wanted
        });
        let total = all.len();
        (
            total,
            all.into_iter().skip(list.offset).take(list.limit).collect(),
        )
    };
    Ok(Json(Listed {
        results: page.iter().map(|view| BatchModel::of(view, None)).collect(),
        total_count,
    }))
}

async fn views(caller: &Caller, found: Vec<BatchSummary>) -> Result<Vec<BatchView>, Problem> {
    let views = stream::iter(found).map(|summary| caller.view(BatchRef::Id(summary.batch)));
    views.buffered(AT_ONCE).try_collect().await
}

/// Objects of a batch that failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = mixpeek::FailedDocumentsResponse)]
struct Failed {
    /// The batch.
    batch_id: String,
    /// Its bucket.
    bucket_id: String,
    /// How many failed: a document that failed in two jobs counts twice.
    total_count: u64,
    /// How many were skipped.
    offset: usize,
    /// How many are told of at most.
    limit: usize,
    /// Those of this page.
    failed_documents: Vec<FailedDocument>,
}

/// The objects of a batch that failed.
#[utoipa::path(
    get, path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/failed-documents",
    tag = "Mixpeek", operation_id = "mixpeek_failed_documents",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
        ("tier_num" = Option<u32>, Query, description = "Only of this tier"),
        ("offset" = Option<u32>, Query, minimum = 0, maximum = 100_000, description = "Failures to skip"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Failures to tell of"),
    ),
    responses((status = 200, description = "A page of them", body = Failed), Errors),
)]
async fn failed_documents(
    Reader(caller): Reader,
    Path((bucket, batch)): Path<(String, String)>,
    Params(query): Params<Vec<(String, String)>>,
) -> Result<Json<Failed>, Problem> {
    let mut fields = Fields::of_query(query);
    let tier = fields.optional_int("tier_num", 0..=TIERS as u64);
    let offset = fields.optional_int("offset", 0..=SKIPPED);
    let limit = fields.optional_int("limit", 1..=u64::from(PAGE_MAX));
    fields.done()?;
    let size = |number: Option<u64>, usual| number.and_then(|n| n.try_into().ok()).unwrap_or(usual);
    let (offset, limit): (usize, usize) = (size(offset, 0), size(limit, 100));
    let tier = tier.and_then(|num| TierNum::try_from(num).ok());
    let view = find(&caller, &bucket, &batch).await?;
    let batch = view.summary.batch;
    let of_tier = |num| tier.is_none_or(|tier| tier == num);
    let tiers = view.tiers.iter().filter(|one| of_tier(one.tier));
    let total_count = tiers
        .flat_map(|tier| &tier.jobs)
        .map(|job| job.failed)
        .sum();
    let query = ListFailures {
        tier,
        limit: Some(PAGE_MAX),
        ..ListFailures::of(BatchRef::Id(batch))
    };
    let rows = caller.client.pages(query).skip(offset).take(limit);
    let rows: Vec<_> = rows
        .map_ok(|row| FailedDocument::of(batch, row))
        .try_collect()
        .await
        .map_err(|error| Problem::of(error, "query"))?;
    Ok(Json(Failed {
        batch_id: batch.to_string(),
        bucket_id: bucket,
        total_count,
        offset,
        limit,
        failed_documents: rows,
    }))
}

/// What is wrong with a batch, and what to do about it.
#[utoipa::path(
    get, path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/diagnose", tag = "Mixpeek",
    operation_id = "mixpeek_diagnose",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
    ),
    responses((status = 200, description = "What is wrong", body = BatchDiagnosis), Errors),
)]
async fn diagnose(
    Reader(caller): Reader,
    Path((bucket, batch)): Path<(String, String)>,
) -> Result<Json<BatchDiagnosis>, Problem> {
    let view = find(&caller, &bucket, &batch).await?;
    let query = OfBatch::of(BatchRef::Id(view.summary.batch));
    let diagnosis = caller.client.diagnose(&query).await;
    let diagnosis = diagnosis.map_err(|error| Problem::of(error, "query"))?;
    Ok(Json(BatchDiagnosis::of(&view, diagnosis)))
}
