//! Requests and signals: what is not stored.

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, Subject, service::ServiceExt};
use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture},
    stream::BoxStream,
};

use super::{
    Inner,
    denial::Guard,
    error,
    publish::{TRACE, headers},
};
use crate::{BrokerError, Message, Reply, Request, Result, ServiceSpec};

/// How long the client may take to tell of a denial.
const TELLING: Duration = Duration::from_millis(20);

impl Inner {
    pub(super) async fn request(&self, message: Message, wait: Duration) -> Result<Bytes> {
        let headers = headers(message.trace.as_deref());
        self.check_size(message.payload.len(), &headers)?;
        let mut request = async_nats::Request::new()
            .payload(message.payload)
            .timeout(Some(wait));
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        let subject = message.subject;
        let mut guard = self.connection.denials.guard();
        let asked = self
            .connection
            .client
            .send_request(subject.clone(), request);
        // The client counts from when the request is sent, which may wait for a connection.
        let asked = tokio::time::timeout(wait, guard.race(&subject, asked));
        match asked.await {
            Err(_) if !self.is_connected() => {
                Err(BrokerError::Unreachable(self.connection.url.clone()))
            }
            Err(_) => Err(BrokerError::Timeout(wait)),
            Ok(answer) => answer?
                .map(|answer| answer.payload)
                .map_err(|error| error::request(&subject, wait, &error)),
        }
    }

    pub(super) async fn serve(
        self: &Arc<Self>,
        spec: ServiceSpec,
    ) -> Result<BoxStream<'static, Request>> {
        let other = |error: async_nats::Error| BrokerError::Other(error.to_string());
        let mut guard = self.connection.denials.guard();
        let client = &self.connection.client;
        let service = client
            .service_builder()
            .description(&spec.description)
            .queue_group(&spec.queue)
            .start(&spec.name, env!("CARGO_PKG_VERSION"))
            .await
            .map_err(other)?;
        let service = ServiceHandle(Some(service));
        let endpoint = match &service.0 {
            Some(service) => service
                .endpoint_builder()
                .name(&spec.name)
                .add(&spec.subject)
                .await
                .map_err(other)?,
            None => return Err(BrokerError::Other("the service has ended".to_owned())),
        };
        self.settle(&mut guard, &spec.subject).await?;
        Ok(endpoint
            // Whoever may ask the server for something can have its answer sent here. One with a status and no body must
            // not be taken for a request that says nothing.
            .filter(|request| future::ready(request.message.status.is_none()))
            .map(move |request| {
                // The service lives as long as the stream of its requests.
                let _ = &service;
                let message = &request.message;
                Request {
                    subject: message.subject.to_string(),
                    payload: message.payload.clone(),
                    trace: trace(message.headers.as_ref()),
                    reply: Box::new(ServiceReply(request)),
                }
            })
            .boxed())
    }

    pub(super) async fn signal(&self, message: Message) -> Result<()> {
        let headers = headers(message.trace.as_deref());
        self.check_size(message.payload.len(), &headers)?;
        let client = &self.connection.client;
        let published = async {
            if headers.is_empty() {
                client.publish(message.subject, message.payload).await
            } else {
                client
                    .publish_with_headers(message.subject, headers, message.payload)
                    .await
            }
        };
        self.bounded(published)
            .await?
            .map_err(|error| error::publish(&error))
    }

    pub(super) async fn listen(&self, filter: String) -> Result<BoxStream<'static, Message>> {
        let mut guard = self.connection.denials.guard();
        let subscription = self
            .connection
            .client
            .subscribe(filter.clone())
            .await
            .map_err(|error| error::subscribe(&error))?;
        self.settle(&mut guard, &filter).await?;
        Ok(subscription
            .map(|message| Message {
                subject: message.subject.to_string(),
                trace: trace(message.headers.as_ref()),
                payload: message.payload,
            })
            .boxed())
    }

    /// Waits until the broker has taken note of a subscription. Best effort: it will get there in any case.
    async fn settle(&self, guard: &mut Guard, subject: &str) -> Result<()> {
        let request = self
            .api::<_, serde_json::Value>("the account", "INFO", &())
            .await;
        if let Err(error) = request {
            tracing::debug!(%error, "the broker may not have taken note yet");
        }
        // A denial came before that answer, but the client tells of it on another way.
        guard.race(subject, tokio::time::sleep(TELLING)).await
    }
}

fn trace(headers: Option<&HeaderMap>) -> Option<String> {
    headers?.get(TRACE).map(|value| value.as_str().to_owned())
}

/// Stops the service when dropped.
struct ServiceHandle(Option<async_nats::service::Service>);

impl Drop for ServiceHandle {
    fn drop(&mut self) {
        if let Some(service) = self.0.take() {
            // Stopping waits for nothing.
            let _ = service.stop().now_or_never();
        }
    }
}

struct ServiceReply(async_nats::service::Request);

impl Reply for ServiceReply {
    fn send(
        self: Box<Self>,
        body: Bytes,
        error: Option<(u16, String)>,
    ) -> BoxFuture<'static, Result<()>> {
        async move {
            let Some(reply) = &self.0.message.reply else {
                // Nobody waits for an answer.
                return Ok(());
            };
            tracing::trace!(reply = Subject::as_str(reply), "answering");
            let mut headers = HeaderMap::new();
            if let Some((code, text)) = error {
                let text = text.replace(['\r', '\n'], " ");
                headers.insert("Nats-Service-Error-Code", code.to_string());
                headers.insert("Nats-Service-Error", text);
            }
            // The client's own way to answer with an error would drop the body.
            self.0
                .respond_with_headers(Ok(body), headers)
                .await
                .map_err(|error| error::publish(&error))
        }
        .boxed()
    }
}
