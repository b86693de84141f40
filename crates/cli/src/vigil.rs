//! Watches over the roles of this process: how they are doing, for its health, and for all who listen.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redrive_broker::{Broker, Message, nats::NatsBroker};
use redrive_domain::{
    presence::{CoordinatorStanding, GatewayStanding, Presence, ProjectorStanding, Standing},
    subject::{self, Shard},
    time::Timestamp,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::identity;

/// How often to look and to say it.
const EVERY: Duration = Duration::from_secs(1);
/// A role whose loop has not turned for so long counts as stuck. Each turn waits for no answer longer than some
/// seconds.
const STUCK: Duration = Duration::from_secs(60);

/// How a role is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether its loop turns.
    pub(crate) live: bool,
    /// Whether it can do its work.
    pub(crate) ready: bool,
    /// In words.
    pub(crate) state: String,
}

/// What is known of the roles of this process.
#[derive(Clone, Default)]
pub(crate) struct Vigil {
    roles: Arc<Mutex<BTreeMap<&'static str, (Health, Instant)>>>,
    tasks: Arc<Mutex<Vec<AbortOnDropHandle<()>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vigil {
    /// The roles, as they were within the last seconds. One that is not looked at any more is not live.
    pub(crate) fn health(&self) -> Vec<(&'static str, Health)> {
        let stale = |(role, (health, at)): (&&'static str, &(Health, Instant))| {
            let mut health = health.clone();
            if at.elapsed() > STUCK {
                health.live = false;
                health.ready = false;
                health.state = "not heard of".to_owned();
            }
            (*role, health)
        };
        lock(&self.roles).iter().map(stale).collect()
    }

    fn note(&self, role: &'static str, health: Health) {
        lock(&self.roles).insert(role, (health, Instant::now()));
    }

    fn keep(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = AbortOnDropHandle::new(tokio::spawn(task));
        lock(&self.tasks).push(task);
    }

    /// Watches over a coordinator, which is about to run with this configuration.
    pub(crate) fn coordinator(&self, broker: &NatsBroker, config: &redrive_coordinator::Config) {
        let mut pulse = Pulse::of(config.standing.subscribe());
        let mut teller = Teller::new(broker.clone(), config.shard, config.name.clone());
        let (vigil, broker) = (self.clone(), broker.clone());
        self.keep(async move {
            loop {
                let turns = pulse.turns();
                let standing = pulse.of.borrow().clone();
                let connected = broker.is_connected();
                let (able, state) = match &standing {
                    CoordinatorStanding::Seeking => (false, "looking for the leader".to_owned()),
                    CoordinatorStanding::StandingBy { leader } => {
                        (true, format!("standing by behind {leader}"))
                    }
                    CoordinatorStanding::TakingOver => (false, "taking over".to_owned()),
                    CoordinatorStanding::Leading => (true, "leading".to_owned()),
                };
                // Reading a long log is one turn.
                let live = turns || (standing == CoordinatorStanding::TakingOver && !pulse.ended);
                vigil.note("coordinator", Health::new(live, connected, able, state));
                if live {
                    teller.tell(Standing::Coordinator(standing)).await;
                }
                teller.tick.tick().await;
            }
        });
    }

    /// Watches over a projector, which is about to run with this configuration.
    pub(crate) fn projector(&self, broker: &NatsBroker, config: &redrive_projector::Config) {
        let mut pulse = Pulse::of(config.vitals.subscribe());
        let name = identity::unique("projector");
        let mut teller = Teller::new(broker.clone(), config.shard, name);
        let (vigil, broker) = (self.clone(), broker.clone());
        self.keep(async move {
            let mut before = None;
            loop {
                let live = pulse.turns();
                let vitals = *pulse.of.borrow();
                let connected = broker.is_connected();
                let last_seq = match connected {
                    true => broker.last_seq().await.ok(),
                    false => None,
                };
                // What came within the last second may still be under way.
                let caught_up = before.or(last_seq).is_some_and(|seq| vitals.applied >= seq);
                before = last_seq;
                let standing = ProjectorStanding {
                    serving: vitals.serving,
                    applied: vitals.applied,
                    last_seq,
                };
                let state = match (vitals.serving, vitals.trusted, standing.lag()) {
                    (false, ..) => "not serving queries".to_owned(),
                    (_, false, _) => "opening its view".to_owned(),
                    (.., None) => "the log cannot be asked for".to_owned(),
                    (.., Some(0)) => format!("caught up at {}", standing.applied),
                    (.., Some(lag)) => format!("{lag} messages behind at {}", standing.applied),
                };
                let able = vitals.serving && vitals.trusted && caught_up;
                vigil.note("projector", Health::new(live, connected, able, state));
                if live {
                    teller.tell(Standing::Projector(standing)).await;
                }
                teller.tick.tick().await;
            }
        });
    }

    /// Watches over a gateway.
    pub(crate) fn gateway(
        &self,
        broker: &NatsBroker,
        vitals: &watch::Sender<redrive_gateway::Vitals>,
        url: String,
    ) {
        let mut pulse = Pulse::of(vitals.subscribe());
        let mut teller = Teller::new(broker.clone(), 0, identity::unique("gateway"));
        let (vigil, broker) = (self.clone(), broker.clone());
        self.keep(async move {
            loop {
                let live = pulse.turns();
                let vitals = *pulse.of.borrow();
                let state = match vitals.missing().as_slice() {
                    [] => "answering".to_owned(),
                    missing => missing.join(", "),
                };
                let (connected, ready) = (broker.is_connected(), vitals.ready());
                vigil.note("gateway", Health::new(live, connected, ready, state));
                if live {
                    let url = url.clone();
                    let standing = GatewayStanding { url, ready };
                    teller.tell(Standing::Gateway(standing)).await;
                }
                teller.tick.tick().await;
            }
        });
    }

    /// Watches over a worker, which is about to run with this configuration. It says itself that it is there.
    pub(crate) fn worker(
        &self,
        broker: &NatsBroker,
        config: &redrive_worker::Config,
        draining: &CancellationToken,
    ) {
        let mut pulse = Pulse::of(config.vitals.subscribe());
        let (vigil, broker, draining) = (self.clone(), broker.clone(), draining.clone());
        self.keep(async move {
            let mut tick = ticks();
            loop {
                let live = pulse.turns();
                let failing: Vec<String> = {
                    let vitals = pulse.of.borrow();
                    let pools = vitals.failing.iter();
                    pools
                        .map(|(handler, class)| format!("{handler}/{class}"))
                        .collect()
                };
                let state = match (draining.is_cancelled(), failing.is_empty()) {
                    (true, _) => "draining".to_owned(),
                    (false, true) => "taking chunks".to_owned(),
                    (false, false) => format!("cannot take chunks for {}", failing.join(", ")),
                };
                let able = !draining.is_cancelled() && failing.is_empty();
                vigil.note(
                    "worker",
                    Health::new(live, broker.is_connected(), able, state),
                );
                tick.tick().await;
            }
        });
    }
}

impl Health {
    fn new(live: bool, connected: bool, able: bool, state: String) -> Self {
        Self {
            live,
            ready: live && connected && able,
            state: match (live, connected) {
                (false, _) => "stuck or ended".to_owned(),
                (true, false) => "not connected to the broker".to_owned(),
                (true, true) => state,
            },
        }
    }
}

/// Whether a loop turns, by what it shows each time.
struct Pulse<T> {
    of: watch::Receiver<T>,
    turned: Instant,
    ended: bool,
}

impl<T> Pulse<T> {
    fn of(of: watch::Receiver<T>) -> Self {
        Self {
            of,
            turned: Instant::now(),
            ended: false,
        }
    }

