//! Deliveries that have to be acknowledged: the inbox and work.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, Subject};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use redrive_domain::{
    ids::{HandlerName, ResourceClass},
    subject::{self, Shard},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Inner, error,
    publish::TRACE,
    pull::{Ask, Place, Pull, Pulled},
    setup::{ACK_WAIT_SECONDS, seconds, work_consumer},
};
use crate::{BrokerError, Deliveries, Delivery, Receipt, Result, metrics};

/// How many messages of the inbox are asked for ahead.
const AHEAD: usize = 2048;
/// How many bytes of the inbox are asked for ahead, at least.
const AHEAD_BYTES: usize = 8 << 20;
/// The most messages of one consumer that wait for their acknowledgement.
const UNACKED: u64 = 100_000;
/// After how long without anybody who takes a consumer for work is removed; its chunks stay.
const UNUSED_SECONDS: u64 = 3600;
/// How much longer than asked to wait for the broker to say that there was nothing.
const GRACE: Duration = Duration::from_secs(1);
/// How often to contend for the inbox with somebody who wants it at the same time.
const CONTENTIONS: usize = 5;

struct NatsReceipt {
    client: Client,
    reply: Subject,
}

impl NatsReceipt {
    fn say(&self, word: &'static [u8]) -> BoxFuture<'_, Result<()>> {
        async move {
            self.client
                .publish(self.reply.clone(), Bytes::from_static(word))
                .await
                .map_err(|error| error::publish(&error))
        }
        .boxed()
    }
}

impl Receipt for NatsReceipt {
    fn ack(&self) -> BoxFuture<'_, Result<()>> {
        self.say(b"+ACK")
    }

    fn give_back(&self) -> BoxFuture<'_, Result<()>> {
        self.say(b"-NAK")
    }

    fn extend(&self) -> BoxFuture<'_, Result<()>> {
        self.say(b"+WPI")
    }
}

fn delivery(client: &Client, message: async_nats::Message, place: Place) -> Delivery {
    let trace = message
        .headers
        .as_ref()
        .and_then(|headers| headers.get(TRACE))
        .map(|value| value.as_str().to_owned());
    Delivery {
        subject: message.subject.to_string(),
        payload: message.payload,
        trace,
        // A stream made anew counts from 1 again; the time tells its messages from those before.
        id: u128::from(place.stream_seq) << 64 | u128::from(place.stored_at),
        delivered: place.delivered,
        receipt: Box::new(NatsReceipt {
            client: client.clone(),
            reply: message.reply.unwrap_or_else(|| Subject::from_static("_")),
        }),
    }
}

fn count(source: &'static str, deliveries: &[Delivery]) {
    if !deliveries.is_empty() {
        let again = deliveries.iter().filter(|one| one.delivered > 1).count();
        metrics::delivered(source, deliveries.len(), again);
    }
}

/// The consumer of the inbox of that name, as it should be.
pub(super) fn inbox_config(name: &str) -> Value {
    json!({
        "durable_name": name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": seconds(ACK_WAIT_SECONDS),
        "max_deliver": -1,
        "max_ack_pending": UNACKED,
        "replay_policy": "instant",
    })
}

/// The consumer of a handler and a class, as it should be.
pub(super) fn work_config(shard: Shard, handler: &HandlerName, class: &ResourceClass) -> Value {
    json!({
        "durable_name": work_consumer(handler, class),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": seconds(ACK_WAIT_SECONDS),
        "max_deliver": -1,
        "max_ack_pending": UNACKED,
        "max_waiting": 10_000,
        "replay_policy": "instant",
        "filter_subject": subject::chunks_for(shard, handler, class),
        "inactive_threshold": seconds(UNUSED_SECONDS),
    })
}

impl Inner {
    /// Makes a consumer of the inbox that is this reader's alone. A name of its own keeps an earlier reader's
    /// requests and acknowledgements, should they come late, from touching what is this reader's.
    pub(super) async fn inbox(self: &Arc<Self>) -> Result<Inbox> {
        let stream = &self.names.inbox;
        let name = format!("coordinator-{}", self.fresh_id());
        let mut refused = None;
        for _ in 0..CONTENTIONS {
            for earlier in self.consumer_names(stream).await? {
                self.delete_consumer(stream, &earlier).await?;
            }
            let pull = Pull::open(self, stream, &name).await?;
            let config = inbox_config(&name);
            match self.create_consumer(stream, &name, config).await? {
                Ok(_) => {
                    return Ok(Inbox {
                        nats: self.clone(),
                        pull,
                        gone: false,
                    });
                }
                Err(error) => match error::api(stream, &error) {
                    error @ BrokerError::Missing(_) => return Err(error),
                    error => refused = Some(error),
                },
            }
        }
        Err(refused.unwrap_or_else(|| BrokerError::Other(format!("{stream} is contended for"))))
    }

