//! Pulling from a consumer: what readers of the log, the inbox and workers have in common.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::{Inner, error};
use crate::Result;

/// How long the broker keeps an open request for messages.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the broker gives a sign of life on an open request.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After how long a silence something is wrong.
const SILENCE: Duration = Duration::from_secs(11);

/// Where a delivered message stands, from its reply subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) delivered: u64,
    pub(super) stream_seq: u64,
    pub(super) consumer_seq: u64,
    /// When it was stored, in nanoseconds since the Unix epoch.
    pub(super) stored_at: u64,
    /// How many more match after it.
    pub(super) pending: u64,
}

impl Place {
    pub(super) fn parse(reply: &str) -> Option<Self> {
        let mut tokens = [""; 12];
        let mut count = 0;
        for (slot, token) in tokens.iter_mut().zip(reply.split('.')) {
            *slot = token;
            count += 1;
        }
        // Newer servers may put the domain and the account after `$JS.ACK`.
        let first = match count {
            9 => 4,
            11.. => 6,
            _ => return None,
        };
        if tokens.get(..2)? != ["$JS", "ACK"] {
            return None;
        }
        let number = |at: usize| tokens.get(first + at)?.parse().ok();
        Some(Self {
            delivered: number(0)?,
            stream_seq: number(1)?,
            consumer_seq: number(2)?,
            stored_at: number(3)?,
            pending: number(4)?,
        })
    }
}

/// What came on a pull.
#[allow(
    clippy::large_enum_variant,
    reason = "it is handled at once, and a box each message costs more"
)]
pub(super) enum Pulled {
    Message(Message, Place),
    /// Nothing more comes on a request.
    Ended,
    /// The broker is there, and has nothing.
    Idle,
    /// The consumer is not there any more.
    Gone,
    /// Requests may be lost: the connection came up anew, or the broker is silent.
    Doubtful(&'static str),
    /// It did not come in time.
    Late,
}

/// A subscription to what a consumer delivers on request.
pub(super) struct Pull {
    subscription: Subscriber,
    inbox: String,
    stream: String,
    pub(super) consumer: String,
    epoch: watch::Receiver<u64>,
    heard: Instant,
    /// How many messages have been asked for and did not come yet.
    pub(super) outstanding: usize,
}

/// What to ask for.
pub(super) struct Ask {
    pub(super) batch: usize,
    pub(super) max_bytes: usize,
}

impl Pull {
    pub(super) async fn open(nats: &Inner, stream: &str, consumer: &str) -> Result<Self> {
        let client = &nats.connection.client;
        let inbox = client.new_inbox();
        let subscription = client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| error::subscribe(&error))?;
        let mut epoch = nats.connection.epoch.clone();
        epoch.mark_unchanged();
        Ok(Self {
            subscription,
            inbox,
            stream: stream.to_owned(),
            consumer: consumer.to_owned(),
            epoch,
            heard: Instant::now(),
            outstanding: 0,
        })
    }

    /// Asks for messages and keeps the request open; the broker gives signs of life on it.
    pub(super) async fn ask(&mut self, nats: &Inner, ask: &Ask) -> Result<()> {
        self.request(
            nats,
            ask.batch,
            &json!({
                "batch": ask.batch,
                "max_bytes": ask.max_bytes,
                "expires": nanos(EXPIRES),
                "idle_heartbeat": nanos(HEARTBEAT),
            }),
        )
        .await
    }

    /// Asks for what is there, or else for the first that comes in time.
    pub(super) async fn ask_once(
        &mut self,
        nats: &Inner,
        batch: usize,
        expires: Duration,
    ) -> Result<()> {
        // With a time to wait, `no_wait` means: what is there, or else the first that comes. For one message that is
        // what a plain request means.
        let request = if expires.is_zero() {
            json!({ "batch": batch, "no_wait": true })
        } else if batch == 1 {
            json!({ "batch": batch, "expires": nanos(expires) })
        } else {
            json!({ "batch": batch, "no_wait": true, "expires": nanos(expires) })
        };
        self.request(nats, batch, &request).await
    }

