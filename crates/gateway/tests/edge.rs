//! The edge: sizes, rates, HTTPS, other origins, health.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{net::SocketAddr, num::NonZeroU32};

use common::{World, pipeline, until};
use redrive_broker::{Broker, Message};
use redrive_domain::{
    ids::Namespace,
    presence::{CoordinatorStanding, Presence, ProjectorStanding, Standing},
    subject,
    time::Timestamp,
};
use redrive_gateway::{Auth, Config, ServeError, Tls};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

fn config() -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Config::open(any, Namespace::new("default").unwrap())
}

#[tokio::test]
async fn what_is_too_large_or_of_another_type_is_refused_with_the_limit() {
    let world = World::open().await;
    let document = json!({ "id": "a", "data": "x".repeat(9_000_000) });
    let body = json!({ "bucket": "b", "pipeline": pipeline(), "documents": [document] });
    let error = world.post("/v1/batches", body).await.is(413);
    assert_eq!(error["error"]["type"], "PayloadTooLargeError");
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("8388608")
    );

    let plain = [("content-type", "text/plain")];
    let error = world.ask("POST", "/v1/batches", &plain, Value::Null).await;
    assert_eq!(
        error.is(415)["error"]["message"],
        "the Content-Type is to be application/json"
    );

    let long = "x".repeat(100_000);
    let answer = world
        .ask("GET", "/livez", &[("x-long", &long)], Value::Null)
        .await;
    assert_eq!(answer.status, 431, "{answer:?}");

    let url = format!("/v1/batches/last?{}", "x".repeat(60_000));
    let answer = world.get(&url).await;
    assert!([414, 431].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn who_asks_too_often_is_told_how_long_to_wait_and_others_are_not_held_up() {
    let mut config = self::config();
    config.rate = NonZeroU32::new(1).unwrap();
    let world = World::with(config).await;
    let refused = until("a request too many", || async {
        let answer = world.get("/v1/batches/last").await;
        (answer.status == 429).then_some(answer)
    })
    .await;
    assert_eq!(refused.json()["error"]["type"], "TooManyRequestsError");
    assert_eq!(refused.headers["retry-after"], "1");
    let other = [("x-namespace", "other")];
    let answer = world
        .ask("GET", "/v1/batches/last", &other, Value::Null)
        .await;
    assert_eq!(answer.status, 404);
    // Health is not counted.
    assert_eq!(world.get("/livez").await.status, 200);
}

#[tokio::test]
async fn pages_of_other_origins_are_let_in_only_where_that_was_asked_for() {
    let page = "https://console.example.com";
    let preflight = [("origin", page), ("access-control-request-method", "GET")];
    let world = World::open().await;
    let answer = world
        .ask("OPTIONS", "/v1/batches/last", &preflight, Value::Null)
        .await;
    assert!(
        !answer.headers.contains_key("access-control-allow-origin"),
        "{answer:?}"
    );

    let mut config = self::config();
    config.cors = vec![page.parse().unwrap()];
    let world = World::with(config).await;
    let answer = world
        .ask("OPTIONS", "/v1/batches/last", &preflight, Value::Null)
        .await;
    assert_eq!(answer.headers["access-control-allow-origin"], page);
    let asked = [("origin", page)];
    let answer = world.ask("GET", "/openapi.json", &asked, Value::Null).await;
    let exposed = answer.headers["access-control-expose-headers"].to_str();
    assert!(exposed.unwrap().contains("redrive-as-of"), "{answer:?}");
    let other = [("origin", "https://elsewhere.example.com")];
    let answer = world.ask("GET", "/openapi.json", &other, Value::Null).await;
    assert!(
        !answer.headers.contains_key("access-control-allow-origin"),
        "{answer:?}"
    );
    for wrong in ["*", "console.example.com", "https://a/b", "https://"] {
        assert!(wrong.parse::<redrive_gateway::Origin>().is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn it_speaks_https_with_the_certificate_that_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut config = self::config();
    config.tls = Some(Tls {
        cert: cert.clone(),
        key,
    });
    let world = World::with(config).await;
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([trusted])
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/livez", world.address.port());
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "ok\n");

    let mut config = self::config();
    config.tls = Some(Tls {
        cert: cert.clone(),
        key: cert,
    });
    let refused = redrive_gateway::bind(world.broker.clone(), config, CancellationToken::new());
    assert!(matches!(refused.await, Err(ServeError::Tls(_))));
}

#[tokio::test]
async fn it_is_ready_when_all_is_there_and_says_what_is_not() {
    let world = World::open().await;
    let missing = until("what is missing", || async {
        let answer = world.get("/readyz").await;
        (!answer.text.contains("broker")).then_some(answer)
    })
    .await;
    assert_eq!(missing.status, 503);
    assert_eq!(
        missing.text,
        "no coordinator leads\nno projector takes queries\n"
    );
    let serving = ProjectorStanding {
        serving: true,
        ..ProjectorStanding::default()
    };
    until("readiness", || async {
        say(&world, Standing::Coordinator(CoordinatorStanding::Leading)).await;
        say(&world, Standing::Projector(serving.clone())).await;
        let answer = world.get("/readyz").await;
        (answer.text == "ok\n").then_some(answer)
    })
    .await;
    // Nobody says it any more.
    until("readiness gone", || async {
        let answer = world.get("/readyz").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
}

/// Says what a role of the program says every second.
async fn say(world: &World, standing: Standing) {
    let presence = Presence {
        name: "role".to_owned(),
        host: "host".to_owned(),
        pid: 1,
        version: "1".to_owned(),
        standing,
        started_at: Timestamp(0),
        at: Timestamp(0),
    };
    let message = Message {
        subject: subject::presence(0),
        payload: rmp_serde::to_vec_named(&presence).unwrap().into(),
        trace: None,
    };
    world.broker.signal(message).await.unwrap();
}

#[tokio::test]
async fn without_keys_only_the_loopback_is_served() {
    let world = World::open().await;
    let all = SocketAddr::from(([0, 0, 0, 0], 0));
    let open = Config::open(all, Namespace::new("default").unwrap());
    let refused = redrive_gateway::bind(world.broker.clone(), open, CancellationToken::new());
    assert!(matches!(refused.await, Err(ServeError::OpenToAll(_))));
    let keys = Config::new(all, Auth::Keys);
    let bound = redrive_gateway::bind(world.broker.clone(), keys, CancellationToken::new());
    assert!(bound.await.is_ok());
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_let_go() {
    let world = World::open().await;
    let mut silent = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let mut half = tokio::net::TcpStream::connect(world.address).await.unwrap();
    half.write_all(b"PRI * HT").await.unwrap();
    for connection in [&mut silent, &mut half] {
        let end = timeout(common::SOON, connection.read(&mut [0; 64])).await;
        // It is closed, or broken off.
        assert!(matches!(end.unwrap(), Ok(0) | Err(_)));
    }
    assert_eq!(world.get("/livez").await.status, 200);
}
