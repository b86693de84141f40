//! Batches of browser sessions, as clients of Anchor Browser know them.
//!
//! A session is a document: a handler opens it, and says in its output, an object, how it is reached (`session_id`,
//! `cdp_url`, `live_view_url`). What is wrong with a request is 400 here, and every answer but an error stands in `data`.

mod body;

use axum::{
    Json as Answer,
    extract::State,
    http::StatusCode,
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
    Batch, Create, Created, Data, Entry, Failed, List, Listed, Page, Phase, Progress, Refused,
    Retried, Retry, Session, Status, Update, Updated,
};
use super::items::{Dialect, Id, Numbered, Required, Word, item_id, one_line};
use crate::{
    Shared,
    caller::{Operator, Reader},
    extract::Params,
    ids::Ids,
    native,
    problem::Problem,
};

/// Longest text of a session's output that is told, in bytes.
const TEXT_BYTES: usize = 4096;

const ANCHOR: Dialect = Dialect {
    name: "anchor",
    most: body::SESSIONS as usize,
    pipeline,
};

/// What batches run unless the operator configured a pipeline of that name: whoever serves `session` opens each.
fn pipeline() -> Value {
    json!({ "name": "anchor", "tiers": [{ "name": "open", "jobs": [{ "handler": "session" }] }] })
}

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(create, list))
        .routes(routes!(status, update))
        .routes(routes!(retry))
}

/// How it says that something went wrong.
pub(crate) fn render(problem: &Problem) -> Response {
    let (of_native, detail) = native::error::describe(problem);
    let (status, message) = match problem {
        Problem::Invalid(faults) => (StatusCode::BAD_REQUEST, one_line(faults)),
        // Where something is over and cannot be stopped, the handler says so.
        Problem::UnsupportedType { .. }
        | Problem::KeyReused
        | Problem::Conflict { .. }
        | Problem::Stale(_) => (StatusCode::BAD_REQUEST, detail.message),
        Problem::NothingToRetry => (
            StatusCode::BAD_REQUEST,
            "No failed sessions to retry".to_owned(),
        ),
        Problem::Credits(_) => (StatusCode::PAYMENT_REQUIRED, detail.message),
        // Its documents know no 403.
        Problem::Forbidden { .. } | Problem::NotAllowed { .. } => {
            (StatusCode::UNAUTHORIZED, detail.message)
        }
        Problem::Unauthenticated { .. }
        | Problem::NotFound { .. }
        | Problem::NoSuchRoute { .. }
        | Problem::NoSuchMethod
        | Problem::TooLarge { .. }
        | Problem::TooMany { .. }
        | Problem::Unavailable { .. }
        | Problem::Internal { .. } => (of_native, detail.message),
    };
    refused(status, message)
}

fn refused(status: StatusCode, message: String) -> Response {
    let code = status.as_u16();
    let error = Failed { code, message };
    (status, Answer(Refused { error })).into_response()
}

fn answer<T>(data: T) -> Answer<Data<T>> {
    Answer(Data { data })
}

/// Makes a batch of sessions.
#[utoipa::path(
    post, path = "/v1/batch-sessions", tag = "Anchor", request_body = Create,
    responses(
        (status = 200, description = "It is made, and its work begins.", body = Data<Created>),
        (status = 400, description = "The request is not valid.", body = Refused),
        (status = 401, description = "There is no valid key with the request.", body = Refused),
        (status = 402, description = "It takes more than what is left of the month's credits.", body = Refused),
    ),
)]
async fn create(
    State(gateway): State<Shared>,
    Operator(caller): Operator,
    ids: Ids,
    Required(body): Required<Create>,
) -> Result<Answer<Data<Created>>, Problem> {
    let documents = body.documents()?;
    let made = ANCHOR.create(&gateway, &caller, &ids, documents).await?;
    let view = ANCHOR.view(&caller, made.batch).await?;
    Ok(answer(Created {
        batch_id: made.batch,
        // As when it was made, also where the same request comes again.
        status: Status::Pending,
        total_requests: view.summary.documents,
        created_at: view.summary.created_at,
    }))
}

/// So many sessions, in words.
fn so_many(count: u64, which: &str) -> String {
    let noun = if count == 1 { "session" } else { "sessions" };
    format!("{count} {which}{noun}")
}

fn status_of(batch: &BatchSummary) -> Status {
    match Word::of(batch.status, &batch.counts) {
        Word::Pending => Status::Pending,
        Word::Running => Status::Processing,
        // A batch of which nothing came has failed.
        Word::Completed if batch.counts.completed == 0 => Status::Failed,
        Word::Completed => Status::Completed,
        Word::GivenUp => Status::Failed,
        Word::Cancelled => Status::Cancelled,
    }
}

