//! Answering questions.

mod credits;
mod time;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use redrive_broker::{Broker, Request, ServiceSpec};
use redrive_domain::{
    command::Refusal,
    diagnosis::{Diagnosis, diagnose},
    ids::{BatchId, BatchKey, Namespace},
    query::{
        At, BatchRef, BatchSummary, BatchView, ListBatches, OfBatch, Page, Query, ReadState,
        StatePiece,
    },
    state::BatchState,
    subject,
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    answer::{Encoded, Failed, address, encode, limit, question},
    details::{Details, Live},
    lru::Lru,
    metrics,
    rows::{self, bad_cursor, hex},
    shared::{Found, Shared},
};

/// Questions that are being answered at once.
const ANSWERING: usize = 64;
/// Questions that are being answered or wait for the log; more of them wait at the broker.
const ASKED: usize = 1_024;
/// The wait before serving again where the broker stopped.
const AGAIN: Duration = Duration::from_millis(200);
/// How long questions that were asked before a shutdown have for their answers.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Batches as they were that are kept.
const PAST: usize = 8;
/// Bytes of a state in one answer.
const PIECE: usize = 256 * 1024;

/// The bytes of states, each by the epoch, the batch and the sequence that it is of.
type States = Lru<(u64, BatchKey, u64), Arc<Vec<u8>>>;

/// What answers questions.
pub(crate) struct Server<B> {
    broker: B,
    shared: Arc<Shared>,
    details: Details<Live<B>>,
    /// The bytes of states that are being read piece by piece.
    states: Mutex<States>,
    /// Batches as they were, so that the pages of one question are not each folded afresh.
    past: Mutex<Lru<(u64, BatchKey, u64), Arc<BatchState>>>,
    answering: Semaphore,
    config: Config,
}

impl<B: Broker> Server<B> {
    pub(crate) fn new(broker: B, shared: Arc<Shared>, config: Config) -> Self {
        Self {
            details: Details::new(
                Live {
                    broker: broker.clone(),
                    shared: Arc::clone(&shared),
                },
                config.cache_bytes,
            ),
            states: Mutex::new(Lru::new(config.cache_bytes)),
            past: Mutex::new(Lru::new(PAST)),
            answering: Semaphore::new(ANSWERING),
            broker,
            shared,
            config,
        }
    }

