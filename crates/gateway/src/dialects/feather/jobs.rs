//! What is done with jobs.

use axum::{Json, extract::State, http::StatusCode};
use futures::{StreamExt, TryStreamExt, stream};
use redrive_domain::{
    command::{Cancel, Command, Retry, RetryMode, Start},
    document::Document,
    ids::{BatchId, Bucket},
    limits::{DOCUMENT_DATA_BYTES, DOCUMENT_ID_BYTES, DOCUMENT_URI_BYTES, MAX_RETRY_COUNT},
    query::{BatchRef, BatchView, ListBatches, ListDocuments, ListFailures},
    status::BatchStatus,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Errors, NAME,
    model::{Job, JobStatus, More},
    usual_pipeline,
};
use crate::{
    Shared,
    caller::{Caller, Operator, Reader},
    dialects::fields::{Body, Fields, path_uuid},
    extract::{Params, Path},
    ids::Ids,
    ops::NewBatch,
    problem::Problem,
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(create_job))
        .routes(routes!(list_jobs))
        .routes(routes!(list_jobs_of_base))
        .routes(routes!(get_job))
        .routes(routes!(retry_job))
        .routes(routes!(cancel_job))
}

/// Jobs that are asked about at once.
const AT_ONCE: usize = 8;
/// Pages that one request looks through for jobs of a status; the next request goes on from there.
const PAGES: usize = 10;
/// Failures that are told of with a job.
const FAILURES: u32 = 100;

/// A document to be ingested. One of `content` and `uri` is required.
#[derive(Debug, ToSchema)]
#[schema(as = feather::CreateIngestionJobRequest)]
struct CreateJob {
    /// Where it belongs.
    knowledge_base_id: Option<Uuid>,
    /// What it is called.
    title: Option<String>,
    /// Its text, at most 64 KiB. It comes to handlers as the document's data: `{"title", "content"}`.
    content: Option<String>,
    /// Where it is: a path or a URL.
    uri: Option<String>,
}

impl CreateJob {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let read = Self {
            knowledge_base_id: fields.optional_uuid("knowledge_base_id"),
            title: fields.optional_text("title", 1..=DOCUMENT_ID_BYTES),
            content: fields.optional_text("content", 0..=DOCUMENT_DATA_BYTES),
            uri: fields.optional_text("uri", 1..=DOCUMENT_URI_BYTES),
        };
        if read.content.is_none() && read.uri.is_none() && fields.are_fine() {
            fields.refuse("content", "Field required", "missing");
        }
        fields.done().map(|()| read)
    }

    /// Its bucket.
    fn bucket(&self) -> Result<Bucket, Problem> {
        bucket_of(self.knowledge_base_id)
    }

    fn document(self) -> Result<Document, Problem> {
        let title = self.title;
        let named = title.clone().or_else(|| {
            let uri = self.uri.clone();
            uri.filter(|uri| uri.len() <= DOCUMENT_ID_BYTES)
        });
        let document = Document {
            id: named.unwrap_or_else(|| "document".to_owned()),
            uri: self.uri,
            data: self
                .content
                .map(|content| json!({ "title": title, "content": content })),
        };
        // As JSON a text may be longer than it is.
        let fits = document.validate();
        fits.map_err(|error| Problem::invalid("body", "content", error.to_string()))?;
        Ok(document)
    }
}

/// The bucket of a knowledge base.
fn bucket_of(knowledge_base: Option<Uuid>) -> Result<Bucket, Problem> {
    let name = knowledge_base.map_or_else(|| NAME.to_owned(), |id| id.to_string());
    Bucket::new(name).map_err(Problem::internal)
}

/// A job that was made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = feather::IngestResponse)]
struct Made {
    /// The job.
    ingestion_job_id: Uuid,
    /// Its document.
    items: [Item; 1],
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = feather::IngestResultItem)]
struct Item {
    /// Its place among the documents of the job.
    manifest_index: u32,
    /// What became of it: always `queued`.
    result: &'static str,
}