/// How a batch is doing, with all its sessions.
#[utoipa::path(
    get, path = "/v1/batch-sessions/{batch_id}", tag = "Anchor",
    params(("batch_id" = uuid::Uuid, Path, description = "The batch.")),
    responses(
        (status = 200, description = "How it is doing.", body = Data<Batch>),
        (status = 401, description = "There is no valid key with the request.", body = Refused),
        (status = 404, description = "There is no such batch.", body = Refused),
    ),
)]
async fn status(Reader(caller): Reader, Id(batch): Id) -> Result<Answer<Data<Batch>>, Problem> {
    let view = ANCHOR.view(&caller, batch).await?;
    let sessions = ANCHOR.items(&caller, &view);
    let sessions = sessions.map_ok(|row| session(batch, row));
    let sessions: Vec<Session> = sessions.try_collect().await?;
    let BatchView { summary, .. } = &view;
    let counts = &summary.counts;
    let status = status_of(summary);
    let pending = sessions.iter().filter(|it| it.status == Status::Pending);
    let pending_requests = (pending.count() as u64).min(counts.open);
    let error = (status == Status::Failed).then(|| {
        let (failed, all) = (counts.failed, summary.documents);
        format!("{failed} of {} failed", so_many(all.into(), ""))
    });
    Ok(answer(Batch {
        batch_id: batch,
        status,
        total_requests: summary.documents,
        completed_requests: counts.completed,
        failed_requests: counts.failed,
        processing_requests: counts.open - pending_requests,
        pending_requests,
        created_at: summary.created_at,
        actual_completion_time: view.ended_at.filter(|_| status.is_over()),
        error,
        sessions,
        progress: progress(status, summary),
    }))
}

fn progress(status: Status, batch: &BatchSummary) -> Progress {
    let ended = u64::from(batch.documents).saturating_sub(batch.counts.open);
    let percentage = match batch.documents {
        0 => 0,
        all => ended * 100 / u64::from(all),
    };
    let current_phase = match status {
        Status::Pending => Phase::Queued,
        Status::Processing => Phase::Provisioning,
        Status::Completed | Status::Failed | Status::Cancelled => Phase::Ready,
    };
    Progress {
        percentage,
        current_phase,
    }
}

fn session(batch: BatchId, row: DocumentRow) -> Session {
    let status = match row.status {
        DocumentStatus::Open if row.tier == 0 => Status::Pending,
        DocumentStatus::Open => Status::Processing,
        DocumentStatus::Completed => Status::Completed,
        DocumentStatus::Failed => Status::Failed,
        DocumentStatus::Cancelled => Status::Cancelled,
    };
    let is_open = status == Status::Completed;
    let outputs = row.outputs.unwrap_or_default();
    let said = |field: &str| {
        let outputs = outputs.iter().filter_map(|output| output.output.as_ref());
        let mut said = outputs.filter_map(|output| output.get(field)?.as_str());
        let said = said.find(|text| text.len() <= TEXT_BYTES);
        said.filter(|_| is_open).map(ToOwned::to_owned)
    };
    let session_id = said("session_id").and_then(|id| id.parse().ok());
    let failed = row.failures.iter().map(|failure| failure.at).max();
    let error = row.failures.into_iter().next();
    Session {
        item_index: row.ordinal,
        // A session that is opened anew is another one.
        session_id: is_open
            .then(|| session_id.unwrap_or_else(|| item_id(batch, row.ordinal, row.retry_count))),
        status,
        cdp_url: said("cdp_url"),
        live_view_url: said("live_view_url"),
        error: error.map(|failure| failure.message),
        retry_count: row.retry_count,
        completed_at: failed.filter(|_| status == Status::Failed),
    }
}

/// The batches, the last one first, without their sessions.
#[utoipa::path(
    get, path = "/v1/batch-sessions", tag = "Anchor", params(List),
    responses(
        (status = 200, description = "A page of them.", body = Data<Listed>),
        (status = 400, description = "The request is not valid.", body = Refused),
        (status = 401, description = "There is no valid key with the request.", body = Refused),
    ),
)]
async fn list(
    Reader(caller): Reader,
    Params(ask): Params<List>,
) -> Result<Answer<Data<Listed>>, Problem> {
    let page = Numbered::of(ask.page, ask.limit, 20, 100)?;
    let mut batches = ANCHOR.batches(&caller).await?;
    batches.retain(|batch| {
        ask.status.is_none_or(|wanted| wanted == status_of(batch))
            && ask.created_after.is_none_or(|time| batch.created_at > time)
            && ask
                .created_before
                .is_none_or(|time| batch.created_at < time)
    });
    let (total_records, total_pages) = (batches.len(), page.pages(batches.len()));
    let pagination = Page {
        current_page: page.page,
        total_pages,
        total_records,
        has_next: (page.page as usize) < total_pages,
        has_prev: page.page > 1,
    };
    let batches = page.cut(batches).map(|batch| entry(&batch)).collect();
    Ok(answer(Listed {
        batches,
        pagination,
    }))
}

fn entry(batch: &BatchSummary) -> Entry {
    let status = status_of(batch);
    Entry {
        batch_id: batch.batch,
        status,
        total_requests: batch.documents,
        completed_requests: batch.counts.completed,
        failed_requests: batch.counts.failed,
        created_at: batch.created_at,
        actual_completion_time: status.is_over().then_some(batch.last_activity_at),
    }
}

