use std::path::PathBuf;

use redrive_nats_server::testing::{TestServer, debian_binary, newest_binary};

use crate::{
    contract::{LEASE_TTL, Lost, MAX_PAYLOAD, Provider},
    nats::{ConnectOptions, NatsBroker},
};

struct NatsProvider(TestServer);

impl NatsProvider {
    async fn start(binary: PathBuf) -> Self {
        let server = tokio::task::spawn_blocking(move || {
            TestServer::start_configured(&binary, |config| {
                config.max_payload = u32::try_from(MAX_PAYLOAD).ok();
            })
        });
        Self(server.await.unwrap().unwrap())
    }

    async fn connect_once(&self) -> NatsBroker {
        NatsBroker::connect(self.options()).await.unwrap()
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions {
            lease_ttl: LEASE_TTL,
            ..ConnectOptions::new(self.0.client_url())
        }
    }
}

impl Provider for NatsProvider {
    type Broker = NatsBroker;

    async fn connect(&self) -> NatsBroker {
        self.connect_once().await
    }

    async fn lose(&self, lost: Lost) {
        let client = async_nats::connect(self.0.client_url()).await.unwrap();
        let stream = match lost {
            Lost::Inbox => "RD_INBOX_0",
            Lost::Work => "RD_WORK_0",
            Lost::Leases => "KV_RD_LEASES_0",
            Lost::Snapshots => "RD_SNAPSHOTS_0",
        };
        async_nats::jetstream::new(client)
            .delete_stream(stream)
            .await
            .unwrap();
    }
}

/// The older server, unless it is not installed and need not be.
fn old() -> Option<PathBuf> {
    let found = debian_binary();
    if found.is_none() {
        let required =
            std::env::var_os("REDRIVE_REQUIRE_OLD_NATS").is_some_and(|value| value == "1");
        assert!(
            !required,
            "there is no nats-server 2.9, which REDRIVE_REQUIRE_OLD_NATS asks for"
        );
        eprintln!("SKIPPED: nats-server 2.9 (Debian's package) is not installed");
    }
    found
}

async fn old_provider() -> Option<NatsProvider> {
    Some(NatsProvider::start(old()?).await)
}

async fn new_provider() -> Option<NatsProvider> {
    let binary = tokio::task::spawn_blocking(newest_binary).await.unwrap();
    Some(NatsProvider::start(binary.unwrap()).await)
}

mod newest {
    crate::contract_suite! {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        crate::tests::nats::new_provider().await
    }
}

mod oldest {
    crate::contract_suite! {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        crate::tests::nats::old_provider().await
    }
}

mod altered;
mod cluster;
mod faults;
