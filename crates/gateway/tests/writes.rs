//! Making batches and adding documents to them, over HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Answered, World, pipeline, until};
use futures::{StreamExt, stream};
use reqwest::Body;
use serde_json::{Value, json};

const LINES: (&str, &str) = ("content-type", "application/x-ndjson");
const MANY: u32 = 30_000;

impl World {
    /// Sends lines, as they are made.
    async fn send(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Answered, reqwest::Error> {
        let mut request = self.http.post(self.url(path));
        for (name, value) in headers.iter().chain([&LINES]) {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        Ok(Answered {
            status,
            headers,
            text,
        })
    }

    async fn documents(&self, batch: &str) -> Option<u64> {
        let view = self.get(&format!("/v1/batches/{batch}")).await;
        (view.status == 200).then(|| view.json()["documents"].as_u64())?
    }
}

fn head() -> String {
    format!("{}\n", json!({ "bucket": "docs", "pipeline": pipeline() }))
}

/// A line of about 320 bytes: all of them come to more than is taken as one body.
fn line(number: u32) -> String {
    let text = "x".repeat(280);
    format!(
        "{}\n",
        json!({ "id": format!("doc-{number}"), "data": text })
    )
}

/// So many documents, made while they are sent.
fn many(first: String, documents: std::ops::Range<u32>) -> impl futures::Stream<Item = String> {
    stream::once(std::future::ready(first)).chain(stream::iter(documents.map(line)))
}

fn whole(lines: impl futures::Stream<Item = String> + Send + 'static) -> Body {
    Body::wrap_stream(lines.map(Ok::<_, std::io::Error>))
}

/// A body that breaks off after these lines.
fn broken(lines: impl futures::Stream<Item = String> + Send + 'static) -> Body {
    let error = std::io::Error::other("the cable was pulled");
    let end = stream::once(std::future::ready(Err(error)));
    Body::wrap_stream(lines.map(Ok).chain(end))
}

fn is_replayed(answered: &Answered) -> bool {
    answered.headers.contains_key("idempotent-replayed")
}

#[tokio::test]
async fn many_lines_make_a_batch_and_a_break_is_taken_up_with_the_key() {
    let world = World::open().await;
    let key = [("idempotency-key", "nightly-1")];
    let cut = broken(many(head(), 0..MANY / 2));
    let broke = world.send("/v1/batches", &key, cut).await;
    assert!(broke.is_err() || broke.is_ok_and(|answered| answered.status == 422));
    let list = world.get("/v1/batches").await.is(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    let batch = list["items"][0]["batch"].as_str().unwrap().to_owned();
    let there = until("some are there", || async {
        world.documents(&batch).await.filter(|n| *n > 0)
    });
    assert!(there.await <= u64::from(MANY / 2));
    let view = world.get(&format!("/v1/batches/{batch}")).await.is(200);
    assert_eq!(view["status"], "pending", "nothing has begun");
    let all = || whole(many(head(), 0..MANY));
    let made = world.send("/v1/batches", &key, all()).await.unwrap();
    assert!(!is_replayed(&made));
    let made = made.is(201);
    assert_eq!(
        (&made["batch"], &made["documents"]),
        (&json!(batch), &json!(MANY))
    );
    let cancel = format!("/v1/batches/{batch}/cancel");
    world.post(&cancel, json!({})).await.is(200);
    let again = world.send("/v1/batches", &key, all()).await.unwrap();
    assert!(is_replayed(&again));
    assert_eq!(again.is(201), made, "what it was then");
    let other = whole(many(head(), 1..MANY));
    let refused = world.send("/v1/batches", &key, other).await.unwrap();
    assert_eq!(refused.is(422)["error"]["code"], "idempotency_key_reused");
    let list = world.get("/v1/batches").await.is(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
}

#[tokio::test]
async fn a_line_that_is_wrong_is_named_and_those_before_it_are_there() {
    let world = World::open().await;
    let text = format!(
        "{}{{\"id\": \"a\"}}\n\n{{\"id\": 7}}\n{{\"id\": \"b\"}}\n",
        head()
    );
    let wrong = world
        .send("/v1/batches", &[], text.into())
        .await
        .unwrap()
        .is(422);
    assert_eq!(
        wrong["detail"][0]["loc"],
        json!(["body", 4, "id"]),
        "{wrong}"
    );
    let progress = &wrong["progress"];
    assert_eq!(
        (&progress["documents"], &progress["added"]),
        (&json!(1), &json!(1))
    );
    let batch = progress["batch"].as_str().unwrap();
    // It is open, and goes on where the mistake was.
    let documents = format!("/v1/batches/{batch}/documents?first=0");
    let mended = "{\"id\": \"a\"}\n{\"id\": \"7\"}\n{\"id\": \"b\"}";
    let added = world
        .send(&documents, &[], mended.into())
        .await
        .unwrap()
        .is(200);
    let counts = ["documents", "added", "skipped"].map(|name| added[name].as_u64().unwrap());
    assert_eq!(counts, [3, 2, 1]);
    for (text, loc) in [
        (String::new(), json!(["body"])),
        (
            "{\"bucket\": \"docs\"}".to_owned(),
            json!(["body", 1, "pipeline"]),
        ),
        (
            "{\"bucket\": \"docs\", \"pipeline\": {\"tiers\": []}}\n{\"id\": \"a\"}".to_owned(),
            json!(["body", 1, "pipeline", "tiers"]),
        ),
        (head() + "{\"id\": \"\"}", json!(["body", 2, "id"])),
        (
            head() + "{\"id\": \"a\", \"url\": \"b\"}",
            json!(["body", 2, "url"]),
        ),
        (head() + "[", json!(["body", 2])),
    ] {
        let wrong = world.send("/v1/batches", &[], text.clone().into()).await;
        assert_eq!(wrong.unwrap().is(422)["detail"][0]["loc"], loc, "{text}");
    }
    let long = head() + "{\"id\": \"a\"}\n{\"id\": \"" + &"x".repeat(2 << 20) + "\"}\n";
    let wrong = world
        .send("/v1/batches", &[], long.into())
        .await
        .unwrap()
        .is(413);
    let message = wrong["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("line 3 has more than the 1048576 bytes"),
        "{message}"
    );
}

#[tokio::test]
async fn a_batch_without_documents_stays_open_until_it_is_submitted() {
    let world = World::open().await;
    let new = json!({ "bucket": "docs", "pipeline": pipeline() });
    let open = world.post("/v1/batches", new).await.is(201);
    assert_eq!(
        (&open["status"], &open["documents"]),
        (&json!("pending"), &json!(0))
    );
    let batch = open["batch"].as_str().unwrap();
    let documents = format!("/v1/batches/{batch}/documents");
    let add = |path: String, ids: &[&str]| {
        let page: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        let world = &world;
        async move { world.post(&path, json!({ "documents": page })).await }
    };
    let added = add(documents.clone(), &["a", "b"]).await.is(200);
    assert_eq!(
        (&added["documents"], &added["added"]),
        (&json!(2), &json!(2))
    );
    let at = |first: u32| format!("{documents}?first={first}");
    let again = add(at(0), &["a", "b"]).await.is(200);
    assert_eq!(
        (&again["documents"], &again["skipped"]),
        (&json!(2), &json!(2))
    );
    let rest = add(at(1), &["b", "c"]).await.is(200);
    let counts = ["documents", "added", "skipped"].map(|name| rest[name].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 1]);
    let gap = add(at(5), &["f"]).await.is(409);
    let message = gap["error"]["message"].as_str().unwrap();
    assert!(message.ends_with("the next page begins at 3"), "{message}");
    let empty = add(documents.clone(), &[]).await.is(422);
    assert_eq!(empty["detail"][0]["loc"], json!(["body", "documents"]));
    let wrong = add(documents.clone(), &["d", "e", ""]).await.is(422);
    assert_eq!(
        wrong["detail"][0]["loc"],
        json!(["body", "documents", 2, "id"])
    );
    let lines = world.send(&documents, &[], "{\"id\": \"d\"}".into()).await;
    assert_eq!(
        lines.unwrap().is(422)["detail"][0]["loc"],
        json!(["query", "first"])
    );
    let submit = format!("/v1/batches/{batch}/submit");
    let too_few = world.post(&submit, json!({ "documents": 4 })).await.is(409);
    assert!(
        too_few["error"]["message"]
            .as_str()
            .unwrap()
            .contains("3 documents, not 4")
    );
    let submitted = world.ask("POST", &submit, &[], Value::Null).await.is(200);
    assert_eq!(submitted["status"], "running");
    let closed = add(documents.clone(), &["d"]).await.is(409);
    assert_eq!(closed["error"]["type"], "ConflictError");
    let nothing = "/v1/batches/01890a5d-ac96-774b-bcce-b302099a8057/documents";
    assert_eq!(add(nothing.to_owned(), &["d"]).await.status, 404);
    let over = |view: &Value| view["status"] == "completed";
    world.until(&format!("/v1/batches/{batch}"), over).await;
}

#[tokio::test]
async fn a_batch_may_have_an_id_of_the_clients_own() {
    let world = World::open().await;
    let id = "0198c0de-0000-7000-8000-000000000001";
    let new = |documents: Value| json!({ "bucket": "docs", "pipeline": pipeline(), "batch": id, "documents": documents });
    let made = world
        .post("/v1/batches", new(json!([{ "id": "a" }])))
        .await
        .is(201);
    assert_eq!(made["batch"], id);
    let again = world
        .post("/v1/batches", new(json!([{ "id": "a" }])))
        .await
        .is(201);
    assert_eq!(
        (&again["batch"], &again["documents"]),
        (&json!(id), &json!(1))
    );
    let more = json!([{ "id": "a" }, { "id": "b" }]);
    world.post("/v1/batches", new(more)).await.is(409);
    let key = [("idempotency-key", "k")];
    let both = new(json!([{ "id": "a" }]));
    let both = world.ask("POST", "/v1/batches", &key, both).await.is(422);
    assert_eq!(both["detail"][0]["loc"], json!(["body", "batch"]));
    let wrong = json!({ "bucket": "docs", "pipeline": pipeline(), "batch": "mine" });
    let wrong = world.post("/v1/batches", wrong).await.is(422);
    assert_eq!(wrong["detail"][0]["loc"], json!(["body", "batch"]));
    // What is wrong is found before anything is made.
    let wrong = json!([{ "id": "a" }, { "id": "" }]);
    let wrong = json!({ "bucket": "other", "pipeline": pipeline(), "documents": wrong });
    let wrong = world.post("/v1/batches", wrong).await.is(422);
    assert_eq!(
        wrong["detail"][0]["loc"],
        json!(["body", "documents", 1, "id"])
    );
    let list = world.get("/v1/batches").await.is(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
}

#[tokio::test]
async fn a_key_holds_a_creation_to_what_was_asked_first() {
    let world = World::open().await;
    let key = [("idempotency-key", "k")];
    let with = |ids: &[&str]| {
        let documents: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        json!({ "bucket": "docs", "pipeline": pipeline(), "documents": documents })
    };
    let create = |body: Value| world.ask("POST", "/v1/batches", &key, body);
    let at_once = (0..4).map(|_| create(with(&["a", "b"])));
    let made: Vec<Answered> = futures::future::join_all(at_once).await;
    let first = made[0].is(201);
    for made in &made {
        assert_eq!(made.is(201), first, "the same, also at the same time");
    }
    let later = create(with(&["a", "b"])).await;
    assert!(is_replayed(&later));
    assert_eq!(later.is(201), first);
    for other in [with(&["a"]), with(&["a", "c"]), with(&["a", "b", "c"]), {
        let mut other = with(&["a", "b"]);
        other["bucket"] = json!("elsewhere");
        other
    }] {
        let refused = create(other.clone()).await.is(422);
        assert_eq!(
            refused["error"]["code"], "idempotency_key_reused",
            "{other}"
        );
    }
    let mut open = with(&[]);
    open.as_object_mut().unwrap().remove("documents");
    let refused = create(open).await.is(422);
    assert_eq!(refused["error"]["code"], "idempotency_key_reused");
    let other = [("idempotency-key", "l")];
    let second = world
        .ask("POST", "/v1/batches", &other, with(&["a", "b"]))
        .await;
    assert_ne!(second.is(201)["batch"], first["batch"]);
    let list = world.get("/v1/batches").await.is(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list}");
    // Added documents as well.
    let mut open = with(&[]);
    open.as_object_mut().unwrap().remove("documents");
    let open = world.post("/v1/batches", open).await.is(201);
    let documents = format!("/v1/batches/{}/documents", open["batch"].as_str().unwrap());
    let page = |id: &str| json!({ "documents": [{ "id": id }] });
    let added = world.ask("POST", &documents, &key, page("a")).await.is(200);
    world.post(&documents, page("b")).await.is(200);
    let again = world.ask("POST", &documents, &key, page("a")).await;
    assert!(is_replayed(&again));
    assert_eq!(again.is(200), added);
    let refused = world.ask("POST", &documents, &key, page("c")).await.is(422);
    assert_eq!(refused["error"]["code"], "idempotency_key_reused");
}
