//! The broker on NATS JetStream.

mod connect;
mod deliver;
mod denial;
mod error;
mod inspect;
mod lease;
mod login;
mod publish;
mod pull;
mod raw;
mod read;
mod rpc;
mod setup;
mod snapshot;

use std::{future::Future, sync::Arc, time::Duration};

use async_nats::{
    StatusCode,
    connection::State,
    jetstream::{self, context::ContextBuilder},
};
use bytes::Bytes;
use futures::stream::BoxStream;
use redrive_domain::ids::{HandlerName, ResourceClass};
use serde_json::json;
use tokio::time::{self, Instant};

pub use connect::ConnectOptions;
pub use login::{InboxPrefix, InvalidInboxPrefix, Login, Password, masked};
pub use raw::{LogUsage, RawRates};

use crate::{
    Broker, BrokerError, BrokerInfo, Deliveries, Entry, Inspection, Lease, Message, Range, Request,
    Result, ServiceSpec, metrics::counted,
};

/// How long to wait for an entry that is not there yet.
const GET_WAIT: Duration = Duration::from_secs(2);

/// The broker of one shard on NATS JetStream. Clones share one connection.
#[derive(Clone)]
pub struct NatsBroker {
    inner: Arc<Inner>,
}

struct Inner {
    options: ConnectOptions,
    names: setup::Names,
    connection: connect::Connection,
    context: jetstream::Context,
    /// How long to wait for the broker's answer to one operation.
    wait: Duration,
    /// Whose turn it is to append, and how it has to be done.
    appending: tokio::sync::Mutex<publish::Appending>,
}

impl Inner {
    fn is_connected(&self) -> bool {
        self.connection.client.connection_state() == State::Connected
    }

    /// Bounds what waits for nothing but the connection.
    async fn bounded<T>(&self, operation: impl Future<Output = T>) -> Result<T> {
        time::timeout(self.wait, operation)
            .await
            .map_err(|_| BrokerError::Unreachable(self.connection.url.clone()))
    }

    async fn get_once(&self, seq: u64) -> Result<Option<Entry>> {
        let stream = &self.names.events;
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let payload = Bytes::from(json!({ "seq": seq }).to_string());
        let request = async_nats::Request::new().payload(payload);
        let mut guard = self.connection.denials.guard();
        let asked = self
            .connection
            .client
            .send_request(subject.clone(), request);
        let message = match guard.race(&subject, asked).await? {
            Ok(message) => message,
            Err(error) => {
                let error = error::request(&subject, self.wait, &error);
                return Err(match error {
                    BrokerError::NoResponders(_) => BrokerError::Missing(stream.clone()),
                    BrokerError::Timeout(_) if !self.is_connected() => {
                        BrokerError::Unreachable(self.connection.url.clone())
                    }
                    // 2.9 does not say that there is no such stream.
                    BrokerError::Timeout(_) => match self.stream_last_seq(stream).await {
                        Err(missing @ BrokerError::Missing(_)) => missing,
                        _ => error,
                    },
                    error => error,
                });
            }
        };
        match message.status {
            Some(StatusCode::NOT_FOUND) => return Ok(None),
            Some(status) if status != StatusCode::OK => {
                let text = message.description.unwrap_or_default();
                return Err(BrokerError::Other(format!("{stream}: {status} {text}")));
            }
            _ => {}
        }
        let subject = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Subject"))
            .map(|value| value.as_str().to_owned())
            .ok_or_else(|| BrokerError::Other(format!("{stream}: an entry without a subject")))?;
        Ok(Some(Entry {
            seq,
            subject,
            payload: message.payload,
        }))
    }

    async fn get(&self, seq: u64) -> Result<Option<Entry>> {
        if seq == 0 {
            return Ok(None);
        }
        let end = Instant::now() + GET_WAIT;
        let mut pause = Duration::from_millis(2);
        loop {
            if let Some(entry) = self.get_once(seq).await? {
                return Ok(Some(entry));
            }
            if Instant::now() + pause >= end {
                return Ok(None);
            }
            time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}

impl NatsBroker {
    /// Connects. Afterwards the connection is kept up for ever, over any number of reconnects.
    ///
    /// # Errors
    /// If there is no connection in time, or the broker does not let this client in.
    pub async fn connect(options: ConnectOptions) -> Result<Self> {
        let connection = connect::connect(&options).await?;
        let context = ContextBuilder::new()
            .timeout(options.answer_timeout)
            .ack_timeout(options.answer_timeout)
            .build(connection.client.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                names: setup::Names::of(options.shard),
                wait: options.answer_timeout,
                appending: tokio::sync::Mutex::default(),
                context,
                connection,
                options,
            }),
        })
    }
}

