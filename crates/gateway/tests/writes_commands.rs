//! Commands to batches, over HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::World;
use serde_json::{Value, json};

#[tokio::test]
async fn a_retry_takes_what_it_says_and_is_answered_alike_when_it_comes_again() {
    let world = World::open().await;
    world.fail("a", "timeout");
    world.fail("b", "invalid_data");
    let batch = world.batch(&["a", "b", "c"]).await;
    let path = format!("/v1/batches/{batch}");
    let retry = format!("{path}/retry");
    let dry = json!({ "retry_mode": "all", "dry_run": true });
    let plan = world.post(&retry, dry).await.is(200);
    assert_eq!(plan["retry"]["units"], 2);
    let excluded = world.post(&retry, json!({ "dry_run": true })).await.is(200);
    assert_eq!(excluded["retry"]["excluded"]["class"]["permanent"], 1);
    let filter =
        json!({ "retry_mode": "all", "dry_run": true, "filter": { "kinds": ["invalid_data"] } });
    let only = world.post(&retry, filter).await.is(200);
    assert_eq!(only["retry"]["by_kind"], json!({ "invalid_data": 1 }));
    let key = [("idempotency-key", "again")];
    let first = world.ask("POST", &retry, &key, Value::Null).await;
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let first = first.is(200);
    assert_eq!(first["retry"]["documents"], 1);
    let retried = |view: &Value| view["status"] == "completed_with_failures";
    world.until(&path, retried).await;
    world.mend();
    // All of it failed again: the plan holds, once.
    let planned = json!({ "plan_id": plan["plan"] });
    let carried_out = world.post(&retry, planned.clone()).await.is(200);
    assert_eq!(carried_out["retry"]["units"], 2);
    let stale = world.post(&retry, planned).await.is(409);
    assert_eq!(stale["error"]["code"], "plan_stale");
    world
        .until(&path, |view| view["status"] == "completed")
        .await;
    let again = world.ask("POST", &retry, &key, Value::Null).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.is(200), first);
    let other = json!({ "retry_mode": "all" });
    let reused = world.ask("POST", &retry, &key, other).await.is(422);
    assert_eq!(reused["error"]["code"], "idempotency_key_reused");
    let gone = world
        .post(
            &retry,
            json!({ "plan_id": plan["plan"], "retry_mode": "all" }),
        )
        .await;
    assert_eq!(gone.is(422)["detail"][0]["loc"], json!(["body", "plan_id"]));
}

#[tokio::test]
async fn what_is_wrong_with_a_retry_names_the_field() {
    let world = World::open().await;
    world.fail("a", "timeout");
    let batch = world.batch(&["a", "z"]).await;
    let retry = format!("/v1/batches/{batch}/retry");
    let many: Vec<String> = (0..17).map(|n| format!("kind-{n}")).collect();
    for (body, loc) in [
        (
            json!({ "max_retry_count": 11 }),
            json!(["body", "max_retry_count"]),
        ),
        (
            json!({ "max_retry_count": "x" }),
            json!(["body", "max_retry_count"]),
        ),
        (
            json!({ "retry_mode": "some" }),
            json!(["body", "retry_mode"]),
        ),
        (
            json!({ "tier_nums": [0, 4] }),
            json!(["body", "tier_nums", 1]),
        ),
        (
            json!({ "filter": { "kinds": many } }),
            json!(["body", "filter", "kinds"]),
        ),
        (
            json!({ "filter": { "kind": [] } }),
            json!(["body", "filter", "kind"]),
        ),
        (json!({ "plan_id": "plan-x" }), json!(["body", "plan_id"])),
        (
            json!({ "canary_success": "90%" }),
            json!(["body", "canary_success"]),
        ),
        (json!({ "tiers": [0] }), json!(["body", "tiers"])),
    ] {
        let wrong = world.post(&retry, body.clone()).await.is(422);
        assert_eq!(wrong["detail"][0]["loc"], loc, "{body}: {wrong}");
    }
    let tier = |tier: &str| format!("/v1/batches/{batch}/tiers/{tier}/retry");
    let named = world
        .post(&tier("0"), json!({ "tier_nums": [0] }))
        .await
        .is(422);
    assert_eq!(named["detail"][0]["loc"], json!(["body", "tier_nums"]));
    assert_eq!(world.post(&tier("4"), json!({})).await.status, 404);
    let wrong = world.post(&tier("first"), json!({})).await.is(422);
    assert_eq!(wrong["detail"][0]["loc"], json!(["path", "tier"]));
    world
        .post("/v1/batches/last/retry", json!({}))
        .await
        .is(422);
    for list in [json!([]), json!(["all"])] {
        let wrong = world.post(&retry, list).await.is(422);
        assert_eq!(wrong["detail"][0]["loc"], json!(["body"]), "{wrong}");
    }
    // The body that clients of Mixpeek send, and what it is short for.
    let resources = json!({ "requires_gpu": false, "priority": 70, "set": { "num_cpus": 1 } });
    let retried = world.post(&tier("0"), resources).await.is(200);
    assert_eq!(retried["retry"]["by_tier"], json!({ "0": 1 }));
    let view = world.get(&format!("/v1/batches/{batch}")).await.is(200);
    let submission = &view["tiers"][0]["jobs"][0]["submission"];
    assert_eq!(submission["priority"], 70, "{view}");
    assert_eq!(submission["requires_gpu"], false, "{view}");
    let planned = world.post(&retry, json!({ "dry_run": true })).await.is(200);
    let over = |view: &Value| view["status"] == "completed_with_failures";
    world.until(&format!("/v1/batches/{batch}"), over).await;
    let other = world.batch(&["b"]).await;
    let of_other = format!("/v1/batches/{other}/retry");
    let wrong = world
        .post(&of_other, json!({ "plan_id": planned["plan"] }))
        .await
        .is(422);
    assert_eq!(wrong["detail"][0]["loc"], json!(["body", "plan_id"]));
    let nothing = world.post(&of_other, json!({})).await.is(200);
    assert_eq!(nothing["retry"]["units"], 0);
}

