//! Handing outcomes over.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, Stream, future::BoxFuture, stream::FuturesUnordered};
use redrive_broker::{Broker, BrokerError, Message};
use redrive_domain::{subject, units::UnitSet, work::Outcome};
use tokio::time::{Duration, Instant, sleep};

use crate::{flights::Flight, metrics::HandlerMetrics, runner::Shared};

/// How long an inbox that is missing is waited for, and how long between two looks.
const MISSING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);

type Submitted = (UnitSet, Result<(), BrokerError>);

/// Outcomes of one chunk that are on their way. As a stream, those that have arrived, or did not.
pub(crate) struct Submits<B> {
    shared: Arc<Shared<B>>,
    metrics: HandlerMetrics,
    trace: Option<String>,
    id: String,
    sent: u64,
    pending: FuturesUnordered<BoxFuture<'static, Submitted>>,
}

impl<B: Broker> Submits<B> {
    pub(crate) fn new(
        shared: Arc<Shared<B>>,
        metrics: HandlerMetrics,
        trace: Option<String>,
        flight: &Flight,
    ) -> Self {
        Self {
            // The same chunk may come to this worker, or to a later one of its name, again, and what is reported then
            // is another report: the number is drawn anew for each execution.
            id: format!(
                "{}.{}.{:016x}",
                flight.chunk(),
                shared.config.id,
                shared.config.world.number()
            ),
            shared,
            metrics,
            trace,
            sent: 0,
            pending: FuturesUnordered::new(),
        }
    }

    /// How many are on their way.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Sends one.
    pub(crate) fn push(&mut self, outcome: &Outcome) -> Result<(), rmp_serde::encode::Error> {
        let payload = rmp_serde::to_vec_named(outcome)?;
        self.metrics.reported(payload.len());
        let message = Message {
            subject: subject::outcome(self.shared.config.shard, &outcome.key()),
            payload: payload.into(),
            trace: self.trace.clone(),
        };
        let id = format!("{}.{}", self.id, self.sent);
        self.sent += 1;
        let (broker, units) = (self.shared.broker.clone(), outcome.units());
        self.pending
            .push(async move { (units, hand_over(&broker, message, id).await) }.boxed());
        Ok(())
    }
}

impl<B> Stream for Submits<B>
where
    Self: Unpin,
{
    type Item = Submitted;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Submitted>> {
        Pin::new(&mut self.pending).poll_next(cx)
    }
}

/// Hands an outcome over. An inbox that is missing is the coordinator's to make, and is waited for: what has been done would
/// be done again otherwise.
async fn hand_over<B: Broker>(broker: &B, message: Message, id: String) -> Result<(), BrokerError> {
    let end = Instant::now() + MISSING;
    loop {
        match broker.submit(message.clone(), Some(id.clone())).await {
            Err(BrokerError::Missing(what)) if Instant::now() < end => {
                tracing::debug!(what, "waiting for what is missing at the broker");
                sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}
