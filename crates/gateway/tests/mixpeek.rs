//! Clients of Mixpeek: batches of a bucket, looked at, retried, diagnosed, healed and stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod support;

use std::net::SocketAddr;

use common::{World, pipeline};
use redrive_gateway::{Auth, Config};
use serde_json::{Value, json};
use support::in_other_words;

const BATCHES: &str = "/v1/buckets/docs/batches";

/// Makes a batch and submits it.
async fn submitted(world: &World, body: Value) -> String {
    let made = world.post(BATCHES, body).await.is(200);
    let id = made["batch_id"].as_str().unwrap().to_owned();
    let path = format!("{BATCHES}/{id}/submit");
    world.post(&path, Value::Null).await.is(200);
    id
}

async fn with_status(world: &World, batch: &str, status: &str) -> Value {
    let wished = |view: &Value| view["status"] == status;
    world.until(&format!("{BATCHES}/{batch}"), wished).await
}

/// What a job is submitted with that says nothing of that.
fn plain_params() -> Value {
    json!({
        "entrypoint": null, "deployment_mode": null, "requires_gpu": false, "num_cpus": 1, "memory_bytes": null,
        "priority": 50, "plugin_archives": null, "extractor_name": "work",
    })
}

#[tokio::test]
async fn a_client_makes_submits_polls_and_retries() {
    let world = World::with(support::config("docs", pipeline())).await;
    world.fail("b", "timeout");
    world.fail("c", "invalid_data");

    let body = json!({ "object_ids": ["a", "b", "c"], "something": "else" });
    let made = world.post(BATCHES, body).await.is(200);
    assert_eq!(made["status"], "DRAFT");
    assert_eq!(made["object_ids"], json!(["a", "b", "c"]));
    assert_eq!(made["progress"]["stage_history"], json!([]));
    let id = made["batch_id"].as_str().unwrap();
    let submit = format!("{BATCHES}/{id}/submit");
    let task = world.post(&submit, Value::Null).await.is(200);
    let expected = json!({
        "task_id": format!("task_{id}"), "task_type": "api_buckets_batches_submit", "status": "IN_PROGRESS",
        "inputs": [id], "outputs": [], "additional_data": { "batch_id": id }, "error": null, "error_message": null,
    });
    assert_eq!(task, expected);

    let batch = with_status(&world, id, "COMPLETED_WITH_ERRORS").await;
    let job = format!("raysubmit_{id}_0_work");
    let errors = json!([
        { "error_type": "network", "message": "timeout (transient): 1 failed", "component": "work", "stage": "work",
          "timestamp": "<time>", "affected_count": 1, "metadata": { "class": "transient", "kind": "timeout" } },
        { "error_type": "validation", "message": "invalid_data (permanent): 1 failed", "component": "work",
          "stage": "work", "timestamp": "<time>", "affected_count": 1,
          "metadata": { "class": "permanent", "kind": "invalid_data" } },
    ]);
    let stages = json!([
        { "name": "loading", "duration_seconds": "<number>" },
        { "name": "processing", "duration_seconds": "<number>" },
        { "name": "writing", "duration_seconds": "<number>" },
    ]);
    let expected = json!({
        "batch_id": id, "bucket_id": "docs", "status": "COMPLETED_WITH_ERRORS", "type": "BUCKET", "pipeline": "one",
        "object_ids": ["a", "b", "c"], "object_count": 3,
        "document_counts": { "completed": 1, "failed": 2, "canceled": 0, "open": 0 },
        "collection_ids": [], "error": "2 of 3 objects failed",
        "error_summary": { "network": 1, "validation": 1 }, "task_id": format!("task_{id}"),
        "tier_tasks": [{
            "tier_num": 0, "name": "work", "task_id": format!("task_{id}_0"), "status": "COMPLETED_WITH_ERRORS",
            "source_type": "bucket", "collection_ids": [], "ray_job_id": job, "submission_params": plain_params(),
            "extractor_jobs": [{
                "extractor_type": "work", "name": "work", "collection_ids": [], "ray_job_id": job,
                "status": "COMPLETED_WITH_ERRORS", "documents_written": 1, "documents_failed": 2,
                "documents_open": 0, "errors": errors, "last_activity_at": "<time>",
                "submission_params": plain_params(), "stage_history": stages,
            }],
            "started_at": "<time>", "completed_at": "<time>", "duration_ms": "<number>", "last_activity_at": "<time>",
            "documents_submitted_to_engine": 3, "documents_written": 1, "documents_failed": 2, "errors": errors,
            "error_summary": { "network": 1, "validation": 1 }, "stage_history": stages,
        }],
        "current_tier": 0, "total_tiers": 1,
        "progress": {
            "processed_documents": 3, "total_documents": 3, "percentage": 100.0, "stage_history": stages,
        },
        "retries": 0, "created_at": "<time>", "submitted_at": "<time>", "updated_at": "<time>",
        "last_activity_at": "<time>", "completed_at": "<time>",
    });
    assert_eq!(in_other_words(&batch), expected);

    let path = format!("{BATCHES}/{id}/failed-documents?limit=1&offset=1");
    let failed = world.get(&path).await.is(200);
    let expected = json!({
        "batch_id": id, "bucket_id": "docs", "total_count": 2, "offset": 1, "limit": 1,
        "failed_documents": [{
            "document_id": "c", "object_id": "c", "tier_num": 0, "ray_job_id": job, "error_type": "validation",
            "error_class": "permanent", "error_kind": "invalid_data", "error": "c was told to fail", "attempts": 1,
            "retry_count": 0, "failed_at": "<time>",
        }],
    });
    assert_eq!(in_other_words(&failed), expected);

    // By itself a retry takes what may pass by itself.
    world.mend();
    let retry = format!("{BATCHES}/{id}/retry");
    let expected = json!({
        "batch_id": id, "bucket_id": "docs", "status": "IN_PROGRESS",
        "message": "1 document is retried; 1 failures are left alone", "retried_documents": 1, "retried_units": 1,
        "retried_by_tier": { "0": 1 }, "retried_by_error": { "timeout": 1 },
        "excluded": { "class": { "permanent": 1 }, "retry_limit": 0, "tier": 0 },
    });
    assert_eq!(world.post(&retry, json!({})).await.is(200), expected);
    with_status(&world, id, "COMPLETED_WITH_ERRORS").await;
    let all = json!({ "retry_mode": "all", "tier_nums": [0, 7], "max_retry_count": 10 });
    let retried = world.post(&retry, all).await.is(200);
    assert_eq!(retried["retried_by_error"], json!({ "invalid_data": 1 }));
    assert_eq!(retried["unknown_tier_nums"], json!([7]));
    let batch = with_status(&world, id, "COMPLETED").await;
    assert_eq!(batch["retries"], 2);
    assert_eq!(batch["error"], Value::Null);

    // Nothing to retry is a success.
    for body in [
        json!({ "retry_mode": "all", "tier_nums": [] }),
        json!({ "tier_nums": null }),
        json!({ "tier_nums": [-1, 1e30] }),
    ] {
        let retried = world.post(&retry, body).await.is(200);
        assert_eq!(retried["retried_documents"], 0);
        assert_eq!(retried["status"], "COMPLETED");
        assert_eq!(retried["message"], "there is nothing to retry");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_in_the_words_of_fastapi() {
    let world = World::with(support::config("docs", pipeline())).await;
    let made = world.post(BATCHES, json!({ "object_ids": ["a"] })).await;
    let id = made.is(200)["batch_id"].as_str().unwrap().to_owned();
    let retry = format!("{BATCHES}/{id}/retry");
    let heal = format!("{BATCHES}/{id}/tiers/0/heal");
    let tier = format!("{BATCHES}/{id}/tiers/0/retry");
    let mode = "Input should be 'transient_only' or 'all'";
    let whole = "Input should be a valid integer";
    let text = "Input should be a valid integer, unable to parse string as an integer";
    let least = "Input should be greater than or equal to 1";
    let most = "Input should be less than or equal to 10";
    let object = "Input should be a valid dictionary or object to extract fields from";
    for (path, body, loc, kind, msg) in [
        (
            &retry,
            json!({ "retry_mode": "some" }),
            json!(["body", "retry_mode"]),
            "enum",
            mode,
        ),
        (
            &retry,
            json!({ "retry_mode": null }),
            json!(["body", "retry_mode"]),
            "enum",
            mode,
        ),
        (
            &retry,
            json!({ "max_retry_count": 0 }),
            json!(["body", "max_retry_count"]),
            "greater_than_equal",
            least,
        ),
        (
            &retry,
            json!({ "max_retry_count": 11 }),
            json!(["body", "max_retry_count"]),
            "less_than_equal",
            most,
        ),
        (
            &retry,
            json!({ "max_retry_count": null }),
            json!(["body", "max_retry_count"]),
            "int_type",
            whole,
        ),
        (
            &retry,
            json!({ "max_retry_count": "x" }),
            json!(["body", "max_retry_count"]),
            "int_parsing",
            text,
        ),
        (
            &retry,
            json!({ "tier_nums": 2 }),
            json!(["body", "tier_nums"]),
            "list_type",
            "Input should be a valid list",
        ),
        (
            &retry,
            json!({ "tier_nums": [0, "x"] }),
            json!(["body", "tier_nums", 1]),
            "int_parsing",
            text,
        ),
        (
            &retry,
            json!([]),
            json!(["body"]),
            "model_attributes_type",
            object,
        ),
        (
            &retry,
            Value::Null,
            json!(["body"]),
            "missing",
            "Field required",
        ),
        (
            &heal,
            json!({}),
            json!(["body", "action"]),
            "missing",
            "Field required",
        ),
        (
            &tier,
            json!({ "num_cpus": 0 }),
            json!(["body", "num_cpus"]),
            "greater_than_equal",
            least,
        ),
        (
            &BATCHES.to_owned(),
            json!({}),
            json!(["body", "object_ids"]),
            "missing",
            "Field required",
        ),
    ] {
        let told = world.post(path, body.clone()).await.is(422);
        let [fault] = told["detail"].as_array().unwrap().as_slice() else {
            panic!("{body}: {told}");
        };
        assert_eq!(fault["loc"], loc, "{body}");
        assert_eq!(fault["type"], kind, "{body}");
        assert_eq!(fault["msg"], msg, "{body}");
    }
    // What the domain says of a parameter names the field of this body.
    let told = world.post(&tier, json!({ "rate_limit": 0 })).await.is(422);
    assert_eq!(told["detail"][0]["loc"], json!(["body", "rate_limit"]));
    let path = format!("{BATCHES}/{id}/tiers/x/cancel");
    let told = world.post(&path, Value::Null).await.is(422);
    assert_eq!(told["detail"][0]["loc"], json!(["path", "tier_num"]));
    let told = world.get(&format!("{BATCHES}?limit=101")).await.is(422);
    assert_eq!(told["detail"][0]["loc"], json!(["query", "limit"]));

    // The bucket is not the batch's, the batch is not there, its id is none, it has no such tier or job.
    for path in [
        format!("/v1/buckets/other/batches/{id}/retry"),
        format!("{BATCHES}/01890a5d-ac96-774b-bcce-b302099a8057/retry"),
        format!("{BATCHES}/btch_1/retry"),
        format!("{BATCHES}/{id}/tiers/1/retry"),
        format!("{BATCHES}/{id}/tiers/0/jobs/raysubmit_1/cancel"),
    ] {
        let error = world.post(&path, json!({})).await.is(404);
        assert_eq!(error["success"], false);
        assert_eq!(error["status"], 404);
        assert_eq!(error["error"]["type"], "NotFoundError", "{path}");
    }
    let body = json!({ "object_ids": ["a"] });
    let told = world.post("/v1/buckets/other/batches", body).await.is(422);
    assert_eq!(told["detail"][0]["loc"], json!(["body", "pipeline"]));

    // What is a conflict elsewhere is none here.
    let cancel = format!("{BATCHES}/{id}/cancel");
    let task = world.post(&cancel, Value::Null).await.is(200);
    assert_eq!(task["status"], "CANCELED");
    let error = world.post(&retry, json!({})).await.is(400);
    let expected = json!({
        "success": false, "status": 400,
        "error": {
            "message": format!("batch {id} was cancelled: it cannot be retried"), "type": "BadRequestError",
        },
    });
    assert_eq!(error, expected);
}

#[tokio::test]
async fn what_was_retried_too_often_is_left_out() {
    let world = World::with(support::config("docs", pipeline())).await;
    world.fail("a", "timeout");
    let id = submitted(&world, json!({ "object_ids": ["a"] })).await;
    let retry = format!("{BATCHES}/{id}/retry");
    let tier = format!("{BATCHES}/{id}/tiers/0/retry");
    // Three times unless said, and ten times where a tier is retried.
    for (path, body, retried) in [
        (&retry, json!({ "max_retry_count": 1 }), 1),
        (&retry, json!({ "max_retry_count": 1 }), 0),
        (&retry, json!({}), 1),
        (&retry, json!({}), 1),
        (&retry, json!({}), 0),
        (&tier, Value::Null, 1),
    ] {
        with_status(&world, &id, "FAILED").await;
        let answered = world.post(path, body.clone()).await.is(200);
        assert_eq!(answered["retried_documents"], retried, "{body}");
        assert_eq!(answered["excluded"]["retry_limit"], 1 - retried, "{body}");
    }
}

#[tokio::test]
async fn objects_are_added_until_a_batch_is_submitted() {
    let world = World::with(support::config("docs", pipeline())).await;
    world.fail("b", "timeout");
    let body = json!({ "documents": [{ "id": "a", "uri": "file:///a" }] });
    let made = world.post(BATCHES, body).await.is(200);
    let batch = format!("{BATCHES}/{}", made["batch_id"].as_str().unwrap());
    let objects = format!("{batch}/objects");
    let added = json!({ "object_ids": ["b"], "documents": [{ "id": "c" }] });
    let keyed = [("idempotency-key", "once")];
    for _ in 0..2 {
        let added = world.ask("POST", &objects, &keyed, added.clone()).await;
        assert_eq!(added.is(200)["object_count"], 3);
    }
    let other = json!({ "object_ids": ["x"] });
    let error = world.ask("POST", &objects, &keyed, other).await.is(400);
    assert_eq!(error["error"]["code"], "idempotency_key_reused");
    let submit = format!("{batch}/submit");
    world.post(&submit, Value::Null).await.is(200);
    let error = world.post(&objects, json!({ "object_ids": ["d"] })).await;
    assert_eq!(error.is(400)["error"]["type"], "BadRequestError");
    let over = |batch: &Value| batch["status"] == "COMPLETED_WITH_ERRORS";
    let whole = world.until(&batch, over).await;
    assert_eq!(whole["object_ids"], json!(["a", "b", "c"]));
    let first = world
        .get(&format!("{batch}/documents?limit=1"))
        .await
        .is(200);
    let expected = json!([{
        "document_id": "a", "object_id": "a", "uri": "file:///a", "status": "COMPLETED", "tier_num": 0,
        "retry_count": 0, "error_types": [], "error": null,
    }]);
    assert_eq!(first["documents"], expected);
    let cursor = first["next_cursor"].as_str().unwrap();
    let path = format!("{batch}/documents?limit=1&cursor={cursor}");
    let next = world.get(&path).await.is(200);
    assert_eq!(next["documents"][0]["object_id"], "b");
    let failed = world.get(&format!("{batch}/documents?status=FAILED")).await;
    let expected = json!([{
        "document_id": "b", "object_id": "b", "status": "FAILED", "tier_num": 0, "retry_count": 0,
        "error_types": ["network"], "error": "b was told to fail",
    }]);
    assert_eq!(failed.is(200)["documents"], expected);
}

#[tokio::test]
async fn batches_are_listed_by_status() {
    let world = World::with(support::config("docs", pipeline())).await;
    let pipeline = json!({ "name": "hangs", "tiers": [{ "jobs": [{ "handler": "nobody" }] }] });
    let done = submitted(&world, json!({ "object_ids": ["a"] })).await;
    with_status(&world, &done, "COMPLETED").await;
    let going = submitted(&world, json!({ "object_ids": ["a"], "pipeline": pipeline })).await;
    let draft = world.post(BATCHES, json!({ "documents": [{ "id": "a", "data": 1 }] }));
    let draft = draft.await.is(200)["batch_id"].clone();
    let ids = |listed: &Value| -> Vec<Value> {
        let results = listed["results"].as_array().unwrap().iter();
        results.map(|batch| batch["batch_id"].clone()).collect()
    };
    let path = format!("{BATCHES}/list");
    let listed = world.post(&path, Value::Null).await.is(200);
    assert_eq!(ids(&listed), [draft.clone(), json!(going), json!(done)]);
    assert_eq!(listed["total_count"], 3);
    assert_eq!(
        listed["results"][0]["tier_tasks"][0]["submission_params"],
        plain_params()
    );
    let page = world
        .post(&path, json!({ "offset": 1, "limit": 1 }))
        .await
        .is(200);
    assert_eq!(
        (ids(&page), &page["total_count"]),
        (vec![json!(going)], &json!(3))
    );
    for (status, expected) in [
        ("DRAFT", vec![draft]),
        ("PENDING", vec![]),
        ("PROCESSING", vec![json!(going)]),
        ("COMPLETED", vec![json!(done)]),
        ("ARCHIVED", vec![]),
    ] {
        let body = json!({ "status": status });
        let listed = world.post(&path, body).await.is(200);
        assert_eq!(ids(&listed), expected, "{status}");
        assert_eq!(listed["total_count"], expected.len());
        let listed = world
            .get(&format!("{BATCHES}?status={status}"))
            .await
            .is(200);
        assert_eq!(ids(&listed), expected, "{status}");
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_told() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let world = World::with(Config::new(any, Auth::Keys)).await;
    let answered = world.post("/v1/buckets/docs/batches/x/retry", json!({}));
    let answered = answered.await;
    assert_eq!(answered.headers["www-authenticate"], "Bearer");
    let error = answered.is(401);
    assert_eq!(error["status"], 401);
    assert_eq!(error["error"]["type"], "UnauthorizedError");
}