    fn turns(&mut self) -> bool {
        match self.of.has_changed() {
            Ok(true) => {
                self.of.mark_unchanged();
                self.turned = Instant::now();
            }
            Ok(false) => {}
            // Nobody is left who could show anything.
            Err(_) => self.ended = true,
        }
        !self.ended && self.turned.elapsed() < STUCK
    }
}

fn ticks() -> tokio::time::Interval {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    tick
}

/// Says that a role is there.
struct Teller {
    broker: NatsBroker,
    shard: Shard,
    name: String,
    started_at: Timestamp,
    tick: tokio::time::Interval,
}

impl Teller {
    fn new(broker: NatsBroker, shard: Shard, name: String) -> Self {
        Self {
            broker,
            shard,
            name,
            started_at: identity::now(),
            tick: ticks(),
        }
    }

    async fn tell(&self, standing: Standing) {
        let presence = Presence {
            name: self.name.clone(),
            host: identity::host(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            standing,
            started_at: self.started_at,
            at: identity::now(),
        };
        let Ok(payload) = rmp_serde::to_vec_named(&presence) else {
            return;
        };
        let message = Message {
            subject: subject::presence(self.shard),
            payload: payload.into(),
            trace: None,
        };
        if let Err(error) = self.broker.signal(message).await {
            tracing::debug!(%error, "nobody is told that this role is there");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_who_is_live_and_connected_and_able() {
        let of = |live, connected, able| {
            let health = Health::new(live, connected, able, "leading".to_owned());
            (health.live, health.ready, health.state)
        };
        assert_eq!(of(true, true, true), (true, true, "leading".to_owned()));
        assert!(!of(true, true, false).1);
        let (live, ready, state) = of(true, false, true);
        assert_eq!((live, ready), (true, false));
        assert_eq!(state, "not connected to the broker");
        assert!(!of(false, true, true).1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_shows_nothing_is_stuck_and_one_that_is_gone_has_ended() {
        let shown = watch::Sender::new(0);
        let mut pulse = Pulse::of(shown.subscribe());
        tokio::time::advance(STUCK / 2).await;
        // The same again is a turn.
        shown.send_modify(|_| {});
        assert!(pulse.turns());
        tokio::time::advance(STUCK - EVERY).await;
        assert!(pulse.turns());
        tokio::time::advance(2 * EVERY).await;
        assert!(!pulse.turns());
        shown.send_modify(|_| {});
        assert!(pulse.turns());
        drop(shown);
        assert!(!pulse.turns());
    }
}