/// Stops a batch: that is all that can be changed of one.
#[utoipa::path(
    patch, path = "/v1/batch-sessions/{batch_id}", tag = "Anchor", request_body = Update,
    params(("batch_id" = uuid::Uuid, Path, description = "The batch.")),
    responses(
        (status = 200, description = "It is stopped.", body = Data<Updated>),
        (status = 400, description = "The request is not valid.", body = Refused),
        (status = 401, description = "There is no valid key with the request.", body = Refused),
        (status = 404, description = "There is no such batch.", body = Refused),
        (status = 409, description = "It is over: there is nothing to stop.", body = Refused),
    ),
)]
async fn update(
    Operator(caller): Operator,
    ids: Ids,
    Id(batch): Id,
    Required(Update { status }): Required<Update>,
) -> Result<Response, Problem> {
    let Some(cancelled_sessions) = ANCHOR.cancel(&caller, &ids, batch).await? else {
        let view = ANCHOR.view(&caller, batch).await?;
        let word = status_of(&view.summary).as_str();
        let message = format!("Cannot cancel a batch that is already {word}");
        return Ok(refused(StatusCode::CONFLICT, message));
    };
    Ok(answer(Updated {
        batch_id: batch,
        status,
        cancelled_sessions,
        message: format!("Cancelled {}", so_many(cancelled_sessions, "")),
    })
    .into_response())
}

/// Opens anew the sessions that failed in a batch, and no other.
#[utoipa::path(
    post, path = "/v1/batch-sessions/{batch_id}/retry", tag = "Anchor", request_body = Retry,
    params(("batch_id" = uuid::Uuid, Path, description = "The batch.")),
    responses(
        (status = 200, description = "What failed is opened anew.", body = Data<Retried>),
        (status = 400, description = "Nothing has failed in this batch, it takes more credits than are left, or the request is not valid.", body = Refused),
        (status = 401, description = "There is no valid key with the request.", body = Refused),
        (status = 404, description = "There is no such batch.", body = Refused),
    ),
)]
async fn retry(
    Operator(caller): Operator,
    ids: Ids,
    Id(batch): Id,
    Required(body): Required<Retry>,
) -> Result<Answer<Data<Retried>>, Problem> {
    let attempts = body.attempts()?;
    let retried = ANCHOR.retry(&caller, &ids, batch, Some(attempts)).await;
    let retried_sessions = retried.map_err(|problem| match problem {
        // Their document of a retry has no status of its own for credits.
        Problem::Credits(shortage) => Problem::Conflict {
            message: shortage.to_string(),
        },
        problem => problem,
    })?;
    let kept = match body.retry_failed_only {
        true => "",
        false => "; sessions that did not fail are kept as they are",
    };
    Ok(answer(Retried {
        batch_id: batch,
        status: Status::Processing,
        retried_sessions,
        message: format!("Retrying {}{kept}", so_many(retried_sessions, "failed ")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema itself, where there is a reference to it.
    fn schema<'a>(document: &'a Value, place: &'a Value) -> &'a Value {
        match place["$ref"].as_str() {
            Some(name) => {
                let name = name.rsplit('/').next().unwrap_or_default();
                &document["components"]["schemas"][name]
            }
            None => place,
        }
    }

    #[test]
    fn what_is_said_of_a_retry_is_what_their_documents_say() {
        let document = crate::document();
        let retry = &document["paths"]["/v1/batch-sessions/{batch_id}/retry"]["post"];
        assert_eq!(retry["parameters"][0]["name"], "batch_id");
        assert_eq!(retry["requestBody"]["required"], true);
        let json = |it: &'static str| {
            let place = retry.pointer(it).unwrap_or_else(|| panic!("{it} is there"));
            schema(&document, &place["content"]["application/json"]["schema"])
        };
        let body = json("/requestBody");
        assert!(body.get("required").is_none(), "{body}");
        let most = &body["properties"]["max_retries"];
        assert_eq!((&most["minimum"], &most["maximum"]), (&json!(1), &json!(3)));
        assert_eq!(most["default"], 1);
        let only = &body["properties"]["retry_failed_only"];
        assert_eq!(
            (&only["type"], &only["default"]),
            (&json!("boolean"), &json!(true))
        );
        // The other answers in `data` do not stand in its place.
        let data = schema(&document, &json("/responses/200")["properties"]["data"]);
        let fields = data["properties"].as_object();
        let fields: Vec<_> = fields.into_iter().flat_map(|it| it.keys()).collect();
        assert_eq!(
            fields,
            ["batch_id", "message", "retried_sessions", "status"]
        );
        for status in [
            "/responses/400",
            "/responses/401",
            "/responses/404",
            "/responses/500",
        ] {
            let error = &json(status)["properties"]["error"];
            let error = schema(&document, error)["properties"].as_object();
            let fields: Vec<_> = error.into_iter().flat_map(|it| it.keys()).collect();
            assert_eq!(fields, ["code", "message"], "{status}");
        }
    }
}
