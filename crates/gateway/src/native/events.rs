//! Events as they happen, as server-sent events (the HTML standard, "Server-sent events"). The id of each is its log
//! sequence, so that whoever comes back with `Last-Event-ID` misses none and gets none twice, from whichever gateway.
//!
//! What is told of an event is what `redrive export --redact` keeps of it, without the lists of documents and outputs:
//! those are read where they are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderName, HeaderValue, request::Parts},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{StreamExt, stream::BoxStream};
use redrive_broker::{Broker, Entry, Range};
use redrive_client::ClientError;
use redrive_domain::{
    event::{self, Envelope},
    export::redacted,
    ids::{BatchKey, Namespace},
    packed::Packed,
    query::BatchRef,
    subject,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Shared,
    caller::{Caller, Reader},
    extract::{Params, Path},
    native::error::ErrorResponse,
    problem::Problem,
};

/// Streams that one gateway serves at once. Each may have two requests for 8 MiB of the log under way.
const STREAMS: usize = 128;
/// Streams of one namespace.
const OF_NAMESPACE: usize = 32;
/// When to ask again where there are too many.
const AGAIN: Duration = Duration::from_secs(5);
/// Events that wait for a reader.
const AHEAD: usize = 16;
/// A reader that takes nothing for so long is let go. It can come back where it was.
const STALLED: Duration = Duration::from_secs(60);
/// How often something is sent where nothing happens, so that whatever lies between does not take it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a client is to come back after the stream ended.
const COME_BACK: Duration = Duration::from_secs(1);
/// Longest type that can be asked for, in bytes.
const TYPE_BYTES: usize = 128;

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(of_batch))
        .routes(routes!(of_namespace))
}

/// The streams that are open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<BTreeMap<Namespace, usize>>>);

/// The place of a stream among those that are open.
struct Slot {
    streams: Streams,
    namespace: Namespace,
}

impl Streams {
    fn take(&self, namespace: &Namespace) -> Result<Slot, Problem> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let too_many = |message: String| Problem::TooMany {
            after: AGAIN,
            message,
        };
        if open.values().sum::<usize>() >= STREAMS {
            let message = format!("this gateway has {STREAMS} streams of events open, its limit");
            return Err(too_many(message));
        }
        let of_namespace = open.entry(namespace.clone()).or_default();
        if *of_namespace >= OF_NAMESPACE {
            let message = format!(
                "this gateway has {OF_NAMESPACE} streams of events open for namespace {namespace}, its limit"
            );
            return Err(too_many(message));
        }
        *of_namespace += 1;
        Ok(Slot {
            streams: self.clone(),
            namespace: namespace.clone(),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let open = &self.streams.0;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.namespace) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.namespace);
            }
        }
    }
}

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct OfEvents {
    /// Only after this log sequence. The header `Last-Event-ID` counts for more.
    after: Option<u64>,
    /// Only of this type or its subtypes, for instance `documents.failed` or `tier`.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    kind: Option<String>,
}

/// The header by which a client says what it got last.
const LAST_EVENT_ID: &str = "last-event-id";

/// What a client got last.
struct LastEventId(Option<u64>);

impl FromRequestParts<Shared> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(LAST_EVENT_ID) else {
            return Ok(Self(None));
        };
        // As the standard has it, an empty one is none.
        if value.is_empty() {
            return Ok(Self(None));
        }
        let seq = value.to_str().ok().and_then(|value| value.parse().ok());
        let seq = seq.ok_or_else(|| {
            let message = "is no log sequence: give the id of the last event that came";
            Problem::invalid("header", "Last-Event-ID", message)
        })?;
        Ok(Self(Some(seq)))
    }
}

/// The events of a batch: those that there are, then each as it happens.
#[utoipa::path(
    get, path = "/v1/batches/{batch}/events", tag = "Redrive",
    params(
        ("batch" = String, Path, description = "Its id, or `last`"), OfEvents,
        ("Last-Event-ID" = Option<u64>, Header, description = "The id of the last event that came: go on after it"),
    ),
    responses(
        (status = 200, description = "Events, each with its log sequence as its id", content_type = "text/event-stream"),
        (status = 404, description = "There is no such batch", body = ErrorResponse),
    ),
)]
async fn of_batch(
    State(gateway): State<Shared>,
    Reader(caller): Reader,
    Path(batch): Path<BatchRef>,
    last: LastEventId,
    Params(of): Params<OfEvents>,
) -> Result<Response, Problem> {
    let view = caller.view(batch).await?;
    let key = BatchKey {
        namespace: caller.namespace().clone(),
        batch: view.summary.batch,
    };
    let filter = subject::events_of_batch(gateway.config.shard, &key);
    stream(&gateway, &caller, last, of, filter, Some(0)).await
}

/// The events of all batches of the namespace, from now on, unless a place is named.
#[utoipa::path(
    get, path = "/v1/events", tag = "Redrive",
    params(
        OfEvents,
        ("Last-Event-ID" = Option<u64>, Header, description = "The id of the last event that came: go on after it"),
    ),
    responses((status = 200, description = "Events, each with its log sequence as its id", content_type = "text/event-stream")),
)]
async fn of_namespace(
    State(gateway): State<Shared>,
    Reader(caller): Reader,
    last: LastEventId,
    Params(of): Params<OfEvents>,
) -> Result<Response, Problem> {
    let filter = subject::events_of_namespace(gateway.config.shard, caller.namespace());
    stream(&gateway, &caller, last, of, filter, None).await
}

