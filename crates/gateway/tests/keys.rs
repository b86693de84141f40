//! Who is let in, and how far.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;

use common::{Answered, SOON, World, pipeline, until};
use futures::StreamExt;
use redrive_broker::{Broker, Range};
use redrive_client::Client;
use redrive_domain::{
    command::{Command, RevokeKey},
    credits::NO_BATCH,
    ids::CommandId,
    keys::Token,
};
use redrive_gateway::{Auth, Config};
use serde_json::{Value, json};
use tokio::time::timeout;

const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

async fn guarded() -> World {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    World::with(Config::new(any, Auth::Keys)).await
}

impl World {
    async fn as_holder(&self, key: &str, method: &str, path: &str, body: Value) -> Answered {
        let bearer = format!("Bearer {key}");
        self.ask(method, path, &[("authorization", &bearer)], body)
            .await
    }
}

/// The header in which a path takes a key, and what stands before the key there.
fn credential(path: &str) -> (&'static str, &'static str) {
    match path {
        path if path.starts_with("/v1/batch-sessions") => ("anchor-api-key", ""),
        path if path.starts_with("/v1/knowledge-base") => ("x-api-key", ""),
        path if path.starts_with("/api/") => ("x-api-key", ""),
        _ => ("authorization", "Bearer "),
    }
}

/// Every operation that the OpenAPI document knows: its method and a path.
fn operations() -> Vec<(String, String)> {
    let document = redrive_gateway::document();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let filled = path.split('/').map(|part| match part.strip_prefix('{') {
            Some(name) if name.starts_with("tier") => "0",
            Some(name) if name.starts_with("bucket") || name.starts_with("job_name") => "docs",
            Some(_) => NOBODY,
            None => part,
        });
        let filled = filled.collect::<Vec<_>>().join("/");
        for method in item.as_object().unwrap().keys() {
            if ["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                all.push((method.to_uppercase(), filled.clone()));
            }
        }
    }
    assert!(all.len() >= 4, "{all:?}");
    all
}

/// Nothing of what they tell is anybody's.
const PUBLIC: [&str; 5] = ["/openapi.json", "/docs", "/livez", "/readyz", "/metrics"];

