//! Clients of Feather: ingestion jobs with segments, looked at, retried and stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod support;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use common::World;
use redrive_domain::{
    document::Output,
    failure::Failure,
    ids::{HandlerName, WorkerId},
};
use redrive_gateway::{Auth, Config};
use redrive_worker::handler::{Done, handler_fn};
use serde_json::{Value, json};
use support::{in_other_words, serve};
use tokio_util::sync::CancellationToken;

const JOBS: &str = "/v1/knowledge-base/ingestion-jobs";

/// How often each segment was executed, by document and segment.
type Counts = Arc<Mutex<BTreeMap<String, u32>>>;

/// A worker that serves the handlers of the usual pipeline: each line of a document is a segment.
fn ingests(world: &World) -> Counts {
    let counts = Counts::default();
    let name = |name| HandlerName::new(name).unwrap();
    let failing = Arc::clone(&world.failing);
    let told = move |name: &str| match failing.lock().unwrap().get(name) {
        Some(kind) => Err(Failure::new(kind.parse().unwrap(), "it was told to fail")),
        None => Ok(()),
    };
    let told_to_prepare = told.clone();
    let prepare = handler_fn(name("prepare_document"), move |unit, _| {
        let content = unit.document.data.as_ref().unwrap()["content"].clone();
        let lines = content.as_str().unwrap().lines();
        let lines: String = lines.map(|line| format!("{}\n", json!(line))).collect();
        let made = Done::Completed(Some(Output::ndjson(lines.into_bytes())));
        std::future::ready(told_to_prepare(&unit.document.id).map(|()| made))
    });
    let counted = Arc::clone(&counts);
    let process = handler_fn(name("process_segment"), move |unit, _| {
        let segment = format!("{}#{}", unit.document.id, unit.segment.unwrap());
        *counted.lock().unwrap().entry(segment.clone()).or_default() += 1;
        let done = Done::Completed(Some(Output::text("processed")));
        std::future::ready(told(&segment).map(|()| done))
    });
    let finish = handler_fn(name("finish_document"), |_, _| {
        std::future::ready(Ok(Done::Completed(None)))
    });
    let config = redrive_worker::Config::new(0, WorkerId::new("ingests").unwrap());
    let (broker, stop) = (world.broker.clone(), CancellationToken::new());
    let handlers = vec![prepare, process, finish];
    tokio::spawn(redrive_worker::run(broker, config, handlers, stop));
    counts
}

async fn made(world: &World, body: Value) -> String {
    let made = world.post(JOBS, body).await.is(202);
    let id = made["ingestion_job_id"].as_str().unwrap().to_owned();
    let expected = json!({
        "ingestion_job_id": id, "items": [{ "manifest_index": 0, "result": "queued" }],
    });
    assert_eq!(made, expected);
    id
}

async fn with_status(world: &World, job: &str, status: &str) -> Value {
    let wished = |job: &Value| job["status"] == status;
    world.until(&format!("{JOBS}/{job}"), wished).await
}

