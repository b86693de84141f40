//! What is done with a batch that is there: retry, cancel, heal.

use axum::Json;
use redrive_domain::{
    command::{Cancel, Command, Heal, Retry, RetryMode},
    heal::HealAction,
    limits::{
        ATTEMPTS, DEPLOYMENT_MODE_BYTES, ENTRYPOINT_BYTES, HEAL_IDLE_SECONDS, MAX_CONCURRENCY,
        MAX_RETRY_COUNT, MEMORY_BYTES, NUM_CPUS, PLUGIN_ARCHIVE_BYTES, PRIORITY_MOST,
    },
    pipeline::{SubmissionChange, TierNum},
    query::BatchView,
    time::Millis,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Errors,
    answers::{CancelAnswer, HealAnswer, RetryAnswer, TaskKind, TaskResponse},
    cut, find,
    model::ray_job_id,
    tier,
    words::TaskStatus,
};
use crate::{
    Shared,
    caller::{Caller, Operator},
    dialects::fields::{Body, Fields, OptionalBody, path_int},
    extract::Path,
    ids::Ids,
    problem::{Problem, Step},
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(retry_batch))
        .routes(routes!(cancel_batch))
        .routes(routes!(retry_tier))
        .routes(routes!(cancel_tier))
        .routes(routes!(heal_tier))
        .routes(routes!(cancel_job))
}

const MODES: [(&str, RetryMode); 2] = [
    ("transient_only", RetryMode::TransientOnly),
    ("all", RetryMode::All),
];

/// Which failures of a batch to retry.
#[derive(Debug, ToSchema)]
#[schema(as = mixpeek::RetryBatchRequest)]
struct RetryBatch {
    /// `transient_only`: only failures that may pass by themselves. `all`: all of them.
    #[schema(value_type = RetryModes, required = false, default = "transient_only")]
    retry_mode: RetryMode,
    /// Only failures of these tiers; null or an empty list means all.
    tier_nums: Option<Vec<i64>>,
    /// Documents that were retried this often are left out.
    #[schema(value_type = u8, required = false, default = 3, minimum = 1, maximum = 10)]
    max_retry_count: u8,
}

/// Which classes of failures.
#[derive(Debug, ToSchema)]
#[schema(as = mixpeek::RetryMode, rename_all = "snake_case")]
#[expect(dead_code, reason = "it is only described")]
enum RetryModes {
    TransientOnly,
    All,
}

/// Bounds of the domain, for fields that are read.
fn bounds(range: &std::ops::RangeInclusive<u32>) -> std::ops::RangeInclusive<u64> {
    u64::from(*range.start())..=u64::from(*range.end())
}

fn max_retry_count(fields: &mut Fields, usual: u8) -> u8 {
    let (least, most) = (*MAX_RETRY_COUNT.start(), *MAX_RETRY_COUNT.end());
    let read = fields.int("max_retry_count", u64::from(least)..=u64::from(most));
    read.and_then(|count| u8::try_from(count).ok())
        .unwrap_or(usual)
}

impl RetryBatch {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let read = Self {
            retry_mode: fields.word("retry_mode", &MODES).unwrap_or_default(),
            tier_nums: fields.optional_ints("tier_nums"),
            max_retry_count: max_retry_count(&mut fields, 3),
        };
        fields.done().map(|()| read)
    }
}

/// Executes failures of a batch again. What succeeded is never executed again. Where nothing matches, nothing is done.
#[utoipa::path(
    post, path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/retry", tag = "Mixpeek",
    operation_id = "mixpeek_retry_batch",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
    ),
    request_body = RetryBatch,
    responses((status = 200, description = "What is retried", body = RetryAnswer), Errors),
)]
async fn retry_batch(
    Operator(caller): Operator,
    ids: Ids,
    Path((bucket, batch)): Path<(String, String)>,
    Body(fields): Body,
) -> Result<Json<RetryAnswer>, Problem> {
    let asked = RetryBatch::read(fields)?;
    let view = find(&caller, &bucket, &batch).await?;
    // There is no bound on tier numbers there: one that the batch does not have has no failures.
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for num in asked.tier_nums.into_iter().flatten() {
        let there = TierNum::try_from(num).ok();
        match there.filter(|num| usize::from(*num) < view.tiers.len()) {
            Some(there) if !known.contains(&there) => known.push(there),
            None if !unknown.contains(&num) => unknown.push(num),
            _ => {}
        }
    }
    if known.is_empty() && !unknown.is_empty() {
        let (batch, status) = (view.summary.batch, view.summary.status);
        let status = TaskStatus::of_batch(status, view.submitted);
        let nothing = RetryAnswer::of(bucket, batch, status, Default::default(), unknown);
        return Ok(Json(nothing));
    }
    let retry = Retry {
        retry_mode: asked.retry_mode,
        tier_nums: (!known.is_empty()).then_some(known),
        max_retry_count: asked.max_retry_count,
        ..Retry::default()
    };
    carry_out(&caller, &ids, &view, retry, unknown).await
}

