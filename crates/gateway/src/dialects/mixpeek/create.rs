//! Making a batch, and submitting it.

use axum::{Json, extract::State};
use redrive_domain::{
    command::{Command, Start, Submit},
    document::Document,
    ids::BatchId,
    limits::DOCUMENT_ID_BYTES,
    query::BatchRef,
};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Errors,
    answers::{TaskKind, TaskResponse},
    bucket, cut, find,
    model::BatchModel,
};
use crate::{
    Gateway, Shared,
    caller::{Caller, Operator},
    dialects::fields::{Body, Fields},
    extract::Path,
    fill::Fill,
    ids::Ids,
    ops::NewBatch,
    problem::Problem,
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(create_batch))
        .routes(routes!(submit_batch))
}

/// Ids of objects that an answer names.
pub(super) const NAMED: u32 = 1_000;

/// Objects for a batch.
#[derive(Debug, ToSchema)]
#[schema(as = mixpeek::AddObjectsRequest)]
pub(super) struct Objects {
    /// For each a document with this id. Required where there are no `documents`.
    #[schema(min_items = 1)]
    object_ids: Option<Vec<String>>,
    /// Documents with more than an id: `{"id", "uri", "data"}`.
    documents: Option<Vec<Document>>,
}

impl Objects {
    /// Reads them; what is wrong with them is noted.
    pub(super) fn read(fields: &mut Fields) -> Self {
        let object_ids = fields.optional_texts("object_ids", 1..=DOCUMENT_ID_BYTES);
        let documents = fields.take("documents").filter(|value| !value.is_null());
        let documents = documents.and_then(|documents| {
            let read = serde_path_to_error::deserialize(documents);
            let refuse = |error: serde_path_to_error::Error<serde_json::Error>| {
                let path = format!("documents{}", error.path());
                fields.refuse(&path, error.inner().to_string(), "value_error");
            };
            read.map_err(refuse).ok()
        });
        let read = Self {
            object_ids,
            documents,
        };
        if read.documents.as_ref().is_none_or(Vec::is_empty) && fields.are_fine() {
            match read.object_ids.as_ref().map(Vec::len) {
                None => fields.refuse("object_ids", "Field required", "missing"),
                Some(0) => {
                    let msg = "List should have at least 1 item after validation, not 0";
                    fields.refuse("object_ids", msg, "too_short");
                }
                Some(_) => {}
            }
        }
        read
    }

    /// All of them: the ids first.
    pub(super) fn into_documents(self) -> impl Iterator<Item = Document> {
        let ids = self.object_ids.unwrap_or_default().into_iter();
        let documents = self.documents.unwrap_or_default();
        ids.map(Document::new).chain(documents)
    }
}

/// A batch to be made.
#[derive(Debug, ToSchema)]
#[schema(as = mixpeek::CreateBatchRequest)]
struct CreateBatch {
    /// Its objects.
    #[schema(inline)]
    objects: Objects,
    /// Its pipeline: an object, or the name of one that the operator configured. Without one it is the one that the
    /// operator configured under the bucket's name.
    #[schema(value_type = Option<Object>)]
    pipeline: Option<Value>,
}

impl CreateBatch {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let read = Self {
            objects: Objects::read(&mut fields),
            pipeline: fields.take("pipeline").filter(|value| !value.is_null()),
        };
        fields.done().map(|()| read)
    }
}

/// The pipeline of a batch of this bucket.
fn pipeline(gateway: &Gateway, bucket: &str, asked: Option<Value>) -> Result<Value, Problem> {
    match asked {
        Some(Value::String(name)) => gateway.pipeline(&name).cloned().ok_or_else(|| {
            let name = cut(&name);
            Problem::invalid("body", "pipeline", format!("there is none called {name:?}"))
        }),
        Some(pipeline) => Ok(pipeline),
        None => gateway.pipeline(bucket).cloned().ok_or_else(|| {
            let message = format!(
                "the bucket {bucket} has no pipeline: give one with the batch, or let the operator configure one \
                 under the bucket's name ([gateway.pipelines])"
            );
            Problem::invalid("body", "pipeline", message)
        }),
    }
}

/// Makes a batch of objects. Nothing is done with them until it is submitted.
#[utoipa::path(
    post, path = "/v1/buckets/{bucket_identifier}/batches", tag = "Mixpeek",
    operation_id = "mixpeek_create_batch",
    params(("bucket_identifier" = String, Path, description = "The bucket")),
    request_body = CreateBatch,
    responses((status = 200, description = "It is made", body = BatchModel), Errors),
)]
async fn create_batch(
    State(gateway): State<Shared>,
    Operator(caller): Operator,
    ids: Ids,
    Path(name): Path<String>,
    Body(fields): Body,
) -> Result<Json<BatchModel>, Problem> {
    let bucket = bucket(&name)?;
    let CreateBatch { objects, pipeline } = CreateBatch::read(fields)?;
    let pipeline = self::pipeline(&gateway, &name, pipeline)?;
    let new = NewBatch {
        bucket,
        pipeline,
        start: Start::OnSubmit,
    };
    let documents: Vec<Document> = objects.into_documents().collect();
    let named = documents.iter().take(usize::try_from(NAMED).unwrap_or(0));
    let object_ids = named.map(|document| document.id.clone()).collect();
    let batch = draft(&caller, &ids, &new, documents).await?;
    let view = caller.view(BatchRef::Id(batch)).await?;
    Ok(Json(BatchModel::of(&view, Some(object_ids))))
}

/// Makes a batch with documents, and leaves it open to be submitted. The same request with the same `Idempotency-Key` goes
/// on where it was.
async fn draft(
    caller: &Caller,
    ids: &Ids,
    new: &NewBatch,
    documents: Vec<Document>,
) -> Result<BatchId, Problem> {
    let batch = ids.batch(caller.namespace());
    let asked = serde_json::to_vec(&(&new.bucket, &new.pipeline)).map_err(Problem::internal)?;
    caller.begin(ids, new, batch, &asked).await?;
    let mut fill = Fill::new(caller, ids, new.bucket.clone(), batch, &asked);
    for document in documents {
        fill.add(document).await?;
    }
    fill.flush().await?;
    Ok(batch)
}

/// Submits a batch: its work begins. One that was submitted before stays so.
#[utoipa::path(
    post, path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/submit", tag = "Mixpeek",
    operation_id = "mixpeek_submit_batch",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
    ),
    responses((status = 200, description = "Its work begins", body = TaskResponse), Errors),
)]
async fn submit_batch(
    Operator(caller): Operator,
    ids: Ids,
    Path((bucket, batch)): Path<(String, String)>,
) -> Result<Json<TaskResponse>, Problem> {
    let view = find(&caller, &bucket, &batch).await?;
    let (bucket, batch) = (&view.summary.bucket, view.summary.batch);
    let submit = Command::Submit(Submit::default());
    let accepted = caller.command(&ids, bucket, batch, &submit).await?;
    Ok(Json(TaskResponse::of(
        TaskKind::Submit,
        batch,
        accepted.status,
    )))
}
