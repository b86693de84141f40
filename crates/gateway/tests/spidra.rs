//! Batches of scrapes, as clients of Spidra know them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod support;

use std::collections::BTreeSet;

use common::{Answered, World, pipeline};
use redrive_gateway::Auth;
use serde_json::{Value, json};
use support::{config, fields, limit_credits};

const SCRAPES: &str = "/api/batch/scrape";
const URLS: [&str; 3] = [
    "https://a.example/1",
    "https://a.example/2",
    "https://a.example/3",
];
/// A batch that nobody made.
const NOBODYS: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// A world whose worker serves the pipeline of this dialect.
async fn world(pipeline: Value) -> World {
    World::with(config("spidra", pipeline)).await
}

fn of(batch: &str) -> String {
    format!("{SCRAPES}/{batch}")
}

async fn submit(world: &World, urls: &[&str]) -> String {
    let submitted = world.post(SCRAPES, json!({ "urls": urls })).await;
    submitted.is(202)["batchId"].as_str().unwrap().to_owned()
}

async fn until_over(world: &World, batch: &str) -> Value {
    let over = |batch: &Value| {
        ["completed", "failed", "cancelled"].contains(&batch["status"].as_str().unwrap())
    };
    world.until(&of(batch), over).await
}

async fn retry(world: &World, batch: &str) -> Answered {
    world
        .post(&format!("{}/retry", of(batch)), Value::Null)
        .await
}

#[tokio::test]
async fn what_failed_is_retried_and_nothing_else() {
    let world = world(pipeline()).await;
    world.fail(URLS[1], "not_found");
    let body = json!({ "urls": URLS, "prompt": "the price", "newer": true });
    let submitted = world.post(SCRAPES, body).await;
    let queued = submitted.is(202);
    let batch = queued["batchId"].as_str().unwrap();
    let expected = json!({ "status": "queued", "batchId": batch, "total": 3 });
    assert_eq!(queued, expected);
    assert_eq!(submitted.headers["location"], of(batch).as_str());

    let over = until_over(&world, batch).await;
    // Some failed, and all are at their end.
    assert_eq!(over["status"], "completed");
    assert_eq!(over["totalUrls"], 3);
    assert_eq!(over["completedCount"], 2);
    assert_eq!(over["failedCount"], 1);
    assert!(over["createdAt"].as_str() <= over["finishedAt"].as_str());
    let items = over["items"].as_array().unwrap();
    let urls: Vec<&str> = items.iter().map(|it| it["url"].as_str().unwrap()).collect();
    assert_eq!(urls, URLS);
    let all = [
        "uuid",
        "url",
        "jobId",
        "status",
        "result",
        "error",
        "creditsUsed",
        "startedAt",
        "finishedAt",
        "screenshotUrl",
    ];
    assert_eq!(fields(&items[0]), BTreeSet::from(all));
    assert_eq!(items[0]["status"], "completed");
    assert_eq!(items[0]["result"]["id"], URLS[0]);
    assert_eq!(items[0]["error"], Value::Null);
    assert_eq!(items[1]["status"], "failed");
    assert_eq!(items[1]["result"], Value::Null);
    let told = format!("{} was told to fail", URLS[1]);
    assert_eq!(items[1]["error"], told.as_str());

    world.mend();
    let requeued = retry(&world, batch).await.is(202);
    assert_eq!(requeued, json!({ "status": "queued", "retriedCount": 1 }));
    let last = until_over(&world, batch).await;
    assert_eq!(last["completedCount"], 3);
    assert_eq!(last["failedCount"], 0);
    assert_eq!(last["items"][0]["uuid"], items[0]["uuid"]);
}