    pub(super) async fn take(
        self: &Arc<Self>,
        handler: &HandlerName,
        class: &ResourceClass,
    ) -> Result<Work> {
        let stream = &self.names.work;
        let name = work_consumer(handler, class);
        let config = work_config(self.options.shard, handler, class);
        let pull = Pull::open(self, stream, &name).await?;
        self.create_consumer(stream, &name, config)
            .await?
            .map_err(|error| error::api(stream, &error))?;
        Ok(Work {
            nats: self.clone(),
            pull,
            busy: false,
        })
    }
}

/// The inbox as its one reader has it: messages are asked for ahead.
pub(super) struct Inbox {
    nats: Arc<Inner>,
    pull: Pull,
    /// Whether somebody else is the reader by now, or the inbox is lost: it never comes back.
    gone: bool,
}

impl Deliveries for Inbox {
    fn next(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        async move {
            let mut taken = Vec::new();
            let result = self.fill(&mut taken, max, Instant::now() + wait).await;
            count("inbox", &taken);
            // What was taken must not be lost with an error; the error will come again.
            if taken.is_empty() {
                metrics::counted("inbox", result)?;
            }
            Ok(taken)
        }
        .boxed()
    }
}

impl Inbox {
    async fn fill(&mut self, taken: &mut Vec<Delivery>, max: usize, end: Instant) -> Result<()> {
        let ask = Ask {
            batch: AHEAD,
            max_bytes: AHEAD_BYTES.max(self.nats.connection.client.max_payload() * 2),
        };
        while taken.len() < max {
            if self.gone {
                return Err(BrokerError::Missing(format!(
                    "{}/{}",
                    self.nats.names.inbox, self.pull.consumer
                )));
            }
            if self.pull.outstanding <= AHEAD / 2 {
                self.pull.ask(&self.nats, &ask).await?;
            }
            let pulled = match self.pull.ready() {
                Some(pulled) => pulled,
                None if taken.is_empty() => self.pull.next(Some(end)).await,
                None => return Ok(()),
            };
            match pulled {
                Pulled::Message(message, place) => {
                    taken.push(delivery(&self.nats.connection.client, message, place));
                }
                Pulled::Gone => self.gone = true,
                Pulled::Doubtful(_) => self.check().await?,
                Pulled::Late => return Ok(()),
                Pulled::Idle | Pulled::Ended => {}
            }
        }
        Ok(())
    }

    /// Whether the consumer is still there. While the broker is away that is not known, and no error.
    async fn check(&self) -> Result<()> {
        let stream = &self.nats.names.inbox;
        match self.nats.consumer_info(stream, &self.pull.consumer).await {
            Ok(_) | Err(BrokerError::Unreachable(_) | BrokerError::Timeout(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Work: nothing is asked for that was not asked for by the taker.
pub(super) struct Work {
    nats: Arc<Inner>,
    pull: Pull,
    /// Whether a request is open, perhaps from a call that was given up.
    busy: bool,
}

impl Deliveries for Work {
    fn next(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        async move {
            let mut taken = Vec::new();
            let result = self.fill(&mut taken, max, wait).await;
            count("work", &taken);
            if taken.is_empty() {
                metrics::counted("take", result)?;
            }
            Ok(taken)
        }
        .boxed()
    }
}

impl Work {
    async fn fill(&mut self, taken: &mut Vec<Delivery>, max: usize, wait: Duration) -> Result<()> {
        let end = Instant::now() + wait;
        let mut asked = false;
        while taken.len() < max {
            if !self.busy {
                let left = end.saturating_duration_since(Instant::now());
                if asked && (left.is_zero() || !taken.is_empty()) {
                    return Ok(());
                }
                self.pull.outstanding = 0;
                self.busy = true;
                self.pull
                    .ask_once(&self.nats, max - taken.len(), left)
                    .await?;
                asked = true;
            }
            let bound = if taken.is_empty() {
                end + GRACE
            } else {
                Instant::now() + GRACE
            };
            match self.pull.next(Some(bound)).await {
                Pulled::Message(message, place) => {
                    self.busy = self.pull.outstanding > 0;
                    taken.push(delivery(&self.nats.connection.client, message, place));
                }
                Pulled::Gone => {
                    self.busy = false;
                    let what = format!("{}/{}", self.nats.names.work, self.pull.consumer);
                    return Err(BrokerError::Missing(what));
                }
                Pulled::Ended => self.busy = false,
                Pulled::Doubtful(_) => {
                    self.busy = false;
                    self.check().await?;
                }
                Pulled::Late => {
                    // The broker did not even say that there is nothing.
                    self.busy = false;
                    self.check().await?;
                    return Ok(());
                }
                Pulled::Idle => {}
            }
        }
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        let stream = &self.nats.names.work;
        match self.nats.consumer_info(stream, &self.pull.consumer).await {
            Ok(_) | Err(BrokerError::Unreachable(_) | BrokerError::Timeout(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
