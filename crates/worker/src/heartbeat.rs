//! What a worker says of itself, and what it is told.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use redrive_broker::{Broker, Message};
use redrive_domain::{
    ids::HandlerName,
    subject,
    time::Timestamp,
    work::{Heartbeat, Signal},
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    flights::Flights,
    metrics,
    runner::{Backoff, Config},
};

/// Heartbeats that are not due by the clock are at least this far apart.
const AT_LEAST_APART: Duration = Duration::from_millis(100);

/// What a worker serves, and how.
pub(crate) struct Served {
    pub(crate) handlers: Vec<HandlerName>,
    /// How processes are kept within their memory and CPUs, where handlers start any.
    pub(crate) limits: Option<&'static str>,
}

/// Says what the worker holds, every while and shortly after it took something, until `gone`.
pub(crate) async fn beat<B: Broker>(
    broker: B,
    config: Arc<Config>,
    served: Served,
    flights: Arc<Flights>,
    started_at: Timestamp,
    draining: CancellationToken,
    gone: CancellationToken,
) {
    let heart = Heart {
        broker,
        config,
        served,
        flights,
        started_at,
    };
    let mut last = heart.say(draining.is_cancelled()).await;
    let mut soon = false;
    let mut told = draining.is_cancelled();
    loop {
        let due = match soon {
            true => last + AT_LEAST_APART,
            false => last + heart.config.heartbeat_every,
        };
        tokio::select! {
            biased;
            () = gone.cancelled() => break,
            () = draining.cancelled(), if !told => {}
            () = heart.flights.taken.notified(), if !soon => {
                soon = true;
                continue;
            }
            () = sleep_until(due) => {}
        }
        soon = false;
        told = draining.is_cancelled();
        last = heart.say(told).await;
    }
    heart.say(draining.is_cancelled()).await;
}

struct Heart<B> {
    broker: B,
    config: Arc<Config>,
    served: Served,
    flights: Arc<Flights>,
    started_at: Timestamp,
}

impl<B: Broker> Heart<B> {
    /// Says it once; when that was.
    async fn say(&self, draining: bool) -> Instant {
        let at = Instant::now();
        let next = self.flights.next();
        self.flights.log_alive();
        // Each heartbeat shows that the worker is alive to those in its own process, too.
        self.config.vitals.send_modify(|_| {});
        let heartbeat = Heartbeat {
            worker: self.config.id.clone(),
            host: self.config.host.clone(),
            pid: std::process::id(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            handlers: self.served.handlers.clone(),
            classes: self.config.classes.clone(),
            slots: self.config.slots.get(),
            draining,
            in_flight: self.flights.list(),
            limits: self.served.limits.map(str::to_owned),
            started_at: self.started_at,
            at: self.config.world.now(),
        };
        let payload = match rmp_serde::to_vec_named(&heartbeat) {
            Ok(payload) => payload.into(),
            Err(error) => {
                tracing::error!(%error, "a heartbeat has no encoding");
                return at;
            }
        };
        let message = Message {
            subject: subject::heartbeat(self.config.shard, &self.config.id),
            payload,
            trace: None,
        };
        if let Err(error) = self.broker.signal(message).await {
            metrics::broker_error("heartbeat");
            tracing::debug!(%error, "a heartbeat was not sent");
            return at;
        }
        self.flights.named.send_replace(next);
        at
    }
}

/// Stops what the worker is told to stop, for ever.
pub(crate) async fn obey<B: Broker>(broker: B, config: Arc<Config>, flights: Arc<Flights>) {
    let mut backoff = Backoff::default();
    loop {
        match broker.listen(subject::signals(config.shard)).await {
            Ok(mut signals) => {
                while let Some(message) = signals.next().await {
                    backoff = Backoff::default();
                    match rmp_serde::from_slice::<Signal>(&message.payload) {
                        Ok(signal) => {
                            let chunks = flights.stop(&signal, &config.id);
                            tracing::debug!(?signal, chunks, "told to stop");
                        }
                        Err(error) => tracing::warn!(%error, "a signal that cannot be read"),
                    }
                }
                tracing::debug!("the signals ended; listening anew");
            }
            Err(error) => {
                metrics::broker_error("listen");
                tracing::warn!(%error, "cannot listen to signals");
            }
        }
        tokio::time::sleep(backoff.next(&config.world)).await;
    }
}
