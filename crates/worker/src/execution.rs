//! Running the units of a chunk, as many at once as there are slots, and reporting what becomes of them.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{BoxStream, FuturesUnordered},
};
use redrive_broker::{Broker, BrokerError};
use redrive_domain::{
    failure::{Failure, FailureKind},
    time::Millis,
    units::UnitSet,
    work::Chunk,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{Bounds, End, Finished, Scope, attempt},
    flights::Flight,
    handler::{Context, Deployment, Done, Handler, Peak},
    inputs::{Plan, Ready, Slice},
    metrics::{self, Counts, HandlerMetrics},
    report::{Reports, Sizes},
    runner::Shared,
    slots::{HeldSlots, Slot},
    submit::Submits,
};

/// How often a long chunk reports what it has.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How often units that are done at once are interrupted by a look whether they are still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Reports on their way at once; with more, no further units are started.
const REPORTS_AT_ONCE: usize = 4;

/// Why no further units are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    No,
    /// The chunk is no longer wanted.
    Stopped,
    /// The worker is leaving and cannot wait any longer.
    Forced,
    /// A report could not be handed over.
    Broken,
}

type Attempt = Pin<Box<dyn Future<Output = Finished> + Send>>;

/// The units of a chunk, as they are run and reported.
pub(crate) struct Execution<'a, B: Broker> {
    shared: &'a Arc<Shared<B>>,
    metrics: &'a HandlerMetrics,
    handler: Arc<dyn Handler>,
    chunk: Arc<Chunk>,
    flight: Flight,
    template: Context,
    bounds: Bounds,
    plan: Arc<Plan>,
    /// Units that are still to come; `None` once there are none.
    source: Option<BoxStream<'static, Slice>>,
    ready: VecDeque<Ready>,
    /// How many units have been taken out of `ready`.
    begun: usize,
    spare: Option<Box<Scope>>,
    running: FuturesUnordered<Attempt>,
    slots: HeldSlots,
    reports: Reports,
    report_at: Instant,
    submits: Submits<B>,
    pub(crate) leaving: Leaving,
    draining: bool,
    counts: Counts,
}