/// Makes a job of a document. It begins at once.
#[utoipa::path(
    post, path = "/v1/knowledge-base/ingestion-jobs", tag = "Feather",
    operation_id = "feather_create_ingestion_job",
    request_body = CreateJob,
    responses((status = 202, description = "It is queued", body = Made), Errors),
)]
async fn create_job(
    State(gateway): State<Shared>,
    Operator(caller): Operator,
    ids: Ids,
    Body(fields): Body,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let asked = CreateJob::read(fields)?;
    let pipeline = gateway.pipeline(NAME).cloned();
    let new = NewBatch {
        bucket: asked.bucket()?,
        pipeline: pipeline.unwrap_or_else(usual_pipeline),
        start: Start::OnSubmit,
    };
    let document = asked.document()?;
    let documents = stream::once(std::future::ready(Ok(document)));
    let made = caller.create(&ids, &new, documents).await?;
    let made = Made {
        ingestion_job_id: made.batch.0,
        items: [Item {
            manifest_index: 0,
            result: "queued",
        }],
    };
    Ok((StatusCode::ACCEPTED, Json(made)))
}

async fn look(caller: &Caller, batch: BatchId) -> Result<BatchView, Problem> {
    let view = caller.view(BatchRef::Id(batch)).await;
    view.map_err(|problem| match problem {
        Problem::NotFound { .. } => no_job(batch),
        problem => problem,
    })
}

/// The job that a path names. Batches of other buckets are none.
async fn find(caller: &Caller, job: &str) -> Result<BatchView, Problem> {
    let batch = BatchId(path_uuid("job_id", job)?);
    let view = look(caller, batch).await?;
    let bucket = view.summary.bucket.as_str();
    match bucket == NAME || Uuid::try_parse(bucket).is_ok() {
        true => Ok(view),
        false => Err(no_job(batch)),
    }
}

fn no_job(batch: BatchId) -> Problem {
    Problem::NotFound {
        what: format!("ingestion job {batch}"),
    }
}

/// What is told of one job beyond what a list tells.
async fn more(caller: &Caller, view: &BatchView) -> Result<More, Problem> {
    let batch = BatchRef::Id(view.summary.batch);
    let documents = ListDocuments {
        limit: Some(1),
        ..ListDocuments::of(batch)
    };
    let failures = ListFailures {
        limit: Some(FAILURES),
        ..ListFailures::of(batch)
    };
    let failures = caller.client.pages(failures);
    let failures = failures.take(usize::try_from(FAILURES).unwrap_or(0));
    let (documents, failures) = tokio::join!(
        caller.client.page(&documents),
        failures.try_collect::<Vec<_>>()
    );
    let ours = |error| Problem::of(error, "query");
    let first = documents.map_err(ours)?.items.into_iter().next();
    Ok(More {
        title: first.map(|document| document.id),
        failures: failures.map_err(ours)?,
    })
}

/// How a job is doing.
#[utoipa::path(
    get, path = "/v1/knowledge-base/ingestion-jobs/{job_id}", tag = "Feather",
    operation_id = "feather_get_ingestion_job",
    params(("job_id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "How it is doing", body = Job), Errors),
)]
async fn get_job(Reader(caller): Reader, Path(job): Path<String>) -> Result<Json<Job>, Problem> {
    let view = find(&caller, &job).await?;
    let more = more(&caller, &view).await?;
    Ok(Json(Job::of(&view, Some(&more))))
}

/// A job that something was done with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = feather::IngestionJobAccepted)]
struct Done {
    /// The job.
    job_id: Uuid,
    /// How it is doing.
    status: JobStatus,
}

