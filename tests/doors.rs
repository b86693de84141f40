//! The doors of the system, used as any NATS client would: messages with JSON bodies on documented subjects, and
//! nothing of Redrive's own client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "doors/plain.rs"]
mod plain;
mod support;

use std::time::Duration;

use futures::StreamExt;
use plain::Plain;
use redrive_broker::{
    Broker, Message, Range,
    nats::{ConnectOptions, NatsBroker},
};
use redrive_domain::event::{Envelope, Event};
use redrive_nats_server::testing::TestServer;
use serde_json::{Value, json};
use support::{Home, Running, SOON};
use tokio::time::{Instant, sleep, timeout};

struct Client {
    broker: NatsBroker,
    home: Home,
    server: TestServer,
}

impl Client {
    async fn new() -> Self {
        let server = TestServer::start().unwrap();
        let broker = NatsBroker::connect(ConnectOptions::new(server.client_url()))
            .await
            .unwrap();
        broker.ensure().await.unwrap();
        let home = Home::with_broker(&server.client_url());
        Self {
            broker,
            home,
            server,
        }
    }

    fn coordinator(&self) -> Running {
        self.home.start("coordinator", ["coordinator"])
    }

    fn message(subject: &str, body: &str) -> Message {
        Message {
            subject: subject.to_owned(),
            payload: body.to_owned().into(),
            trace: None,
        }
    }

    /// Hands a command over durably.
    async fn publish(&self, address: &str, body: impl ToString) {
        let subject = format!("rd.cmd.{address}");
        let message = Self::message(&subject, &body.to_string());
        self.broker.submit(message, None).await.unwrap();
    }