#[tokio::test]
async fn a_poll_after_a_retry_sees_it() {
    // The second round waits for its time, so that the poll comes before its end.
    let late = json!({ "name": "late", "tiers": [{ "jobs": [{
        "handler": "work", "max_attempts": 2, "backoff": { "base": "1h", "jitter": 0.0, "max": "1h" },
    }] }] });
    let world = world(late).await;
    world.fail(URLS[0], "not_found");
    world.fail(URLS[1], "not_found");
    let batch = submit(&world, &URLS).await;
    assert_eq!(until_over(&world, &batch).await["failedCount"], 2);
    // What is transient is tried again by itself, in an hour.
    world.fail(URLS[0], "timeout");
    world.fail(URLS[1], "timeout");
    let requeued = retry(&world, &batch).await.is(202);
    assert_eq!(requeued["retriedCount"], 2);
    let polled = world.get(&of(&batch)).await.is(200);
    assert_eq!(polled["status"], "running");
    assert_eq!(polled["failedCount"], 0);
    assert_eq!(polled["completedCount"], 1);
    assert_eq!(polled["finishedAt"], Value::Null);
    assert_eq!(polled["items"][0]["status"], "pending");
    assert_eq!(polled["items"][0]["error"], Value::Null);
    assert_eq!(polled["items"][2]["status"], "completed");
    // It goes on, and nothing failed in it by now.
    let nothing = retry(&world, &batch).await.is(400);
    assert_eq!(nothing["code"], "NO_FAILED_ITEMS");

    let cancelled = world.ask("DELETE", &of(&batch), &[], Value::Null).await;
    let expected = json!({ "status": "cancelled", "cancelledItems": 2, "creditsRefunded": 0 });
    assert_eq!(cancelled.is(200), expected);
    let polled = world.get(&of(&batch)).await.is(200);
    assert_eq!(polled["status"], "cancelled");
    assert_eq!(polled["items"][0]["status"], "cancelled");
    let again = world.ask("DELETE", &of(&batch), &[], Value::Null).await;
    let expected = json!({
        "status": "error",
        "message": "Cannot cancel a batch that is already cancelled.",
        "code": "ALREADY_TERMINAL",
    });
    assert_eq!(again.is(409), expected);
    // What was stopped cannot be retried.
    assert_eq!(retry(&world, &batch).await.is(400)["status"], "error");
}

#[tokio::test]
async fn a_batch_that_was_given_up_has_failed_and_goes_on_with_a_retry() {
    // What passes is tried again in an hour, so that something is left when it is given up.
    let job = json!({
        "handler": "work", "max_attempts": 2, "backoff": { "base": "1h", "jitter": 0.0, "max": "1h" },
    });
    let strict = json!({ "name": "strict", "max_failed": 0, "tiers": [{ "jobs": [job] }] });
    let world = world(strict).await;
    world.fail(URLS[0], "not_found");
    world.fail(URLS[1], "timeout");
    let batch = submit(&world, &URLS[..2]).await;
    let over = until_over(&world, &batch).await;
    assert_eq!(over["status"], "failed");
    assert_eq!(over["failedCount"], 1);
    assert_eq!(over["items"][1]["status"], "pending");
    let listed = world.get(SCRAPES).await.is(200);
    assert_eq!(listed["jobs"][0]["status"], "failed");
    world.failing.lock().unwrap().remove(URLS[0]);
    assert_eq!(retry(&world, &batch).await.is(202)["retriedCount"], 1);
    let goes_on = |batch: &Value| batch["completedCount"] == 1;
    let goes_on = world.until(&of(&batch), goes_on).await;
    assert_eq!(goes_on["status"], "running");
    assert_eq!(goes_on["failedCount"], 0);
}

#[tokio::test]
async fn the_result_is_what_the_last_tier_made() {
    let last = ["title", "price"].map(|name| json!({ "name": name, "handler": "work" }));
    let tiers = json!([{ "jobs": [{ "handler": "work" }] }, { "jobs": last }]);
    let world = world(json!({ "name": "two", "tiers": tiers })).await;
    let batch = submit(&world, &URLS[..1]).await;
    let over = until_over(&world, &batch).await;
    let made = json!({ "id": URLS[0], "segment": null });
    let expected = json!({ "title": made, "price": made });
    assert_eq!(over["items"][0]["result"], expected);
}

