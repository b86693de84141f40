//! Whether requests can be answered just now: `/livez` and `/readyz`.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::StreamExt;
use redrive_broker::{Broker, nats::NatsBroker};
use redrive_domain::{
    presence::{CoordinatorStanding, Presence, Standing},
    subject,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{Config, Shared, keys::Keyring};

/// A role that has not been heard of for so long is away; each says every second that it is there.
const AWAY: Duration = Duration::from_secs(5);
/// The wait before listening again where the broker stopped.
const AGAIN: Duration = Duration::from_millis(500);

/// What a gateway needs, and whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vitals {
    /// The connection to the broker.
    pub broker: bool,
    /// A coordinator that leads: without one commands wait.
    pub coordinator: bool,
    /// A projector that takes queries: without one nothing can be read.
    pub projector: bool,
    /// The keys, where they are needed.
    pub keys: bool,
}

impl Vitals {
    /// Whether requests can be answered.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.missing().is_empty()
    }

    /// What is missing, in words.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        [
            (self.broker, "no connection to the broker"),
            (self.coordinator, "no coordinator leads"),
            (self.projector, "no projector takes queries"),
            (self.keys, "the keys have not been read"),
        ]
        .into_iter()
        .filter_map(|(is_there, what)| (!is_there).then_some(what))
        .collect()
    }
}

/// Looks every second, and listens to what roles say of themselves, until it is told to stop.
pub(crate) async fn watch(
    broker: NatsBroker,
    config: Config,
    keys: Keyring,
    stop: CancellationToken,
) {
    let mut heard = Heard::default();
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut presences = None;
    loop {
        if presences.is_none() {
            let listening = broker.listen(subject::presence(config.shard)).await;
            presences = listening
                .inspect_err(|error| tracing::debug!(%error, "presences cannot be heard"))
                .ok();
        }
        let ended = match &mut presences {
            Some(presences) => tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = tick.tick() => false,
                message = presences.next() => match message {
                    Some(message) => {
                        heard.take(&message.payload);
                        false
                    }
                    None => true,
                },
            },
            None => tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => false,
            },
        };
        if ended {
            presences = None;
        }
        let vitals = heard.vitals(broker.is_connected(), keys.is_read());
        tell(&config.vitals, vitals);
    }
}

/// Each look counts as a turn; only a change is worth a line in the log.
fn tell(told: &watch::Sender<Vitals>, vitals: Vitals) {
    let before = *told.borrow();
    if before.ready() != vitals.ready() {
        match vitals.ready() {
            true => tracing::info!("ready to answer requests"),
            false => tracing::warn!(missing = vitals.missing().join(", "), "not ready"),
        }
    }
    told.send_replace(vitals);
}

/// When roles were last heard of.
#[derive(Debug, Default)]
struct Heard {
    leader: Option<Instant>,
    projector: Option<Instant>,
}

impl Heard {
    fn take(&mut self, payload: &[u8]) {
        let Ok(presence) = rmp_serde::from_slice::<Presence>(payload) else {
            return;
        };
        match presence.standing {
            Standing::Coordinator(CoordinatorStanding::Leading) => {
                self.leader = Some(Instant::now());
            }
            Standing::Projector(standing) if standing.serving => {
                self.projector = Some(Instant::now());
            }
            Standing::Coordinator(_) | Standing::Projector(_) | Standing::Gateway(_) => {}
        }
    }

    fn vitals(&self, broker: bool, keys: bool) -> Vitals {
        let lately = |at: Option<Instant>| broker && at.is_some_and(|at| at.elapsed() < AWAY);
        Vitals {
            broker,
            coordinator: lately(self.leader),
            projector: lately(self.projector),
            keys,
        }
    }
}

/// The routes.
pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
}

/// The process answers.
async fn livez() -> &'static str {
    "ok\n"
}

/// Whether all is there that requests need; a line for each thing that is not.
async fn readyz(State(gateway): State<Shared>) -> Response {
    let vitals = *gateway.config.vitals.borrow();
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    match vitals.missing().as_slice() {
        [] => (no_store, "ok\n").into_response(),
        missing => {
            let lines = format!("{}\n", missing.join("\n"));
            (StatusCode::SERVICE_UNAVAILABLE, no_store, lines).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_role_that_is_silent_is_away() {
        let mut heard = Heard::default();
        assert_eq!(heard.vitals(true, true).missing().len(), 2);
        heard.leader = Some(Instant::now());
        heard.projector = Some(Instant::now());
        assert!(heard.vitals(true, true).ready());
        assert_eq!(heard.vitals(false, true).missing().len(), 3);
        assert_eq!(
            heard.vitals(true, false).missing(),
            ["the keys have not been read"]
        );
        tokio::time::advance(AWAY).await;
        assert!(!heard.vitals(true, true).coordinator);
    }
}
