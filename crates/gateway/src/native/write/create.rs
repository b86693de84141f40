//! Making a batch.

use axum::{
    extract::{FromRequest, Request, State},
    http::StatusCode,
};
use redrive_domain::{
    command::{Accepted, Start},
    document::Document,
    ids::{BatchId, Bucket},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Done;
use crate::{
    Shared,
    caller::{Caller, Operator},
    extract::Json,
    fill::{Fill, Stopped, fault_at},
    ids::Ids,
    lines::{Lines, Wrong, in_line, is_lines},
    native::error::ErrorResponse,
    ops::NewBatch,
    problem::{Problem, Step},
};

/// More than this many errors in one body tell nothing new.
const ERRORS_SHOWN: usize = 20;

/// A batch to be made. As lines, this is the first one, without `documents`: they are the further ones.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBatch {
    /// Its bucket.
    bucket: Bucket,
    /// Its pipeline: an object, or the name of one that the operator configured.
    #[schema(value_type = PipelineOrName)]
    pipeline: Value,
    /// When work begins.
    #[serde(default)]
    start: Start,
    /// Its id, if it is to have one of the client's own: the same request again makes no second batch.
    #[serde(default)]
    batch: Option<BatchId>,
    /// Its documents. Without the field the batch stays open: documents are added, and it is submitted.
    #[serde(default)]
    documents: Option<Vec<Document>>,
}

/// A pipeline, or its name.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)] // only its schema is of use
#[schema(as = PipelineOrName)]
#[serde(untagged)]
enum PipelineOrName {
    /// The name of one that the operator configured.
    Name(String),
    /// A pipeline, as in a file of one.
    Pipeline(serde_json::Map<String, Value>),
}

/// The first line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    bucket: Bucket,
    pipeline: Value,
    #[serde(default)]
    start: Start,
    #[serde(default)]
    batch: Option<BatchId>,
}

/// What a request with the same key is held to, beside its documents.
#[derive(Serialize)]
struct Asked<'a> {
    bucket: &'a Bucket,
    pipeline: &'a Value,
    start: Start,
    batch: Option<BatchId>,
    stays_open: bool,
}

/// Makes a batch.
///
/// With documents, its work begins when all have come; without, it stays open, so that documents can be added. Many
/// documents come as lines (`application/x-ndjson`): the first line is the batch, each further one a document. Cut off
/// anywhere, nothing has begun, and the same request with the same `Idempotency-Key`, or with the same `batch`, goes on
/// where it was. Where it ends early, the error has the `progress`: the batch, and how many documents it has.
#[utoipa::path(
    post, path = "/v1/batches", tag = "Redrive",
    request_body(content(
        (CreateBatch = "application/json", example = json!({
            "bucket": "docs",
            "pipeline": { "tiers": [{ "jobs": [{ "handler": "fetch" }] }] },
            "documents": [{ "id": "a", "uri": "https://example.com/a" }, { "id": "b", "data": { "text": "short" } }],
        })),
        (String = "application/x-ndjson", example = "{\"bucket\": \"docs\", \"pipeline\": \"fetch\"}\n{\"id\": \"a\"}\n{\"id\": \"b\"}\n"),
    )),
    responses(
        (status = 201, description = "It is made", body = Accepted,
            example = json!({ "batch": "01890a5d-ac96-774b-bcce-b302099a8057", "status": "running", "seq": 7, "documents": 2 })),
        (status = 403, description = "The key does not allow it, or it takes more credits than are left", body = ErrorResponse),
        (status = 409, description = "The batch is there already, and is another one", body = ErrorResponse),
    ),
)]
pub(super) async fn create_batch(
    State(gateway): State<Shared>,
    Operator(caller): Operator,
    ids: Ids,
    request: Request,
) -> Result<Done<Accepted>, Stopped> {
    if is_lines(request.headers()) {
        let mut lines = Lines::new(request.into_body());
        let made = from_lines(&gateway, &caller, &ids, &mut lines).await;
        if made.is_err() {
            lines.hear_out().await;
        }
        return made;
    }
    let Json(body) = Json::<CreateBatch>::from_request(request, &gateway).await?;
    from_json(&gateway, &caller, &ids, body).await
}

