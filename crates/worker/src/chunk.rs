//! One chunk's life: its units run, what becomes of them is reported, and only then is it acknowledged.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use redrive_broker::{Broker, Delivery, Message, Result as BrokerResult};
use redrive_domain::{
    subject,
    units::UnitSet,
    work::{Chunk, Outcome},
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument;

use crate::{
    attempt::{Bounds, End, Finished, attempt},
    flights::Flight,
    handler::{Context, Done, Handler},
    inputs::{Plan, Ready},
    metrics::{self, HandlerMetrics},
    report::{Reports, Sizes},
    runner::Shared,
    slots::Slot,
};

/// How often the broker is told that a chunk is still being dealt with; it waits 30 seconds.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
/// How often a long chunk reports what it has.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Reports on their way at once; with more, no further units are started.
const REPORTS_AT_ONCE: usize = 4;
/// How long a chunk that could not be reported keeps its slot, so that it does not come back at once.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The most units of a chunk that can be meant.
const UNITS_AT_MOST: u64 = 1 << 24;

/// Deals with a chunk that was delivered.
pub(crate) async fn run<B: Broker>(
    shared: Arc<Shared<B>>,
    handler: Arc<dyn Handler>,
    metrics: HandlerMetrics,
    delivery: Delivery,
    slot: Slot,
) {
    let chunk = match decode(&delivery.payload) {
        Ok(chunk) => Arc::new(chunk),
        Err(why) => {
            tracing::error!(subject = %delivery.subject, delivered = delivery.delivered, why, "a chunk that cannot be read is thrown away");
            metrics.chunk("poison");
            if let Err(error) = delivery.receipt.ack().await {
                metrics::broker_error("ack");
                tracing::warn!(%error, "the broker was not told that a chunk is thrown away");
            }
            return;
        }
    };
    let span = tracing::info_span!(
        "chunk", chunk = %chunk.id, batch = %chunk.key(), tier = %chunk.tier, job = %chunk.job,
        attempt = chunk.attempt, delivered = delivery.delivered, trace = chunk.trace,
    );
    execute(shared, handler, metrics, delivery, slot, chunk)
        .instrument(span)
        .await;
}

fn decode(payload: &[u8]) -> Result<Chunk, String> {
    let chunk: Chunk = rmp_serde::from_slice(payload).map_err(|e| e.to_string())?;
    match chunk.units.len() {
        units if units > UNITS_AT_MOST => Err(format!("it names {units} units")),
        _ => Ok(chunk),
    }
}

async fn execute<B: Broker>(
    shared: Arc<Shared<B>>,
    handler: Arc<dyn Handler>,
    metrics: HandlerMetrics,
    delivery: Delivery,
    slot: Slot,
    chunk: Arc<Chunk>,
) {
    let begun = Instant::now();
    metrics.begin();
    let _ended = scopeguard(&metrics);
    let receipt: Arc<dyn redrive_broker::Receipt> = delivery.receipt.into();
    let _extending = AbortOnDropHandle::new(tokio::spawn({
        let receipt = receipt.clone();
        async move {
            loop {
                sleep(EXTEND_EVERY).await;
                if let Err(error) = receipt.extend().await {
                    metrics::broker_error("extend");
                    tracing::debug!(%error, "the broker was not told that a chunk takes longer");
                }
            }
        }
        .in_current_span()
    }));
    let trace = chunk.trace.clone().or(delivery.trace);
    let mut execution = Execution::new(&shared, handler, &metrics, chunk.clone(), trace, slot);
    execution.drive().await;
    let took = begun.elapsed();
    let (result, answer) = match execution.leaving {
        Leaving::Broken => ("kept", receipt.give_back().await),
        Leaving::Stopped => ("stopped", receipt.ack().await),
        Leaving::No | Leaving::Forced => ("done", receipt.ack().await),
    };
    if let Err(error) = answer {
        metrics::broker_error("ack");
        tracing::warn!(%error, "the broker was not told how the chunk ended; it will come again");
    }
    metrics.chunk(result);
    tracing::debug!(units = chunk.units.len(), ?took, result, "chunk ended");
    if execution.leaving == Leaving::Broken {
        tokio::select! {
            () = shared.drain.cancelled() => {}
            () = sleep(AFTER_FAILURE) => {}
        }
    }
}

/// Ends the count of a chunk in flight, however it ends.
fn scopeguard(metrics: &HandlerMetrics) -> impl Drop + use<> {
    struct Guard(HandlerMetrics);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.end();
        }
    }
    Guard(metrics.clone())
}