#[tokio::test]
async fn batches_tiers_and_jobs_are_held_up_healed_and_stopped() {
    let world = World::open().await;
    let two = json!({ "tiers": [
        { "jobs": [{ "handler": "work", "name": "one" }, { "handler": "work", "name": "two" }] },
        { "jobs": [{ "handler": "nobody", "name": "late" }] },
    ] });
    let new =
        json!({ "bucket": "docs", "pipeline": two, "documents": [{ "id": "a" }, { "id": "b" }] });
    let made = world.post("/v1/batches", new).await.is(201);
    let batch = made["batch"].as_str().unwrap();
    let path = |rest: &str| format!("/v1/batches/{batch}/{rest}");
    let paused = world
        .post(&path("pause"), json!({ "tier": 1, "reason": "later" }))
        .await
        .is(200);
    assert_eq!(paused["jobs"], json!([{ "tier": 1, "job": "late" }]));
    let key = [("idempotency-key", "on")];
    let resumed = world
        .ask("POST", &path("resume"), &key, json!({ "tier": 1 }))
        .await
        .is(200);
    assert_eq!(resumed["jobs"], json!([{ "tier": 1, "job": "late" }]));
    world
        .post(&path("pause"), json!({ "tier": 1 }))
        .await
        .is(200);
    let again = world
        .ask("POST", &path("resume"), &key, json!({ "tier": 1 }))
        .await;
    assert_eq!(again.is(200), resumed, "it is not resumed a second time");
    let wrong = world
        .post(&path("pause"), json!({ "job": "none" }))
        .await
        .is(422);
    assert_eq!(wrong["detail"][0]["loc"], json!(["body", "job"]));
    let look = json!({ "action": "detect_stuck" });
    let healed = world.post(&path("heal"), look.clone()).await.is(200);
    assert_eq!(healed["heal"]["stuck"], json!([]));
    world
        .post(
            &path("tiers/1/heal"),
            json!({ "action": "kill_duplicates" }),
        )
        .await
        .is(200);
    assert_eq!(world.post(&path("tiers/2/heal"), look).await.status, 404);
    let wrong = world.post(&path("heal"), json!({})).await.is(422);
    assert_eq!(wrong["detail"][0]["loc"], json!(["body", "action"]));
    assert_eq!(
        world.post(&path("tiers/2/cancel"), json!({})).await.status,
        404
    );
    assert_eq!(
        world
            .post(&path("tiers/0/jobs/late/cancel"), json!({}))
            .await
            .status,
        404
    );
    let view = format!("/v1/batches/{batch}");
    let first_is_through = |view: &Value| view["tiers"][0]["status"] == "completed";
    world.until(&view, first_is_through).await;
    let job = world
        .post(
            &path("tiers/1/jobs/late/cancel"),
            json!({ "reason": "no model" }),
        )
        .await;
    assert_eq!(job.is(200)["jobs"], json!([{ "tier": 1, "job": "late" }]));
    world
        .until(&view, |view| view["status"] == "cancelled")
        .await;
    let new = json!({ "bucket": "docs", "pipeline": common::pipeline() });
    let open = world.post("/v1/batches", new).await.is(201);
    let cancel = format!("/v1/batches/{}/cancel", open["batch"].as_str().unwrap());
    let stopped = world.ask("POST", &cancel, &[], Value::Null).await.is(200);
    assert_eq!(stopped["status"], "cancelled");
    let wrong = world.post(&cancel, json!({ "why": "x" })).await.is(422);
    assert_eq!(wrong["detail"][0]["loc"], json!(["body", "why"]));
}

#[tokio::test]
async fn credits_are_limited_and_what_takes_more_is_refused() {
    let world = World::open().await;
    let put = |body: Value| world.ask("PUT", "/v1/credits", &[], body);
    let set = put(json!({ "limit": 1 })).await.is(200);
    assert_eq!(set["limit"], 1);
    let seen = world
        .get(&format!("/v1/credits?min_seq={}", set["seq"]))
        .await
        .is(200);
    assert_eq!(seen["limit"], 1);
    let documents = json!([{ "id": "a" }, { "id": "b" }]);
    let new = json!({ "bucket": "docs", "pipeline": common::pipeline(), "documents": documents });
    let refused = world.post("/v1/batches", new).await.is(403);
    assert_eq!(refused["error"]["code"], "credits_exhausted");
    // All documents are there, and it can be submitted when there are credits.
    let progress = &refused["error"]["details"]["progress"];
    assert_eq!(progress["documents"], 2);
    put(json!({ "limit": null })).await.is(200);
    let submit = format!("/v1/batches/{}/submit", progress["batch"].as_str().unwrap());
    world.post(&submit, json!({ "documents": 2 })).await.is(200);
    let wrong = put(json!({})).await.is(422);
    assert_eq!(wrong["detail"][0]["loc"], json!(["body", "limit"]));
    let wrong = put(json!({ "limit": 2_000_000_000_000_000_u64 }))
        .await
        .is(422);
    assert_eq!(wrong["detail"][0]["loc"], json!(["body", "limit"]));
}
