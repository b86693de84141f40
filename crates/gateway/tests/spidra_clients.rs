//! The clients that Spidra's documents print, run by the real `node` and the real `python3`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod support;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use common::{World, pipeline};
use redrive_domain::ids::{HandlerName, WorkerId};
use redrive_worker::handlers::fetch::Fetch;
use serde_json::{Value, json};
use support::{config, is_there, printed, python, run};
use tokio_util::sync::CancellationToken;

const SPIDRA: &str = "https://api.spidra.io";

/// A site, and how often each of its pages was asked for.
struct Site {
    address: SocketAddr,
    asked: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Site {
    /// What has `late` in its name is not there when it is asked for the first time.
    async fn open() -> Self {
        let asked: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
        let counting = Arc::clone(&asked);
        let page = move |Path(name): Path<String>| {
            let mut asked = counting.lock().unwrap();
            let times = asked.entry(name.clone()).or_default();
            *times += 1;
            let answer = match name.contains("late") && *times == 1 {
                true => Err(StatusCode::NOT_FOUND),
                false => Ok(format!("this is {name}")),
            };
            std::future::ready(answer)
        };
        let router = Router::new().route("/{name}", get(page));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = tokio::net::TcpListener::bind(any).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, asked }
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }
}

#[tokio::test]
async fn the_printed_loop_of_node_comes_to_all_items() {
    if !is_there("node").await {
        return;
    }
    // With the pipeline that is there by itself: whoever serves `fetch` reads the pages.
    let world = World::open().await;
    let stop = CancellationToken::new();
    let _ends = stop.clone().drop_guard();
    let fetch = Fetch::new(HandlerName::new(Fetch::NAME).unwrap());
    let worker = redrive_worker::Config::new(0, WorkerId::new("fetcher").unwrap());
    tokio::spawn(redrive_worker::run(
        world.broker.clone(),
        worker,
        vec![Arc::new(fetch)],
        stop,
    ));
    let site = Site::open().await;
    let urls = ["one", "late", "two"].map(|name| site.url(name));
    let asked = format!(
        "const items = await runWithRetry({}, {{ prompt: \"the title\" }});\nconsole.log(JSON.stringify(items));",
        json!(urls)
    );
    let client = printed("spidra_loop.mjs", (SPIDRA, &world.url("")), "", &asked);
    let mut node = tokio::process::Command::new("node");
    let said = run(node.args(["--input-type=module", "-e", &client])).await;
    let lines: Vec<&str> = said.lines().collect();
    let [retrying, items] = lines.as_slice() else {
        panic!("one retry and the items: {said}");
    };
    assert_eq!(*retrying, "Attempt 1: 1 failed. Retrying...");
    let items: Vec<Value> = serde_json::from_str(items).unwrap();
    let results: Vec<&Value> = items.iter().map(|item| &item["result"]).collect();
    assert_eq!(results, ["this is one", "this is late", "this is two"]);
    assert!(items.iter().all(|item| item["status"] == "completed"));
    // What succeeded was not asked for again.
    let asked = site.asked.lock().unwrap().clone();
    let expected = [("late", 2), ("one", 1), ("two", 1)];
    let expected = expected.map(|(name, times)| (name.to_owned(), times));
    assert_eq!(asked, BTreeMap::from(expected));
}

/// A batch of which two items failed, in a world where they would succeed now.
async fn with_failures() -> (World, String) {
    let world = World::with(config("spidra", pipeline())).await;
    let urls = ["https://a", "https://b", "https://c"];
    world.fail(urls[0], "timeout");
    world.fail(urls[1], "not_found");
    let body = json!({ "urls": urls });
    let queued = world.post("/api/batch/scrape", body).await.is(202);
    let batch = queued["batchId"].as_str().unwrap().to_owned();
    let over = |batch: &Value| batch["status"] == "completed";
    world
        .until(&format!("/api/batch/scrape/{batch}"), over)
        .await;
    world.mend();
    (world, batch)
}

async fn all_succeed(world: &World, batch: &str) {
    let path = format!("/api/batch/scrape/{batch}");
    let all = |batch: &Value| batch["completedCount"] == 3 && batch["status"] == "completed";
    let over = world.until(&path, all).await;
    assert_eq!(over["failedCount"], 0);
}

#[tokio::test]
async fn the_printed_retry_of_node_is_taken() {
    if !is_there("node").await {
        return;
    }
    let (world, batch) = with_failures().await;
    let named = format!("const batchId = {};", json!(batch));
    let client = printed("spidra_retry.mjs", (SPIDRA, &world.url("")), &named, "");
    let mut node = tokio::process::Command::new("node");
    let said = run(node.args(["--input-type=module", "-e", &client])).await;
    assert_eq!(said, "2 items re-queued\n");
    all_succeed(&world, &batch).await;
}

#[tokio::test]
async fn the_printed_retry_of_python_is_taken() {
    if !is_there("python3").await {
        return;
    }
    let (world, batch) = with_failures().await;
    let named = format!("batch_id = {}", json!(batch));
    let client = printed("spidra_retry.py", (SPIDRA, &world.url("")), &named, "");
    let said = run(python().await.args(["-c", &client])).await;
    assert_eq!(said, "2 items re-queued\n");
    all_succeed(&world, &batch).await;
}