/// Executes what failed of a job again: of one with segments the segments that failed, else the document from the
/// beginning.
#[utoipa::path(
    post, path = "/v1/knowledge-base/ingestion-jobs/{job_id}/retry", tag = "Feather",
    operation_id = "feather_retry_ingestion_job",
    params(("job_id" = Uuid, Path, description = "The job")),
    responses((status = 202, description = "It goes on", body = Done), Errors),
)]
async fn retry_job(
    Operator(caller): Operator,
    ids: Ids,
    Path(job): Path<String>,
) -> Result<(StatusCode, Json<Done>), Problem> {
    let view = find(&caller, &job).await?;
    let (bucket, batch) = (&view.summary.bucket, view.summary.batch);
    // There is no bound on retries there; ten is the most that there is here.
    let retry = Retry {
        retry_mode: RetryMode::All,
        max_retry_count: *MAX_RETRY_COUNT.end(),
        ..Retry::default()
    };
    let done = Done {
        job_id: batch.0,
        status: JobStatus::Processing,
    };
    let status = JobStatus::of(&view);
    if !status.is_retryable() {
        if ids.are_of_a_key() && was_done(&caller, &ids, &view, &retry).await? {
            return Ok((StatusCode::ACCEPTED, Json(done)));
        }
        let status = status.as_str();
        let message = format!(
            "job {batch} is {status}: only one that failed, or failed in part, can be retried"
        );
        return Err(Problem::Conflict { message });
    }
    let retry = Command::Retry(retry);
    let accepted = caller.command(&ids, bucket, batch, &retry).await?;
    match accepted.retry.unwrap_or_default().units {
        0 => Err(Problem::NothingToRetry),
        _ => Ok((StatusCode::ACCEPTED, Json(done))),
    }
}

/// Whether this very request was carried out before, whatever its job does by now: a preview under its id tells, and does
/// nothing.
async fn was_done(
    caller: &Caller,
    ids: &Ids,
    view: &BatchView,
    retry: &Retry,
) -> Result<bool, Problem> {
    let asked = Command::Retry(retry.clone());
    let asked = serde_json::to_vec(&asked).map_err(Problem::internal)?;
    let id = ids.command(caller.namespace(), 0, &asked);
    let preview = Command::Retry(Retry {
        dry_run: true,
        ..retry.clone()
    });
    let (bucket, batch) = (&view.summary.bucket, view.summary.batch);
    let told = caller.client.command(bucket, batch, id, &preview).await;
    match told.map_err(Problem::from) {
        Ok(told) => Ok(told.repeated),
        Err(Problem::Conflict { .. }) => Ok(false),
        Err(problem) => Err(problem),
    }
}

/// Stops a job. One that was stopped before stays so; one that is over cannot be stopped.
#[utoipa::path(
    post, path = "/v1/knowledge-base/ingestion-jobs/{job_id}/cancel", tag = "Feather",
    operation_id = "feather_cancel_ingestion_job",
    params(("job_id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "It is stopped", body = Done), Errors),
)]
async fn cancel_job(
    Operator(caller): Operator,
    ids: Ids,
    Path(job): Path<String>,
) -> Result<Json<Done>, Problem> {
    let view = find(&caller, &job).await?;
    let (bucket, batch) = (&view.summary.bucket, view.summary.batch);
    let cancel = Command::Cancel(Cancel::default());
    caller.command(&ids, bucket, batch, &cancel).await?;
    Ok(Json(Done {
        job_id: batch.0,
        status: JobStatus::Cancelled,
    }))
}

/// Jobs, the last one first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = feather::IngestionJobList)]
struct Listed {
    /// Those of this page.
    items: Vec<Job>,
    /// Whether there may be more.
    has_more: bool,
    /// Where the next page begins.
    next_cursor: Option<String>,
}

/// The jobs of a knowledge base, or those without one, the last one first.
#[utoipa::path(
    get, path = "/v1/knowledge-base/ingestion-jobs", tag = "Feather",
    operation_id = "feather_list_ingestion_jobs",
    params(
        ("knowledge_base_id" = Option<Uuid>, Query, description = "Of which knowledge base"),
        ("status" = Option<String>, Query,
            description = "Only with this status; `active` is `queued` and `processing`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "At most so many; 50 unless said"),
        ("cursor" = Option<String>, Query, description = "Where the page before ended"),
    ),
    responses((status = 200, description = "A page of them", body = Listed), Errors),
)]
async fn list_jobs(
    Reader(caller): Reader,
    Params(query): Params<Vec<(String, String)>>,
) -> Result<Json<Listed>, Problem> {
    let mut fields = Fields::of_query(query);
    let base = fields.optional_uuid("knowledge_base_id");
    listed(&caller, bucket_of(base)?, fields).await
}

