//! Batches of scrapes, as clients of Spidra know them.
//!
//! A batch has up to 50 URLs, and each is a document. What is a document's is an item here. A batch is `completed` when
//! every item is at its end, whether or not some failed: `failedCount` tells. It is `failed` only where it was given up.

mod body;

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt;
use redrive_domain::{
    ids::BatchId,
    query::{BatchSummary, BatchView, DocumentRow, DocumentStatus},
};
use serde_json::{Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::body::{
    Batch, Cancelled, Entry, Item, Jobs, List, Pagination, Queued, Refused, Requeued, Status,
    Submit,
};
use super::items::{Dialect, Id, Numbered, Word, item_id, one_line};
use crate::{
    Shared,
    caller::{Operator, Reader},
    extract::{Json, Params},
    ids::Ids,
    native,
    problem::{Problem, Step},
};

const SPIDRA: Dialect = Dialect {
    name: "spidra",
    most: body::URLS,
    pipeline,
};

/// What batches run unless the operator configured a pipeline of that name: each URL is fetched.
fn pipeline() -> Value {
    let fetch = json!({ "handler": "fetch", "max_output_bytes": 512 * 1024 });
    json!({ "name": "spidra", "tiers": [{ "name": "scrape", "jobs": [fetch] }] })
}

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(submit, list))
        .routes(routes!(status, cancel))
        .routes(routes!(retry))
}

/// How it says that something went wrong.
pub(crate) fn render(problem: &Problem) -> Response {
    let (of_native, detail) = native::error::describe(problem);
    let (status, code) = match problem {
        // Only of a schema for the output do its documents say 422.
        Problem::Invalid(faults) => {
            let schema = |step: Option<&Step>| step == Some(&Step::from("schema"));
            match faults.iter().any(|fault| schema(fault.loc.get(1))) {
                true => (StatusCode::UNPROCESSABLE_ENTITY, None),
                false => (StatusCode::BAD_REQUEST, None),
            }
        }
        // Where something is over and cannot be stopped, the handler says so.
        Problem::UnsupportedType { .. } | Problem::Conflict { .. } | Problem::Stale(_) => {
            (StatusCode::BAD_REQUEST, None)
        }
        Problem::NothingToRetry => (StatusCode::BAD_REQUEST, Some("NO_FAILED_ITEMS")),
        Problem::Credits(_) => (of_native, Some("CREDIT_LIMIT_REACHED")),
        Problem::KeyReused => (StatusCode::BAD_REQUEST, Some("IDEMPOTENCY_KEY_REUSED")),
        // Clients take 403 for a lack of credits.
        Problem::Forbidden { .. } | Problem::NotAllowed { .. } => (StatusCode::UNAUTHORIZED, None),
        Problem::TooMany { .. } => (of_native, Some("RATE_LIMITED")),
        Problem::Unavailable { .. } => (of_native, Some("SERVICE_BUSY")),
        Problem::Unauthenticated { .. }
        | Problem::NotFound { .. }
        | Problem::NoSuchRoute { .. }
        | Problem::NoSuchMethod
        | Problem::TooLarge { .. }
        | Problem::Internal { .. } => (of_native, None),
    };
    let message = match problem {
        Problem::Invalid(faults) => one_line(faults),
        Problem::NothingToRetry => "No failed items to retry.".to_owned(),
        _ => detail.message,
    };
    let retry_after = matches!(problem, Problem::Unavailable { .. }).then_some(1);
    refused(status, message, code, retry_after)
}

fn refused(
    status: StatusCode,
    message: String,
    code: Option<&'static str>,
    retry_after: Option<u32>,
) -> Response {
    let refused = Refused {
        status: "error",
        message,
        code,
        retry_after,
    };
    (status, Answer(refused)).into_response()
}

type Location = [(HeaderName, String); 1];