/// Why no further units are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// The chunk is no longer wanted.
    Stopped,
    /// The worker is leaving and cannot wait any longer.
    Forced,
    /// A report could not be handed over.
    Broken,
}

type Attempt = Pin<Box<dyn Future<Output = Finished> + Send>>;

struct Execution<'a, B: Broker> {
    shared: &'a Arc<Shared<B>>,
    metrics: &'a HandlerMetrics,
    handler: Arc<dyn Handler>,
    chunk: Arc<Chunk>,
    trace: Option<String>,
    flight: Flight,
    template: Context,
    bounds: Bounds,
    plan: Arc<Plan>,
    /// Units that are still to come; `None` once there are none.
    source: Option<BoxStream<'static, Vec<Ready>>>,
    ready: VecDeque<Ready>,
    /// How many units have been taken out of `ready`.
    begun: usize,
    running: FuturesUnordered<Attempt>,
    slots: Vec<Slot>,
    another: Option<BoxFuture<'static, Option<Slot>>>,
    reports: Reports,
    report_at: Instant,
    reported: u64,
    submits: FuturesUnordered<BoxFuture<'static, (UnitSet, BrokerResult<()>)>>,
    leaving: Leaving,
    draining: bool,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    completed: u64,
    skipped: u64,
    failed: u64,
    returned: u64,
    stopped: u64,
    /// Units that were done when first looked at, and their time together.
    instant: u32,
    instant_time: Duration,
}

impl<'a, B: Broker> Execution<'a, B> {
    fn new(
        shared: &'a Arc<Shared<B>>,
        handler: Arc<dyn Handler>,
        metrics: &'a HandlerMetrics,
        chunk: Arc<Chunk>,
        trace: Option<String>,
        slot: Slot,
    ) -> Self {
        let flight = shared.flights.begin(&chunk);
        let plan = Arc::new(Plan::new(&chunk));
        let sizes = Sizes::new(shared.broker.info().max_payload);
        let template = Context {
            namespace: chunk.namespace.clone(),
            bucket: chunk.bucket.clone(),
            batch: chunk.batch,
            tier: chunk.tier,
            job: chunk.job.clone(),
            params: Arc::new(chunk.params.clone()),
            attempt: chunk.attempt,
            deadline: Instant::now(),
            memory_bytes: chunk.memory_bytes,
            max_output_bytes: chunk.max_output_bytes,
            cancelled: CancellationToken::new(),
            alive: flight.alive().clone(),
        };
        Self {
            source: Some(plan.ready(&shared.reader)),
            bounds: Bounds {
                timeout: chunk.timeout,
                grace: shared.config.stop_grace,
                room: sizes.room,
            },
            reports: Reports::new(chunk.clone(), shared.config.id.clone(), sizes),
            shared,
            metrics,
            handler,
            chunk,
            trace,
            flight,
            template,
            plan,
            ready: VecDeque::new(),
            begun: 0,
            running: FuturesUnordered::new(),
            slots: vec![slot],
            another: None,
            report_at: Instant::now() + REPORT_EVERY,
            reported: 0,
            submits: FuturesUnordered::new(),
            leaving: Leaving::No,
            draining: false,
            counts: Counts::default(),
        }
    }