async fn from_json(
    gateway: &Shared,
    caller: &Caller,
    ids: &Ids,
    body: CreateBatch,
) -> Result<Done<Accepted>, Stopped> {
    check(body.documents.as_deref().unwrap_or_default())?;
    let head = Head {
        bucket: body.bucket,
        pipeline: body.pipeline,
        start: body.start,
        batch: body.batch,
    };
    let begun = head.begin(gateway, caller, ids, body.documents.is_none());
    let (mut fill, made) = begun.await?;
    let Some(documents) = body.documents else {
        return Ok(Done::of(StatusCode::CREATED, ids, made));
    };
    for document in documents {
        if let Err(problem) = fill.add(document).await {
            return Err(fill.stopped(problem));
        }
    }
    let made = fill.finish_or_stop().await?;
    Ok(Done::of(StatusCode::CREATED, ids, made))
}

/// What is wrong with the documents of a body that is there as a whole, before anything is made of it.
pub(super) fn check(documents: &[Document]) -> Result<(), Problem> {
    let faults: Vec<_> = documents
        .iter()
        .enumerate()
        .filter_map(|(place, document)| {
            let error = document.validate().err()?;
            Some(fault_at(&["documents".into(), Step::Index(place)], &error))
        })
        .take(ERRORS_SHOWN)
        .collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Problem::Invalid(faults)),
    }
}

async fn from_lines(
    gateway: &Shared,
    caller: &Caller,
    ids: &Ids,
    lines: &mut Lines,
) -> Result<Done<Accepted>, Stopped> {
    let (number, head) = lines.head::<Head>().await?;
    // Before anything is made: whether there is any document decides what the request is.
    let first = match lines.document().await {
        Ok(first) => first,
        Err(Wrong::Body(problem) | Wrong::Line(problem)) => return Err(problem.into()),
    };
    let begun = head.begin(gateway, caller, ids, first.is_none()).await;
    let (mut fill, made) = begun.map_err(|problem| in_line(problem, number))?;
    let Some(first) = first else {
        return Ok(Done::of(StatusCode::CREATED, ids, made));
    };
    fill_from(&mut fill, Some(first), lines).await?;
    let made = fill.finish_or_stop().await?;
    Ok(Done::of(StatusCode::CREATED, ids, made))
}

/// Adds all documents that come. What the client is slow to send, and what the system is slow to take, the other waits for.
pub(super) async fn fill_from(
    fill: &mut Fill<'_>,
    mut next: Option<Document>,
    lines: &mut Lines,
) -> Result<(), Stopped> {
    loop {
        let document = match next.take() {
            Some(document) => Some(document),
            None => match lines.document().await {
                Ok(document) => document,
                Err(Wrong::Line(problem)) => return Err(fill.stopped_at(problem).await),
                // What comes again after a break is cut into the same pages.
                Err(Wrong::Body(problem)) => return Err(fill.stopped(problem)),
            },
        };
        let Some(document) = document else {
            return Ok(());
        };
        if let Err(problem) = fill.add(document).await {
            return Err(fill.stopped(problem));
        }
    }
}

impl Head {
    async fn begin<'a>(
        self,
        gateway: &Shared,
        caller: &'a Caller,
        ids: &'a Ids,
        stays_open: bool,
    ) -> Result<(Fill<'a>, Accepted), Problem> {
        let pipeline = match &self.pipeline {
            Value::String(name) => gateway.pipeline(name).cloned().ok_or_else(|| {
                let name: String = name.chars().take(80).collect();
                Problem::invalid("body", "pipeline", format!("there is none called {name:?}"))
            })?,
            pipeline => pipeline.clone(),
        };
        let asked = Asked {
            bucket: &self.bucket,
            pipeline: &self.pipeline,
            start: self.start,
            batch: self.batch,
            stays_open,
        };
        let asked = serde_json::to_vec(&asked).map_err(Problem::internal)?;
        // The same batch is made once anyway; another one with the same key would be another request.
        if self.batch.is_some() && ids.are_of_a_key() {
            let message = "stands beside an Idempotency-Key, which makes the id: give one of them";
            return Err(Problem::invalid("body", "batch", message));
        }
        let batch = self.batch.unwrap_or_else(|| ids.batch(caller.namespace()));
        let new = NewBatch {
            bucket: self.bucket,
            pipeline,
            start: self.start,
        };
        let made = caller.begin(ids, &new, batch, &asked).await?;
        let fill = Fill::new(caller, ids, new.bucket, batch, &asked);
        Ok((fill, made))
    }
}