/// Begins a stream after what came last, or else after `unless_said`, or else at the end of the log.
async fn stream(
    gateway: &Shared,
    caller: &Caller,
    last: LastEventId,
    of: OfEvents,
    filter: String,
    unless_said: Option<u64>,
) -> Result<Response, Problem> {
    let kind = of.kind;
    let named = |kind: &String| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        (1..=TYPE_BYTES).contains(&kind.len()) && kind.bytes().all(plain)
    };
    if !kind.as_ref().is_none_or(named) {
        let message = "is no type of an event: documents.failed is one";
        return Err(Problem::invalid("query", "type", message));
    }
    let end = gateway.broker.last_seq().await;
    let end = end.map_err(|error| Problem::of(ClientError::from(error), "query"))?;
    let (root, field, asked) = match last.0 {
        Some(_) => ("header", "Last-Event-ID", last.0),
        None => ("query", "after", of.after),
    };
    if let Some(asked) = asked.filter(|asked| *asked > end) {
        let message = format!("is {asked}: the log ends at {end}");
        return Err(Problem::invalid(root, field, message));
    }
    let after = asked.or(unless_said).unwrap_or(end);
    let slot = gateway.streams.take(caller.namespace())?;
    let entries = gateway.broker.read(Range {
        from: after.saturating_add(1),
        until: None,
        filter: Some(filter),
    });
    let (sender, events) = mpsc::channel(AHEAD);
    tokio::spawn(pump(slot, entries, kind, sender, gateway.stop.clone()));
    // A client that loses the connection before anything happened knows from where to go on, too.
    let begin = Event::default().id(after.to_string()).retry(COME_BACK);
    let events = futures::stream::iter([begin])
        .chain(ReceiverStream::new(events))
        .map(Ok::<_, std::convert::Infallible>);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // Proxies that gather answers before they pass them on would hold events back.
    let name = HeaderName::from_static("x-accel-buffering");
    let headers = response.headers_mut();
    headers.insert(name, HeaderValue::from_static("no"));
    Ok(response)
}

/// Reads events for a stream, until its reader is gone or the gateway ends.
async fn pump(
    slot: Slot,
    mut entries: BoxStream<'static, redrive_broker::Result<Entry>>,
    kind: Option<String>,
    sender: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    loop {
        let entry = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sender.closed() => return,
            entry = entries.next() => entry,
        };
        let entry = match entry {
            Some(Ok(entry)) => entry,
            Some(Err(error)) => {
                tracing::warn!(%error, "a stream of events ends: the log cannot be read");
                return;
            }
            None => return,
        };
        let Some(told) = told(&entry, kind.as_deref()) else {
            continue;
        };
        let event = Event::default()
            .id(entry.seq.to_string())
            .data(told.to_string());
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            sent = timeout(STALLED, sender.send(event)) => match sent {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    tracing::debug!(namespace = %slot.namespace, "a reader of events took nothing and is let go");
                    return;
                }
            },
        }
    }
}

/// What is told of an event, if it is wanted.
fn told(entry: &Entry, wanted: Option<&str>) -> Option<Value> {
    // rd.evt.<shard>.<namespace>.<batch>.<type>
    let kind = entry.subject.splitn(6, '.').nth(5)?;
    let is_of = |wanted: &str| {
        kind.strip_prefix(wanted)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    // Who may look at batches need not know of keys.
    if is_of("key") || !wanted.is_none_or(is_of) {
        return None;
    }
    let shown = Envelope::decode(&entry.payload)
        .ok()
        .and_then(|mut envelope| {
            without_lists(&mut envelope);
            redacted(envelope).ok()?.shown(entry.seq, kind).ok()
        });
    Some(match shown {
        Some(mut shown) => {
            if let Some(Value::Object(fields)) = shown.get_mut("event")
                && kind == "batch.documents_added"
            {
                fields.remove("documents");
            }
            shown
        }
        // Of a later version: that it happened is told.
        None => json!({ "seq": entry.seq, "type": kind }),
    })
}

/// Leaves documents and outputs out, which makes an event small.
fn without_lists(envelope: &mut Envelope) {
    match &mut envelope.event {
        event::Event::DocumentsAdded { documents, .. } => {
            if let Ok(none) = Packed::new(&Vec::new()) {
                *documents = none;
            }
        }
        event::Event::DocumentsCompleted { outputs, .. } => *outputs = None,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::unwrap_used, clippy::panic)]
    fn there_are_only_so_many_streams_and_none_of_a_namespace_has_all() {
        let streams = Streams::default();
        let name = |n: usize| Namespace::new(format!("n{n}")).unwrap();
        let mut slots = Vec::new();
        for namespace in 0..STREAMS / OF_NAMESPACE {
            for _ in 0..OF_NAMESPACE {
                slots.push(
                    streams
                        .take(&name(namespace))
                        .unwrap_or_else(|_| panic!("full")),
                );
            }
            assert!(matches!(
                streams.take(&name(namespace)),
                Err(Problem::TooMany { .. })
            ));
        }
        assert!(matches!(
            streams.take(&name(99)),
            Err(Problem::TooMany { .. })
        ));
        slots.pop();
        assert!(streams.take(&name(99)).is_ok());
        slots.clear();
        assert!(streams.0.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_let_go() {
        let streams = Streams::default();
        let slot = streams.take(&Namespace::new("a").unwrap());
        let slot = slot.unwrap_or_else(|_| panic!("full"));
        let entry = Entry {
            seq: 1,
            subject: format!("rd.evt.0.a.{}.batch.created", uuid::Uuid::nil()),
            payload: "of a later version".into(),
        };
        let entries = futures::stream::repeat(Ok(entry)).boxed();
        let (sender, mut events) = mpsc::channel(2);
        pump(slot, entries, None, sender, CancellationToken::new()).await;
        assert!(streams.0.lock().unwrap().is_empty());
        // What was on its way is there, then the stream ends.
        assert!(events.recv().await.is_some() && events.recv().await.is_some());
        assert!(events.recv().await.is_none());
    }
}
