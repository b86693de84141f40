//! Events over HTTP, as they happen.

use std::net::SocketAddr;

use redrive_domain::ids::Namespace;
use redrive_gateway::{Auth, Config};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    common::{SOON, World, until},
    with_failures,
};

/// A client of server-sent events.
struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn open(world: &World, path: &str, last: Option<u64>) -> Self {
        Self::at(world, &world.url(path), last).await
    }

    async fn at(world: &World, url: &str, last: Option<u64>) -> Self {
        let mut request = world.http.get(url);
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        let response = timeout(SOON, request.send()).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next block with an id, and its data where it has some; nothing at the end of the stream.
    async fn next(&mut self) -> Option<(u64, Option<Value>)> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = block.lines();
                    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                };
                let id = field("id").map(|id| id.parse().unwrap());
                let data = field("data").map(|data| serde_json::from_str(data).unwrap());
                self.text = rest.to_owned();
                if let Some(id) = id {
                    return Some((id, data));
                }
            }
            let chunk = timeout(SOON, self.response.chunk())
                .await
                .unwrap()
                .unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next so many events.
    async fn take(&mut self, count: usize) -> Vec<(u64, Value)> {
        let mut events = Vec::new();
        while events.len() < count {
            if let (id, Some(data)) = self.next().await.unwrap() {
                events.push((id, data));
            }
        }
        events
    }
}

#[tokio::test]
async fn events_go_on_exactly_after_the_last_one_that_came() {
    let (world, batch) = with_failures().await;
    let path = format!("/v1/batches/{batch}/events");
    let mut events = Events::open(&world, &path, None).await;
    // Before anything else it says from where to come back.
    assert_eq!(events.next().await, Some((0, None)));
    let mut all = Vec::new();
    while all
        .last()
        .is_none_or(|(_, data): &(u64, Value)| data["type"] != "batch.completed")
    {
        all.extend(events.take(1).await);
    }
    assert!(all.is_sorted_by(|a, b| a.0 < b.0));
    assert!(
        all.iter()
            .all(|(id, data)| data["seq"] == *id && data["batch"] == *batch)
    );
    let added = all
        .iter()
        .find(|(_, data)| data["type"] == "batch.documents_added");
    let fields = &added.unwrap().1["event"];
    assert_eq!(
        (&fields["count"], fields.get("documents")),
        (&json!(4), None)
    );
    let failed = all.iter().filter(|(_, data)| {
        data["type"]
            .as_str()
            .unwrap()
            .starts_with("documents.failed.")
    });
    assert_eq!(failed.count(), 2);
    for place in 0..all.len() - 1 {
        let mut again = Events::open(&world, &path, Some(all[place].0)).await;
        assert_eq!(again.next().await, Some((all[place].0, None)));
        assert_eq!(again.take(all.len() - place - 1).await, all[place + 1..]);
    }
    let wanted = format!("{path}?type=documents.failed.transient");
    let only = Events::open(&world, &wanted, None).await.take(1).await;
    assert_eq!(only[0].1["type"], "documents.failed.transient.timeout");

    // Another gateway goes on just as well.
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config::open(any, Namespace::new("default").unwrap());
    let stop = CancellationToken::new();
    let other = redrive_gateway::bind(world.broker.clone(), config, stop.clone());
    let other = other.await.unwrap();
    let url = format!("{}{path}", other.url());
    let running = tokio::spawn(other.run());
    let mut again = Events::at(&world, &url, Some(all[1].0)).await;
    assert_eq!(again.take(all.len() - 2).await, all[2..]);
    stop.cancel();
    timeout(SOON, running).await.unwrap().unwrap();

    // One of the namespace tells what happens from now on, of batches yet to come as well.
    let mut live = Events::open(&world, "/v1/events?type=batch", None).await;
    let (now, none) = live.next().await.unwrap();
    assert!(none.is_none() && now >= all.last().unwrap().0);
    let other = world.batch(&["x"]).await;
    let told = live.take(4).await;
    let types: Vec<&str> = told
        .iter()
        .map(|(_, data)| data["type"].as_str().unwrap())
        .collect();
    let expected = [
        "batch.created",
        "batch.documents_added",
        "batch.submitted",
        "batch.completed",
    ];
    assert_eq!(types, expected);
    assert!(told.iter().all(|(_, data)| data["batch"] == *other));

    for (path, headers, loc) in [
        (
            &*path,
            &[("last-event-id", "x")][..],
            json!(["header", "Last-Event-ID"]),
        ),
        (
            &*path,
            &[("last-event-id", "999999")],
            json!(["header", "Last-Event-ID"]),
        ),
        ("/v1/events?after=999999", &[], json!(["query", "after"])),
        ("/v1/events?type=a%20b", &[], json!(["query", "type"])),
    ] {
        let refused = world.ask("GET", path, headers, Value::Null).await;
        assert_eq!(refused.is(422)["detail"][0]["loc"], loc);
    }
    let missing = "/v1/batches/01890a5d-ac96-774b-bcce-b302099a8057/events";
    world.get(missing).await.is(404);
}

#[tokio::test]
async fn a_stream_of_events_ends_with_the_server_and_gives_its_place_back() {
    let (world, batch) = with_failures().await;
    let path = format!("/v1/batches/{batch}/events");
    let mut open = Vec::new();
    // As many as a namespace may have.
    loop {
        let request = world.http.get(world.url(&path)).send();
        let response = timeout(SOON, request).await.unwrap().unwrap();
        if response.status() == 429 {
            assert!(response.headers().contains_key("retry-after"));
            break;
        }
        assert_eq!(response.status(), 200);
        open.push(response);
        assert!(open.len() <= 64, "there is no bound");
    }
    // One that nobody reads takes nothing from the others.
    world.get(&format!("/v1/batches/{batch}")).await.is(200);
    drop(open.split_off(1));
    until("a place for another stream", || async {
        let response = world.http.get(world.url(&path)).send().await.unwrap();
        (response.status() == 200).then_some(())
    })
    .await;
    let mut last = Events {
        response: open.remove(0),
        text: String::new(),
    };
    world.stop();
    while last.next().await.is_some() {}
}

#[tokio::test]
async fn a_stream_of_events_ends_with_its_key_and_tells_nothing_of_keys() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let world = World::with(Config::new(any, Auth::Keys)).await;
    let admin = world.key("default", "admin").await;
    let token = world.token("default", "read").await;
    let open = async |key: &str| {
        let request = world.http.get(world.url("/v1/events?after=0"));
        let request = request.bearer_auth(key).send();
        timeout(SOON, request).await.unwrap().unwrap()
    };
    assert_eq!(open(&admin).await.status(), 403);
    let response = open(&token.reveal()).await;
    assert_eq!(response.status(), 200);
    let mut events = Events {
        response,
        text: String::new(),
    };
    assert_eq!(events.next().await, Some((0, None)));
    let bearer = format!("Bearer {admin}");
    let path = format!("/v1/keys/{}", token.key);
    let headers = [("authorization", bearer.as_str())];
    let revoked = world.ask("DELETE", &path, &headers, Value::Null).await;
    revoked.is(200);
    // It breaks off, and until then there was nothing to tell but keys.
    while let Ok(Some(chunk)) = timeout(SOON, events.response.chunk()).await.unwrap() {
        assert!(!chunk.windows(4).any(|text| text == b"data"));
    }
    assert_eq!(open(&token.reveal()).await.status(), 401);
}