/// Makes a batch of scrapes.
#[utoipa::path(
    post, path = "/api/batch/scrape", tag = "Spidra", request_body = Submit,
    responses(
        (status = 202, description = "It is queued.", body = Queued,
            headers(("Location" = String, description = "Where to ask how it is doing."))),
        (status = 400, description = "The request is not valid.", body = Refused),
        (status = 401, description = "There is no valid key with the request.", body = Refused),
        (status = 403, description = "It takes more than what is left of the month's credits.", body = Refused),
        (status = 422, description = "The schema is not one.", body = Refused),
    ),
)]
async fn submit(
    State(gateway): State<Shared>,
    Operator(caller): Operator,
    ids: Ids,
    Json(body): Json<Submit>,
) -> Result<(StatusCode, Location, Answer<Queued>), Problem> {
    let documents = body.documents()?;
    let made = SPIDRA.create(&gateway, &caller, &ids, documents).await?;
    let location = format!("/api/batch/scrape/{}", made.batch);
    let queued = Queued {
        status: "queued",
        batch_id: made.batch,
        total: made.documents,
    };
    let location = [(header::LOCATION, location)];
    Ok((StatusCode::ACCEPTED, location, Answer(queued)))
}

/// How a batch is doing, with all its items.
#[utoipa::path(
    get, path = "/api/batch/scrape/{batchId}", tag = "Spidra",
    params(("batchId" = uuid::Uuid, Path, description = "The batch.")),
    responses(
        (status = 200, description = "How it is doing.", body = Batch),
        (status = 401, description = "There is no valid key with the request.", body = Refused),
        (status = 404, description = "There is no such batch.", body = Refused),
    ),
)]
async fn status(Reader(caller): Reader, Id(batch): Id) -> Result<Answer<Batch>, Problem> {
    let view = SPIDRA.view(&caller, batch).await?;
    let credits = credits_per_item(&view);
    let items = SPIDRA.items(&caller, &view);
    let items = items.map_ok(|row| item(batch, credits, row));
    let items: Vec<Item> = items.try_collect().await?;
    let counts = &view.summary.counts;
    let word = Word::of(view.summary.status, counts);
    Ok(Answer(Batch {
        status: word.into(),
        total_urls: view.summary.documents,
        completed_count: counts.completed,
        failed_count: counts.failed,
        items,
        created_at: view.summary.created_at,
        finished_at: view.ended_at.filter(|_| word.is_over()),
    }))
}

fn credits_per_item(view: &BatchView) -> u64 {
    view.credits.map_or(0, |credits| credits.per_document)
}

fn item(batch: BatchId, credits: u64, row: DocumentRow) -> Item {
    let status = match row.status {
        DocumentStatus::Open if row.tier == 0 => Status::Pending,
        DocumentStatus::Open => Status::Running,
        DocumentStatus::Completed => Status::Completed,
        DocumentStatus::Failed => Status::Failed,
        DocumentStatus::Cancelled => Status::Cancelled,
    };
    let is_completed = status == Status::Completed;
    let result = row.outputs.filter(|_| is_completed).map(result);
    let result = result.unwrap_or_default();
    let failed = row.failures.iter().map(|failure| failure.at).max();
    let error = row.failures.into_iter().next();
    Item {
        uuid: item_id(batch, row.ordinal, 0),
        url: row.uri.unwrap_or(row.id),
        job_id: None,
        status,
        screenshot_url: text(&result, "screenshotUrl"),
        result,
        error: error.map(|failure| failure.message),
        credits_used: if is_completed { credits } else { 0 },
        started_at: None,
        finished_at: failed.filter(|_| status == Status::Failed),
    }
}

