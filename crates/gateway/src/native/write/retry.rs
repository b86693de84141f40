//! Executing failed units again.

use redrive_domain::{
    command::{Accepted, Command, Retry, RetryMode},
    failure::{FailureKind, Fingerprint},
    ids::{BatchId, JobName},
    pipeline::{SubmissionChange, TierNum},
    plan::Plan,
    share::Share,
    time::Timestamp,
};
use serde::Deserialize;

use super::{Done, OfTier, give, in_path};
use crate::{
    caller::Operator,
    extract::{Json, Path},
    ids::Ids,
    native::error::ErrorResponse,
    problem::{Fault, Problem, Step},
};

/// What to retry. Units that succeeded are never touched.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryBody {
    /// Which classes of failures.
    #[serde(default)]
    retry_mode: RetryMode,
    /// Only failures of these tiers; none or an empty list means all.
    #[schema(example = json!([2]))]
    #[serde(default)]
    tier_nums: Option<Vec<TierNum>>,
    /// Documents that were retried this often already are left out.
    #[schema(minimum = 1, maximum = 10, default = 3)]
    #[serde(default = "usual_max_retry_count")]
    max_retry_count: u8,
    /// Attempts in this round, stopping at the first success; without it, the job's own `max_attempts`.
    #[schema(minimum = 1, maximum = 3)]
    #[serde(default)]
    max_retries: Option<u8>,
    /// Which failures, more exactly.
    #[serde(default)]
    filter: Option<Filter>,
    /// Other parameters for the jobs of the tiers in `tier_nums`: for this retry, for what is open in them, and for later
    /// retries.
    #[serde(default)]
    set: Option<Box<SubmissionChange>>,
    /// Short for `requires_gpu` in `set`.
    #[serde(default)]
    requires_gpu: Option<bool>,
    /// Short for `priority` in `set`.
    #[schema(minimum = 0, maximum = 100)]
    #[serde(default)]
    priority: Option<u8>,
    /// Nothing of it is executed before this time.
    #[serde(default)]
    not_before: Option<Timestamp>,
    /// Try this part of the documents first, and the rest only if they succeed well enough.
    #[serde(default)]
    canary: Option<Share>,
    /// How large a part of that sample has to succeed; 90% unless said.
    #[serde(default)]
    canary_success: Option<Share>,
    /// Do nothing: answer with what would be done, and with a plan of it.
    #[serde(default)]
    dry_run: bool,
    /// The `plan` of such an answer: do just what it says, or nothing where it no longer holds (409). No other field may
    /// stand beside it.
    #[serde(default)]
    plan_id: Option<Plan>,
}

/// Which failures. What is left out, or an empty list, means all.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Of these kinds, at most 16.
    #[serde(default)]
    kinds: Option<Vec<FailureKind>>,
    /// With these fingerprints, at most 16.
    #[serde(default)]
    fingerprints: Option<Vec<Fingerprint>>,
    /// Of jobs of these names, at most 16.
    #[serde(default)]
    jobs: Option<Vec<JobName>>,
}

fn usual_max_retry_count() -> u8 {
    Retry::default().max_retry_count
}

impl From<RetryBody> for Retry {
    fn from(body: RetryBody) -> Self {
        let filter = body.filter.unwrap_or_default();
        let mut set = body.set;
        if body.requires_gpu.is_some() || body.priority.is_some() {
            let set = set.get_or_insert_default();
            set.requires_gpu = body.requires_gpu.or(set.requires_gpu);
            set.priority = body.priority.or(set.priority);
        }
        Self {
            retry_mode: body.retry_mode,
            tier_nums: body.tier_nums,
            kinds: filter.kinds,
            max_retry_count: body.max_retry_count,
            max_retries: body.max_retries,
            fingerprints: filter.fingerprints,
            not_before: body.not_before,
            canary: body.canary,
            canary_success: body.canary_success,
            dry_run: body.dry_run,
            plan: body.plan_id,
            jobs: filter.jobs,
            set,
        }
    }
}

