//! Writing: to the log, to the inbox and to the workers.

use std::{collections::VecDeque, future::IntoFuture, time::Duration};

use async_nats::{
    HeaderMap, header,
    jetstream::{context::PublishAckFuture, message::PublishMessage},
};
use serde_json::json;
use tokio::time::{self, Instant};

use super::{
    Inner,
    denial::Guard,
    error::{self, PublishFailure},
};
use crate::{BrokerError, Message, Result, metrics};

/// The most messages of one call that wait for their acknowledgement at a time.
const MESSAGES_IN_FLIGHT: usize = 512;
/// The most bytes of one call that wait for their acknowledgement at a time.
const BYTES_IN_FLIGHT: usize = 8 << 20;
/// How often an append or offer that does not advance is tried.
const TRIES: usize = 3;
/// How often a hand-over to the inbox is tried, and within how long.
const SUBMIT_TRIES: u32 = 5;
const SUBMIT_BOUND: Duration = Duration::from_secs(15);
/// How long one try of it may take.
const SUBMIT_WAIT: Duration = Duration::from_secs(4);

/// For how long to rely on the log not having been replicated meanwhile.
const KNOWN: Duration = Duration::from_secs(5);

/// What appends share.
#[derive(Default)]
pub(super) struct Appending {
    /// Whether there was one copy of the log, and when.
    known: Option<(Instant, bool)>,
}

/// The header that carries the trace context.
pub(super) const TRACE: &str = "traceparent";

/// What is told to the stream beside a message.
#[derive(Default)]
struct Condition<'a> {
    /// The stream's last sequence must be this; the acknowledgement then says the next.
    after: Option<u64>,
    /// The stream's last message must be the one with this id.
    previous: Option<&'a str>,
    /// The message is stored once.
    id: Option<&'a str>,
}

impl Condition<'_> {
    fn headers(&self, message: &Message) -> HeaderMap {
        let mut headers = headers(message.trace.as_deref());
        if let Some(seq) = self.after {
            headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, seq.to_string());
        }
        if let Some(id) = self.previous {
            headers.insert(header::NATS_EXPECTED_LAST_MESSAGE_ID, id);
        }
        if let Some(id) = self.id {
            headers.insert(header::NATS_MESSAGE_ID, id);
        }
        headers
    }
}

pub(super) fn headers(trace: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // A line break would end the header; such a trace context is none.
    if let Some(trace) = trace.filter(|text| !text.contains(['\r', '\n'])) {
        headers.insert(TRACE, trace);
    }
    headers
}

/// The size of a message as the broker counts it.
pub(super) fn wire_size(payload: usize, headers: &HeaderMap) -> usize {
    if headers.is_empty() {
        return payload;
    }
    let lines: usize = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
        .map(|(name, value)| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4)
        .sum();
    "NATS/1.0\r\n\r\n".len() + lines + payload
}

impl Inner {
    pub(super) fn check_size(&self, payload: usize, headers: &HeaderMap) -> Result<()> {
        let size = wire_size(payload, headers);
        let limit = self.connection.client.max_payload();
        if size > limit {
            return Err(BrokerError::TooLarge { size, limit });
        }
        Ok(())
    }

    fn check_sizes(&self, messages: &[Message], condition: &Condition<'_>) -> Result<()> {
        messages.iter().try_for_each(|message| {
            self.check_size(message.payload.len(), &condition.headers(message))
        })
    }