/// The jobs of a knowledge base, the last one first.
#[utoipa::path(
    get, path = "/v1/knowledge-base/knowledge-bases/{kb_id}/ingestion-jobs", tag = "Feather",
    operation_id = "feather_list_ingestion_jobs_of_knowledge_base",
    params(
        ("kb_id" = Uuid, Path, description = "The knowledge base"),
        ("status" = Option<String>, Query,
            description = "Only with this status; `active` is `queued` and `processing`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "At most so many; 50 unless said"),
        ("cursor" = Option<String>, Query, description = "Where the page before ended"),
    ),
    responses((status = 200, description = "A page of them", body = Listed), Errors),
)]
async fn list_jobs_of_base(
    Reader(caller): Reader,
    Path(base): Path<String>,
    Params(query): Params<Vec<(String, String)>>,
) -> Result<Json<Listed>, Problem> {
    let base = path_uuid("kb_id", &base)?;
    listed(&caller, bucket_of(Some(base))?, Fields::of_query(query)).await
}

const STATUSES: [(&str, &[JobStatus]); 7] = [
    ("queued", &[JobStatus::Queued]),
    ("processing", &[JobStatus::Processing]),
    ("completed", &[JobStatus::Completed]),
    ("failed", &[JobStatus::Failed]),
    ("partial_failure", &[JobStatus::PartialFailure]),
    ("cancelled", &[JobStatus::Cancelled]),
    ("active", &[JobStatus::Queued, JobStatus::Processing]),
];

async fn listed(
    caller: &Caller,
    bucket: Bucket,
    mut fields: Fields,
) -> Result<Json<Listed>, Problem> {
    let wanted = fields.word("status", &STATUSES);
    let limit = fields.optional_int("limit", 1..=200).unwrap_or(50);
    let cursor = fields.optional_text("cursor", 1..=40);
    let cursor = cursor.and_then(|cursor| match cursor.parse::<u64>() {
        Ok(_) => Some(cursor),
        Err(_) => {
            let msg = "is not the next_cursor of a page";
            fields.refuse("cursor", msg, "value_error");
            None
        }
    });
    fields.done()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut statuses: Vec<BatchStatus> = wanted
        .into_iter()
        .flatten()
        .flat_map(|status: &JobStatus| status.known_as())
        .copied()
        .collect();
    statuses.dedup();
    let mut query = ListBatches {
        bucket: Some(bucket),
        // What is more than one status is found among all.
        status: statuses.first().copied().filter(|_| statuses.len() == 1),
        after: cursor,
        ..ListBatches::default()
    };
    let mut items = Vec::new();
    for _ in 0..PAGES {
        // A page is told of whole, so that the next one begins where it ends.
        query.limit = u32::try_from(limit - items.len()).ok();
        let page = caller.client.page(&query).await;
        let page = page.map_err(|error| Problem::of(error, "query"))?;
        query.after = page.next;
        let views = stream::iter(page.items).map(|summary| look(caller, summary.batch));
        let views: Vec<BatchView> = views.buffered(AT_ONCE).try_collect().await?;
        let is_wanted =
            |view: &BatchView| wanted.is_none_or(|all| all.contains(&JobStatus::of(view)));
        let found = views.into_iter().filter(is_wanted);
        items.extend(found.map(|view| Job::of(&view, None)));
        if query.after.is_none() || items.len() >= limit {
            break;
        }
    }
    Ok(Json(Listed {
        items,
        has_more: query.after.is_some(),
        next_cursor: query.after,
    }))
}
