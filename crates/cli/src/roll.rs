//! Who is there: workers by their heartbeats, coordinators, projectors and gateways by their presence.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use redrive_broker::{Broker, BrokerError, Message, nats::NatsBroker};
use redrive_domain::{
    ids::WorkerId,
    presence::{CoordinatorStanding, GatewayStanding, Presence, ProjectorStanding, Standing},
    subject::{self, Shard},
    time::Timestamp,
    work::Heartbeat,
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::identity;

const SHARD: Shard = 0;
/// The most of each kind that is remembered.
const MOST: usize = 10_000;
/// What was not heard of for so long is gone: a worker counts as lost then.
const GONE: Duration = Duration::from_secs(4);
/// How long to listen, so that a beat of each is heard even if one comes late.
pub(crate) const LISTEN: Duration = Duration::from_millis(2_500);

/// What was heard, and when.
#[derive(Debug, Clone)]
pub(crate) struct Heard<T> {
    pub(crate) what: T,
    /// When it was heard last.
    pub(crate) at: Instant,
    /// How far the clock of the other side is ahead of this one, in milliseconds, as far as one message shows.
    pub(crate) ahead_ms: i64,
}

impl<T> Heard<T> {
    fn new(what: T, said_at: Timestamp) -> Self {
        Self {
            what,
            at: Instant::now(),
            ahead_ms: said_at.0 - identity::now().0,
        }
    }
}

/// Who was heard.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    pub(crate) workers: BTreeMap<WorkerId, Heard<Heartbeat>>,
    roles: BTreeMap<(&'static str, String), Heard<Presence>>,
}

/// Listens from now on.
pub(crate) struct Listener {
    messages: BoxStream<'static, Message>,
    pub(crate) roll: Roll,
}

impl Listener {
    pub(crate) async fn open(broker: &NatsBroker) -> Result<Self, BrokerError> {
        let beats = broker.listen(subject::heartbeats(SHARD)).await?;
        let roles = broker.listen(subject::presence(SHARD)).await?;
        Ok(Self {
            messages: futures::stream::select(beats, roles).boxed(),
            roll: Roll::default(),
        })
    }

    /// Notes all that comes until then.
    pub(crate) async fn until(&mut self, end: Instant) {
        while let Ok(message) = timeout_at(end, self.messages.next()).await {
            match message {
                Some(message) => self.roll.note(&message),
                None => tokio::time::sleep_until(end).await,
            }
        }
    }
}

/// Listens for a while.
pub(crate) async fn call(broker: &NatsBroker, wait: Duration) -> Result<Roll, BrokerError> {
    let mut listener = Listener::open(broker).await?;
    listener.until(Instant::now() + wait).await;
    Ok(listener.roll)
}

impl Roll {
    fn note(&mut self, message: &Message) {
        if message.subject == subject::presence(SHARD) {
            let Some(presence) = read::<Presence>(message) else {
                return;
            };
            let role = match presence.standing {
                Standing::Coordinator(_) => "coordinator",
                Standing::Projector(_) => "projector",
                Standing::Gateway(_) => "gateway",
            };
            let said_at = presence.at;
            let key = (role, presence.name.clone());
            insert(&mut self.roles, key, Heard::new(presence, said_at));
        } else if let Some(beat) = read::<Heartbeat>(message) {
            let said_at = beat.at;
            insert(
                &mut self.workers,
                beat.worker.clone(),
                Heard::new(beat, said_at),
            );
        }
    }

    /// Forgets who was not heard of for a while.
    pub(crate) fn forget(&mut self) {
        self.workers.retain(|_, heard| heard.at.elapsed() < GONE);
        self.roles.retain(|_, heard| heard.at.elapsed() < GONE);
    }

    pub(crate) fn roles(&self) -> impl Iterator<Item = &Heard<Presence>> {
        self.roles.values()
    }

    pub(crate) fn coordinators(&self) -> Vec<(&Presence, &CoordinatorStanding)> {
        self.roles()
            .filter_map(|heard| match &heard.what.standing {
                Standing::Coordinator(standing) => Some((&heard.what, standing)),
                Standing::Projector(_) | Standing::Gateway(_) => None,
            })
            .collect()
    }

    pub(crate) fn projectors(&self) -> Vec<(&Presence, &ProjectorStanding)> {
        self.roles()
            .filter_map(|heard| match &heard.what.standing {
                Standing::Projector(standing) => Some((&heard.what, standing)),
                Standing::Coordinator(_) | Standing::Gateway(_) => None,
            })
            .collect()
    }

    pub(crate) fn gateways(&self) -> Vec<(&Presence, &GatewayStanding)> {
        self.roles()
            .filter_map(|heard| match &heard.what.standing {
                Standing::Gateway(standing) => Some((&heard.what, standing)),
                Standing::Coordinator(_) | Standing::Projector(_) => None,
            })
            .collect()
    }

    pub(crate) fn leader(&self) -> Option<&Presence> {
        self.coordinators()
            .into_iter()
            .find(|(_, standing)| **standing == CoordinatorStanding::Leading)
            .map(|(presence, _)| presence)
    }
}

fn insert<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) {
    if map.len() < MOST || map.contains_key(&key) {
        map.insert(key, value);
    }
}

/// What cannot be read is of another version, or no business of Redrive's.
fn read<T: DeserializeOwned>(message: &Message) -> Option<T> {
    match rmp_serde::from_slice(&message.payload) {
        Ok(read) => Some(read),
        Err(error) => {
            tracing::debug!(subject = message.subject, %error, "a message that cannot be read");
            None
        }
    }
}
