//! What makes and changes batches.

use axum::{extract::State, http::StatusCode};
use futures::stream;
use redrive_domain::{
    command::{Accepted, Start},
    document::Document,
    ids::Bucket,
};
use serde::Deserialize;
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Shared,
    caller::{Caller, Scope},
    extract::Json,
    ids::Ids,
    ops::NewBatch,
    problem::Problem,
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default().routes(routes!(create_batch))
}

/// A batch to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateBatch {
    /// Its bucket.
    #[schema(value_type = String)]
    bucket: Bucket,
    /// Its pipeline: an object, or the name of one that the operator configured.
    #[schema(value_type = Object)]
    pipeline: Value,
    /// When work begins.
    #[serde(default)]
    #[schema(value_type = String)]
    start: Start,
    /// Its documents.
    #[schema(value_type = Vec<Object>)]
    documents: Vec<Document>,
}

/// Makes a batch.
#[utoipa::path(
    post, path = "/v1/batches", tag = "Redrive", request_body = CreateBatch,
    responses((status = 201, description = "It is made, and its work begins")),
)]
async fn create_batch(
    State(gateway): State<Shared>,
    caller: Caller,
    ids: Ids,
    Json(body): Json<CreateBatch>,
) -> Result<(StatusCode, axum::Json<Accepted>), Problem> {
    caller.needs(Scope::Operate)?;
    let pipeline = match &body.pipeline {
        Value::String(name) => gateway.pipeline(name).cloned().ok_or_else(|| {
            Problem::invalid("body", "pipeline", format!("there is none called {name:?}"))
        })?,
        pipeline => pipeline.clone(),
    };
    let new = NewBatch {
        bucket: body.bucket,
        pipeline,
        start: body.start,
    };
    let documents = stream::iter(body.documents.into_iter().map(Ok));
    let made = caller.create(&ids, &new, documents).await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}