async fn carry_out(
    caller: &Caller,
    ids: &Ids,
    view: &BatchView,
    retry: Retry,
    unknown: Vec<i64>,
) -> Result<Json<RetryAnswer>, Problem> {
    let (bucket, batch) = (&view.summary.bucket, view.summary.batch);
    let retry = Command::Retry(retry);
    let accepted = caller.command(ids, bucket, batch, &retry).await?;
    let status = TaskStatus::of_batch(accepted.status, view.submitted);
    let retried = accepted.retry.unwrap_or_default();
    let answer = RetryAnswer::of(bucket.to_string(), batch, status, retried, unknown);
    Ok(Json(answer))
}

/// How a tier is to be retried. What is not named stays as it is.
#[derive(Debug, ToSchema)]
#[schema(as = mixpeek::RetryTierRequest)]
struct RetryTier {
    /// `all` unless said.
    #[schema(value_type = RetryModes, required = false, default = "all")]
    retry_mode: RetryMode,
    /// Documents that were retried this often are left out.
    #[schema(value_type = u8, required = false, default = 10, minimum = 1, maximum = 10)]
    max_retry_count: u8,
    /// Other parameters for the jobs of the tier, now and later.
    #[schema(value_type = SubmissionOverrides, inline)]
    set: SubmissionChange,
}

/// Other parameters for the jobs of a tier.
#[derive(Debug, ToSchema)]
#[schema(as = mixpeek::SubmissionOverrides)]
#[expect(dead_code, reason = "it is only described")]
struct SubmissionOverrides {
    /// Whether a GPU is needed.
    requires_gpu: Option<bool>,
    /// From 0 to 100; a higher one gets a larger share.
    priority: Option<u8>,
    /// Memory of one execution, in bytes.
    memory_bytes: Option<u64>,
    /// CPUs of one execution.
    num_cpus: Option<u32>,
    /// Seconds of one attempt.
    timeout: Option<f64>,
    /// Attempts before a document counts as failed.
    max_attempts: Option<u32>,
    /// Documents started a second.
    rate_limit: Option<f64>,
    /// Documents at once.
    max_concurrency: Option<u32>,
    /// What is to be started.
    entrypoint: Option<String>,
    /// Where it is to run.
    deployment_mode: Option<String>,
    /// Archives to be loaded.
    plugin_archives: Option<Vec<String>>,
}

impl RetryTier {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let small = |number: Option<u64>| number.and_then(|n| u32::try_from(n).ok());
        let priority = fields.optional_int("priority", 0..=u64::from(PRIORITY_MOST));
        let timeout = fields.optional_number("timeout").and_then(|seconds| {
            let span = std::time::Duration::try_from_secs_f64(seconds);
            let span = span.map(Millis::from);
            let msg = "Input should be a number of seconds";
            span.map_err(|_| fields.refuse("timeout", msg, "value_error"))
                .ok()
        });
        let set = SubmissionChange {
            requires_gpu: fields.optional_bool("requires_gpu"),
            priority: priority.and_then(|n| u8::try_from(n).ok()),
            memory_bytes: fields.optional_int("memory_bytes", MEMORY_BYTES),
            num_cpus: small(fields.optional_int("num_cpus", bounds(&NUM_CPUS))),
            class: None,
            timeout,
            max_attempts: small(fields.optional_int("max_attempts", 1..=u64::from(ATTEMPTS))),
            rate_limit: fields.optional_number("rate_limit"),
            max_concurrency: small(
                fields.optional_int("max_concurrency", bounds(&MAX_CONCURRENCY)),
            ),
            entrypoint: fields.optional_text("entrypoint", 1..=ENTRYPOINT_BYTES),
            deployment_mode: fields.optional_text("deployment_mode", 1..=DEPLOYMENT_MODE_BYTES),
            plugin_archives: fields.optional_texts("plugin_archives", 1..=PLUGIN_ARCHIVE_BYTES),
        };
        let read = Self {
            retry_mode: fields.word("retry_mode", &MODES).unwrap_or(RetryMode::All),
            max_retry_count: max_retry_count(&mut fields, *MAX_RETRY_COUNT.end()),
            set,
        };
        fields.done().map(|()| read)
    }
}