/// Fields are named as they stand in this body.
fn named_as_here(problem: Problem) -> Problem {
    let Problem::Invalid(mut faults) = problem else {
        return problem;
    };
    for fault in &mut faults {
        let here: &[&str] = match fault.loc.get(1) {
            Some(Step::Name(name)) => match name.as_str() {
                "plan" => &["plan_id"],
                "kinds" => &["filter", "kinds"],
                "fingerprints" => &["filter", "fingerprints"],
                "jobs" => &["filter", "jobs"],
                _ => continue,
            },
            _ => continue,
        };
        let here = here.iter().map(|name| Step::from(*name));
        fault.loc.splice(1..2, here);
    }
    Problem::Invalid(faults)
}

/// Executes failed units of a batch again.
///
/// With `dry_run` it tells what it would do, and nothing happens. A batch in which nothing is to be retried is no error:
/// the counts are 0, and `excluded` says why.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/retry", tag = "Redrive",
    params(("batch" = BatchId, Path, description = "Its id")),
    request_body(
        content = RetryBody, description = "May be left out: then transient failures of all tiers",
        examples(
            ("transient" = (summary = "What may pass by itself", value = json!({ "retry_mode": "transient_only" }))),
            ("tier" = (summary = "One tier, one kind", value = json!({ "tier_nums": [2], "filter": { "kinds": ["timeout"] } }))),
            ("parameters" = (summary = "With more memory", value = json!({ "retry_mode": "all", "tier_nums": [0], "set": { "memory_bytes": 8_589_934_592_u64 } }))),
            ("sample" = (summary = "A sample first", value = json!({ "retry_mode": "all", "canary": "5%", "canary_success": "80%" }))),
            ("preview" = (summary = "Only to see", value = json!({ "retry_mode": "all", "dry_run": true }))),
        ),
    ),
    responses(
        (status = 200, description = "What it does, and what it leaves alone", body = Accepted,
            example = json!({ "batch": "01890a5d-ac96-774b-bcce-b302099a8057", "status": "running", "seq": 31, "documents": 3,
                "retry": { "documents": 1, "units": 1, "by_tier": { "2": 1 }, "by_kind": { "timeout": 1 },
                    "excluded": { "class": { "permanent": 1 }, "retry_limit": 0, "tier": 0 } } })),
        (status = 403, description = "The key does not allow it, or it takes more credits than are left", body = ErrorResponse),
        (status = 404, description = "There is no such batch", body = ErrorResponse),
        (status = 409, description = "The batch was cancelled, or the plan no longer holds (`plan_stale`)", body = ErrorResponse),
    ),
)]
pub(super) async fn retry_batch(
    Operator(caller): Operator,
    ids: Ids,
    Path(batch): Path<BatchId>,
    Json(body): Json<RetryBody>,
) -> Result<Done<Accepted>, Problem> {
    let done = give(&caller, &ids, batch, &Command::Retry(body.into())).await;
    done.map_err(named_as_here)
}

/// Executes failed units of a tier again.
///
/// As a retry of the batch with this tier in `tier_nums`, which has to be left out.
#[utoipa::path(
    post, path = "/v1/batches/{batch}/tiers/{tier}/retry", tag = "Redrive",
    params(
        ("batch" = BatchId, Path, description = "The batch's id"),
        ("tier" = u16, Path, description = "The tier, from 0"),
    ),
    request_body(content = RetryBody, description = "May be left out: then transient failures", example = json!({ "retry_mode": "all" })),
    responses(
        (status = 200, description = "What it does, and what it leaves alone", body = Accepted),
        (status = 403, description = "The key does not allow it, or it takes more credits than are left", body = ErrorResponse),
        (status = 404, description = "There is no such batch, or no such tier", body = ErrorResponse),
        (status = 409, description = "The batch was cancelled, or the plan no longer holds (`plan_stale`)", body = ErrorResponse),
    ),
)]
pub(super) async fn retry_tier(
    Operator(caller): Operator,
    ids: Ids,
    Path(OfTier { batch, tier }): Path<OfTier>,
    Json(body): Json<RetryBody>,
) -> Result<Done<Accepted>, Problem> {
    if body.tier_nums.is_some() {
        let message = "the path names the tier: leave it out";
        let fault = Fault::at("body", "tier_nums", message, "extra_forbidden");
        return Err(Problem::Invalid(vec![fault]));
    }
    let mut retry = Retry::from(body);
    // A plan has its tiers.
    if retry.plan.is_none() {
        retry.tier_nums = Some(vec![tier]);
    }
    let done = give(&caller, &ids, batch, &Command::Retry(retry)).await;
    done.map_err(|problem| named_as_here(in_path(problem, batch, tier, None)))
}
