//! Reads. They are answered by a projector, as of the end of the log when they came, or as of any moment with `at`.

mod history;
mod lists;
mod rows;

use axum::Json;
use redrive_broker::Broker;
use redrive_domain::{
    diagnosis::Diagnosis,
    query::{At, BatchRef, BatchView, CreditsView, OfBatch, OfNamespace},
};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Shared,
    caller::{Caller, Reader},
    extract::{Params, Path},
    native::error::ErrorResponse,
    problem::Problem,
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(get_batch))
        .routes(routes!(diagnose))
        .routes(routes!(get_credits))
        .merge(lists::router())
        .merge(history::router())
}

/// What was refused, or not answered, of a read.
fn not_read(error: redrive_client::ClientError) -> Problem {
    Problem::of(error, "query")
}

/// Refuses to wait for a log sequence that nothing has yet: no command's answer can have named it.
async fn reachable(caller: &Caller, min_seq: Option<u64>) -> Result<(), Problem> {
    let Some(asked) = min_seq.filter(|asked| *asked > 0) else {
        return Ok(());
    };
    let end = caller.client.broker().last_seq().await;
    let end = end.map_err(|error| not_read(error.into()))?;
    if asked > end {
        let message = format!("is {asked}: the log ends at {end}");
        return Err(Problem::invalid("query", "min_seq", message));
    }
    Ok(())
}

/// When a read is of.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Moment {
    /// As of this moment: a log sequence, or a time (RFC 3339). As of now unless said.
    #[param(inline, example = "41")]
    at: Option<At>,
    /// The answer has to include this log sequence. Without it, it includes all that stood in the log when the question
    /// came; 0 takes what is there.
    min_seq: Option<u64>,
}

impl Moment {
    fn of(self, batch: BatchRef) -> OfBatch {
        OfBatch {
            batch,
            min_seq: self.min_seq,
            at: self.at,
        }
    }
}

/// How a batch is doing.
#[utoipa::path(
    get, path = "/v1/batches/{batch}", tag = "Redrive",
    params(("batch" = String, Path, description = "Its id, or `last`"), Moment),
    responses(
        (status = 200, description = "How it is doing", body = BatchView),
        (status = 404, description = "There is no such batch", body = ErrorResponse),
    ),
)]
async fn get_batch(
    Reader(caller): Reader,
    Path(batch): Path<BatchRef>,
    Params(moment): Params<Moment>,
) -> Result<Json<BatchView>, Problem> {
    reachable(&caller, moment.min_seq).await?;
    let view = caller.client.status(&moment.of(batch)).await;
    view.map(Json).map_err(not_read)
}

/// What is wrong with a batch, and what to do about it.
#[utoipa::path(
    get, path = "/v1/batches/{batch}/diagnose", tag = "Redrive",
    params(("batch" = String, Path, description = "Its id, or `last`"), Moment),
    responses(
        (status = 200, description = "What is wrong with it", body = Diagnosis),
        (status = 404, description = "There is no such batch", body = ErrorResponse),
    ),
)]
async fn diagnose(
    Reader(caller): Reader,
    Path(batch): Path<BatchRef>,
    Params(moment): Params<Moment>,
) -> Result<Json<Diagnosis>, Problem> {
    reachable(&caller, moment.min_seq).await?;
    let diagnosis = caller.client.diagnose(&moment.of(batch)).await;
    diagnosis.map(Json).map_err(not_read)
}

/// What the namespace may spend a month, and what it has spent.
#[utoipa::path(
    get, path = "/v1/credits", tag = "Redrive", params(Moment),
    responses((status = 200, description = "The limit, the present month, and those before", body = CreditsView)),
)]
async fn get_credits(
    Reader(caller): Reader,
    Params(moment): Params<Moment>,
) -> Result<Json<CreditsView>, Problem> {
    reachable(&caller, moment.min_seq).await?;
    let query = OfNamespace {
        min_seq: moment.min_seq,
        at: moment.at,
    };
    let credits = caller.client.credits(&query).await;
    credits.map(Json).map_err(not_read)
}
