//! Reading the log.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use serde_json::{Value, json};
use tokio::time;

use async_nats::jetstream::ErrorCode;

use super::{
    Inner, error,
    pull::{Ask, Pull, Pulled, nanos},
};
use crate::{BrokerError, Entry, Range, Result, metrics};

/// How many messages one request asks for. Two requests are under way at a time.
const BATCH: usize = 2000;
/// How many bytes one request asks for, at least.
const BATCH_BYTES: usize = 8 << 20;
/// How long a reader may not ask before the broker forgets its consumer.
const FORGET: Duration = Duration::from_secs(30);
/// The longest pause before another try to begin.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn read(nats: Arc<Inner>, range: Range) -> BoxStream<'static, Result<Entry>> {
    let reader = Reader {
        next: range.from.max(1),
        range,
        session: None,
        pause: Duration::from_millis(10),
        ended: false,
        uncounted: 0,
        nats,
    };
    futures::stream::unfold(Box::new(reader), |mut reader| async move {
        let item = reader.step().await?;
        Some((item, reader))
    })
    .boxed()
}

struct Reader {
    nats: Arc<Inner>,
    range: Range,
    /// The first sequence that was not read yet.
    next: u64,
    session: Option<Session>,
    pause: Duration,
    ended: bool,
    /// Entries that the metrics do not know yet.
    uncounted: u64,
}

struct Session {
    pull: Pull,
    /// The place of the next message in the consumer's own order.
    expected: u64,
}

impl Reader {
    async fn step(&mut self) -> Option<Result<Entry>> {
        loop {
            if self.ended {
                return None;
            }
            match self.advance().await {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => {}
                Err(error) => match error {
                    // These pass, and the reading goes on where it was.
                    BrokerError::Unreachable(_) | BrokerError::Timeout(_) => {
                        tracing::debug!(%error, next = self.next, "reading waits for the broker");
                        self.resume("error");
                        time::sleep(self.pause).await;
                        self.pause = (self.pause * 2).min(PAUSE);
                    }
                    error => {
                        self.ended = true;
                        return Some(Err(error));
                    }
                },
            }
        }
    }

    /// Goes on until there is an entry or a decision to take.
    async fn advance(&mut self) -> Result<Option<Entry>> {
        if self.range.until.is_some_and(|until| self.next > until) {
            self.ended = true;
            return Ok(None);
        }
        let Some(session) = &mut self.session else {
            return self.begin().await;
        };
        let ask = ask(&self.nats, self.next, self.range.until);
        if session.pull.outstanding <= ask.batch / 2 {
            session.pull.ask(&self.nats, &ask).await?;
        }
        let pulled = match session.pull.ready() {
            Some(pulled) => pulled,
            None => session.pull.next(None).await,
        };
        match pulled {
            Pulled::Message(message, place) => {
                if place.consumer_seq != session.expected {
                    tracing::debug!(next = self.next, "a gap in what was delivered");
                    self.resume("gap");
                    return Ok(None);
                }
                session.expected += 1;
                if place.stream_seq < self.next {
                    return Ok(None);
                }
                if self
                    .range
                    .until
                    .is_some_and(|until| place.stream_seq > until)
                {
                    self.ended = true;
                    return Ok(None);
                }
                self.next = place.stream_seq + 1;
                self.uncounted += 1;
                if self.uncounted >= 1024 || place.pending == 0 {
                    metrics::read(std::mem::take(&mut self.uncounted));
                }
                self.pause = Duration::from_millis(10);
                if place.pending == 0 {
                    self.end_if_done().await?;
                }
                Ok(Some(Entry {
                    seq: place.stream_seq,
                    subject: message.subject.to_string(),
                    payload: message.payload,
                }))
            }
            Pulled::Idle | Pulled::Ended | Pulled::Late => {
                self.end_if_done().await?;
                Ok(None)
            }
            Pulled::Gone => {
                self.resume("consumer");
                Ok(None)
            }
            Pulled::Doubtful(reason) => {
                self.resume(reason);
                Ok(None)
            }
        }
    }

    /// Ends a bounded reading where the log's leader has nothing more for it. The consumer's own count cannot tell:
    /// it may be that of a replica that lags.
    async fn end_if_done(&mut self) -> Result<()> {
        let Some(until) = self.range.until else {
            return Ok(());
        };
        if self.next > until {
            self.ended = true;
            return Ok(());
        }
        let filter = self.range.filter.as_deref().unwrap_or(">");
        let which = json!({ "seq": self.next, "next_by_subj": filter });
        let found = self.nats.stored(&self.nats.names.events, &which).await?;
        self.ended = found.is_none_or(|found| found.entry.seq > until);
        Ok(())
    }

    /// Drops the consumer; the next step makes another one.
    fn resume(&mut self, reason: &'static str) {
        if self.session.take().is_some() {
            metrics::resumed(reason);
        }
    }

    async fn begin(&mut self) -> Result<Option<Entry>> {
        let stream = self.nats.names.events.clone();
        let name = format!("reader-{}", self.nats.fresh_id());
        let mut config = json!({
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.next,
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "inactive_threshold": nanos(FORGET),
            "mem_storage": true,
            "num_replicas": 1,
        });
        if let (Some(filter), Some(config)) = (&self.range.filter, config.as_object_mut()) {
            config.insert("filter_subject".to_owned(), Value::from(filter.as_str()));
        }
        // Listening comes first, so that nothing delivered is missed.
        let pull = Pull::open(&self.nats, &stream, &name).await?;
        match self.nats.create_consumer(&stream, &name, config).await? {
            Ok(info) => {
                self.session = Some(Session { pull, expected: 1 });
                if info.num_pending == 0 {
                    self.end_if_done().await?;
                }
                Ok(None)
            }
            Err(error) if passes(error.error_code()) => Err(BrokerError::Timeout(self.nats.wait)),
            Err(error) => Err(error::api(&stream, &error)),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        metrics::read(self.uncounted);
        let Some(session) = self.session.take() else {
            return;
        };
        // The broker would forget it by itself, a while later.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let nats = self.nats.clone();
            runtime.spawn(async move {
                let stream = &nats.names.events;
                let _ = nats.delete_consumer(stream, &session.pull.consumer).await;
            });
        }
    }
}

fn ask(nats: &Inner, next: u64, until: Option<u64>) -> Ask {
    let left = until.map_or(u64::MAX, |until| {
        until.saturating_sub(next).saturating_add(1)
    });
    Ask {
        batch: usize::try_from(left).unwrap_or(BATCH).clamp(1, BATCH),
        // A message larger than this would never come.
        max_bytes: BATCH_BYTES.max(nats.connection.client.max_payload() * 2),
    }
}

/// What a cluster says while it looks for a leader or has no place for the moment.
fn passes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CLUSTER_NOT_AVAILABLE
            | ErrorCode::CLUSTER_NOT_LEADER
            | ErrorCode::CLUSTER_NOT_ACTIVE
            | ErrorCode::CLUSTER_INCOMPLETE
            | ErrorCode::CLUSTER_NO_PEERS
            | ErrorCode::STREAM_OFFLINE
    )
}
