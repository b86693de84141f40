//! What makes and changes batches. Each request may come again with the same `Idempotency-Key`: it is done once.

mod create;
mod documents;
mod retry;

use axum::{
    Json as Answer,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use redrive_domain::{
    command::{Accepted, Cancel, Command, Heal, Pause, Resume, SetCredits, Submit},
    credits::NO_BATCH,
    decide::ANY_BUCKET,
    heal::HealAction,
    ids::{BatchId, Bucket, JobName},
    pipeline::TierNum,
};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Shared,
    caller::{Admin, Caller, Operator},
    extract::{Json, Path},
    ids::Ids,
    problem::{Problem, Step},
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(create::create_batch))
        .routes(routes!(documents::add_documents))
        .routes(routes!(submit_batch))
        .routes(routes!(retry::retry_batch))
        .routes(routes!(retry::retry_tier))
        .routes(routes!(cancel_batch))
        .routes(routes!(cancel_tier))
        .routes(routes!(cancel_job))
        .routes(routes!(heal_batch))
        .routes(routes!(heal_tier))
        .routes(routes!(pause_batch))
        .routes(routes!(resume_batch))
        .routes(routes!(set_credits))
}

/// Says that the request had been carried out before, so that nothing was done now.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A command that was carried out.
#[derive(Debug)]
struct Done<T> {
    status: StatusCode,
    /// Whether it came again, with its key.
    replayed: bool,
    answer: T,
}

impl Done<Accepted> {
    /// With a key, the answer is the same whenever it comes: that nothing was done now stands in a header.
    fn of(status: StatusCode, ids: &Ids, mut accepted: Accepted) -> Self {
        let replayed = ids.are_of_a_key() && accepted.repeated;
        if replayed {
            accepted.repeated = false;
        }
        Self {
            status,
            replayed,
            answer: accepted,
        }
    }
}

impl<T: Serialize> IntoResponse for Done<T> {
    fn into_response(self) -> Response {
        let mut response = (self.status, Answer(self.answer)).into_response();
        if self.replayed {
            let headers = response.headers_mut();
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// A tier in a path.
#[derive(Debug, Clone, Copy, Deserialize)]
struct OfTier {
    batch: BatchId,
    tier: TierNum,
}

/// A job in a path.
#[derive(Debug, Clone, Deserialize)]
struct OfJob {
    batch: BatchId,
    tier: TierNum,
    job: JobName,
}

/// Gives a command to a batch in whatever bucket.
async fn give(
    caller: &Caller,
    ids: &Ids,
    batch: BatchId,
    command: &Command,
) -> Result<Done<Accepted>, Problem> {
    let any = Bucket::new(ANY_BUCKET).map_err(Problem::internal)?;
    let accepted = caller.command(ids, &any, batch, command).await?;
    Ok(Done::of(StatusCode::OK, ids, accepted))
}

/// What is wrong with a tier or a job that stands in the path: there is no such thing.
fn in_path(problem: Problem, batch: BatchId, tier: TierNum, job: Option<&JobName>) -> Problem {
    let Problem::Invalid(faults) = &problem else {
        return problem;
    };
    let names = |field: &str| {
        let is_it = |step: &Step| matches!(step, Step::Name(name) if name == field);
        faults
            .iter()
            .any(|fault| fault.loc.get(1).is_some_and(is_it))
    };
    match job {
        Some(job) if names("job") => Problem::NotFound {
            what: format!("job {job} in tier {tier} of batch {batch}"),
        },
        _ if names("tier") || names("tier_nums") => Problem::NotFound {
            what: format!("tier {tier} in batch {batch}"),
        },
        _ => problem,
    }
}

/// Says that a batch has all its documents.
///
/// Its work begins, where it was not to begin at once. Said again, it is no error, as long as there are as many documents.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/submit", tag = "Redrive",
    params(("batch" = BatchId, Path, description = "Its id")),
    request_body(content = Submit, description = "May be left out", example = json!({ "documents": 3 })),
    responses(
        (status = 200, description = "Its work begins", body = Accepted,
            example = json!({ "batch": "01890a5d-ac96-774b-bcce-b302099a8057", "status": "running", "seq": 9, "documents": 3 })),
        (status = 404, description = "There is no such batch", body = crate::native::error::ErrorResponse),
        (status = 409, description = "It has another number of documents, or was cancelled", body = crate::native::error::ErrorResponse),
    ),
)]
async fn submit_batch(
    Operator(caller): Operator,
    ids: Ids,
    Path(batch): Path<BatchId>,
    Json(body): Json<Submit>,
) -> Result<Done<Accepted>, Problem> {
    give(&caller, &ids, batch, &Command::Submit(body)).await
}

/// Why something is stopped.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CancelBody {
    /// For the history; at most 1,000 characters are kept.
    #[serde(default)]
    #[schema(example = "wrong bucket")]
    reason: Option<String>,
}

