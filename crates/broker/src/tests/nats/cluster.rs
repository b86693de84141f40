//! Three servers that keep three copies.

use std::{net::TcpListener, thread};

use redrive_nats_server::testing::TestServer;

use super::newest_binary;
use crate::{
    Broker, BrokerError, Range,
    contract::{Lost, Provider, all, events, eventually, message, read},
    nats::{ConnectOptions, NatsBroker},
};

struct Cluster(Vec<TestServer>);

impl Cluster {
    fn start() -> Self {
        let binary = newest_binary().unwrap();
        // Held until all are known, so that no two are the same.
        let held: Vec<TcpListener> = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports: Vec<u16> = held
            .iter()
            .map(|port| port.local_addr().unwrap().port())
            .collect();
        drop(held);
        let routes: Vec<String> = ports
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .collect();
        let routes = routes.join(", ");
        let servers = ports.into_iter().enumerate().map(|(number, port)| {
            let (binary, routes) = (binary.clone(), routes.clone());
            thread::spawn(move || {
                TestServer::start_configured(&binary, |config| {
                    config.server_name = Some(format!("s{number}"));
                    config.extra_config = Some(format!(
                        "cluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}"
                    ));
                })
                .unwrap()
            })
        });
        let servers: Vec<_> = servers.collect();
        Self(
            servers
                .into_iter()
                .map(|server| server.join().unwrap())
                .collect(),
        )
    }
}

impl Provider for Cluster {
    type Broker = NatsBroker;

    async fn connect(&self) -> NatsBroker {
        let urls: Vec<String> = self.0.iter().map(|server| server.client_url()).collect();
        NatsBroker::connect(ConnectOptions {
            replicas: 3,
            ..ConnectOptions::new(urls.join(","))
        })
        .await
        .unwrap()
    }

    async fn lose(&self, _: Lost) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicated_appends_are_chained() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let (broker, other) = (cluster.connect().await, cluster.connect().await);
    eventually("the cluster is there", || async {
        broker.ensure().await.is_ok()
    })
    .await;
    assert_eq!(broker.append(events("a", 0..3000), 0).await, Ok(3000));
    let conflict = broker.append(events("b", 0..100), 2950).await;
    assert_eq!(conflict, Err(BrokerError::Conflict { expected: 2950 }));
    assert_eq!(broker.last_seq().await, Ok(3000));
    assert_eq!(other.append(events("a", 1000..3500), 1000).await, Ok(3500));
    let first = broker.append(events("one", 0..2000), 3500);
    let second = other.append(events("two", 0..2000), 3500);
    let (first, second) = futures::future::join(first, second).await;
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let range = Range {
        from: 3501,
        until: Some(broker.last_seq().await.unwrap()),
        ..all()
    };
    let entries = read(&broker, range).await;
    assert_eq!(entries.len(), 2000);
    assert!(
        entries
            .iter()
            .all(|entry| entry.subject == entries[0].subject),
        "they are mixed"
    );
    for seq in [1, 3000, 5500] {
        assert_eq!(broker.get(seq).await.unwrap().unwrap().seq, seq);
    }
    let mut inbox = broker.inbox().await.unwrap();
    broker
        .submit(message("rd.out.0.ns.a", "1"), None)
        .await
        .unwrap();
    assert_eq!(crate::contract::gather(&mut *inbox, 1).await.len(), 1);
    assert_eq!(broker.lease("x", "a").await, Ok(crate::Lease::Held));
}