/// Executes what failed in a tier again, with other resources where any are named.
#[utoipa::path(
    post, path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/tiers/{tier_num}/retry",
    tag = "Mixpeek", operation_id = "mixpeek_retry_tier",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
        ("tier_num" = i64, Path, description = "The tier, from 0"),
    ),
    request_body = Option<RetryTier>,
    responses((status = 200, description = "What is retried", body = RetryAnswer), Errors),
)]
async fn retry_tier(
    Operator(caller): Operator,
    ids: Ids,
    Path((bucket, batch, num)): Path<(String, String, String)>,
    OptionalBody(fields): OptionalBody,
) -> Result<Json<RetryAnswer>, Problem> {
    let num = path_int("tier_num", &num)?;
    let asked = RetryTier::read(fields)?;
    let view = find(&caller, &bucket, &batch).await?;
    let tier = tier(&view, num)?;
    let retry = Retry {
        retry_mode: asked.retry_mode,
        tier_nums: Some(vec![tier.tier]),
        max_retry_count: asked.max_retry_count,
        set: (!asked.set.is_empty()).then(|| Box::new(asked.set)),
        ..Retry::default()
    };
    let answer = carry_out(&caller, &ids, &view, retry, Vec::new()).await;
    answer.map_err(at_the_top)
}

/// Parameters stand at the top of the body here, and not in a field of their own.
fn at_the_top(problem: Problem) -> Problem {
    match problem {
        Problem::Invalid(mut faults) => {
            for fault in &mut faults {
                fault.loc.retain(|step| *step != Step::from("set"));
            }
            Problem::Invalid(faults)
        }
        problem => problem,
    }
}

/// Stops a batch. One that was stopped before stays so; one that is over cannot be stopped.
#[utoipa::path(
    post, path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/cancel", tag = "Mixpeek",
    operation_id = "mixpeek_cancel_batch",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
    ),
    responses((status = 200, description = "It is stopped", body = TaskResponse), Errors),
)]
async fn cancel_batch(
    Operator(caller): Operator,
    ids: Ids,
    Path((bucket, batch)): Path<(String, String)>,
) -> Result<Json<TaskResponse>, Problem> {
    let view = find(&caller, &bucket, &batch).await?;
    let (bucket, batch) = (&view.summary.bucket, view.summary.batch);
    let cancel = Command::Cancel(Cancel::default());
    let accepted = caller.command(&ids, bucket, batch, &cancel).await?;
    Ok(Json(TaskResponse::of(
        TaskKind::Process,
        batch,
        accepted.status,
    )))
}

/// Stops a tier: what is not through it stays there, what is through goes on.
#[utoipa::path(
    post, path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/tiers/{tier_num}/cancel",
    tag = "Mixpeek", operation_id = "mixpeek_cancel_tier",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
        ("tier_num" = i64, Path, description = "The tier, from 0"),
    ),
    responses((status = 200, description = "It is stopped", body = CancelAnswer), Errors),
)]
async fn cancel_tier(
    Operator(caller): Operator,
    ids: Ids,
    Path((bucket, batch, num)): Path<(String, String, String)>,
) -> Result<Json<CancelAnswer>, Problem> {
    let num = path_int("tier_num", &num)?;
    let view = find(&caller, &bucket, &batch).await?;
    let cancel = Cancel {
        tier: Some(tier(&view, num)?.tier),
        ..Cancel::default()
    };
    stop(&caller, &ids, &view, cancel).await
}

/// Stops one job of a tier: its siblings go on, and documents go on without it.
#[utoipa::path(
    post,
    path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/tiers/{tier_num}/jobs/{ray_job_id}/cancel",
    tag = "Mixpeek", operation_id = "mixpeek_cancel_job",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
        ("tier_num" = i64, Path, description = "The tier, from 0"),
        ("ray_job_id" = String, Path, description = "The job, as the batch's `tier_tasks` name it"),
    ),
    responses((status = 200, description = "It is stopped", body = CancelAnswer), Errors),
)]
async fn cancel_job(
    Operator(caller): Operator,
    ids: Ids,
    Path((bucket, batch, num, job)): Path<(String, String, String, String)>,
) -> Result<Json<CancelAnswer>, Problem> {
    let num = path_int("tier_num", &num)?;
    let view = find(&caller, &bucket, &batch).await?;
    let (batch, tier) = (view.summary.batch, tier(&view, num)?);
    let is_meant = |name| ray_job_id(batch, tier.tier, name) == job || name.as_str() == job;
    let found = tier.jobs.iter().find(|one| is_meant(&one.job));
    let found = found.ok_or_else(|| Problem::NotFound {
        what: format!("job {} in tier {num} of batch {batch}", cut(&job)),
    })?;
    let cancel = Cancel {
        tier: Some(tier.tier),
        job: Some(found.job.clone()),
        reason: None,
    };
    stop(&caller, &ids, &view, cancel).await
}