#[tokio::test]
async fn errors_are_theirs() {
    let world = world(pipeline()).await;
    let batch = submit(&world, &URLS[..1]).await;
    until_over(&world, &batch).await;
    let expected = json!({
        "status": "error",
        "message": "No failed items to retry.",
        "code": "NO_FAILED_ITEMS",
    });
    assert_eq!(retry(&world, &batch).await.is(400), expected);
    let over = world.ask("DELETE", &of(&batch), &[], Value::Null).await;
    let message = "Cannot cancel a batch that is already completed.";
    assert_eq!(over.is(409)["message"], message);

    // A native batch is not one of theirs.
    let native = world.batch(&["a"]).await;
    for id in [NOBODYS, "nothing", "%FF", &native] {
        for (method, path) in [
            ("GET", of(id)),
            ("DELETE", of(id)),
            ("POST", format!("{}/retry", of(id))),
        ] {
            let missing = world.ask(method, &path, &[], Value::Null).await;
            let missing = missing.is(404);
            assert_eq!(fields(&missing), BTreeSet::from(["message", "status"]));
            assert_eq!(missing["status"], "error", "{method} {path}");
        }
    }
    let many = vec![URLS[0]; 51];
    for (body, status, what) in [
        (json!({}), 400, "urls"),
        (json!([]), 400, ""),
        (json!({ "urls": [] }), 400, "urls: has 0 entries"),
        (json!({ "urls": many }), 400, "urls: has 51 entries"),
        (json!({ "urls": ["https://a", "a"] }), 400, "urls[1]: "),
        (json!({ "urls": [1] }), 400, "urls[0]: "),
        (json!({ "urls": URLS, "output": "xml" }), 400, "output: "),
        (json!({ "urls": URLS, "cookies": "a=b" }), 400, "cookies: "),
        (json!({ "urls": URLS, "schema": "none" }), 422, "schema: "),
        (
            json!({ "urls": URLS, "prompt": "p".repeat(70_000) }),
            400,
            "data has",
        ),
    ] {
        let refused = world.post(SCRAPES, body).await.is(status);
        assert_eq!(refused["status"], "error");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(what), "{message}");
    }
    let put = world.ask("PUT", SCRAPES, &[], json!({})).await;
    assert_eq!(put.is(405)["status"], "error");
}

#[tokio::test]
async fn a_retry_takes_credits_or_is_refused() {
    let world = world(pipeline()).await;
    world.fail(URLS[0], "not_found");
    limit_credits(&world, 3).await;
    let batch = submit(&world, &URLS).await;
    let over = until_over(&world, &batch).await;
    assert_eq!(over["items"][1]["creditsUsed"], 1);
    assert_eq!(over["items"][0]["creditsUsed"], 0);
    limit_credits(&world, 2).await;
    let refused = retry(&world, &batch).await.is(403);
    assert_eq!(refused["status"], "error");
    assert_eq!(refused["code"], "CREDIT_LIMIT_REACHED");
    assert_eq!(world.get(&of(&batch)).await.is(200)["failedCount"], 1);
    assert_eq!(
        world.post(SCRAPES, json!({ "urls": URLS })).await.is(403)["status"],
        "error"
    );
    // What was refused was never made.
    let listed = world.get(SCRAPES).await.is(200);
    assert_eq!(listed["pagination"]["total"], 1);
}