    async fn request(
        &mut self,
        nats: &Inner,
        batch: usize,
        request: &serde_json::Value,
    ) -> Result<()> {
        let subject = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{}",
            self.stream, self.consumer
        );
        let payload = Bytes::from(request.to_string());
        let publish =
            nats.connection
                .client
                .publish_with_reply(subject, self.inbox.clone(), payload);
        nats.bounded(publish)
            .await?
            .map_err(|error| error::publish(&error))?;
        self.outstanding += batch;
        if self.outstanding == batch {
            self.heard = Instant::now();
        }
        Ok(())
    }

    /// What is there already.
    pub(super) fn ready(&mut self) -> Option<Pulled> {
        let message = self.subscription.next().now_or_never()?;
        Some(self.sort(message))
    }

    /// The next that comes until then.
    pub(super) async fn next(&mut self, until: Option<Instant>) -> Pulled {
        let silent = self.heard + SILENCE;
        let end = until.map_or(silent, |until| until.min(silent));
        tokio::select! {
            biased;
            message = self.subscription.next() => self.sort(message),
            changed = self.epoch.changed() => {
                if changed.is_err() {
                    // The client is gone, and with it whatever could come.
                    time::sleep(Duration::from_secs(1)).await;
                }
                self.doubt("reconnected")
            }
            () = time::sleep_until(end) => {
                if until.is_some_and(|until| until <= silent) {
                    Pulled::Late
                } else {
                    self.doubt("silence")
                }
            }
        }
    }

    fn doubt(&mut self, reason: &'static str) -> Pulled {
        self.outstanding = 0;
        self.heard = Instant::now();
        Pulled::Doubtful(reason)
    }

    fn sort(&mut self, message: Option<Message>) -> Pulled {
        self.heard = Instant::now();
        let Some(message) = message else {
            return self.doubt("closed");
        };
        let Some(status) = message.status else {
            return match message.reply.as_deref().and_then(Place::parse) {
                Some(place) => {
                    self.outstanding = self.outstanding.saturating_sub(1);
                    Pulled::Message(message, place)
                }
                None => Pulled::Idle,
            };
        };
        let left = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Pending-Messages"))
            .and_then(|value| value.as_str().parse::<usize>().ok());
        let text = message.description.as_deref().unwrap_or_default();
        match status {
            StatusCode::IDLE_HEARTBEAT => Pulled::Idle,
            StatusCode::NO_RESPONDERS => Pulled::Gone,
            _ if text.eq_ignore_ascii_case("consumer deleted")
                || text.eq_ignore_ascii_case("stream deleted") =>
            {
                Pulled::Gone
            }
            _ => {
                tracing::trace!(%status, text, "a request for messages ended");
                self.outstanding = match left {
                    Some(left) => self.outstanding.saturating_sub(left),
                    // Which of the requests it was is not said: ask anew for all of it.
                    None => 0,
                };
                Pulled::Ended
            }
        }
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_understood() {
        let place = Place {
            delivered: 3,
            stream_seq: 100,
            consumer_seq: 7,
            stored_at: 1_790_230_470_084_404_000,
            pending: 42,
        };
        for reply in [
            "$JS.ACK.S.c.3.100.7.1790230470084404000.42",
            "$JS.ACK._.hash.S.c.3.100.7.1790230470084404000.42",
            "$JS.ACK.hub.hash.S.c.3.100.7.1790230470084404000.42.token",
        ] {
            assert_eq!(Place::parse(reply), Some(place), "{reply}");
        }
        for reply in [
            "",
            "$JS.ACK.S.c.3.100.7.1",
            "$JS.FC.S.c.3.100.7.1.42",
            "$JS.ACK.S.c.x.100.7.1.42",
        ] {
            assert_eq!(Place::parse(reply), None, "{reply}");
        }
    }
}
