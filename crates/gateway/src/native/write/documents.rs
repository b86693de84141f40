//! Adding documents to a batch that is open.

use axum::{
    extract::{FromRequest, Request, State},
    http::StatusCode,
};
use redrive_domain::{
    decide::ANY_BUCKET,
    document::Document,
    ids::{BatchId, Bucket},
    status::BatchStatus,
};
use serde::{Deserialize, Serialize};

use super::{
    Done,
    create::{check, fill_from},
};
use crate::{
    Shared,
    caller::Operator,
    extract::{Json, Params, Path},
    fill::{Fill, Stopped},
    ids::Ids,
    lines::{Lines, is_lines},
    native::error::ErrorResponse,
    problem::{Fault, Problem},
};

/// Where documents go.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// The ordinal, from 0, that the first of these documents gets: those that the batch has by now are skipped. Without
    /// it they come after those that are there; lines have to name it, so that they can be sent again.
    #[param(example = 0)]
    first: Option<u32>,
}

/// Documents to be added.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddBody {
    /// Which.
    documents: Vec<Document>,
}

/// What became of documents.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Added {
    /// The batch.
    batch: BatchId,
    /// What it is now.
    status: BatchStatus,
    /// The log sequence that holds them: a read that names it as `min_seq` sees them.
    seq: u64,
    /// Documents that it has.
    documents: u32,
    /// Documents of this request that were added.
    added: u64,
    /// Documents of this request that were there already.
    skipped: u64,
}

/// Adds documents to a batch that is open.
///
/// With `first`, what is there already is skipped: the same documents sent again after a break are added once. Many come
/// as lines (`application/x-ndjson`), each of them a document. Where it ends early, the error has the `progress`: how many
/// documents the batch has. A line that is wrong is named by its number, and those before it are added.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/documents", tag = "Redrive",
    params(("batch" = BatchId, Path, description = "Its id"), Place),
    request_body(content(
        (AddBody = "application/json", example = json!({ "documents": [{ "id": "a" }, { "id": "b" }] })),
        (String = "application/x-ndjson", example = "{\"id\": \"a\"}\n{\"id\": \"b\"}\n"),
    )),
    responses(
        (status = 200, description = "They are there", body = Added,
            example = json!({ "batch": "01890a5d-ac96-774b-bcce-b302099a8057", "status": "pending", "seq": 5, "documents": 2, "added": 2, "skipped": 0 })),
        (status = 403, description = "The key does not allow it, or they take more credits than are left", body = ErrorResponse),
        (status = 404, description = "There is no such batch", body = ErrorResponse),
        (status = 409, description = "It was submitted or cancelled, or has fewer documents than `first` says", body = ErrorResponse),
    ),
)]
pub(super) async fn add_documents(
    State(gateway): State<Shared>,
    Operator(caller): Operator,
    ids: Ids,
    Path(batch): Path<BatchId>,
    Params(place): Params<Place>,
    request: Request,
) -> Result<Done<Added>, Stopped> {
    let any = Bucket::new(ANY_BUCKET).map_err(Problem::internal)?;
    let asked = serde_json::to_vec(&place.first).map_err(Problem::internal)?;
    let fill = Fill::new(&caller, &ids, any, batch, &asked).starting_at(place.first);
    if is_lines(request.headers()) {
        if place.first.is_none() {
            let message = "is missing: say which ordinal the first line gets, 0 for a batch from its beginning";
            let fault = Fault::at("query", "first", message, "missing");
            return Err(Problem::Invalid(vec![fault]).into());
        }
        let mut lines = Lines::new(request.into_body());
        let added = from_lines(fill, batch, &ids, &mut lines).await;
        if added.is_err() {
            lines.hear_out().await;
        }
        return added;
    }
    let Json(body) = Json::<AddBody>::from_request(request, &gateway).await?;
    from_json(fill, batch, &ids, body.documents).await
}

async fn from_json(
    mut fill: Fill<'_>,
    batch: BatchId,
    ids: &Ids,
    documents: Vec<Document>,
) -> Result<Done<Added>, Stopped> {
    check(&documents)?;
    for document in documents {
        if let Err(problem) = fill.add(document).await {
            return Err(fill.stopped(problem));
        }
    }
    all_added(fill, batch, ids).await
}

async fn from_lines(
    mut fill: Fill<'_>,
    batch: BatchId,
    ids: &Ids,
    lines: &mut Lines,
) -> Result<Done<Added>, Stopped> {
    fill_from(&mut fill, None, lines).await?;
    all_added(fill, batch, ids).await
}

async fn all_added(mut fill: Fill<'_>, batch: BatchId, ids: &Ids) -> Result<Done<Added>, Stopped> {
    let taken = match fill.flush().await {
        Ok(taken) => taken,
        Err(problem) => return Err(fill.stopped(problem)),
    };
    let Some(taken) = taken else {
        let nothing = Problem::invalid("body", "documents", "has no entries: it takes at least 1");
        return Err(nothing.into());
    };
    let (asked, added) = fill.counts();
    Ok(Done {
        status: StatusCode::OK,
        replayed: ids.are_of_a_key() && taken.repeated,
        answer: Added {
            batch,
            status: taken.status,
            seq: taken.seq,
            documents: taken.documents,
            added,
            skipped: asked.saturating_sub(added),
        },
    })
}
