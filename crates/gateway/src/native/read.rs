//! Reads.

use axum::Json;
use redrive_domain::query::{At, BatchRef, BatchView, OfBatch};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Shared,
    caller::{Caller, Scope},
    extract::{Params, Path},
    problem::Problem,
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default().routes(routes!(get_batch))
}

/// When a read is of.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Moment {
    /// As of this moment: a log sequence, or a time (RFC 3339). As of now unless said.
    #[param(value_type = Option<String>, example = "41")]
    at: Option<At>,
    /// The answer has to include this log sequence. Without it, it includes all that stood in the log when the question
    /// came; 0 takes what is there.
    min_seq: Option<u64>,
}

/// How a batch is doing.
#[utoipa::path(
    get, path = "/v1/batches/{batch}", tag = "Redrive",
    params(("batch" = String, Path, description = "Its id, or `last`"), Moment),
    responses((status = 200, description = "How it is doing")),
)]
async fn get_batch(
    caller: Caller,
    Path(batch): Path<BatchRef>,
    Params(moment): Params<Moment>,
) -> Result<Json<BatchView>, Problem> {
    caller.needs(Scope::Read)?;
    let query = OfBatch {
        batch,
        at: moment.at,
        min_seq: moment.min_seq,
    };
    let view = caller.client.status(&query).await;
    Ok(Json(view.map_err(|error| Problem::of(error, "query"))?))
}