    async fn drive(&mut self) {
        let stop = self.flight.stop().clone();
        let (drain, force) = (self.shared.drain.clone(), self.shared.force.clone());
        loop {
            self.start(&stop, &drain).await;
            self.submit_closed();
            if self.running.is_empty() && self.ready.is_empty() && self.source.is_none() {
                break;
            }
            self.settle_slots();
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.leaving == Leaving::No => self.leave(Leaving::Stopped),
                () = force.cancelled(), if self.leaving == Leaving::No => self.leave(Leaving::Forced),
                () = drain.cancelled(), if !self.draining => self.drain(),
                Some((units, result)) = self.submits.next() => self.submitted(&units, result),
                Some(finished) = self.running.next() => {
                    let took = finished.started.elapsed();
                    self.metrics.unit_took(took);
                    self.finish(finished, took);
                }
                slice = next_slice(&mut self.source), if self.ready.is_empty() && self.source.is_some() => {
                    match slice {
                        Some(slice) => self.ready = slice.into(),
                        None => self.source = None,
                    }
                }
                slot = acquired(&mut self.another), if self.another.is_some() => {
                    self.another = None;
                    self.slots.extend(slot);
                }
                () = sleep_until(self.report_at), if !self.reports.is_empty() => self.report(),
            }
        }
        self.slots.truncate(1);
        self.report();
        while let Some((units, result)) = self.submits.next().await {
            self.submitted(&units, result);
        }
        self.count();
    }

    /// Starts units while there are slots. One that is done at once costs no task and no timer.
    async fn start(&mut self, stop: &CancellationToken, drain: &CancellationToken) {
        let mut at = Instant::now();
        while self.leaving == Leaving::No
            && self.running.len() < self.slots.len()
            && self.submits.len() < REPORTS_AT_ONCE
            && !stop.is_cancelled()
            && (self.draining || !drain.is_cancelled())
        {
            let Some(next) = self.ready.pop_front() else {
                break;
            };
            self.begun += 1;
            match next {
                Err((unit, failure)) => {
                    self.counts.failed += 1;
                    self.reports.failed(unit, failure);
                }
                Ok(unit) => {
                    let ctx = Context {
                        deadline: at + self.chunk.timeout.into(),
                        cancelled: stop.child_token(),
                        ..self.template.clone()
                    };
                    let (handler, stop) = (self.handler.clone(), stop.clone());
                    let mut attempt: Attempt =
                        Box::pin(attempt(handler, unit, ctx, stop, at, self.bounds));
                    match futures::poll!(&mut attempt) {
                        std::task::Poll::Ready(finished) => {
                            let end = Instant::now();
                            let took = end - at;
                            at = end;
                            self.counts.instant += 1;
                            self.counts.instant_time += took;
                            self.finish(finished, took);
                        }
                        std::task::Poll::Pending => {
                            self.running.push(attempt);
                            at = Instant::now();
                        }
                    }
                }
            }
            if at >= self.report_at {
                self.report();
            }
            self.submit_closed();
            tokio::task::coop::consume_budget().await;
        }
    }

    fn finish(&mut self, finished: Finished, took: Duration) {
        let Finished { unit, end, .. } = finished;
        match end {
            _ if matches!(self.leaving, Leaving::Stopped | Leaving::Broken) => {
                self.counts.stopped += 1;
                return;
            }
            End::Answered(Ok(Done::Completed(output))) => {
                self.counts.completed += 1;
                self.reports.completed(unit, output);
            }
            End::Answered(Ok(Done::Skipped)) => {
                self.counts.skipped += 1;
                self.reports.skipped(unit);
            }
            End::Answered(Err(failure)) => {
                self.counts.failed += 1;
                self.reports.failed(unit, failure);
            }
            End::Abandoned if self.leaving == Leaving::Forced => {
                self.counts.returned += 1;
                self.reports.returned(&UnitSet::from([unit]));
            }
            // The chunk was stopped just now.
            End::Abandoned => {
                self.counts.stopped += 1;
                return;
            }
        }
        self.reports.busy(took);
    }

    /// Starts nothing any more, and ends what runs.
    fn leave(&mut self, why: Leaving) {
        tracing::debug!(?why, running = self.running.len(), "leaving the chunk");
        self.leaving = why;
        if why == Leaving::Forced {
            self.drain();
        }
        self.source = None;
        self.ready.clear();
        self.flight.stop().cancel();
    }

    /// Gives back what was not begun; what runs may go on.
    fn drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        let rest = self.plan.rest(self.begun);
        if !rest.is_empty() && self.leaving != Leaving::Stopped {
            tracing::debug!(units = rest.len(), "giving back what was not begun");
            self.counts.returned += rest.len();
            self.reports.returned(&rest);
            self.report();
        }
        self.source = None;
        self.ready.clear();
    }

    /// Takes one more slot where one would be of use, and gives up those that are of none.
    fn settle_slots(&mut self) {
        let busy = self.running.len();
        let more = !self.ready.is_empty() && self.leaving == Leaving::No;
        if !more && self.source.is_none() {
            self.slots.truncate(busy.max(1));
        } else if self.slots.len() > busy.max(1) && self.shared.slots.wanted() {
            self.slots.pop();
        }
        if !more || busy < self.slots.len() {
            self.another = None;
        } else if self.another.is_none() {
            let slots = self.shared.slots.clone();
            self.another = Some(async move { slots.acquire().await }.boxed());
        }
    }

    fn report(&mut self) {
        self.reports.close();
        self.submit_closed();
        self.report_at = Instant::now() + REPORT_EVERY;
    }

    fn submit_closed(&mut self) {
        for outcome in self.reports.take() {
            self.submit(&outcome);
        }
    }

    fn submit(&mut self, outcome: &Outcome) {
        let shared = self.shared;
        let payload = match rmp_serde::to_vec_named(outcome) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::error!(%error, "an outcome has no encoding");
                return self.leave(Leaving::Broken);
            }
        };
        self.metrics.reported(payload.len());
        let message = Message {
            subject: subject::outcome(shared.config.shard, &outcome.key()),
            payload: payload.into(),
            trace: self.trace.clone(),
        };
        // The same chunk may come to this worker again, and what it reports then is another report.
        let id = format!(
            "{}.{}.{:x}-{}.{}",
            self.flight.chunk(),
            shared.config.id,
            shared.started_at.0,
            self.flight.number,
            self.reported
        );
        self.reported += 1;
        let (broker, units) = (shared.broker.clone(), outcome.units());
        self.submits
            .push(async move { (units, broker.submit(message, Some(id)).await) }.boxed());
    }

    fn submitted(&mut self, units: &UnitSet, result: BrokerResult<()>) {
        match result {
            Ok(()) => self.flight.reported(units),
            Err(error) => {
                metrics::broker_error("submit");
                tracing::error!(%error, units = units.len(), "an outcome was not handed over; the chunk goes back");
                self.leave(Leaving::Broken);
            }
        }
    }

    fn count(&self) {
        let counts = &self.counts;
        self.metrics.units("completed", counts.completed);
        self.metrics.units("skipped", counts.skipped);
        self.metrics.units("failed", counts.failed);
        self.metrics.units("returned", counts.returned);
        self.metrics.units("stopped", counts.stopped);
        self.metrics.units_took(counts.instant, counts.instant_time);
    }
}

async fn next_slice(source: &mut Option<BoxStream<'static, Vec<Ready>>>) -> Option<Vec<Ready>> {
    match source {
        Some(source) => source.next().await,
        None => None,
    }
}

async fn acquired(another: &mut Option<BoxFuture<'static, Option<Slot>>>) -> Option<Slot> {
    match another {
        Some(another) => another.await,
        None => None,
    }
}