    /// Appends. Several at a time wait for each other.
    ///
    /// The expected sequence alone does not protect a pipeline: when a message is refused because somebody else was
    /// faster, that one's message makes the log as long as the next in the pipeline expects, which is then taken.
    /// So each message names the one before it as well. A replicated stream (2.15.1) breaks down for good when that
    /// does not hold, so that there each message has to wait for the one before.
    pub(super) async fn append(&self, messages: &[Message], after: u64) -> Result<u64> {
        let mut turn = self.appending.lock().await;
        let started = std::time::Instant::now();
        let chained = messages.len() > 1 && self.may_chain(&mut turn).await?;
        let in_flight = if chained { MESSAGES_IN_FLIGHT } else { 1 };
        let ids = if chained {
            self.fresh_ids(messages.len())
        } else {
            Vec::new()
        };
        let id = |at: usize| ids.get(at).map(String::as_str);
        // The longest there are: what fits must not depend on where the log is.
        self.check_sizes(
            messages,
            &Condition {
                after: Some(u64::MAX),
                previous: ids.last().map(String::as_str),
                id: ids.last().map(String::as_str),
            },
        )?;
        let mut done = 0;
        let mut tries = 0;
        while let Some(rest) = messages.get(done..).filter(|rest| !rest.is_empty()) {
            let expected = after + done as u64;
            let (stored, failure) = self
                .pipeline(&self.names.events, rest, in_flight, |at| Condition {
                    after: Some(expected + at as u64),
                    // What is before the first is known by its sequence, and nothing of this is in flight then.
                    previous: at.checked_sub(1).and_then(|before| id(done + before)),
                    id: id(done + at),
                })
                .await;
            done += stored;
            let Some(failure) = failure else { continue };
            if stored > 0 {
                tries = 0;
            }
            let failure = match failure {
                PublishFailure::Refused(error) => return Err(error),
                failure => failure,
            };
            // Either somebody else wrote, or this did and the acknowledgement was lost: look. How long the log is
            // comes first, since what is on its way may arrive between the two questions.
            let last = self.stream_last_seq(&self.names.events).await?;
            let found = self.read_back(messages, done, after).await?;
            if found == 0 && last != after + done as u64 {
                let expected = after + done as u64;
                return Err(BrokerError::Conflict { expected });
            }
            done += found;
            let expected = after + done as u64;
            tries = if found > 0 { 0 } else { tries + 1 };
            if tries >= TRIES {
                return Err(failure.into_error(expected));
            }
            metrics::retried("append");
        }
        let bytes = messages.iter().map(|message| message.payload.len()).sum();
        metrics::appended(messages.len(), bytes, started);
        Ok(after + messages.len() as u64)
    }

    /// Whether the log may be told which message is its last: not where it is replicated.
    async fn may_chain(&self, appending: &mut Appending) -> Result<bool> {
        let known = appending.known.filter(|(since, _)| since.elapsed() < KNOWN);
        if let Some((_, single)) = known {
            return Ok(single);
        }
        let single = self.stream_replicas(&self.names.events).await? == 1;
        appending.known = Some((Instant::now(), single));
        Ok(single)
    }

    /// How many of the messages from `done` on are in the log where they belong.
    async fn read_back(&self, messages: &[Message], done: usize, after: u64) -> Result<usize> {
        let mut found = 0;
        for message in messages.get(done..).unwrap_or_default() {
            let seq = after + (done + found) as u64 + 1;
            let which = json!({ "seq": seq });
            match self.stored(&self.names.events, &which).await? {
                Some(stored)
                    if stored.entry.subject == message.subject
                        && stored.entry.payload == message.payload =>
                {
                    tracing::debug!(seq, "a lost acknowledgement is settled");
                    metrics::read_back();
                    found += 1;
                }
                // Whose it is shows at the first place that differs, if that is the next one to write.
                _ => break,
            }
        }
        Ok(found)
    }