async fn stop(
    caller: &Caller,
    ids: &Ids,
    view: &BatchView,
    cancel: Cancel,
) -> Result<Json<CancelAnswer>, Problem> {
    let (bucket, batch) = (&view.summary.bucket, view.summary.batch);
    let tier = cancel.tier.unwrap_or_default();
    let cancel = Command::Cancel(cancel);
    let accepted = caller.command(ids, bucket, batch, &cancel).await?;
    Ok(Json(CancelAnswer::of(batch, tier, &accepted)))
}

/// What to look for in a tier.
#[derive(Debug, ToSchema)]
#[schema(as = mixpeek::HealTierRequest)]
struct HealTier {
    /// `detect_stuck` or `kill_duplicates`.
    #[schema(value_type = HealActions)]
    action: HealAction,
    /// Of `detect_stuck`: hand out again what is surely stuck.
    fix: Option<bool>,
    /// Of `detect_stuck`: how long no sign of life is told of as stuck; 60 unless said.
    #[schema(minimum = 1, maximum = 86_400)]
    idle_seconds: Option<u32>,
}

/// What can be looked for.
#[derive(Debug, ToSchema)]
#[schema(as = mixpeek::HealAction, rename_all = "snake_case")]
#[expect(dead_code, reason = "it is only described")]
enum HealActions {
    DetectStuck,
    KillDuplicates,
}

const ACTIONS: [(&str, HealAction); 2] = [
    ("detect_stuck", HealAction::DetectStuck),
    ("kill_duplicates", HealAction::KillDuplicates),
];

impl HealTier {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let given = fields.has("action");
        let action = fields.word("action", &ACTIONS);
        let fix = fields.optional_bool("fix");
        let idle = fields.optional_int("idle_seconds", bounds(&HEAL_IDLE_SECONDS));
        if !given {
            fields.refuse("action", "Field required", "missing");
        }
        fields.done()?;
        Ok(Self {
            // What is missing was told.
            action: action.unwrap_or(HealAction::DetectStuck),
            fix,
            idle_seconds: idle.and_then(|n| u32::try_from(n).ok()),
        })
    }
}

/// Looks for what is stuck in a tier, or executed twice. What is executed twice is stopped where it is too much.
#[utoipa::path(
    post, path = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/tiers/{tier_num}/heal",
    tag = "Mixpeek", operation_id = "mixpeek_heal_tier",
    params(
        ("bucket_identifier" = String, Path, description = "The bucket"),
        ("batch_id" = String, Path, description = "The batch"),
        ("tier_num" = i64, Path, description = "The tier, from 0"),
    ),
    request_body = HealTier,
    responses((status = 200, description = "What was found", body = HealAnswer), Errors),
)]
async fn heal_tier(
    Operator(caller): Operator,
    ids: Ids,
    Path((bucket, batch, num)): Path<(String, String, String)>,
    Body(fields): Body,
) -> Result<Json<HealAnswer>, Problem> {
    let num = path_int("tier_num", &num)?;
    let asked = HealTier::read(fields)?;
    let view = find(&caller, &bucket, &batch).await?;
    let tier = tier(&view, num)?.tier;
    let (bucket, batch) = (&view.summary.bucket, view.summary.batch);
    let heal = Command::Heal(Heal {
        tier: Some(tier),
        fix: asked.fix.unwrap_or_default(),
        idle_seconds: asked.idle_seconds,
        ..Heal::new(asked.action)
    });
    let accepted = caller.command(&ids, bucket, batch, &heal).await?;
    let action = match asked.action {
        HealAction::DetectStuck => "detect_stuck",
        HealAction::KillDuplicates => "kill_duplicates",
    };
    Ok(Json(HealAnswer::of(batch, tier, action, accepted.heal)))
}