#[tokio::test]
async fn only_the_segments_that_failed_are_executed_again() {
    let world = World::open().await;
    let counts = ingests(&world);
    // A permanent failure is not repeated by itself.
    world.fail("report#1", "invalid_data");
    let body = json!({ "title": "report", "content": "one\ntwo\nthree", "unknown": 1 });
    let id = made(&world, body).await;
    let job = with_status(&world, &id, "partial_failure").await;
    let expected = json!({
        "id": id, "job_type": "document", "status": "partial_failure", "knowledge_base_id": null,
        "item_title": "report", "total_documents": 1, "processed_count": 1, "progress_pct": 100,
        "segments": {
            "total": 3, "completed": 2, "failed": 1,
            "failed_segments": [{
                "segment_index": 1, "tier": 1, "job": "process_segment", "error": "invalid_data",
                "error_class": "permanent", "error_message": "it was told to fail", "attempts": 1,
                "failed_at": "<time>",
            }],
        },
        "error_message": "1 of 3 segments failed: invalid_data: it was told to fail", "retry_count": 0,
        "created_at": "<time>", "updated_at": "<time>", "started_at": "<time>", "completed_at": "<time>",
    });
    assert_eq!(in_other_words(&job), expected);

    world.mend();
    let retry = format!("{JOBS}/{id}/retry");
    let answered = world.post(&retry, Value::Null).await.is(202);
    assert_eq!(answered, json!({ "job_id": id, "status": "processing" }));
    let job = with_status(&world, &id, "completed").await;
    assert_eq!(job["retry_count"], 1);
    assert_eq!(job["error_message"], Value::Null);
    let segments = json!({ "total": 3, "completed": 3, "failed": 0, "failed_segments": [] });
    assert_eq!(job["segments"], segments);
    let expected = [("report#0", 1), ("report#1", 2), ("report#2", 1)];
    let expected: BTreeMap<String, u32> = expected.map(|(id, n)| (id.to_owned(), n)).into();
    assert_eq!(*counts.lock().unwrap(), expected);

    // What is completed has nothing to retry, and cannot be stopped.
    let error = world.post(&retry, Value::Null).await.is(400);
    let message =
        format!("job {id} is completed: only one that failed, or failed in part, can be retried");
    assert_eq!(
        error,
        json!({ "error": "invalid_state", "message": message })
    );
    let cancel = format!("{JOBS}/{id}/cancel");
    let error = world.post(&cancel, Value::Null).await.is(400);
    assert_eq!(error["error"], "invalid_state");
}

