//! What can be read of batches over HTTP, and their events.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "reads/events.rs"]
mod events;

use common::{World, pipeline};
use redrive_client::Client;
use redrive_domain::{
    command::Command,
    ids::{CommandId, Namespace},
};
use serde_json::{Value, json};

/// A world with a batch in which `b` and `d` failed, each in its own way.
async fn with_failures() -> (World, String) {
    let world = World::open().await;
    world.fail("b", "timeout");
    world.fail("d", "invalid_data");
    let batch = world.batch(&["a", "b", "c", "d"]).await;
    (world, batch)
}

fn ids(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn documents_are_listed_by_where_they_stand() {
    let (world, batch) = with_failures().await;
    let documents = format!("/v1/batches/{batch}/documents");
    for (query, expected) in [
        ("", &["a", "b", "c", "d"][..]),
        ("?status=failed", &["b", "d"]),
        ("?status=completed&tier=0", &["a", "c"]),
        ("?class=transient", &["b"]),
        ("?kind=invalid_data", &["d"]),
        ("?status=open", &[]),
    ] {
        let page = world.get(&format!("{documents}{query}")).await.is(200);
        assert_eq!(ids(&page), expected, "{query}");
        assert!(page["as_of"].as_u64().unwrap() > 0);
    }
    let page = world
        .get(&format!("{documents}?status=failed"))
        .await
        .is(200);
    let failure = &page["items"][0]["failures"][0];
    assert_eq!(failure["kind"], "timeout");
    assert_eq!(failure["message"], "b was told to fail");
    assert_eq!(page["items"][0]["retry_count"], 0);
    assert_eq!(page["items"][0].get("outputs"), None);
    let page = world
        .get(&format!("{documents}?outputs=true&status=completed"))
        .await
        .is(200);
    assert_eq!(page["items"][1]["outputs"][0]["output"]["id"], "c");

    let first = world.get(&format!("{documents}?limit=3")).await.is(200);
    let next = first["next"].as_str().unwrap();
    let rest = world
        .get(&format!("{documents}?limit=3&after={next}"))
        .await
        .is(200);
    assert_eq!((ids(&first), ids(&rest)), (vec!["a", "b", "c"], vec!["d"]));
    assert_eq!(rest.get("next"), None);

    let fingerprint = world
        .get(&format!("/v1/batches/{batch}/diagnose"))
        .await
        .is(200);
    let fingerprint = fingerprint["failure_groups"][0]["fingerprint"]
        .as_str()
        .unwrap()
        .to_owned();
    let page = world
        .get(&format!("{documents}?fingerprint={fingerprint}"))
        .await
        .is(200);
    assert_eq!(ids(&page).len(), 1);
    let failures = format!("/v1/batches/{batch}/failures?fingerprint={fingerprint}");
    let failures = world.get(&failures).await.is(200);
    assert_eq!(failures["items"][0]["document"], ids(&page)[0]);
}

#[tokio::test]
async fn lists_come_as_lines_to_those_who_ask_for_lines() {
    let world = World::open().await;
    // More than a page of them holds.
    let documents: Vec<String> = (0..2_300).map(|n| format!("d{n}")).collect();
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    let batch = world.batch(&documents).await;
    let accept = [("accept", "application/x-ndjson")];
    let lines = async |path: &str| {
        let path = format!("/v1/batches/{batch}/{path}");
        let answered = world.ask("GET", &path, &accept, Value::Null).await;
        assert_eq!(answered.status, 200, "{}", answered.text);
        assert_eq!(answered.headers["content-type"], "application/x-ndjson");
        assert!(
            answered.headers["redrive-as-of"]
                .to_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                > 0
        );
        let lines = answered.text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<Value>>()
    };
    let results = lines("results").await;
    assert_eq!(results.len(), 2_300);
    for (row, id) in results.iter().zip(&documents) {
        assert_eq!(row["output"]["id"], *id);
    }
    assert_eq!(lines("documents?limit=1500").await.len(), 1_500);
    assert_eq!(lines("failures").await.len(), 0);
    assert!(!lines("timeline").await.is_empty());
    assert_eq!(lines("diff?from=0").await.len(), 2_300);
    let path = format!("/v1/batches/{batch}/documents?tier=9");
    let refused = world.ask("GET", &path, &accept, Value::Null).await;
    assert_eq!(
        refused.is(422)["detail"][0]["loc"],
        json!(["query", "tier"])
    );
}

async fn retry_all(world: &World, batch: &str) {
    let namespace = Namespace::new("default").unwrap();
    let client = Client::new(world.broker.clone(), namespace, None);
    let retry = serde_json::from_value(json!({ "retry_mode": "all" })).unwrap();
    let (bucket, batch) = ("docs".parse().unwrap(), batch.parse().unwrap());
    let id = CommandId(uuid::Uuid::from_u128(7));
    let retried = client
        .command(&bucket, batch, id, &Command::Retry(retry))
        .await;
    assert_eq!(retried.unwrap().retry.unwrap().documents, 2);
}

#[tokio::test]
async fn every_read_tells_of_any_moment() {
    let (world, batch) = with_failures().await;
    let path = format!("/v1/batches/{batch}");
    let before = world.get(&path).await.is(200);
    let at = before["as_of"].as_u64().unwrap();
    world.mend();
    retry_all(&world, &batch).await;
    let after = world
        .until(&path, |view| view["status"] == "completed")
        .await;
    let whole_diff = world.get(&format!("{path}/diff?from={at}")).await.is(200);
    assert_eq!(whole_diff["changed"], 2);
    for (read, here, then) in [
        ("", "/counts/failed", json!(2)),
        ("/documents", "/items/1/status", json!("failed")),
        ("/failures", "/items/0/document", json!("b")),
        ("/results", "/items/1/document", json!("c")),
        ("/diagnose", "/failed_document_count", json!(2)),
    ] {
        let of_then = world.get(&format!("{path}{read}?at={at}")).await.is(200);
        assert_eq!(of_then.pointer(here), Some(&then), "{read}: {of_then}");
        assert_eq!(of_then["as_of"], at, "{read}");
        let of_now = world.get(&format!("{path}{read}")).await.is(200);
        assert_ne!(of_now.pointer(here), Some(&then), "{read}: {of_now}");
    }
    let list = world.get(&format!("/v1/batches?at={at}")).await.is(200);
    assert_eq!(
        (&list["as_of"], &list["items"][0]["counts"]["failed"]),
        (&json!(at), &json!(2))
    );
    let nothing = world.get("/v1/batches?at=0").await.is(200);
    assert_eq!(nothing["items"], json!([]));
    let then = before["last_activity_at"].as_str().unwrap();
    let of_then = world.get(&format!("{path}?at={then}")).await.is(200);
    assert_eq!(of_then["last_seq"], before["last_seq"]);
    let timeline = world.get(&format!("{path}/timeline?at={at}")).await.is(200);
    let retried = |row: &Value| row["type"] == "documents.retry_scheduled";
    assert!(!timeline["items"].as_array().unwrap().iter().any(retried));
    let timeline = world.get(&format!("{path}/timeline")).await.is(200);
    assert!(timeline["items"].as_array().unwrap().iter().any(retried));
    let diff = world
        .get(&format!("{path}/diff?from=0&at={at}"))
        .await
        .is(200);
    assert_eq!(
        (&diff["changed"], &diff["to"]),
        (&json!(4), &before["last_seq"])
    );
    let credits = world.get(&format!("/v1/credits?at={at}")).await.is(200);
    assert_eq!(credits["as_of"], at);
    assert!(after["as_of"].as_u64().unwrap() > at);
    for (path, field) in [
        (format!("{path}?at=soon"), "at"),
        (format!("{path}?at=999999"), "at"),
        (format!("{path}?as_of=1"), "as_of"),
        (format!("{path}/failures?limit=1001"), "limit"),
        (format!("{path}/failures?class=odd"), "class"),
        (format!("{path}/results?after=x"), "after"),
        (format!("{path}/diff"), "from"),
        ("/v1/batches?at=999999".to_owned(), "at"),
        ("/v1/batches?at=soon".to_owned(), "at"),
    ] {
        let refused = world.get(&path).await.is(422);
        let loc = refused["detail"][0]["loc"].as_array().unwrap();
        assert_eq!(loc[0], "query", "{path}: {refused}");
        assert_eq!(
            loc.get(1).and_then(Value::as_str).unwrap_or_default(),
            field,
            "{refused}"
        );
    }
}

#[tokio::test]
async fn batches_are_listed_the_last_one_first() {
    let world = World::open().await;
    world.fail("bad", "timeout");
    let mut made = Vec::new();
    for documents in [&["a"][..], &["bad", "b"], &["c"]] {
        made.push(world.batch(documents).await);
    }
    let listed = async |query: &str| {
        let page = world.get(&format!("/v1/batches{query}")).await.is(200);
        let items = page["items"].as_array().unwrap().iter();
        let ids: Vec<String> = items
            .map(|b| b["batch"].as_str().unwrap().to_owned())
            .collect();
        (ids, page["next"].as_str().map(str::to_owned))
    };
    let newest: Vec<String> = made.iter().rev().cloned().collect();
    assert_eq!(listed("").await, (newest.clone(), None));
    let (first, next) = listed("?limit=2").await;
    let (rest, none) = listed(&format!("?limit=2&after={}", next.unwrap())).await;
    assert_eq!(
        (first, rest, none),
        (newest[..2].to_vec(), newest[2..].to_vec(), None)
    );
    let failed = listed("?status=completed_with_failures").await;
    assert_eq!(failed.0, [made[1].clone()]);
    assert_eq!(listed("?bucket=other").await.0, Vec::<String>::new());
    let last = world.get("/v1/batches/last").await.is(200);
    assert_eq!(last["batch"], made[2]);

    // To another namespace none of it is there.
    let other = [("x-namespace", "other")];
    let none = world.ask("GET", "/v1/batches", &other, Value::Null).await;
    assert_eq!(none.is(200)["items"], json!([]));
    for read in [
        "",
        "/documents",
        "/failures",
        "/results",
        "/diagnose",
        "/timeline",
        "/events",
    ] {
        for batch in ["last", &made[0]] {
            let path = format!("/v1/batches/{batch}{read}");
            world.ask("GET", &path, &other, Value::Null).await.is(404);
        }
    }
}

#[tokio::test]
async fn a_read_sees_what_was_written_before_it() {
    let world = World::open().await;
    let mut seq = 0;
    for round in 0..20 {
        let body = json!({
            "bucket": "docs", "pipeline": pipeline(), "documents": [{ "id": format!("d{round}") }],
        });
        let made = world.post("/v1/batches", body).await.is(201);
        let batch = made["batch"].as_str().unwrap();
        let view = world.get(&format!("/v1/batches/{batch}")).await.is(200);
        assert_eq!(
            (&view["documents"], &view["submitted"]),
            (&json!(1), &json!(true))
        );
        let last = world.get("/v1/batches?limit=1").await.is(200);
        assert_eq!(last["items"][0]["batch"], batch);
        seq = made["seq"].as_u64().unwrap();
        assert!(view["as_of"].as_u64().unwrap() >= seq);
    }
    // What nothing has yet is not waited for.
    for path in [
        "/v1/batches",
        "/v1/batches/last",
        "/v1/batches/last/diff?from=0",
    ] {
        let join = if path.contains('?') { '&' } else { '?' };
        let far = world
            .get(&format!("{path}{join}min_seq={}", seq + 1_000_000))
            .await;
        assert_eq!(far.is(422)["detail"][0]["loc"], json!(["query", "min_seq"]));
        world
            .get(&format!("{path}{join}min_seq={seq}"))
            .await
            .is(200);
    }
}