/// Stops a batch.
///
/// Nothing new starts, what runs is told to stop, and what it still reports changes nothing. What has succeeded stays.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/cancel", tag = "Redrive",
    params(("batch" = BatchId, Path, description = "Its id")),
    request_body(content = CancelBody, description = "May be left out"),
    responses(
        (status = 200, description = "It is stopped, or was before", body = Accepted,
            example = json!({ "batch": "01890a5d-ac96-774b-bcce-b302099a8057", "status": "cancelled", "seq": 12, "documents": 3, "cancelled_documents": 2 })),
        (status = 404, description = "There is no such batch", body = crate::native::error::ErrorResponse),
        (status = 409, description = "It is over: there is nothing to stop", body = crate::native::error::ErrorResponse),
    ),
)]
async fn cancel_batch(
    Operator(caller): Operator,
    ids: Ids,
    Path(batch): Path<BatchId>,
    Json(body): Json<CancelBody>,
) -> Result<Done<Accepted>, Problem> {
    let cancel = Cancel {
        reason: body.reason,
        ..Cancel::default()
    };
    give(&caller, &ids, batch, &Command::Cancel(cancel)).await
}

/// Stops a tier.
///
/// Documents that are through it go on; the others stay where they are.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/tiers/{tier}/cancel", tag = "Redrive",
    params(
        ("batch" = BatchId, Path, description = "The batch's id"),
        ("tier" = u16, Path, description = "The tier, from 0"),
    ),
    request_body(content = CancelBody, description = "May be left out"),
    responses(
        (status = 200, description = "It is stopped, or was before", body = Accepted),
        (status = 404, description = "There is no such batch, or no such tier", body = crate::native::error::ErrorResponse),
        (status = 409, description = "The batch is over: there is nothing to stop", body = crate::native::error::ErrorResponse),
    ),
)]
async fn cancel_tier(
    Operator(caller): Operator,
    ids: Ids,
    Path(OfTier { batch, tier }): Path<OfTier>,
    Json(body): Json<CancelBody>,
) -> Result<Done<Accepted>, Problem> {
    let cancel = Cancel {
        tier: Some(tier),
        job: None,
        reason: body.reason,
    };
    let done = give(&caller, &ids, batch, &Command::Cancel(cancel)).await;
    done.map_err(|problem| in_path(problem, batch, tier, None))
}

/// Stops a job.
///
/// Where other jobs of its tier go on, documents go on without its output. The last job of a tier is the tier.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/tiers/{tier}/jobs/{job}/cancel", tag = "Redrive",
    params(
        ("batch" = BatchId, Path, description = "The batch's id"),
        ("tier" = u16, Path, description = "The tier, from 0"),
        ("job" = JobName, Path, description = "The job's name"),
    ),
    request_body(content = CancelBody, description = "May be left out"),
    responses(
        (status = 200, description = "It is stopped, or was before", body = Accepted),
        (status = 404, description = "There is no such batch, tier or job", body = crate::native::error::ErrorResponse),
        (status = 409, description = "The batch is over: there is nothing to stop", body = crate::native::error::ErrorResponse),
    ),
)]
async fn cancel_job(
    Operator(caller): Operator,
    ids: Ids,
    Path(OfJob { batch, tier, job }): Path<OfJob>,
    Json(body): Json<CancelBody>,
) -> Result<Done<Accepted>, Problem> {
    let cancel = Cancel {
        tier: Some(tier),
        job: Some(job.clone()),
        reason: body.reason,
    };
    let done = give(&caller, &ids, batch, &Command::Cancel(cancel)).await;
    done.map_err(|problem| in_path(problem, batch, tier, Some(&job)))
}

/// What to look for, and whether to put it right.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct HealBody {
    /// What to look for.
    action: HealAction,
    /// Of `detect_stuck`: hand out again what is surely stuck, and with `idle_seconds` what shows no sign of life.
    #[serde(default)]
    fix: bool,
    /// Of `detect_stuck`: how long no sign of life is told of as stuck; 60 unless said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86_400)]
    idle_seconds: Option<u32>,
}

impl HealBody {
    fn command(self, tier: Option<TierNum>) -> Command {
        Command::Heal(Heal {
            tier,
            fix: self.fix,
            idle_seconds: self.idle_seconds,
            ..Heal::new(self.action)
        })
    }
}

