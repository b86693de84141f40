//! What becomes of a long stream of documents while no coordinator is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{pipeline, until};
use futures::{StreamExt, stream};
use redrive_broker::{
    Broker,
    nats::{ConnectOptions, NatsBroker},
};
use redrive_domain::ids::Namespace;
use redrive_gateway::Config;
use redrive_nats_server::testing::TestServer;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

fn coordinator(broker: &NatsBroker, name: &str) -> CancellationToken {
    let stop = CancellationToken::new();
    let config = redrive_coordinator::Config::new(name.to_owned());
    tokio::spawn(redrive_coordinator::run(
        broker.clone(),
        config,
        stop.clone(),
    ));
    stop
}

#[tokio::test]
async fn a_stream_that_cannot_go_on_says_how_far_it_came_and_is_taken_up() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = tokio::task::spawn_blocking(|| TestServer::start().unwrap());
    let server = server.await.unwrap();
    let broker = NatsBroker::connect(ConnectOptions::new(server.client_url()));
    let broker = broker.await.unwrap();
    broker.ensure().await.unwrap();
    let first = coordinator(&broker, "first");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config::open(any, Namespace::new("default").unwrap());
    config.patience = Duration::from_millis(500);
    let gateway = redrive_gateway::bind(broker.clone(), config, CancellationToken::new());
    let gateway = gateway.await.unwrap();
    let url = format!("http://{}/v1/batches", gateway.address());
    tokio::spawn(gateway.run());
    let http = reqwest::Client::new();
    let post = |body: reqwest::Body| {
        let request = http.post(&url).header("idempotency-key", "k");
        let request = request.header("content-type", "application/x-ndjson");
        request.body(body).send()
    };
    let head = format!("{}\n", json!({ "bucket": "docs", "pipeline": pipeline() }));
    let line = |n: u32| format!("{{\"id\": \"{n}\"}}\n");
    let (lines, body) = mpsc::channel::<String>(10);
    let body = ReceiverStream::new(body).map(Ok::<_, std::io::Error>);
    let asking = tokio::spawn(post(reqwest::Body::wrap_stream(body)));
    lines.send(head.clone()).await.unwrap();
    for n in 0..20_001 {
        lines.send(line(n)).await.unwrap();
    }
    until("a page is there", || async {
        (broker.last_seq().await.unwrap() >= 3).then_some(())
    })
    .await;
    first.cancel();
    // However slow the last answers are, there comes a page that nobody takes.
    for n in 20_001..50_001 {
        if lines.send(line(n)).await.is_err() {
            break;
        }
    }
    let answer = asking.await.unwrap().unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let error: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let progress = &error["error"]["details"]["progress"];
    let there = progress["documents"].as_u64().unwrap();
    assert!((10_000..=50_000).contains(&there), "{error}");
    let _second = coordinator(&broker, "second");
    let all = || {
        let head = stream::once(std::future::ready(head.clone()));
        let all = head.chain(stream::iter((0..50_001).map(line)));
        reqwest::Body::wrap_stream(all.map(Ok::<_, std::io::Error>))
    };
    let made = until("the stream is taken up", || async {
        // The other one may still be taking over.
        let made = post(all()).await.unwrap();
        let again = [201, 503].contains(&made.status().as_u16());
        assert!(again, "{}", made.status());
        (made.status() == 201).then_some(made)
    })
    .await;
    let made: Value = serde_json::from_str(&made.text().await.unwrap()).unwrap();
    assert_eq!(made["documents"], 50_001);
    assert_eq!(made["batch"], progress["batch"]);
}