    /// Publishes in order, with a bounded number in flight. Returns how many were acknowledged before the first
    /// failure.
    async fn pipeline<'a>(
        &self,
        stream: &str,
        messages: &[Message],
        in_flight: usize,
        condition: impl Fn(usize) -> Condition<'a>,
    ) -> (usize, Option<PublishFailure>) {
        let mut guard = self.connection.denials.guard();
        let mut flying: VecDeque<(PublishAckFuture, usize)> = VecDeque::new();
        let mut bytes = 0;
        let mut done = 0;
        let mut next = 0;
        let mut unsent = None;
        while done < messages.len() {
            let sendable = messages.get(next).filter(|message| {
                unsent.is_none()
                    && flying.len() < in_flight
                    && (flying.is_empty() || bytes + message.payload.len() <= BYTES_IN_FLIGHT)
            });
            if let Some(message) = sendable {
                let publish = PublishMessage::build()
                    .payload(message.payload.clone())
                    .headers(condition(next).headers(message));
                let sent = self.context.send_publish(message.subject.clone(), publish);
                match sent.await {
                    Ok(ack) => {
                        bytes += message.payload.len();
                        flying.push_back((ack, next));
                        next += 1;
                    }
                    Err(error) => unsent = Some(error::stream_publish(stream, self.wait, &error)),
                }
                continue;
            }
            let Some((ack, at)) = flying.pop_front() else {
                return (done, unsent);
            };
            let (subject, size) = messages
                .get(at)
                .map_or(("", 0), |message| (&message.subject, message.payload.len()));
            if let Err(failure) = self
                .acknowledged(stream, &mut guard, subject, ack, &condition(at))
                .await
            {
                return (done, Some(failure));
            }
            bytes -= size;
            done += 1;
        }
        (done, None)
    }

    async fn acknowledged(
        &self,
        stream: &str,
        guard: &mut Guard,
        subject: &str,
        ack: PublishAckFuture,
        condition: &Condition<'_>,
    ) -> Result<(), PublishFailure> {
        let ack = guard
            .race(subject, ack.into_future())
            .await
            .map_err(PublishFailure::Refused)?
            .map_err(|error| error::stream_publish(stream, self.wait, &error))?;
        match condition.after {
            Some(seq) if ack.sequence != seq + 1 => Err(PublishFailure::WrongSequence),
            _ => Ok(()),
        }
    }

    pub(super) async fn offer(&self, chunks: &[Message]) -> Result<()> {
        let ids = self.fresh_ids(chunks.len());
        self.check_sizes(
            chunks,
            &Condition {
                id: ids.last().map(String::as_str),
                ..Condition::default()
            },
        )?;
        let mut done = 0;
        let mut tries = 0;
        while let Some(rest) = chunks.get(done..).filter(|rest| !rest.is_empty()) {
            let (stored, failure) = self
                .pipeline(&self.names.work, rest, MESSAGES_IN_FLIGHT, |at| Condition {
                    id: ids.get(done + at).map(String::as_str),
                    ..Condition::default()
                })
                .await;
            done += stored;
            tries = if stored > 0 { 0 } else { tries + 1 };
            match failure {
                None => {}
                Some(PublishFailure::Unknown(_)) if tries < TRIES => metrics::retried("offer"),
                Some(failure) => return Err(failure.into_error(0)),
            }
        }
        metrics::offered(chunks.len());
        Ok(())
    }

    pub(super) async fn submit(&self, message: &Message, id: Option<String>) -> Result<()> {
        // A message of its own still needs an id, or a repeated try would store it twice.
        let id = id.unwrap_or_else(|| self.fresh_id());
        let condition = Condition {
            id: Some(&id),
            ..Condition::default()
        };
        self.check_sizes(std::slice::from_ref(message), &condition)?;
        let end = Instant::now() + SUBMIT_BOUND;
        let mut tries = 0;
        loop {
            tries += 1;
            let wait = SUBMIT_WAIT.min(end.saturating_duration_since(Instant::now()));
            let failure = match time::timeout(wait, self.submit_once(message, &condition)).await {
                Ok(Ok(())) => {
                    metrics::submitted();
                    return Ok(());
                }
                Ok(Err(failure)) => failure,
                Err(_) => PublishFailure::Unknown(BrokerError::Timeout(wait)),
            };
            let error = match failure {
                // The stream may be about to come: it is being made, or it has no leader for a moment.
                PublishFailure::Refused(error @ BrokerError::Missing(_))
                | PublishFailure::Unknown(error) => error,
                failure => return Err(failure.into_error(0)),
            };
            let pause = Duration::from_millis(100 << tries);
            if tries >= SUBMIT_TRIES || Instant::now() + pause >= end {
                return Err(error);
            }
            metrics::retried("submit");
            time::sleep(pause).await;
        }
    }

    async fn submit_once(
        &self,
        message: &Message,
        condition: &Condition<'_>,
    ) -> Result<(), PublishFailure> {
        let stream = &self.names.inbox;
        let mut guard = self.connection.denials.guard();
        let publish = PublishMessage::build()
            .payload(message.payload.clone())
            .headers(condition.headers(message));
        let ack = self
            .context
            .send_publish(message.subject.clone(), publish)
            .await
            .map_err(|error| error::stream_publish(stream, self.wait, &error))?;
        self.acknowledged(stream, &mut guard, &message.subject, ack, condition)
            .await
    }

    /// Ids that nobody else has, of which the last is the longest.
    fn fresh_ids(&self, count: usize) -> Vec<String> {
        let base = self.fresh_id();
        (0..count).map(|at| format!("{base}.{at}")).collect()
    }

    /// An id that nobody else has.
    pub(super) fn fresh_id(&self) -> String {
        let inbox = self.connection.client.new_inbox();
        inbox.rsplit('.').next().unwrap_or_default().to_owned()
    }
}
