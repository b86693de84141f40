//! Batches of browser sessions, as clients of Anchor know them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod support;

use std::collections::BTreeSet;

use common::{World, pipeline};
use redrive_gateway::Auth;
use serde_json::{Value, json};
use support::{config, fields, limit_credits};

const SESSIONS: &str = "/v1/batch-sessions";
/// A batch that nobody made.
const NOBODYS: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

async fn world() -> World {
    World::with(config("anchor", pipeline())).await
}

fn of(batch: &str) -> String {
    format!("{SESSIONS}/{batch}")
}

fn retry_of(batch: &str) -> String {
    format!("{SESSIONS}/{batch}/retry")
}

async fn create(world: &World, count: u32) -> String {
    let made = world.post(SESSIONS, json!({ "count": count })).await;
    made.is(200)["data"]["batch_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn until_over(world: &World, batch: &str) -> Value {
    let over = |batch: &Value| {
        let status = batch["data"]["status"].as_str().unwrap();
        ["completed", "failed", "cancelled"].contains(&status)
    };
    world.until(&of(batch), over).await["data"].clone()
}

/// An error of theirs, and what it says.
#[track_caller]
fn message(error: &Value, code: u16) -> String {
    assert_eq!(fields(error), BTreeSet::from(["error"]), "{error}");
    assert_eq!(error["error"]["code"], code, "{error}");
    assert_eq!(fields(&error["error"]), BTreeSet::from(["code", "message"]));
    error["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_failed_is_opened_anew_and_nothing_else() {
    let world = world().await;
    world.fail("session-1", "not_found");
    let body = json!({ "count": 3, "configuration": { "browser": {} }, "newer": 1 });
    let made = world.post(SESSIONS, body).await.is(200);
    let created = ["batch_id", "created_at", "status", "total_requests"];
    assert_eq!(fields(&made["data"]), BTreeSet::from(created));
    assert_eq!(made["data"]["total_requests"], 3);
    let batch = made["data"]["batch_id"].as_str().unwrap();

    let over = until_over(&world, batch).await;
    assert_eq!(over["status"], "completed");
    assert_eq!(over["completed_requests"], 2);
    assert_eq!(over["failed_requests"], 1);
    assert_eq!(over["processing_requests"], 0);
    assert_eq!(over["pending_requests"], 0);
    let ready = json!({ "percentage": 100, "current_phase": "ready" });
    assert_eq!(over["progress"], ready);
    assert!(over["actual_completion_time"].is_string());
    let sessions = over["sessions"].as_array().unwrap();
    assert_eq!(sessions[0]["status"], "completed");
    assert!(sessions[0]["session_id"].is_string());
    let failed = [
        "completed_at",
        "error",
        "item_index",
        "retry_count",
        "status",
    ];
    assert_eq!(fields(&sessions[1]), BTreeSet::from(failed));
    assert_eq!(sessions[1]["status"], "failed");
    assert_eq!(sessions[1]["error"], "session-1 was told to fail");

    // It fails again, and then no more.
    let again = world.post(&retry_of(batch), json!({})).await.is(200);
    let expected = json!({ "data": {
        "batch_id": batch,
        "status": "processing",
        "retried_sessions": 1,
        "message": "Retrying 1 failed session",
    } });
    assert_eq!(again, expected);
    let over = world
        .until(&of(batch), |batch| {
            let data = &batch["data"];
            data["status"] == "completed" && data["sessions"][1]["retry_count"] == 1
        })
        .await;
    assert_eq!(over["data"]["failed_requests"], 1);
    world.mend();
    let all = json!({ "retry_failed_only": false, "max_retries": 3.0, "newer": null });
    let again = world.post(&retry_of(batch), all).await.is(200);
    // Whatever is asked for, what succeeded is not executed again.
    assert_eq!(again["data"]["retried_sessions"], 1);
    let message = again["data"]["message"].as_str().unwrap();
    assert!(message.contains("kept"), "{message}");
    let over = world
        .until(&of(batch), |batch| batch["data"]["completed_requests"] == 3)
        .await;
    let first = &over["data"]["sessions"][0];
    assert_eq!(first["retry_count"], 0);
    assert_eq!(first["session_id"], sessions[0]["session_id"]);
    assert_eq!(over["data"]["sessions"][1]["retry_count"], 2);
}

#[tokio::test]
async fn a_batch_of_which_nothing_came_has_failed_and_can_be_retried() {
    let world = world().await;
    world.fail("session-0", "timeout");
    let batch = create(&world, 1).await;
    let over = until_over(&world, &batch).await;
    assert_eq!(over["status"], "failed");
    assert_eq!(over["error"], "1 of 1 session failed");
    world.mend();
    world.post(&retry_of(&batch), json!({})).await.is(200);
    let over = world
        .until(&of(&batch), |batch| batch["data"]["status"] == "completed")
        .await;
    assert_eq!(fields(&over["data"]).get("error"), None);
}

#[tokio::test]
async fn each_round_has_as_many_attempts_as_the_retry_says() {
    let job = json!({
        "handler": "work", "max_attempts": 2, "backoff": { "base": "10ms", "max": "20ms" },
    });
    let pipeline = json!({ "name": "two", "tiers": [{ "jobs": [job] }] });
    let world = World::with(config("anchor", pipeline)).await;
    world.fail("session-0", "timeout");
    let batch = create(&world, 1).await;
    until_over(&world, &batch).await;
    let after = |retry_count: u32| {
        let (world, batch) = (&world, &batch);
        async move {
            let over = |batch: &Value| {
                let data = &batch["data"];
                data["status"] == "failed" && data["sessions"][0]["retry_count"] == retry_count
            };
            world.until(&of(batch), over).await;
            let failures = format!("/v1/batches/{batch}/failures");
            let failures = world.get(&failures).await.is(200);
            failures["items"][0]["attempts"].clone()
        }
    };
    assert_eq!(after(0).await, 2);
    // The default of a retry is one attempt, whatever the job has.
    world.post(&retry_of(&batch), json!({})).await.is(200);
    assert_eq!(after(1).await, 3);
    let three = json!({ "max_retries": 3 });
    world.post(&retry_of(&batch), three).await.is(200);
    assert_eq!(after(2).await, 6);
}

#[tokio::test]
async fn errors_are_theirs() {
    let world = world().await;
    let batch = create(&world, 1).await;
    until_over(&world, &batch).await;
    let nothing = world.post(&retry_of(&batch), json!({})).await.is(400);
    assert_eq!(message(&nothing, 400), "No failed sessions to retry");

    for (body, what) in [
        (json!([]), "is to be an object"),
        (
            json!({ "max_retries": 0 }),
            "max_retries: is 0: it takes 1 to 3",
        ),
        (
            json!({ "max_retries": 4 }),
            "max_retries: is 4: it takes 1 to 3",
        ),
        (json!({ "max_retries": -1 }), "max_retries: is -1"),
        (json!({ "max_retries": "1" }), "max_retries: "),
        (json!({ "max_retries": null }), "max_retries: "),
        (json!({ "max_retries": 1.5 }), "max_retries: "),
        (json!({ "retry_failed_only": "yes" }), "retry_failed_only: "),
    ] {
        let refused = world.post(&retry_of(&batch), body).await.is(400);
        let message = message(&refused, 400);
        assert!(message.contains(what), "{message}");
    }
    // Their document says that a body is required.
    let none = world.post(&retry_of(&batch), Value::Null).await.is(400);
    assert!(message(&none, 400).contains("body"), "{none}");
    let xml = [("content-type", "text/xml")];
    let refused = world.http.post(world.url(&retry_of(&batch)));
    let refused = refused.header(xml[0].0, xml[0].1).body("<a/>");
    assert_eq!(refused.send().await.unwrap().status(), 400);

    let native = world.batch(&["a"]).await;
    for id in [NOBODYS, "nothing", "%FF", &native] {
        let missing = world.get(&of(id)).await.is(404);
        message(&missing, 404);
        let missing = world.post(&retry_of(id), json!({})).await.is(404);
        message(&missing, 404);
        let stop = json!({ "status": "cancelled" });
        let missing = world.ask("PATCH", &of(id), &[], stop).await.is(404);
        message(&missing, 404);
    }
    for (body, what) in [
        (json!({}), "count"),
        (json!({ "count": 0 }), "count: is 0: it takes 1 to 5000"),
        (json!({ "count": 5001 }), "count: is 5001"),
        (json!({ "count": 1, "configuration": 1 }), "configuration: "),
        (
            json!({ "count": 5000, "metadata": { "a": "b".repeat(20_000) } }),
            "for all sessions together",
        ),
    ] {
        let refused = world.post(SESSIONS, body).await.is(400);
        let message = message(&refused, 400);
        assert!(message.contains(what), "{message}");
    }
    let deleted = world.ask("DELETE", &of(&batch), &[], Value::Null).await;
    message(&deleted.is(405), 405);
    let bad = json!({ "status": "completed" });
    let bad = world.ask("PATCH", &of(&batch), &[], bad).await.is(400);
    assert!(message(&bad, 400).contains("status"));
    let over = json!({ "status": "cancelled" });
    let over = world.ask("PATCH", &of(&batch), &[], over).await.is(409);
    let said = "Cannot cancel a batch that is already completed";
    assert_eq!(message(&over, 409), said);

    world.fail("session-0", "timeout");
    let failed = create(&world, 1).await;
    until_over(&world, &failed).await;
    limit_credits(&world, 0).await;
    let refused = world.post(SESSIONS, json!({ "count": 1 })).await.is(402);
    message(&refused, 402);
    let refused = world.post(&retry_of(&failed), json!({})).await.is(400);
    assert!(message(&refused, 400).contains("credits"), "{refused}");
}

#[tokio::test]
async fn batches_are_listed_with_filters() {
    let world = world().await;
    let first = create(&world, 2).await;
    until_over(&world, &first).await;
    world.fail("session-0", "not_found");
    let second = create(&world, 1).await;
    until_over(&world, &second).await;
    let page = world
        .get(&format!("{SESSIONS}?page=2&limit=1"))
        .await
        .is(200);
    let pagination = json!({
        "current_page": 2, "total_pages": 2, "total_records": 2, "has_next": false, "has_prev": true,
    });
    assert_eq!(page["data"]["pagination"], pagination);
    assert_eq!(page["data"]["batches"][0]["batch_id"], first.as_str());
    assert_eq!(page["data"]["batches"][0]["completed_requests"], 2);
    let listed = |query: &'static str| {
        let path = format!("{SESSIONS}?{query}");
        let world = &world;
        async move {
            let listed = world.get(&path).await.is(200);
            let batches = listed["data"]["batches"].as_array().unwrap().clone();
            let ids = batches
                .iter()
                .map(|it| it["batch_id"].as_str().unwrap().to_owned());
            ids.collect::<Vec<_>>()
        }
    };
    assert_eq!(listed("status=failed").await, std::slice::from_ref(&second));
    assert_eq!(listed("").await, [second, first]);
    assert!(
        listed("created_before=2020-01-01T00:00:00Z")
            .await
            .is_empty()
    );
    assert_eq!(listed("created_after=2020-01-01T00:00:00Z").await.len(), 2);
    for bad in ["limit=101", "page=0", "status=over", "created_after=noon"] {
        let refused = world.get(&format!("{SESSIONS}?{bad}")).await.is(400);
        message(&refused, 400);
    }
}

#[tokio::test]
async fn a_batch_is_cancelled() {
    // Nobody serves `session` here, so it goes on.
    let world = World::open().await;
    let batch = create(&world, 2).await;
    let goes_on = world.get(&of(&batch)).await.is(200);
    assert_eq!(goes_on["data"]["status"], "processing");
    assert_eq!(goes_on["data"]["pending_requests"], 2);
    assert_eq!(goes_on["data"]["progress"]["percentage"], 0);
    let stop = json!({ "status": "cancelled" });
    let stopped = world.ask("PATCH", &of(&batch), &[], stop).await.is(200);
    let expected = json!({ "data": {
        "batch_id": batch,
        "status": "cancelled",
        "cancelled_sessions": 2,
        "message": "Cancelled 2 sessions",
    } });
    assert_eq!(stopped, expected);
    let over = world.get(&of(&batch)).await.is(200);
    assert_eq!(over["data"]["status"], "cancelled");
    assert_eq!(over["data"]["sessions"][1]["status"], "cancelled");
    assert!(over["data"]["actual_completion_time"].is_string());
}

#[tokio::test]
async fn a_key_stands_in_their_header_and_is_good_for_its_own_batches() {
    let mut guarded = config("anchor", pipeline());
    guarded.auth = Auth::Keys;
    let world = World::with(guarded).await;
    let ask = async |key: &str, method: &str, path: &str, body: Value| {
        let headers = [("anchor-api-key", key), ("idempotency-key", "one")];
        world.ask(method, path, &headers, body).await
    };
    let ours = world.key("ours", "read,operate").await;
    let reads = world.key("ours", "read").await;
    let theirs = world.key("theirs", "read,operate").await;
    let body = json!({ "count": 1 });
    let made = ask(&ours, "POST", SESSIONS, body.clone()).await.is(200);
    let again = ask(&ours, "POST", SESSIONS, body).await.is(200);
    assert_eq!(made, again);
    let reused = ask(&ours, "POST", SESSIONS, json!({ "count": 2 })).await;
    message(&reused.is(400), 400);
    let batch = made["data"]["batch_id"].as_str().unwrap();
    let (batch, retry) = (of(batch), retry_of(batch));
    for (method, path) in [
        ("POST", SESSIONS),
        ("GET", SESSIONS),
        ("GET", &batch),
        ("PATCH", &batch),
        ("POST", &retry),
    ] {
        let unknown = world.ask(method, path, &[], Value::Null).await.is(401);
        message(&unknown, 401);
        if method != "GET" {
            let forbidden = ask(&reads, method, path, Value::Null).await.is(401);
            message(&forbidden, 401);
        }
        if path != SESSIONS {
            let body = json!({ "status": "cancelled" });
            let hidden = ask(&theirs, method, path, body).await.is(404);
            message(&hidden, 404);
        }
    }
}
