//! What the broker does by itself, so that what Redrive does with it can be told as a share of that.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time;

use super::{
    NatsBroker, error,
    pull::{Ask, Pull, Pulled},
};
use crate::{BrokerError, Result};

/// Messages that wait for their acknowledgement at a time.
const IN_FLIGHT: usize = 1_000;
/// Messages that one request of the reader asks for.
const ASK: usize = 2_000;
/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(10);

/// Messages a second on a stream of its own, with one publisher and one reader.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawRates {
    /// Single messages published and acknowledged, with a bounded number on their way.
    pub publish: f64,
    /// Messages read in order by a consumer that acknowledges nothing.
    pub read: f64,
}

/// What the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogUsage {
    /// Events.
    pub messages: u64,
    /// Bytes that they take in the broker's store, with subjects and headers.
    pub bytes: u64,
}

#[derive(Deserialize)]
struct Ack {
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Info {
    state: State,
}

#[derive(Deserialize)]
struct State {
    messages: u64,
    bytes: u64,
}

impl NatsBroker {
    /// Publishes and reads so many messages of so many bytes on a stream that is made for it and deleted afterwards.
    ///
    /// # Errors
    /// Where the account may not make such a stream, or the broker is silent for ten seconds.
    pub async fn raw_rates(&self, messages: usize, bytes: usize) -> Result<RawRates> {
        let nats = &self.inner;
        let stream = format!("RD_RAW_{}", nats.fresh_id());
        let subject = format!("rd.raw.{stream}");
        let config = json!({
            "name": stream,
            "subjects": [subject],
            "retention": "limits",
            "storage": "file",
            "num_replicas": nats.options.replicas,
        });
        let create = format!("STREAM.CREATE.{stream}");
        let _: Value = nats.demand(&stream, &create, &config).await?;
        let measured = async {
            let publish = self.publish_raw(&subject, messages, bytes).await?;
            let read = self.read_raw(&stream, messages).await?;
            Ok(RawRates { publish, read })
        }
        .await;
        let delete = format!("STREAM.DELETE.{stream}");
        let _: Value = nats.demand(&stream, &delete, &json!({})).await?;
        measured
    }

    async fn publish_raw(&self, subject: &str, messages: usize, bytes: usize) -> Result<f64> {
        let client = &self.inner.connection.client;
        let inbox = client.new_inbox();
        let subscribed = client.subscribe(inbox.clone()).await;
        let mut acks = subscribed.map_err(|error| error::subscribe(&error))?;
        let payload = Bytes::from(vec![b'x'; bytes]);
        let began = Instant::now();
        let (mut sent, mut acknowledged) = (0, 0);
        while acknowledged < messages {
            while sent < messages && sent - acknowledged < IN_FLIGHT {
                client
                    .publish_with_reply(subject.to_owned(), inbox.clone(), payload.clone())
                    .await
                    .map_err(|error| error::publish(&error))?;
                sent += 1;
            }
            let next = time::timeout(SILENCE, acks.next()).await;
            let Ok(Some(ack)) = next else {
                return Err(BrokerError::Timeout(SILENCE));
            };
            match serde_json::from_slice::<Ack>(&ack.payload) {
                Ok(Ack { error: None }) => acknowledged += 1,
                _ => {
                    let text = String::from_utf8_lossy(&ack.payload).into_owned();
                    return Err(BrokerError::Other(text));
                }
            }
        }
        Ok(rate(messages, began))
    }

    async fn read_raw(&self, stream: &str, messages: usize) -> Result<f64> {
        let nats = &self.inner;
        let name = format!("reader-{}", nats.fresh_id());
        let config = json!({
            "name": name,
            "deliver_policy": "all",
            "ack_policy": "none",
            "max_deliver": 1,
            "mem_storage": true,
            "num_replicas": 1,
        });
        let began = Instant::now();
        let mut pull = Pull::open(nats, stream, &name).await?;
        nats.create_consumer(stream, &name, config)
            .await?
            .map_err(|error| error::api(stream, &error))?;
        let ask = Ask {
            batch: ASK,
            max_bytes: nats.connection.client.max_payload() * 8,
        };
        let mut read = 0;
        while read < messages {
            if pull.outstanding <= ASK / 2 {
                pull.ask(nats, &ask).await?;
            }
            let pulled = match pull.ready() {
                Some(pulled) => pulled,
                None => pull.next(Some(time::Instant::now() + SILENCE)).await,
            };
            match pulled {
                Pulled::Message(..) => read += 1,
                Pulled::Ended | Pulled::Idle => {}
                Pulled::Gone | Pulled::Doubtful(_) | Pulled::Late => {
                    return Err(BrokerError::Timeout(SILENCE));
                }
            }
        }
        Ok(rate(messages, began))
    }

    /// What the log holds by now.
    ///
    /// # Errors
    /// Where the log is missing, or the broker cannot be asked.
    pub async fn log_usage(&self) -> Result<LogUsage> {
        let stream = &self.inner.names.events;
        let info: Info = self
            .inner
            .demand(stream, &format!("STREAM.INFO.{stream}"), &())
            .await?;
        Ok(LogUsage {
            messages: info.state.messages,
            bytes: info.state.bytes,
        })
    }
}

#[allow(clippy::cast_precision_loss)]
fn rate(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}