#[tokio::test]
async fn batches_are_listed_by_page_numbers() {
    let world = world(pipeline()).await;
    let mut made = Vec::new();
    for url in URLS {
        let batch = submit(&world, &[url]).await;
        until_over(&world, &batch).await;
        made.push(batch);
    }
    world.batch(&["a"]).await;
    let page = world
        .get(&format!("{SCRAPES}?page=2&limit=2"))
        .await
        .is(200);
    let pagination = json!({ "page": 2, "limit": 2, "total": 3, "totalPages": 2 });
    assert_eq!(page["pagination"], pagination);
    assert_eq!(page["jobs"].as_array().unwrap().len(), 1);
    let entry = &page["jobs"][0];
    assert_eq!(entry["uuid"], made[0].as_str());
    assert_eq!(entry["status"], "completed");
    let all = [
        "uuid",
        "status",
        "totalUrls",
        "completedCount",
        "failedCount",
        "outputFormat",
        "scrapingChannel",
        "createdAt",
        "finishedAt",
    ];
    assert_eq!(fields(entry), BTreeSet::from(all));
    let usual = world.get(SCRAPES).await.is(200);
    assert_eq!(usual["pagination"]["limit"], 20);
    assert_eq!(usual["jobs"][0]["uuid"], made[2].as_str());
    for bad in ["limit=51", "limit=0", "page=0", "page=x"] {
        let refused = world.get(&format!("{SCRAPES}?{bad}")).await;
        assert_eq!(refused.is(400)["status"], "error", "{bad}");
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_done_once() {
    let world = world(pipeline()).await;
    world.fail(URLS[0], "not_found");
    let key = [("Idempotency-Key", "one")];
    let body = json!({ "urls": URLS });
    let first = world.ask("POST", SCRAPES, &key, body.clone()).await.is(202);
    let second = world.ask("POST", SCRAPES, &key, body).await.is(202);
    assert_eq!(first, second);
    let listed = world.get(SCRAPES).await.is(200);
    assert_eq!(listed["pagination"]["total"], 1);
    let other = json!({ "urls": URLS[1..] });
    let refused = world.ask("POST", SCRAPES, &key, other).await.is(400);
    assert_eq!(refused["code"], "IDEMPOTENCY_KEY_REUSED");

    let batch = first["batchId"].as_str().unwrap();
    until_over(&world, batch).await;
    world.mend();
    let path = format!("{}/retry", of(batch));
    let first = world.ask("POST", &path, &key, Value::Null).await.is(202);
    let over = until_over(&world, batch).await;
    assert_eq!(over["failedCount"], 0);
    // Nothing is failed any more, and it is answered as it was.
    let second = world.ask("POST", &path, &key, Value::Null).await.is(202);
    assert_eq!(first, second);
    retry(&world, batch).await.is(400);
}

#[tokio::test]
async fn a_key_stands_in_their_header_and_is_good_for_its_own_batches() {
    let mut guarded = config("spidra", pipeline());
    guarded.auth = Auth::Keys;
    let world = World::with(guarded).await;
    let ask = async |key: &str, method: &str, path: &str, body: Value| {
        let headers = [("x-api-key", key)];
        world.ask(method, path, &headers, body).await
    };
    let ours = world.key("ours", "read,operate").await;
    let reads = world.key("ours", "read").await;
    let theirs = world.key("theirs", "read,operate").await;
    let body = json!({ "urls": URLS });
    let made = ask(&ours, "POST", SCRAPES, body).await.is(202);
    let batch = of(made["batchId"].as_str().unwrap());
    let retry = format!("{batch}/retry");
    for (method, path) in [
        ("POST", SCRAPES),
        ("GET", SCRAPES),
        ("GET", &batch),
        ("DELETE", &batch),
        ("POST", &retry),
    ] {
        // Without a key nothing else is looked at.
        let unknown = world.ask(method, path, &[], Value::Null).await.is(401);
        assert_eq!(fields(&unknown), BTreeSet::from(["message", "status"]));
        assert_eq!(unknown["status"], "error");
        let bad = ask("YOUR_API_KEY", method, path, Value::Null).await;
        assert_eq!(bad.is(401)["status"], "error");
        if method != "GET" {
            // Nor is the body, where the key does not allow it.
            let forbidden = ask(&reads, method, path, json!([])).await.is(401);
            assert_eq!(forbidden["status"], "error");
        }
        if path != SCRAPES {
            let hidden = ask(&theirs, method, path, Value::Null).await.is(404);
            assert_eq!(hidden["status"], "error");
        }
    }
    assert_eq!(ask(&reads, "GET", &batch, Value::Null).await.status, 200);
    let listed = ask(&theirs, "GET", SCRAPES, Value::Null).await.is(200);
    assert_eq!(listed["jobs"], json!([]));
}

#[tokio::test]
async fn a_broken_pipeline_is_not_the_clients_fault() {
    let world = world(json!({ "name": "broken", "tiers": [] })).await;
    let broken = world.post(SCRAPES, json!({ "urls": URLS })).await.is(500);
    assert_eq!(broken["status"], "error");
    assert!(!broken.to_string().contains("tiers"), "{broken}");
}
