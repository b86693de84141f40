use std::time::Duration;

use redrive_broker::{
    Broker,
    nats::{ConnectOptions, NatsBroker},
};
use redrive_domain::{
    failure::FailureKind,
    query::{BatchView, FailureRow, Page},
};
use redrive_nats_server::testing::TestServer;
use serde_json::json;

use super::log::{Log, completed, failed, key, ok, start, state_bytes};
use crate::Config;

async fn nats(server: &TestServer) -> Log<NatsBroker> {
    let broker = NatsBroker::connect(ConnectOptions::new(server.client_url()))
        .await
        .unwrap();
    broker.ensure().await.unwrap();
    Log::new(broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_on_nats_as_in_memory() {
    let server = TestServer::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: Some(dir.path().to_owned()),
        checkpoint_every: Duration::from_millis(20),
        ..Config::default()
    };
    let mut log = nats(&server).await;
    let batch = key("a", 1);
    for round in 0..3u32 {
        let projector = start(&log.broker, config.clone()).await;
        if round == 0 {
            log.batch(&batch, &[&["one"]], 3_000).await;
        }
        for unit in round * 100..round * 100 + 50 {
            log.put(&batch, completed(0, "one", [unit].into(), &[]))
                .await;
            let view: BatchView = ok(&log.broker, "a", "status", json!({"batch": "last"})).await;
            assert_eq!(view.last_seq, log.last);
        }
        let units = (round * 100 + 50..round * 100 + 100).collect();
        log.put(
            &batch,
            failed(0, "one", &FailureKind::NETWORK, &[(units, "reset")]),
        )
        .await;
        let page: Page<FailureRow> =
            ok(&log.broker, "a", "failures", json!({"batch": "last"})).await;
        assert_eq!(page.items.len(), 50 * (round as usize + 1).min(2));
        assert_eq!(page.items[3].document, "doc-53");
        let bytes = state_bytes(&log.broker, &batch).await;
        assert!(bytes == log.folded(&batch).await.encode().unwrap());
        projector.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_over_a_restart_of_the_server() {
    let mut server = TestServer::start().unwrap();
    let mut log = nats(&server).await;
    let batch = key("a", 1);
    let projector = start(&log.broker, Config::default()).await;
    log.batch(&batch, &[&["one"]], 100).await;
    let view: BatchView = ok(&log.broker, "a", "status", json!({"batch": "last"})).await;
    assert_eq!(view.as_of, log.last);
    server.restart().unwrap();
    let mut tries = 0;
    while log.broker.last_seq().await.is_err() {
        tries += 1;
        assert!(tries < 20, "the broker did not come back");
    }
    log.put(&batch, completed(0, "one", [1].into(), &[])).await;
    let ask = json!({"batch": "last"});
    // Until the service has subscribed again nobody answers.
    let view = loop {
        let message = redrive_broker::Message {
            subject: "rd.qry.a.status".into(),
            payload: ask.to_string().into(),
            trace: None,
        };
        match log.broker.request(message, Duration::from_secs(10)).await {
            Ok(body) => {
                let answer: redrive_domain::command::Answer<BatchView> =
                    serde_json::from_slice(&body).unwrap();
                if let redrive_domain::command::Answer::Ok(view) = answer {
                    break view;
                }
            }
            Err(error) => eprintln!("asking again: {error}"),
        }
        tries += 1;
        assert!(tries < 100, "no answer");
    };
    assert_eq!(view.last_seq, log.last);
    projector.stop().await;
}