/// What the last tier made of a URL: the output of its job, or where it has several, an object of their outputs.
fn result(outputs: Vec<redrive_domain::query::DocumentOutput>) -> Value {
    let value = |output: Option<Value>, hex: Option<String>| {
        output.unwrap_or_else(|| hex.map_or(Value::Null, Value::String))
    };
    let mut outputs = outputs.into_iter();
    match (outputs.next(), outputs.len()) {
        (None, _) => Value::Null,
        (Some(one), 0) => value(one.output, one.hex),
        (Some(first), _) => std::iter::once(first)
            .chain(outputs)
            .map(|one| (one.job.to_string(), value(one.output, one.hex)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn text(result: &Value, field: &str) -> Option<String> {
    result.get(field)?.as_str().map(ToOwned::to_owned)
}

/// The batches, the last one first, without their items.
#[utoipa::path(
    get, path = "/api/batch/scrape", tag = "Spidra", params(List),
    responses(
        (status = 200, description = "A page of them.", body = Jobs),
        (status = 400, description = "The request is not valid.", body = Refused),
        (status = 401, description = "There is no valid key with the request.", body = Refused),
    ),
)]
async fn list(Reader(caller): Reader, Params(ask): Params<List>) -> Result<Answer<Jobs>, Problem> {
    let page = Numbered::of(ask.page, ask.limit, 20, 50)?;
    let batches = SPIDRA.batches(&caller).await?;
    let pagination = Pagination {
        page: page.page,
        limit: page.limit,
        total: batches.len(),
        total_pages: page.pages(batches.len()),
    };
    let jobs = page.cut(batches).map(entry).collect();
    Ok(Answer(Jobs { jobs, pagination }))
}

fn entry(batch: BatchSummary) -> Entry {
    let word = Word::of(batch.status, &batch.counts);
    Entry {
        uuid: batch.batch,
        status: word.into(),
        total_urls: batch.documents,
        completed_count: batch.counts.completed,
        failed_count: batch.counts.failed,
        output_format: None,
        scraping_channel: "api",
        created_at: batch.created_at,
        finished_at: word.is_over().then_some(batch.last_activity_at),
    }
}

/// Stops a batch.
#[utoipa::path(
    delete, path = "/api/batch/scrape/{batchId}", tag = "Spidra",
    params(("batchId" = uuid::Uuid, Path, description = "The batch.")),
    responses(
        (status = 200, description = "It is stopped.", body = Cancelled),
        (status = 401, description = "There is no valid key with the request.", body = Refused),
        (status = 404, description = "There is no such batch.", body = Refused),
        (status = 409, description = "It is over: there is nothing to stop.", body = Refused),
    ),
)]
async fn cancel(Operator(caller): Operator, ids: Ids, Id(batch): Id) -> Result<Response, Problem> {
    let cancelled = SPIDRA.cancel(&caller, &ids, batch).await?;
    let view = SPIDRA.view(&caller, batch).await?;
    let Some(cancelled_items) = cancelled else {
        let status = Status::from(Word::of(view.summary.status, &view.summary.counts));
        let message = format!("Cannot cancel a batch that is already {}.", status.as_str());
        let code = Some("ALREADY_TERMINAL");
        return Ok(refused(StatusCode::CONFLICT, message, code, None));
    };
    let cancelled = Cancelled {
        status: Status::Cancelled,
        cancelled_items,
        credits_refunded: cancelled_items.saturating_mul(credits_per_item(&view)),
    };
    Ok(Answer(cancelled).into_response())
}

/// Executes again what failed in a batch, and nothing else. Fresh credits are reserved for it.
#[utoipa::path(
    post, path = "/api/batch/scrape/{batchId}/retry", tag = "Spidra",
    params(("batchId" = uuid::Uuid, Path, description = "The batch with failed items.")),
    responses(
        (status = 202, description = "What failed is queued again.", body = Requeued),
        (status = 400, description = "Nothing has failed in this batch.", body = Refused,
            example = json!({ "status": "error", "message": "No failed items to retry.", "code": "NO_FAILED_ITEMS" })),
        (status = 401, description = "There is no valid key with the request.", body = Refused),
        (status = 403, description = "It takes more than what is left of the month's credits.", body = Refused),
        (status = 404, description = "There is no such batch.", body = Refused),
    ),
)]
async fn retry(
    Operator(caller): Operator,
    ids: Ids,
    Id(batch): Id,
) -> Result<(StatusCode, Answer<Requeued>), Problem> {
    let retried_count = SPIDRA.retry(&caller, &ids, batch, None).await?;
    let requeued = Requeued {
        status: "queued",
        retried_count,
    };
    Ok((StatusCode::ACCEPTED, Answer(requeued)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_retry_is_what_their_documents_say() {
        let document = crate::document();
        let retry = &document["paths"]["/api/batch/scrape/{batchId}/retry"]["post"];
        assert!(retry.get("requestBody").is_none());
        assert_eq!(retry["parameters"][0]["name"], "batchId");
        assert_eq!(retry["parameters"][0]["schema"]["format"], "uuid");
        let schema = |status: &str| {
            let content = &retry["responses"][status]["content"]["application/json"];
            let name = content["schema"]["$ref"].as_str().unwrap_or_default();
            let name = name.rsplit('/').next().unwrap_or_default();
            &document["components"]["schemas"][name]
        };
        let requeued = schema("202")["properties"].as_object();
        let fields: Vec<_> = requeued.into_iter().flat_map(|it| it.keys()).collect();
        assert_eq!(fields, ["retriedCount", "status"]);
        for status in ["400", "401", "403", "404"] {
            let required = &schema(status)["required"];
            assert_eq!(*required, json!(["status", "message"]), "{status}");
        }
    }
}