    /// Asks, for as long as nobody is there to answer.
    async fn ask(&self, subject: &str, body: impl ToString) -> Value {
        let end = Instant::now() + SOON;
        loop {
            let message = Self::message(subject, &body.to_string());
            match self.broker.request(message, Duration::from_secs(10)).await {
                Ok(answer) => return serde_json::from_slice(&answer).unwrap(),
                Err(error) => assert!(Instant::now() < end, "{subject}: {error}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn request(&self, address: &str, body: impl ToString) -> Value {
        self.ask(&format!("rd.req.{address}"), body).await
    }

    async fn query(&self, name: &str, body: impl ToString) -> Value {
        self.ask(&format!("rd.qry.default.{name}"), body).await
    }

    /// The log from its first event, until one is as wanted.
    async fn events_until(&self, wanted: impl Fn(&[Envelope]) -> bool) -> Vec<Envelope> {
        let mut entries = self.broker.read(Range {
            from: 1,
            until: None,
            filter: None,
        });
        let mut events = Vec::new();
        let reading = async {
            while !wanted(&events) {
                let entry = entries.next().await.unwrap().unwrap();
                events.push(Envelope::decode(&entry.payload).unwrap());
            }
        };
        if timeout(SOON, reading).await.is_err() {
            panic!("what is wanted does not come after {events:#?}");
        }
        events
    }
}

const BATCH: &str = "01980000-0000-7000-8000-00000000000a";

fn pipeline() -> Value {
    json!({"tiers": [{"name": "t", "jobs": [{
        "handler": "exec",
        "max_attempts": 1,
        "params": { "command": "test {} != bad" },
    }]}]})
}

fn documents(ids: &[&str]) -> Value {
    ids.iter().map(|id| json!({ "id": id })).collect()
}

fn names(events: &[Envelope]) -> Vec<&'static str> {
    events
        .iter()
        .map(|envelope| envelope.event.name())
        .collect()
}

/// The refusals: verb, code, and what people are told.
fn refusals(events: &[Envelope]) -> Vec<(Option<String>, String)> {
    let refused = events.iter().filter_map(|envelope| match &envelope.event {
        Event::CommandRefused { verb, message, .. } => {
            Some((verb.map(|verb| verb.to_string()), message.clone()))
        }
        _ => None,
    });
    refused.collect()
}

#[tokio::test]
async fn what_is_published_while_nobody_is_there_is_carried_out_later() {
    let client = Client::new().await;
    let at = |verb: &str| format!("default.docs.{BATCH}.{verb}");
    let create = json!({ "pipeline": pipeline(), "actor": "ann" });
    client.publish(&at("create"), create).await;
    let add = json!({ "documents": documents(&["a", "bad", "c"]) });
    client.publish(&at("add_documents"), add).await;
    client.publish(&at("submit"), "").await;
    assert_eq!(
        client.broker.last_seq().await.unwrap(),
        0,
        "nobody is there"
    );
    let _coordinator = client.coordinator();
    let _worker = client.home.start("worker", ["worker"]);
    let over = |events: &[Envelope]| names(events).contains(&"batch.completed");
    let events = client.events_until(over).await;
    assert_eq!(events[0].actor.as_deref(), Some("ann"));
    assert_eq!(
        names(&events)[..2],
        ["batch.created", "batch.documents_added"]
    );
    let last = events.last().unwrap();
    let Event::BatchCompleted {
        completed, failed, ..
    } = &last.event
    else {
        panic!("{last:?}")
    };
    assert_eq!((*completed, *failed), (2, 1));
    assert_eq!(refusals(&events), []);
}

#[tokio::test]
async fn a_refusal_is_an_event() {
    let client = Client::new().await;
    let at = |verb: &str| format!("default.docs.{BATCH}.{verb}");
    client.publish(&at("retry"), "{}").await;
    client.publish(&at("create"), "{\"pipeline\": ").await;
    client
        .publish(&at("create"), json!({ "pipelin": {} }))
        .await;
    let bad = json!({ "tiers": [{ "jobs": [{ "handler": "a b" }] }] });
    client
        .publish(&at("create"), json!({ "pipeline": bad }))
        .await;
    client.publish(&at("destroy"), "{}").await;
    client.publish("default.docs.not-a-uuid.cancel", "{}").await;
    client.publish("default.do$cs.x.cancel", "{}").await;
    client.publish("too.short", "{}").await;
    let _coordinator = client.coordinator();
    let events = client
        .events_until(|events| refusals(events).len() == 8)
        .await;
    assert_eq!(events.len(), 8, "there is nothing but refusals");
    let told = refusals(&events);
    let said = |n: usize, verb: Option<&str>, words: &[&str]| {
        let (of, message) = &told[n];
        assert_eq!(of.as_deref(), verb, "{message}");
        for word in words {
            assert!(message.contains(word), "{message} does not say {word}");
        }
    };
    said(
        0,
        Some("retry"),
        &["there is no batch", BATCH, "namespace default"],
    );
    said(1, Some("create"), &["body", "EOF"]);
    said(2, Some("create"), &["pipelin"]);
    said(
        3,
        Some("create"),
        &["pipeline.tiers[0].jobs[0].handler", "a b"],
    );
    said(4, None, &["\"destroy\" is not a verb", "add_documents"]);
    said(5, None, &["not-a-uuid"]);
    said(6, None, &["bucket", "do$cs"]);
    said(7, None, &["rd.cmd.<namespace>.<bucket>.<batch>.<verb>"]);
    let keys = events.iter().map(|e| e.namespace.as_str());
    assert_eq!(keys.collect::<Vec<_>>()[..7], ["default"; 7]);
}

#[tokio::test]
async fn the_same_command_twice_is_done_once_through_either_door() {
    let client = Client::new().await;
    let _coordinator = client.coordinator();
    let at = |verb: &str| format!("default.docs.{BATCH}.{verb}");
    let id = |n: u32| format!("01980000-0000-7000-8000-{n:012}");
    let create = json!({ "id": id(1), "pipeline": pipeline() });
    let first = client.request(&at("create"), &create).await;
    assert_eq!(first["ok"]["batch"], BATCH);
    assert_eq!(first["ok"].get("repeated"), None);
    let second = client.request(&at("create"), &create).await;
    assert_eq!(second["ok"]["repeated"], true);
    assert_eq!(second["ok"]["seq"], first["ok"]["seq"]);
    // Without a place of their own, the same documents twice would be there twice.
    let add = json!({ "id": id(2), "documents": documents(&["a", "b"]) });
    client.publish(&at("add_documents"), &add).await;
    client.publish(&at("add_documents"), &add).await;
    client
        .events_until(|events| names(events).contains(&"batch.documents_added"))
        .await;
    let third = client.request(&at("add_documents"), &add).await;
    assert_eq!(
        (&third["ok"]["repeated"], &third["ok"]["documents"]),
        (&json!(true), &json!(2))
    );
    let other = json!({ "id": id(3), "documents": documents(&["c"]) });
    let added = client.request(&at("add_documents"), &other).await;
    assert_eq!(added["ok"]["documents"], 3);
    let events = client
        .events_until(|events| {
            let added = names(events);
            added
                .iter()
                .filter(|n| **n == "batch.documents_added")
                .count()
                == 2
        })
        .await;
    assert_eq!(
        names(&events),
        [
            "batch.created",
            "batch.documents_added",
            "batch.documents_added"
        ]
    );
}

#[tokio::test]
async fn a_request_is_answered_with_the_decision() {
    let client = Client::new().await;
    let _coordinator = client.coordinator();
    let refused = client
        .request(&format!("default.docs.{BATCH}.cancel"), "{}")
        .await;
    let error = &refused["error"];
    assert_eq!(error["code"], "not_found");
    assert!(error["message"].as_str().unwrap().contains(BATCH));
    let wrong = json!({ "retry_mode": "some", "tier_nums": [] });
    let address = format!("default.docs.{BATCH}.retry");
    let wrong = client.request(&address, wrong).await;
    assert_eq!(wrong["error"]["code"], "invalid");
    let message = wrong["error"]["message"].as_str().unwrap();
    assert!(message.contains("transient_only"), "{message}");

    // The headers of the service protocol, as a client without any library gets them.
    let mut plain = Plain::connect(client.server.port());
    let (headers, body) = plain.request(&format!("rd.req.default.docs.{BATCH}.cancel"), "{}");
    assert!(
        headers.contains("Nats-Service-Error-Code: 404"),
        "{headers}"
    );
    assert!(
        headers.contains("Nats-Service-Error: there is no batch"),
        "{headers}"
    );
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), refused);
    let create = json!({ "pipeline": pipeline() }).to_string();
    let (headers, body) = plain.request(&format!("rd.req.default.docs.{BATCH}.create"), &create);
    assert!(!headers.contains("Error"), "{headers}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&body["ok"]["batch"], &body["ok"]["status"]),
        (&json!(BATCH), &json!("pending"))
    );
}

