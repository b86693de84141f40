//! A whole system in one process on a real broker, with a gateway in front, and a client that asks it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use redrive_broker::{
    Broker,
    nats::{ConnectOptions, NatsBroker},
};
use redrive_domain::{
    command::{Command, CreateKey},
    credits::NO_BATCH,
    document::Output,
    failure::{Failure, FailureKind},
    ids::{Bucket, CommandId, HandlerName, KeyId, Namespace, WorkerId},
    keys::Token,
};
use redrive_gateway::Config;
use redrive_nats_server::testing::TestServer;
use redrive_worker::handler::{Context, Done, Unit, handler_fn};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// How long to wait for what is to happen soon.
pub const SOON: Duration = Duration::from_secs(60);

/// The system. Dropped, its roles end and its server is stopped.
pub struct World {
    pub broker: NatsBroker,
    pub address: SocketAddr,
    pub http: reqwest::Client,
    /// Documents that fail, by id, each with the kind of its failure. Others succeed.
    pub failing: Arc<Mutex<BTreeMap<String, String>>>,
    stop: CancellationToken,
    _server: TestServer,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answered {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answered {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as JSON, where the status is this one.
    #[track_caller]
    pub fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

impl World {
    /// With a gateway that needs no keys.
    pub async fn open() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::with(Config::open(any, Namespace::new("default").unwrap())).await
    }

    /// With a gateway that is set up like this. Its worker serves `work`, which does what [`World::failing`] says.
    pub async fn with(config: Config) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = tokio::task::spawn_blocking(|| TestServer::start().unwrap());
        let server = server.await.unwrap();
        let options = ConnectOptions::new(server.client_url());
        let broker = NatsBroker::connect(options).await.unwrap();
        broker.ensure().await.unwrap();
        let stop = CancellationToken::new();
        let coordinator = redrive_coordinator::Config::new("coordinator".to_owned());
        tokio::spawn(redrive_coordinator::run(
            broker.clone(),
            coordinator,
            stop.clone(),
        ));
        let projector = redrive_projector::Config::default();
        tokio::spawn(redrive_projector::run(
            broker.clone(),
            projector,
            stop.clone(),
        ));
        let failing: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        let worker = redrive_worker::Config::new(0, WorkerId::new("worker").unwrap());
        let told = Arc::clone(&failing);
        let work = handler_fn(HandlerName::new("work").unwrap(), move |unit, context| {
            std::future::ready(work(&told, &unit, &context))
        });
        tokio::spawn(redrive_worker::run(
            broker.clone(),
            worker,
            vec![work],
            stop.clone(),
        ));
        let gateway = redrive_gateway::bind(broker.clone(), config, stop.clone());
        let gateway = gateway.await.unwrap();
        let address = gateway.address();
        tokio::spawn(gateway.run());
        Self {
            broker,
            address,
            http: reqwest::Client::new(),
            failing,
            stop,
            _server: server,
        }
    }

    /// Makes a key of a namespace for these scopes, such as `read,operate`; it is good at once.
    pub async fn key(&self, namespace: &str, scopes: &str) -> String {
        self.token(namespace, scopes).await.reveal()
    }

    /// The same, with what it is known by.
    pub async fn token(&self, namespace: &str, scopes: &str) -> Token {
        let namespace = Namespace::new(namespace).unwrap();
        let key = KeyId(uuid::Uuid::from_u128(rand::random()));
        let token = Token::new(namespace.clone(), key, rand::random());
        let create = Command::CreateKey(CreateKey {
            key,
            name: "test".parse().unwrap(),
            scopes: scopes.parse().unwrap(),
            hash: token.hash(),
            expires_at: None,
        });
        let client = redrive_client::Client::new(self.broker.clone(), namespace, None);
        let (bucket, id) = (Bucket::new("_").unwrap(), CommandId(key.0));
        client
            .command(&bucket, NO_BATCH, id, &create)
            .await
            .unwrap();
        token
    }

    /// Tells all roles, and the gateway, to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Lets a document fail with this kind from now on.
    pub fn fail(&self, document: &str, kind: &str) {
        let mut failing = self.failing.lock().unwrap();
        failing.insert(document.to_owned(), kind.to_owned());
    }

    /// Lets all documents succeed from now on.
    pub fn mend(&self) {
        self.failing.lock().unwrap().clear();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends a request, with a body of JSON if it is not null.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answered {
        let method = method.parse().unwrap();
        let mut request = self.http.request(method, self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_null() {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        Answered {
            status,
            headers,
            text,
        }
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.ask("GET", path, &[], Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answered {
        self.ask("POST", path, &[], body).await
    }

    /// Asks until the answer is as wished.
    pub async fn until(&self, path: &str, wished: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{path} as wished");
        until(&what, || async {
            let answered = self.get(path).await;
            (answered.status == 200)
                .then(|| answered.json())
                .filter(&wished)
        })
        .await
    }

    /// Makes a batch of documents with these ids for [`World::failing`], and waits until it is over.
    pub async fn batch(&self, documents: &[&str]) -> String {
        let documents: Vec<Value> = documents.iter().map(|id| json!({ "id": id })).collect();
        let body = json!({ "bucket": "docs", "pipeline": pipeline(), "documents": documents });
        let made = self.post("/v1/batches", body).await.is(201);
        let id = made["batch"].as_str().unwrap().to_owned();
        self.until(&format!("/v1/batches/{id}"), |view| {
            !["pending", "running"].contains(&view["status"].as_str().unwrap())
        })
        .await;
        id
    }
}

/// A pipeline of one tier, with one job that has one attempt.
pub fn pipeline() -> Value {
    json!({ "name": "one", "tiers": [{ "jobs": [{ "handler": "work", "max_attempts": 1 }] }] })
}

/// Looks again and again until there is something to see.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < end, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Fails what is told to fail; where the document's data has `segments`, makes so many; else says which document it was.
fn work(
    failing: &Mutex<BTreeMap<String, String>>,
    unit: &Unit,
    _context: &Context,
) -> Result<Done, Failure> {
    let id = &unit.document.id;
    let name = match unit.segment {
        Some(segment) => format!("{id}#{segment}"),
        None => id.clone(),
    };
    if let Some(kind) = failing.lock().unwrap().get(&name) {
        let kind: FailureKind = kind.parse().unwrap();
        return Err(Failure::new(kind, format!("{name} was told to fail")));
    }
    let wanted = unit.document.data.as_ref();
    let wanted = wanted.and_then(|data| data.get("segments")?.as_u64());
    let made = match wanted {
        Some(count) if unit.segment.is_none() && unit.inputs.is_empty() => (0..count)
            .map(|segment| format!("{}\n", json!({ "segment": segment })))
            .collect(),
        _ => json!({ "id": id, "segment": unit.segment }).to_string(),
    };
    Ok(Done::Completed(Some(Output {
        media_type: "application/json".into(),
        body: made.into_bytes(),
    })))
}