#[tokio::test]
async fn no_operation_is_for_those_without_a_key_or_without_its_scope() {
    let world = guarded().await;
    let admin = world.key("default", "admin").await;
    let (reads, operates) = (
        world.key("default", "read").await,
        world.key("default", "operate").await,
    );
    for (method, path) in operations() {
        if PUBLIC.iter().any(|public| path.starts_with(public)) {
            continue;
        }
        let what = format!("{method} {path}");
        let (header, before) = credential(&path);
        let unknown = format!("{before}rdk_default_{}_{}", "0".repeat(32), "0".repeat(64));
        for headers in [vec![], vec![(header, unknown.as_str())]] {
            let answered = world.ask(&method, &path, &headers, Value::Null).await;
            assert_eq!(answered.status, 401, "{what}: {}", answered.text);
            assert!(!answered.text.contains("00000000"), "{}", answered.text);
        }
        // No scope includes another, whichever it is that this one takes. Some answers never end.
        let mut shut_out = 0;
        for key in [&admin, &reads, &operates] {
            let asked = world
                .http
                .request(method.parse().unwrap(), world.url(&path));
            let asked = asked.header(header, format!("{before}{key}"));
            let asked = asked.header("content-type", "application/json").body("{}");
            let status = asked.send().await.unwrap().status();
            // The documents of Feather and Anchor know no 403, and that of Spidra has it for credits.
            let says_401 = ["/v1/knowledge-base", "/v1/batch-sessions", "/api/"];
            let says_401 = says_401.iter().any(|it| path.starts_with(it));
            let forbidden = if says_401 { 401 } else { 403 };
            assert!(
                status == forbidden || ![401, 403].contains(&status.as_u16()),
                "{what}"
            );
            shut_out += usize::from(status == forbidden);
        }
        // Whoever may not is told so, whatever else is wrong with the request.
        assert!(shut_out == 2, "{what} shuts out {shut_out} of three scopes");
    }
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_in_its_namespace_and_nowhere_else() {
    let world = guarded().await;
    let (reads, operates) = (
        world.key("team_a", "read").await,
        world.key("team_a", "operate").await,
    );
    let theirs = world.key("team-b", "read,operate,admin").await;
    let body = json!({ "bucket": "docs", "pipeline": pipeline(), "documents": [{ "id": "a" }] });
    let refused = world
        .as_holder(&reads, "POST", "/v1/batches", body.clone())
        .await
        .is(403);
    assert_eq!(refused["error"]["code"], "scope_missing");
    let made = world
        .as_holder(&operates, "POST", "/v1/batches", body)
        .await
        .is(201);
    let path = format!("/v1/batches/{}", made["batch"].as_str().unwrap());
    let get = async |key: &str| world.as_holder(key, "GET", &path, Value::Null).await;
    assert_eq!(get(&reads).await.status, 200);
    assert_eq!(get(&operates).await.status, 403);
    let hidden = get(&theirs).await.is(404);
    let missing = world
        .as_holder(
            &theirs,
            "GET",
            &format!("/v1/batches/{NOBODY}"),
            Value::Null,
        )
        .await
        .is(404);
    // Nothing tells a batch of somebody else's from none.
    let shape = |error: &Value| {
        (
            error["error"]["type"].clone(),
            error["error"]["code"].clone(),
        )
    };
    assert_eq!(shape(&hidden), shape(&missing));

    let bearer = format!("Bearer {reads}");
    for (namespace, status) in [("team_a", 200), ("team-b", 403), ("a.b", 422)] {
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-namespace", namespace),
        ];
        let answered = world.ask("GET", &path, &headers, Value::Null).await;
        assert_eq!(answered.status, status, "{namespace}: {}", answered.text);
    }
    let url = format!("{path}?key={reads}");
    let in_url = world.as_holder(&reads, "GET", &url, Value::Null).await;
    assert_eq!(in_url.status, 401);
    assert!(in_url.text.contains("URL") && !in_url.text.contains(&reads[50..]));
    assert_eq!(in_url.headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn keys_are_made_listed_and_ended_over_http_and_no_secret_is_kept() {
    let world = guarded().await;
    let admin = world.token("team_a", "read,admin").await;
    let ask = async |key: &str, method: &str, path: &str, body: Value| {
        world.as_holder(key, method, path, body).await
    };
    let admin = admin.reveal();
    let new = json!({ "name": "ci", "scopes": ["read"] });
    let made = ask(&admin, "POST", "/v1/keys", new.clone()).await;
    assert_eq!(made.headers["cache-control"], "no-store");
    let made = made.is(201);
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let by = made["created_by"].as_str().unwrap();
    assert!(by.starts_with("key test ("), "{by}");

    // It is good as soon as it was answered.
    let none = format!("/v1/batches/{NOBODY}");
    assert_eq!(ask(key, "GET", &none, Value::Null).await.status, 404);
    assert_eq!(ask(key, "GET", "/v1/keys", Value::Null).await.status, 403);

    // Nobody gives more than they have, nor for longer.
    for scopes in [json!(["operate"]), json!(["read", "operate"])] {
        let more = json!({ "name": "ci", "scopes": scopes });
        let refused = ask(&admin, "POST", "/v1/keys", more).await.is(403);
        assert_eq!(refused["error"]["code"], "not_allowed");
    }
    let until = "2999-01-01T00:00:00Z";
    let short = json!({ "name": "short", "scopes": ["read", "admin"], "expires_at": until });
    let short = ask(&admin, "POST", "/v1/keys", short).await.is(201);
    let short = short["key"].as_str().unwrap();
    let heir = ask(short, "POST", "/v1/keys", new.clone()).await.is(201);
    assert!(
        heir["expires_at"]
            .as_str()
            .unwrap()
            .starts_with("2999-01-01")
    );
    let longer = json!({ "name": "ci", "scopes": ["read"], "expires_at": "2999-01-02T00:00:00Z" });
    let refused = ask(short, "POST", "/v1/keys", longer).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "expires_at"]));

    for (wrong, place) in [
        (
            json!({ "name": "a b", "scopes": ["read"] }),
            json!(["body", "name"]),
        ),
        (
            json!({ "name": "a", "scopes": [] }),
            json!(["body", "scopes"]),
        ),
        (
            json!({ "name": "a", "scopes": ["write"] }),
            json!(["body", "scopes", 0]),
        ),
        (json!({ "name": "a" }), json!(["body", "scopes"])),
        (
            json!({ "name": "a", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z" }),
            json!(["body", "expires_at"]),
        ),
    ] {
        let refused = ask(&admin, "POST", "/v1/keys", wrong).await.is(422);
        assert_eq!(refused["detail"][0]["loc"], place, "{refused}");
    }

    let listed = ask(&admin, "GET", "/v1/keys", Value::Null).await;
    assert!(!listed.text.contains("sha256"), "{}", listed.text);
    let listed = listed.is(200);
    let names: Vec<&str> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["test", "ci", "short", "ci"]);
    let theirs = world.key("team-b", "read,admin").await;
    let path = format!("/v1/keys/{id}");
    for method in ["GET", "DELETE"] {
        let hidden = ask(&theirs, method, &path, Value::Null).await;
        assert_eq!(hidden.status, 404, "{}", hidden.text);
    }
    assert_eq!(ask(key, "DELETE", &path, Value::Null).await.status, 403);

    let ended = ask(&admin, "DELETE", &path, Value::Null).await.is(200);
    assert_eq!(ended["status"], "revoked");
    let refused = ask(key, "GET", &none, Value::Null).await.is(401);
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("revoked")
    );
    let again = ask(&admin, "DELETE", &path, Value::Null).await.is(200);
    assert_eq!(again, ended);
    let live = ask(&admin, "GET", "/v1/keys", Value::Null).await.is(200);
    assert_eq!(live["items"].as_array().unwrap().len(), 3);
    let all = ask(&admin, "GET", "/v1/keys?all=true", Value::Null)
        .await
        .is(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 4);

    // The log, which is kept for ever, has none of the secrets.
    let last = world.broker.last_seq().await.unwrap();
    let mut log = world.broker.read(Range {
        from: 1,
        until: Some(last),
        filter: None,
    });
    let secrets = [&admin[..], key, short].map(|key| key.as_bytes()[key.len() - 64..].to_vec());
    let mut entries = 0;
    while let Some(entry) = log.next().await {
        let payload = entry.unwrap().payload;
        for secret in &secrets {
            assert!(!payload.windows(64).any(|window| window == secret));
        }
        entries += 1;
    }
    assert!(entries >= 5, "{entries}");
}