#[tokio::test]
async fn the_services_are_seen() {
    let client = Client::new().await;
    let _coordinator = client.coordinator();
    let _projector = client.home.start("projector", ["projector"]);
    for (service, subject) in [
        ("redrive-coordinator", "rd.req.>"),
        ("redrive-projector", "rd.qry.>"),
    ] {
        let ping = client.ask(&format!("$SRV.PING.{service}"), "").await;
        assert_eq!(ping["name"], service);
        let info = client.ask(&format!("$SRV.INFO.{service}"), "").await;
        assert_eq!(info["name"], service);
        assert_eq!(info["endpoints"][0]["subject"], subject);
        assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    }
    // A ping of all is answered by both.
    let mut plain = Plain::connect(client.server.port());
    let mut names = plain.requests("$SRV.PING", 2);
    names.sort();
    assert_eq!(names, ["redrive-coordinator", "redrive-projector"]);
}

#[tokio::test]
async fn queries_are_paged_and_see_what_was_commanded() {
    let client = Client::new().await;
    let _roles = [
        client.coordinator(),
        client.home.start("projector", ["projector"]),
        client.home.start("worker", ["worker"]),
    ];
    let at = |verb: &str| format!("default.docs.{BATCH}.{verb}");
    let created = client
        .request(&at("create"), json!({ "pipeline": pipeline() }))
        .await;
    // At once after each command, without a word about where the log is.
    let status = client.query("status", json!({ "batch": BATCH })).await;
    assert_eq!(status["ok"]["status"], "pending");
    assert!(status["ok"]["as_of"].as_u64() >= created["ok"]["seq"].as_u64());
    let list: Vec<Value> = (0..25)
        .map(|n| json!({ "id": if n % 2 == 0 { "bad".to_owned() } else { format!("d{n}") } }))
        .collect();
    client
        .request(&at("add_documents"), json!({ "documents": list }))
        .await;
    let status = client.query("status", json!({ "batch": "last" })).await;
    assert_eq!(status["ok"]["documents"], 25);
    client.request(&at("submit"), "{}").await;
    client
        .events_until(|events| names(events).contains(&"batch.completed"))
        .await;

    let mut ordinals = Vec::new();
    let mut after = Value::Null;
    let mut pages = 0;
    loop {
        let mut ask = json!({ "batch": BATCH, "limit": 5 });
        if !after.is_null() {
            ask["after"] = after;
        }
        let page = client.query("failures", ask).await;
        let page = &page["ok"];
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 5);
        ordinals.extend(items.iter().map(|row| row["ordinal"].as_u64().unwrap()));
        pages += 1;
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(ordinals, (0..13).map(|n| 2 * n).collect::<Vec<_>>());
    assert_eq!(pages, 3);

    for (name, ask, words) in [
        (
            "status",
            json!({ "batch": "x" }),
            ["batch", "names no batch"],
        ),
        ("status", json!({}), ["batch", "missing"]),
        (
            "failures",
            json!({ "batch": BATCH, "limit": 5000 }),
            ["limit", "1000"],
        ),
        (
            "failures",
            json!({ "batch": BATCH, "class": "odd" }),
            ["class", "transient"],
        ),
        (
            "failures",
            json!({ "batch": BATCH, "clas": "odd" }),
            ["clas", "class"],
        ),
        (
            "results",
            json!({ "batch": BATCH, "tier": 9 }),
            ["tier", "is 9"],
        ),
        ("nonsense", json!({}), ["nonsense", "failures"]),
    ] {
        let answer = client.query(name, &ask).await;
        assert_eq!(answer["error"]["code"], "invalid", "{name} {ask}: {answer}");
        let text = answer["error"].to_string();
        for word in words {
            assert!(
                text.contains(word),
                "{name} {ask}: {text} does not say {word}"
            );
        }
    }
    let missing = client
        .query(
            "status",
            json!({ "batch": "01980000-0000-7000-8000-0000000000ff" }),
        )
        .await;
    assert_eq!(missing["error"]["code"], "not_found");
    let empty = client.ask("rd.qry.other.batches", "").await;
    assert_eq!(empty["ok"]["items"], json!([]));
}