impl Broker for NatsBroker {
    async fn ensure(&self) -> Result<()> {
        counted("ensure", self.inner.ensure().await)
    }

    fn info(&self) -> BrokerInfo {
        let client = &self.inner.connection.client;
        BrokerInfo {
            version: client.server_info().version,
            max_payload: client.max_payload(),
        }
    }

    fn is_connected(&self) -> bool {
        self.inner.is_connected()
    }

    async fn inspect(&self) -> Result<Inspection> {
        counted("inspect", self.inner.inspect().await)
    }

    async fn repair(&self) -> Result<()> {
        counted("repair", self.inner.repair().await)
    }

    async fn append(&self, messages: Vec<Message>, after: u64) -> Result<u64> {
        counted("append", self.inner.append(&messages, after).await)
    }

    async fn last_seq(&self) -> Result<u64> {
        let events = &self.inner.names.events;
        counted("last_seq", self.inner.stream_last_seq(events).await)
    }

    fn read(&self, range: Range) -> BoxStream<'static, Result<Entry>> {
        read::read(self.inner.clone(), range)
    }

    async fn get(&self, seq: u64) -> Result<Option<Entry>> {
        counted("get", self.inner.get(seq).await)
    }

    async fn submit(&self, message: Message, id: Option<String>) -> Result<()> {
        counted("submit", self.inner.submit(&message, id).await)
    }

    async fn inbox(&self) -> Result<Box<dyn Deliveries>> {
        let inbox = counted("inbox", self.inner.inbox().await)?;
        Ok(Box::new(inbox))
    }

    async fn offer(&self, chunks: Vec<Message>) -> Result<()> {
        counted("offer", self.inner.offer(&chunks).await)
    }

    async fn take(
        &self,
        handler: &HandlerName,
        class: &ResourceClass,
    ) -> Result<Box<dyn Deliveries>> {
        let work = counted("take", self.inner.take(handler, class).await)?;
        Ok(Box::new(work))
    }

    async fn withdraw(&self, filter: &str) -> Result<()> {
        let work = &self.inner.names.work;
        counted("withdraw", self.inner.purge(work, filter).await)
    }

    async fn remake_work(&self) -> Result<()> {
        counted("remake_work", self.inner.remake_work().await)
    }

    async fn offered(&self) -> Result<Vec<String>> {
        let work = &self.inner.names.work;
        counted("offered", self.inner.stream_subjects(work).await)
    }

    async fn lease(&self, name: &str, holder: &str) -> Result<Lease> {
        counted("lease", self.inner.lease(name, holder).await)
    }

    async fn release(&self, name: &str, holder: &str) -> Result<()> {
        counted("release", self.inner.release(name, holder).await)
    }

    fn lease_ttl(&self) -> Duration {
        self.inner.options.lease_ttl
    }

    async fn keep_snapshot(&self, snapshot: Bytes) -> Result<()> {
        self.inner.keep_snapshot(snapshot).await
    }

    async fn snapshot(&self) -> Result<Option<Bytes>> {
        self.inner.snapshot().await
    }

    async fn request(&self, message: Message, wait: Duration) -> Result<Bytes> {
        counted("request", self.inner.request(message, wait).await)
    }

    async fn serve(&self, spec: ServiceSpec) -> Result<BoxStream<'static, Request>> {
        counted("serve", self.inner.serve(spec).await)
    }

    async fn signal(&self, message: Message) -> Result<()> {
        counted("signal", self.inner.signal(message).await)
    }

    async fn listen(&self, filter: String) -> Result<BoxStream<'static, Message>> {
        counted("listen", self.inner.listen(filter).await)
    }
}