#[tokio::test]
async fn a_document_that_was_not_prepared_is_prepared_again() {
    let world = World::open().await;
    let counts = ingests(&world);
    world.fail("report", "invalid_data");
    let id = made(&world, json!({ "title": "report", "content": "one" })).await;
    let job = with_status(&world, &id, "failed").await;
    assert_eq!(job["segments"], Value::Null);
    assert_eq!(
        job["error_message"],
        "the document failed: invalid_data: it was told to fail"
    );
    assert!(counts.lock().unwrap().is_empty());
    world.mend();
    let retry = format!("{JOBS}/{id}/retry");
    let keyed = [("idempotency-key", "once")];
    for _ in 0..2 {
        // The same request again is answered as it was, whatever the job does by now.
        let answered = world.ask("POST", &retry, &keyed, Value::Null).await.is(202);
        assert_eq!(answered, json!({ "job_id": id, "status": "processing" }));
        with_status(&world, &id, "completed").await;
    }
    let job = with_status(&world, &id, "completed").await;
    assert_eq!(
        (&job["retry_count"], &job["segments"]["total"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn jobs_are_listed_stopped_and_refused() {
    let world = World::open().await;
    ingests(&world);
    world.fail("bad#0", "invalid_data");
    world.fail("half#0", "invalid_data");
    let base = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
    let make = async |title: &str, content: &str| {
        let body = json!({ "knowledge_base_id": base, "title": title, "content": content });
        made(&world, body).await
    };
    let good = make("good", "one").await;
    let bad = make("bad", "one").await;
    let half = make("half", "one\ntwo").await;
    for (job, status) in [
        (&good, "completed"),
        (&bad, "failed"),
        (&half, "partial_failure"),
    ] {
        let job = with_status(&world, job, status).await;
        assert_eq!(job["knowledge_base_id"], base);
    }
    let path = format!("/v1/knowledge-base/knowledge-bases/{base}/ingestion-jobs");
    let ids = |listed: &Value| -> Vec<Value> {
        let items = listed["items"].as_array().unwrap().iter();
        items.map(|job| job["id"].clone()).collect()
    };
    let page = world.get(&format!("{path}?limit=2")).await.is(200);
    assert_eq!(
        (ids(&page), &page["has_more"]),
        (vec![json!(half), json!(bad)], &json!(true))
    );
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = world
        .get(&format!("{path}?limit=2&cursor={cursor}"))
        .await
        .is(200);
    assert_eq!(
        (ids(&page), &page["has_more"]),
        (vec![json!(good)], &json!(false))
    );
    for (status, expected) in [
        ("failed", vec![json!(bad)]),
        ("partial_failure", vec![json!(half)]),
    ] {
        let path = format!("{JOBS}?knowledge_base_id={base}&status={status}");
        let listed = world.get(&path).await.is(200);
        assert_eq!(ids(&listed), expected, "{status}");
    }

    // One that nobody works on is active, and can be stopped once and again.
    let body = json!({ "uri": "https://example.com/report.pdf" });
    let pipeline = json!({ "name": "waits", "tiers": [{ "jobs": [{ "handler": "nobody" }] }] });
    let waiting = World::with(support::config("feather", pipeline)).await;
    serve(&waiting, "cpu", "other", true);
    let id = made(&waiting, body).await;
    let listed = waiting.get(&format!("{JOBS}?status=active")).await.is(200);
    assert_eq!(ids(&listed), [json!(id)]);
    let job = waiting.get(&format!("{JOBS}/{id}")).await.is(200);
    assert_eq!(job["item_title"], "https://example.com/report.pdf");
    assert_eq!(
        (&job["status"], &job["segments"]),
        (&json!("processing"), &Value::Null)
    );
    let retry = format!("{JOBS}/{id}/retry");
    let error = waiting.post(&retry, Value::Null).await.is(400);
    assert_eq!(error["error"], "invalid_state");
    for _ in 0..2 {
        let cancel = format!("{JOBS}/{id}/cancel");
        let stopped = waiting.post(&cancel, Value::Null).await.is(200);
        assert_eq!(stopped, json!({ "job_id": id, "status": "cancelled" }));
    }
    let error = waiting.post(&retry, Value::Null).await.is(400);
    assert_eq!(error["error"], "invalid_state");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told() {
    let world = World::open().await;
    let told = world.post(&format!("{JOBS}/x/retry"), Value::Null).await;
    let fault = &told.is(422)["detail"][0];
    assert_eq!(fault["loc"], json!(["path", "job_id"]));
    assert_eq!(
        (&fault["type"], &fault["input"]),
        (&json!("uuid_parsing"), &json!("x"))
    );
    assert!(
        fault["msg"]
            .as_str()
            .unwrap()
            .starts_with("Input should be a valid UUID, ")
    );
    assert!(fault["ctx"]["error"].is_string());

    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let error = world
        .post(&format!("{JOBS}/{id}/retry"), Value::Null)
        .await
        .is(404);
    let message = format!("there is no ingestion job {id}");
    assert_eq!(error, json!({ "error": "not_found", "message": message }));

    // A batch that no client of this interface made is no job.
    let other = world.batch(&["a"]).await;
    world.get(&format!("{JOBS}/{other}")).await.is(404);

    for (body, loc, kind) in [
        (json!({}), json!(["body", "content"]), "missing"),
        (
            json!({ "content": 1 }),
            json!(["body", "content"]),
            "string_type",
        ),
        (
            json!({ "content": "", "knowledge_base_id": "x" }),
            json!(["body", "knowledge_base_id"]),
            "uuid_parsing",
        ),
        (
            json!({ "content": "\n".repeat(40_000) }),
            json!(["body", "content"]),
            "value_error",
        ),
    ] {
        let told = world.post(JOBS, body).await.is(422);
        assert_eq!(told["detail"][0]["loc"], loc);
        assert_eq!(told["detail"][0]["type"], kind);
    }
    for query in ["limit=0", "limit=201", "status=some", "cursor=x"] {
        let told = world.get(&format!("{JOBS}?{query}")).await.is(422);
        let name = query.split('=').next().unwrap();
        assert_eq!(told["detail"][0]["loc"], json!(["query", name]));
    }

    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let closed = World::with(Config::new(any, Auth::Keys)).await;
    let error = closed
        .post(&format!("{JOBS}/{id}/retry"), Value::Null)
        .await
        .is(401);
    assert_eq!(error["error"], "unauthorized");
    assert!(error["message"].is_string());
}