/// Looks in a batch for what is stuck or executed twice, and puts it right.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/heal", tag = "Redrive",
    params(("batch" = BatchId, Path, description = "Its id")),
    request_body(content = HealBody, example = json!({ "action": "detect_stuck", "fix": true })),
    responses(
        (status = 200, description = "What was found, and what became of it", body = Accepted,
            example = json!({ "batch": "01890a5d-ac96-774b-bcce-b302099a8057", "status": "running", "seq": 12, "documents": 3,
                "heal": { "action": "detect_stuck", "chunks": 1, "stuck": [], "duplicates": [] } })),
        (status = 404, description = "There is no such batch", body = crate::native::error::ErrorResponse),
    ),
)]
async fn heal_batch(
    Operator(caller): Operator,
    ids: Ids,
    Path(batch): Path<BatchId>,
    Json(body): Json<HealBody>,
) -> Result<Done<Accepted>, Problem> {
    give(&caller, &ids, batch, &body.command(None)).await
}

/// Looks in a tier for what is stuck or executed twice, and puts it right.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/tiers/{tier}/heal", tag = "Redrive",
    params(
        ("batch" = BatchId, Path, description = "The batch's id"),
        ("tier" = u16, Path, description = "The tier, from 0"),
    ),
    request_body(content = HealBody, example = json!({ "action": "kill_duplicates" })),
    responses(
        (status = 200, description = "What was found, and what became of it", body = Accepted),
        (status = 404, description = "There is no such batch, or no such tier", body = crate::native::error::ErrorResponse),
    ),
)]
async fn heal_tier(
    Operator(caller): Operator,
    ids: Ids,
    Path(OfTier { batch, tier }): Path<OfTier>,
    Json(body): Json<HealBody>,
) -> Result<Done<Accepted>, Problem> {
    let done = give(&caller, &ids, batch, &body.command(Some(tier))).await;
    done.map_err(|problem| in_path(problem, batch, tier, None))
}

/// Hands nothing more of a batch out, or of some jobs of it, until they are resumed.
///
/// What workers hold goes on.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/pause", tag = "Redrive",
    params(("batch" = BatchId, Path, description = "Its id")),
    request_body(content = Pause, description = "May be left out", example = json!({ "tier": 1, "reason": "the model is being replaced" })),
    responses(
        (status = 200, description = "They are paused, or were before", body = Accepted,
            example = json!({ "batch": "01890a5d-ac96-774b-bcce-b302099a8057", "status": "running", "seq": 12, "documents": 3,
                "jobs": [{ "tier": 1, "job": "embed" }] })),
        (status = 404, description = "There is no such batch", body = crate::native::error::ErrorResponse),
        (status = 409, description = "It is over: there is nothing to pause", body = crate::native::error::ErrorResponse),
    ),
)]
async fn pause_batch(
    Operator(caller): Operator,
    ids: Ids,
    Path(batch): Path<BatchId>,
    Json(body): Json<Pause>,
) -> Result<Done<Accepted>, Problem> {
    give(&caller, &ids, batch, &Command::Pause(body)).await
}

/// Hands out again what was paused, whatever paused it.
///
/// Of a batch that was given up, what it has left to do goes on.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/resume", tag = "Redrive",
    params(("batch" = BatchId, Path, description = "Its id")),
    request_body(content = Resume, description = "May be left out", example = json!({ "tier": 1 })),
    responses(
        (status = 200, description = "They go on, or did before", body = Accepted),
        (status = 403, description = "The key does not allow it, or what goes on takes more credits than are left", body = crate::native::error::ErrorResponse),
        (status = 404, description = "There is no such batch", body = crate::native::error::ErrorResponse),
    ),
)]
async fn resume_batch(
    Operator(caller): Operator,
    ids: Ids,
    Path(batch): Path<BatchId>,
    Json(body): Json<Resume>,
) -> Result<Done<Accepted>, Problem> {
    give(&caller, &ids, batch, &Command::Resume(body)).await
}

/// What a namespace may spend from now on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct CreditsSet {
    /// Credits a month; `null` for no limit.
    limit: Option<u64>,
    /// The log sequence that holds it: a read that names it as `min_seq` sees it.
    seq: u64,
}

/// Sets what the namespace may spend a month.
///
/// What is spent or held already counts against it. It needs the scope `admin`.
#[utoipa::path(
    put, path = "/v1/credits", tag = "Redrive",
    request_body(content = SetCredits, example = json!({ "limit": 1_000_000 })),
    responses((status = 200, description = "It holds from now on", body = CreditsSet, example = json!({ "limit": 1_000_000, "seq": 4 }))),
)]
async fn set_credits(
    Admin(caller): Admin,
    ids: Ids,
    Json(body): Json<SetCredits>,
) -> Result<Done<CreditsSet>, Problem> {
    let any = Bucket::new(ANY_BUCKET).map_err(Problem::internal)?;
    let command = Command::SetCredits(body);
    let accepted = caller.command(&ids, &any, NO_BATCH, &command).await?;
    Ok(Done {
        status: StatusCode::OK,
        replayed: ids.are_of_a_key() && accepted.repeated,
        answer: CreditsSet {
            limit: body.limit,
            seq: accepted.seq,
        },
    })
}