impl<'a, B: Broker> Execution<'a, B> {
    pub(crate) fn new(
        shared: &'a Arc<Shared<B>>,
        handler: Arc<dyn Handler>,
        metrics: &'a HandlerMetrics,
        chunk: Arc<Chunk>,
        trace: Option<String>,
        slot: Slot,
    ) -> Self {
        let flight = shared.flights.begin(&chunk, &shared.config.world);
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
            num_cpus: chunk.num_cpus,
            peak_memory: Peak::default(),
            max_output_bytes: chunk.max_output_bytes,
            deployment: Deployment::of(&chunk),
            cancelled: CancellationToken::new(),
            alive: flight.alive().clone(),
            trace: trace.clone(),
        };
        Self {
            source: Some(plan.ready(&shared.reader)),
            bounds: Bounds {
                timeout: chunk.timeout,
                grace: shared.config.stop_grace,
                room: sizes.room,
                splits: chunk.splits,
            },
            reports: Reports::new(chunk.clone(), &shared.config, sizes),
            submits: Submits::new(shared.clone(), metrics.clone(), trace, &flight),
            shared,
            metrics,
            handler,
            chunk,
            flight,
            template,
            plan,
            ready: VecDeque::new(),
            begun: 0,
            spare: None,
            running: FuturesUnordered::new(),
            slots: HeldSlots::new(shared.slots.clone(), slot),
            report_at: Instant::now() + REPORT_EVERY,
            leaving: Leaving::No,
            draining: false,
            counts: Counts::default(),
        }
    }

    /// Sees to it that it is known who has the units, where they may take whoever has them down.
    pub(crate) async fn be_named(&mut self) {
        if self.chunk.strikes > 0 {
            let flights = &self.shared.flights;
            flights.be_named(&self.flight, &self.shared.broker).await;
        }
    }

    /// Deals with all units; afterwards nothing of the chunk runs, and all reports are handed over or it is broken.
    pub(crate) async fn drive(&mut self) {
        let stop = self.flight.stop().clone();
        let (drain, force) = (self.shared.drain.clone(), self.shared.force.clone());
        loop {
            self.start(&stop, &drain).await;
            self.submit_closed();
            if self.running.is_empty() && self.ready.is_empty() && self.source.is_none() {
                break;
            }
            let more = !self.ready.is_empty() && self.leaving == Leaving::No;
            let last = self.source.is_none();
            self.slots.settle(self.running.len(), more, last);
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.leaving == Leaving::No => self.leave(Leaving::Stopped),
                () = force.cancelled(), if self.leaving == Leaving::No => self.leave(Leaving::Forced),
                () = drain.cancelled(), if !self.draining => self.drain(),
                Some((units, result)) = self.submits.next() => self.submitted(&units, result),
                Some(finished) = self.running.next() => {
                    let took = finished.started.elapsed();
                    self.metrics.unit_took(took);
                    self.flight.ended(finished.unit, &self.shared.config.world);
                    self.finish(finished, took);
                    self.slots.share();
                }
                slice = next_slice(&mut self.source), if self.ready.is_empty() && self.source.is_some() => {
                    match slice {
                        Some(slice) => {
                            self.reports.loading(slice.took);
                            self.ready = slice.units.into();
                        }
                        None => self.source = None,
                    }
                }
                () = self.slots.another(), if self.slots.wants_another() => {}
                () = sleep_until(self.report_at), if !self.reports.is_empty() => self.report(),
            }
        }
        self.slots.settle(0, false, true);
        self.report();
        while let Some((units, result)) = self.submits.next().await {
            self.submitted(&units, result);
        }
        self.counts.note(self.metrics);
    }

    /// Starts units while there are slots. One that is done at once costs no task and no timer.
    async fn start(&mut self, stop: &CancellationToken, drain: &CancellationToken) {
        let mut at = Instant::now();
        let mut look_at = at;
        while self.leaving == Leaving::No
            && self.running.len() < self.slots.len()
            && self.submits.len() < REPORTS_AT_ONCE
        {
            // Asking takes as long as a handler that does next to nothing.
            if at >= look_at {
                if stop.is_cancelled() || (drain.is_cancelled() && !self.draining) {
                    break;
                }
                look_at = at + LOOK_EVERY;
            }
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
                    let ordinal = unit.ordinal;
                    let scope = self.scope(at, stop);
                    let handler = self.handler.clone();
                    let mut attempt: Attempt =
                        Box::pin(attempt(handler, unit, scope, at, self.bounds));
                    match futures::poll!(&mut attempt) {
                        std::task::Poll::Ready(finished) => {
                            let end = Instant::now();
                            let took = end - at;
                            at = end;
                            self.counts.instant += 1;
                            self.counts.instant_time += took;
                            self.spare = self.finish(finished, took);
                        }
                        std::task::Poll::Pending => {
                            self.flight.started(ordinal);
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

    /// The circumstances of the next attempt. Those of one that was done at once serve again.
    fn scope(&mut self, at: Instant, stop: &CancellationToken) -> Box<Scope> {
        let mut scope = match self.spare.take() {
            Some(spare) if !spare.ctx.cancelled.is_cancelled() => spare,
            _ => Box::new(Scope {
                ctx: Context {
                    cancelled: stop.child_token(),
                    peak_memory: Peak::default(),
                    ..self.template.clone()
                },
                stop: stop.clone(),
            }),
        };
        scope.ctx.deadline = at + self.chunk.timeout.into();
        scope
    }

    /// Notes how an attempt ended; what it had is given back where it is of no more use to it.
    fn finish(&mut self, finished: Finished, took: Duration) -> Option<Box<Scope>> {
        let Finished {
            unit, end, scope, ..
        } = finished;
        let peak = scope.ctx.peak_memory.take();
        match end {
            _ if matches!(self.leaving, Leaving::Stopped | Leaving::Broken) => {
                self.counts.stopped += 1;
                return None;
            }
            End::Answered(Ok(Done::Completed(output))) => {
                self.counts.completed += 1;
                self.reports.completed(unit, output);
                self.reports.peak_memory(peak);
            }
            End::Answered(Ok(Done::Skipped)) => {
                self.counts.skipped += 1;
                self.reports.skipped(unit);
                self.reports.peak_memory(peak);
            }
            End::Answered(Err(failure)) => {
                self.counts.failed += 1;
                let all_would = failure.kind == FailureKind::MISCONFIGURED;
                self.reports.failed(unit, failure);
                if all_would {
                    // In one report with the failure, so that the job is paused before they could come again.
                    self.drain();
                }
            }
            // It was begun, and says nothing of the document.
            End::Abandoned if self.leaving == Leaving::Forced => {
                self.counts.failed += 1;
                self.reports.failed(unit, self.preempted());
            }
            // The chunk was stopped just now.
            End::Abandoned => {
                self.counts.stopped += 1;
                return None;
            }
        }
        self.reports.busy(took);
        Some(scope)
    }

    /// The failure of what could not end before its worker had to.
    fn preempted(&self) -> Failure {
        let grace = Millis::from(self.shared.config.drain_grace).to_string();
        let grace = grace.replace(".0s", "s");
        let message = format!("the worker was told to leave, and it had not ended {grace} later");
        Failure::new(FailureKind::PREEMPTED, message)
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
        if !rest.is_empty() && matches!(self.leaving, Leaving::No | Leaving::Forced) {
            tracing::debug!(units = rest.len(), "giving back what was not begun");
            self.counts.returned += rest.len();
            self.reports.returned(&rest);
            self.report();
        }
        self.source = None;
        self.ready.clear();
    }

    fn report(&mut self) {
        self.reports.close();
        self.submit_closed();
        self.report_at = Instant::now() + REPORT_EVERY;
    }

    fn submit_closed(&mut self) {
        for outcome in self.reports.take() {
            if let Err(error) = self.submits.push(&outcome) {
                tracing::error!(%error, "an outcome has no encoding; the chunk goes back");
                self.leave(Leaving::Broken);
            }
        }
    }

    fn submitted(&mut self, units: &UnitSet, result: Result<(), BrokerError>) {
        match result {
            Ok(()) => self.flight.reported(units, &self.shared.config.world),
            Err(error) => {
                metrics::broker_error("submit");
                tracing::error!(%error, units = units.len(), "an outcome was not handed over; the chunk goes back");
                self.leave(Leaving::Broken);
            }
        }
    }
}

async fn next_slice(source: &mut Option<BoxStream<'static, Slice>>) -> Option<Slice> {
    match source {
        Some(source) => source.next().await,
        None => None,
    }
}