#[tokio::test]
async fn a_key_is_made_once_for_an_idempotency_key_and_its_secret_shown_once() {
    let world = guarded().await;
    let admin = format!("Bearer {}", world.key("default", "read,admin").await);
    let ask = async |name: &str| {
        let headers = [
            ("authorization", admin.as_str()),
            ("idempotency-key", "k-1"),
        ];
        let body = json!({ "name": name, "scopes": ["read"] });
        world.ask("POST", "/v1/keys", &headers, body).await
    };
    let first = ask("ci").await.is(201);
    let again = ask("ci").await.is(201);
    assert!(first["key"].is_string() && again["key"].is_null());
    assert_eq!(first["id"], again["id"]);
    let other = ask("ops").await.is(422);
    assert_eq!(other["error"]["code"], "idempotency_key_reused", "{other}");
}

impl World {
    /// Ends a key behind the gateway's back: nobody tells it but the log.
    async fn revoke(&self, token: &Token) {
        let client = Client::new(self.broker.clone(), token.namespace.clone(), None);
        let revoke = Command::RevokeKey(RevokeKey { key: token.key });
        let (bucket, id) = ("_".parse().unwrap(), CommandId(token.key.0));
        let told = client.command(&bucket, NO_BATCH, id, &revoke).await;
        told.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_ends_is_refused_everywhere_within_seconds() {
    let world = guarded().await;
    let token = world.token("default", "read").await;
    let ask = async || {
        let path = format!("/v1/batches/{NOBODY}");
        let key = token.reveal();
        world
            .as_holder(&key, "GET", &path, Value::Null)
            .await
            .status
    };
    assert_eq!(ask().await, 404);
    world.revoke(&token).await;
    until("the key is refused", || async {
        (ask().await == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_goes_on_breaks_off_when_its_key_ends() {
    let world = guarded().await;
    let (ending, other) = (
        world.token("default", "read,operate").await,
        world.token("default", "read,operate").await,
    );
    let listen = async |token: &Token| {
        let asked = world
            .http
            .get(world.url("/v1/events"))
            .bearer_auth(token.reveal());
        let mut events = asked.send().await.unwrap();
        assert_eq!(events.status(), 200);
        assert!(events.chunk().await.unwrap().is_some(), "it begins at once");
        events
    };
    let (mut cut, mut goes_on) = (listen(&ending).await, listen(&other).await);
    // A body that never ends: its first words, and then nothing.
    let words = futures::stream::iter([Ok::<_, std::io::Error>("{\"bucket\":")]);
    let upload = world
        .http
        .post(world.url("/v1/batches"))
        .bearer_auth(ending.reveal())
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap_stream(
            words.chain(futures::stream::pending()),
        ));
    let upload = tokio::spawn(upload.send());
    world.revoke(&ending).await;

    let whole = timeout(SOON, async {
        loop {
            match cut.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    });
    assert!(
        !whole.await.unwrap(),
        "nobody is to take it for a whole answer"
    );
    let refused = timeout(SOON, upload).await.unwrap().unwrap().unwrap();
    assert_eq!(refused.status(), 401);
    // The stream of a key that is good tells what happens then.
    let one_more = world.key("default", "operate").await;
    let body = json!({ "bucket": "docs", "pipeline": pipeline(), "documents": [{ "id": "a" }] });
    let made = world
        .as_holder(&one_more, "POST", "/v1/batches", body)
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let told = timeout(SOON, goes_on.chunk()).await.unwrap().unwrap();
    assert!(told.is_some());
}

#[tokio::test]
async fn without_keys_only_programs_of_this_machine_are_answered() {
    let world = World::open().await;
    let path = format!("/v1/batches/{NOBODY}");
    let own = format!("http://{}", world.address);
    for (headers, status) in [
        (vec![], 404),
        (vec![("host", "localhost")], 404),
        (vec![("origin", own.as_str())], 404),
        (vec![("sec-fetch-site", "same-origin")], 404),
        (vec![("x-namespace", "another")], 404),
        (vec![("host", "rebound.example")], 403),
        (vec![("origin", "https://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("sec-fetch-site", "same-site")], 403),
        (vec![("x-forwarded-for", "203.0.113.9")], 403),
    ] {
        for method in ["GET", "DELETE"] {
            let path = match method {
                "DELETE" => format!("/v1/keys/{NOBODY}"),
                _ => path.clone(),
            };
            let answered = world.ask(method, &path, &headers, Value::Null).await;
            assert_eq!(answered.status, status, "{headers:?}: {}", answered.text);
        }
    }
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let open = Config::open(everywhere, "default".parse().unwrap());
    let refused = redrive_gateway::bind(world.broker.clone(), open, Default::default()).await;
    assert!(refused.is_err());
}
