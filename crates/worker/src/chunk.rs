//! One chunk's life: its units run, what becomes of them is reported, and only then is it acknowledged.

use std::{sync::Arc, time::Duration};

use redrive_broker::{Broker, Delivery, Receipt};
use redrive_domain::work::Chunk;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::{
    execution::{Execution, Leaving},
    handler::Handler,
    metrics::{self, HandlerMetrics},
    runner::Shared,
    slots::Slot,
};

/// How often the broker is told that a chunk is still being dealt with; it waits 30 seconds.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
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
    let _counted = metrics.begin();
    let receipt: Arc<dyn Receipt> = delivery.receipt.into();
    let extending = AbortOnDropHandle::new(tokio::spawn({
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
    execution.be_named().await;
    execution.drive().await;
    // What is given back must not be held on to.
    drop(extending);
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
            biased;
            () = shared.drain.cancelled() => {}
            () = sleep(AFTER_FAILURE) => {}
        }
    }
}