    /// Serves until the shutdown; tells `ready` when it begins to.
    pub(crate) async fn run(
        self: Arc<Self>,
        ready: oneshot::Sender<()>,
        shutdown: CancellationToken,
    ) {
        let mut ready = Some(ready);
        // What is left of them when this is dropped is aborted.
        let mut answers = JoinSet::new();
        while !shutdown.is_cancelled() {
            let spec = ServiceSpec {
                name: "redrive-projector".into(),
                description: "Answers queries about batches".into(),
                subject: subject::QUERIES.into(),
                queue: "projector".into(),
            };
            match self.broker.serve(spec).await {
                Ok(mut requests) => {
                    self.config
                        .vitals
                        .send_modify(|vitals| vitals.serving = true);
                    if let Some(ready) = ready.take() {
                        ready.send(()).ok();
                    }
                    loop {
                        let room = answers.len() < ASKED;
                        tokio::select! {
                            biased;
                            () = shutdown.cancelled() => break,
                            Some(_) = answers.join_next(), if !answers.is_empty() => {}
                            request = requests.next(), if room => match request {
                                Some(request) => {
                                    answers.spawn(Arc::clone(&self).reply(request));
                                }
                                None => break,
                            }
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "queries cannot be served: trying again"),
            }
            self.config
                .vitals
                .send_modify(|vitals| vitals.serving = false);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = sleep(AGAIN) => {}
            }
        }
        let rest = async { while answers.join_next().await.is_some() {} };
        timeout(LAST_ANSWERS, rest).await.ok();
    }

    async fn reply(self: Arc<Self>, request: Request) {
        let begun = Instant::now();
        let (name, encoded) = match address(&request.subject) {
            Ok((namespace, name)) => (name, self.answer(&namespace, name, &request.payload).await),
            Err(refusal) => ("none", encode::<()>(Err(refusal.into()))),
        };
        metrics::query(name, encoded.code(), begun.elapsed());
        let Encoded { body, error } = encoded;
        if let Err(error) = request.reply.send(body, error).await {
            tracing::debug!(%error, query = name, "an answer could not be sent");
        }
    }

    async fn answer(&self, namespace: &Namespace, name: &'static str, payload: &Bytes) -> Encoded {
        let query = match question(name, payload) {
            Ok(query) => query,
            Err(refusal) => return encode::<()>(Err(refusal.into())),
        };
        let answered = self.query(namespace, query).await;
        if let Some((code, message)) = &answered.error {
            tracing::debug!(%namespace, query = name, code, message, "a query was refused");
        }
        answered
    }

    async fn query(&self, namespace: &Namespace, query: Query) -> Encoded {
        match query {
            Query::Batches(ask) => encode(self.batches(namespace, &ask).await),
            Query::Status(ask) => encode(self.status(namespace, &ask).await),
            Query::Failures(ask) => encode(self.failures(namespace, &ask).await),
            Query::Results(ask) => encode(self.results(namespace, &ask).await),
            Query::Documents(ask) => encode(self.documents(namespace, &ask).await),
            Query::State(ask) => encode(self.state(namespace, &ask).await),
            Query::Diff(ask) => encode(self.diff(namespace, &ask).await),
            Query::Timeline(ask) => encode(self.timeline(namespace, &ask).await),
            Query::Credits(ask) => encode(self.credits(namespace, &ask).await),
            Query::Diagnose(ask) => encode(self.diagnose(namespace, &ask).await),
        }
    }

    /// Waits for what the answer has to include, and for its turn.
    async fn turn(&self, min_seq: Option<u64>) -> Result<(u64, impl Drop + '_), Failed> {
        let need = match min_seq {
            Some(seq) => seq,
            None => self.broker.last_seq().await.map_err(|error| {
                Failed::Unavailable(format!(
                    "how far the log goes is not known ({error}): ask again"
                ))
            })?,
        };
        self.shared.wait_for(need, self.config.wait).await?;
        let permit =
            self.answering.acquire().await.map_err(|_| {
                Failed::Unavailable("the projector is shutting down: ask again".into())
            })?;
        Ok((need, permit))
    }

    /// The batch that is meant. A batch of another namespace is not there.
    async fn find(
        &self,
        namespace: &Namespace,
        batch: BatchRef,
        at: Option<At>,
        need: u64,
    ) -> Result<Found<Arc<BatchState>>, Failed> {
        let nothing = || Refusal::NotFound {
            what: format!("batch in namespace {namespace} yet"),
        };
        let batch: BatchId = match batch {
            BatchRef::Id(id) => id,
            BatchRef::Last => self
                .shared
                .last(namespace, need)
                .await?
                .ok_or_else(nothing)?,
        };
        let key = BatchKey {
            namespace: namespace.clone(),
            batch,
        };
        let Found { what, as_of } = self.shared.batch(&key, need).await?;
        let what = what.ok_or_else(|| Refusal::no_batch(&key))?;
        match at {
            Some(at) => self.as_it_was(&what, at, as_of).await,
            None => Ok(Found { what, as_of }),
        }
    }

    /// A batch as of a moment at which it was there.
    async fn as_it_was(
        &self,
        now: &Arc<BatchState>,
        at: At,
        as_of: u64,
    ) -> Result<Found<Arc<BatchState>>, Failed> {
        let Found { what, as_of } = self.moment(now, at, as_of, "at").await?;
        let what = what.ok_or_else(|| Refusal::NotFound {
            what: format!("batch {} at {at}: it was made later", now.key.batch),
        })?;
        Ok(Found { what, as_of })
    }

    async fn batches(
        &self,
        namespace: &Namespace,
        ask: &ListBatches,
    ) -> Result<Page<BatchSummary>, Failed> {
        let limit = limit(ask.limit)?;
        let cursor = |text: &String| text.parse().map_err(|_| bad_cursor(text));
        let before: Option<u64> = ask.after.as_ref().map(cursor).transpose()?;
        let (need, _turn) = self.turn(ask.min_seq).await?;
        if let Some(at) = ask.at {
            return self
                .batches_at(namespace, ask, at, (before, limit), need)
                .await;
        }
        let (bucket, status) = (ask.bucket.clone(), ask.status);
        let wanted = move |summary: &BatchSummary| {
            bucket
                .as_ref()
                .is_none_or(|bucket| *bucket == summary.bucket)
                && status.is_none_or(|status| status == summary.status)
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let Found { what, as_of } = self
            .shared
            .list(namespace, need, before, limit, wanted)
            .await?;
        Ok(Page {
            items: what.items,
            next: what.next.map(|seq| seq.to_string()),
            as_of,
        })
    }

    async fn status(&self, namespace: &Namespace, ask: &OfBatch) -> Result<BatchView, Failed> {
        let (need, _turn) = self.turn(ask.min_seq).await?;
        let Found { what, as_of } = self.find(namespace, ask.batch, ask.at, need).await?;
        // What waited then is told as of then.
        let now = ask
            .at
            .map_or_else(|| self.config.clock.now(), |_| what.last_at);
        let mut view = BatchView::of(&what, now);
        view.as_of = as_of;
        Ok(view)
    }

    async fn diagnose(&self, namespace: &Namespace, ask: &OfBatch) -> Result<Diagnosis, Failed> {
        let (need, _turn) = self.turn(ask.min_seq).await?;
        let Found { what, as_of } = self.find(namespace, ask.batch, ask.at, need).await?;
        let now = ask
            .at
            .map_or_else(|| self.config.clock.now(), |_| what.last_at);
        let mut diagnosis = diagnose(&what, now);
        diagnosis.as_of = as_of;
        diagnosis.failed_documents_sample =
            rows::first_failed(&self.details, self.max_payload(), &what, as_of).await?;
        Ok(diagnosis)
    }

    async fn failures(
        &self,
        namespace: &Namespace,
        ask: &redrive_domain::query::ListFailures,
    ) -> Result<Page<redrive_domain::query::FailureRow>, Failed> {
        let limit = limit(ask.limit)?;
        let (need, _turn) = self.turn(ask.min_seq).await?;
        let Found { what, as_of } = self.find(namespace, ask.batch, ask.at, need).await?;
        rows::failures(&self.details, self.max_payload(), &what, as_of, ask, limit).await
    }

    async fn results(
        &self,
        namespace: &Namespace,
        ask: &redrive_domain::query::ListResults,
    ) -> Result<Page<redrive_domain::query::ResultRow>, Failed> {
        let limit = limit(ask.limit)?;
        let (need, _turn) = self.turn(ask.min_seq).await?;
        let Found { what, as_of } = self.find(namespace, ask.batch, ask.at, need).await?;
        rows::results(&self.details, self.max_payload(), &what, as_of, ask, limit).await
    }

    async fn documents(
        &self,
        namespace: &Namespace,
        ask: &redrive_domain::query::ListDocuments,
    ) -> Result<Page<redrive_domain::query::DocumentRow>, Failed> {
        let limit = limit(ask.limit)?;
        let (need, _turn) = self.turn(ask.min_seq).await?;
        let Found { what, as_of } = self.find(namespace, ask.batch, ask.at, need).await?;
        rows::documents(&self.details, self.max_payload(), &what, as_of, ask, limit).await
    }

    async fn state(&self, namespace: &Namespace, ask: &ReadState) -> Result<StatePiece, Failed> {
        let (need, _turn) = self.turn(ask.min_seq).await?;
        let Found { what, .. } = self.find(namespace, ask.batch, ask.at, need).await?;
        let bytes = self.bytes_of(&what)?;
        let offset = usize::try_from(ask.offset).unwrap_or(usize::MAX);
        if offset > bytes.len() {
            let message = format!("is {offset}: the state has {} bytes", bytes.len());
            return Err(Refusal::invalid("offset", message).into());
        }
        // In base 16 a piece takes twice its size, and has to fit in a message.
        let most = PIECE.min(self.max_payload() / 4).max(1);
        let end = bytes.len().min(offset + most);
        Ok(StatePiece {
            batch: what.key.batch,
            last_seq: what.last_seq,
            total: bytes.len() as u64,
            hex: hex(&bytes[offset..end]),
        })
    }

    fn bytes_of(&self, state: &BatchState) -> Result<Arc<Vec<u8>>, Failed> {
        let key = (self.shared.read().epoch, state.key.clone(), state.last_seq);
        let states = || self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = states().get(&key) {
            return Ok(bytes);
        }
        let encoded = state.encode().map_err(|error| {
            Failed::Unavailable(format!("the state cannot be written: {error}"))
        })?;
        let bytes = Arc::new(encoded);
        states().put(key, Arc::clone(&bytes), bytes.len());
        Ok(bytes)
    }

    fn max_payload(&self) -> usize {
        self.broker.info().max_payload
    }
}
