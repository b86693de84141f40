//! Waiting to lead. The lease decides who tries; the chained appends decide who writes.

use std::time::Duration;

use redrive_broker::{Broker, BrokerError, Lease};
use redrive_domain::{presence::CoordinatorStanding, subject::Shard};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    leader::Leader,
    metrics,
    world::{Chance, Clock},
};

const LEASE: &str = "coordinator";

/// When a leader keeps a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotsKept {
    /// After so many events since the last one, where that has rested.
    pub events: u64,
    /// How long a snapshot stays the last one at least.
    pub rest: Duration,
    /// How long it stays the last one at most, once anything has happened.
    pub most: Duration,
}

impl Default for SnapshotsKept {
    fn default() -> Self {
        Self {
            events: 2_000,
            rest: Duration::from_secs(10),
            most: Duration::from_secs(120),
        }
    }
}

/// What a coordinator is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The shard.
    pub shard: Shard,
    /// The name under which it holds the lease; no two may share one.
    pub name: String,
    /// After how long without a heartbeat a worker counts as lost.
    pub worker_timeout: Duration,
    /// When it keeps a snapshot.
    pub snapshots: SnapshotsKept,
    /// Batches that are over and stay in memory, for whoever asks again; others are folded once more then.
    pub over_kept: usize,
    /// How often it puts right by itself what is surely stuck or executed twice; never, where it is zero.
    pub heal_every: Duration,
    /// Where the time comes from.
    pub clock: Clock,
    /// The seed of ids and jitter; none for the operating system's randomness.
    pub seed: Option<u64>,
    /// Where it says how it is doing, at least with each turn of its loop.
    pub standing: watch::Sender<CoordinatorStanding>,
}

impl Config {
    /// The usual settings.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            shard: 0,
            name,
            worker_timeout: Duration::from_secs(4),
            snapshots: SnapshotsKept::default(),
            over_kept: 128,
            heal_every: Duration::from_secs(30),
            clock: Clock::system(),
            seed: None,
            standing: watch::Sender::default(),
        }
    }
}

/// Why a coordinator ended.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The broker does not let it work.
    #[error("the coordinator cannot work: {0}")]
    Broker(#[source] BrokerError),
}

/// Why a leader stopped leading.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stepped {
    #[error("it was told to stop")]
    Told,
    #[error("the lease is with somebody else")]
    LeaseLost,
    #[error("the broker: {0}")]
    Broker(#[from] BrokerError),
}

/// Runs a coordinator until the shutdown. Any number may run; one leads, the others stand by.
///
/// # Errors
/// Where the broker does not allow what a coordinator has to do. A broker that is away is waited for.
pub async fn run<B: Broker>(
    broker: B,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), CoordinatorError> {
    let mut chance = config.seed.map_or_else(Chance::system, Chance::seeded);
    let ttl = broker.lease_ttl();
    loop {
        let lease = match broker.ensure().await {
            Ok(()) => broker.lease(LEASE, &config.name).await,
            Err(error) => Err(error),
        };
        match lease {
            Ok(Lease::Held) => {
                let reason = lead(&broker, &config, &mut chance, &shutdown).await;
                ::metrics::gauge!(metrics::LEADS).set(0);
                config.standing.send_replace(CoordinatorStanding::Seeking);
                tracing::info!(name = config.name, %reason, "no longer leading");
            }
            Ok(Lease::HeldBy(other)) => {
                tracing::debug!(other, "standing by");
                let standing = CoordinatorStanding::StandingBy { leader: other };
                config.standing.send_replace(standing);
            }
            Err(error @ BrokerError::Denied(_)) => return Err(CoordinatorError::Broker(error)),
            Err(error) => {
                tracing::warn!(%error, "cannot ask for the lease");
                config.standing.send_replace(CoordinatorStanding::Seeking);
            }
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(ttl / 4) => {}
        }
    }
    if let Err(error) = broker.release(LEASE, &config.name).await {
        tracing::debug!(%error, "cannot give the lease back; it will run out");
    }
    Ok(())
}

async fn lead<B: Broker>(
    broker: &B,
    config: &Config,
    chance: &mut Chance,
    shutdown: &CancellationToken,
) -> Stepped {
    let leading = shutdown.child_token();
    // Whoever stops leading, however, stops renewing.
    let renewing = tokio::spawn(renew(broker.clone(), config.name.clone(), leading.clone()));
    let _renewing = AbortOnDropHandle::new(renewing);
    config
        .standing
        .send_replace(CoordinatorStanding::TakingOver);
    let result = async {
        let mut leader = Leader::load(broker.clone(), config, chance, leading.clone()).await?;
        ::metrics::gauge!(metrics::LEADS).set(1);
        tracing::info!(name = config.name, "leading");
        leader.run().await
    };
    let stepped = tokio::select! {
        biased;
        stepped = result => stepped.err().unwrap_or(Stepped::Told),
        () = leading.cancelled() => Stepped::LeaseLost,
    };
    leading.cancel();
    if shutdown.is_cancelled() {
        Stepped::Told
    } else {
        stepped
    }
}

/// Holds on to the lease; ends the leading when somebody else has it, or when nobody can say for a whole term.
async fn renew<B: Broker>(broker: B, name: String, leading: CancellationToken) {
    let ttl = broker.lease_ttl();
    let mut held = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(ttl / 4).await;
        match tokio::time::timeout(ttl / 2, broker.lease(LEASE, &name)).await {
            Ok(Ok(Lease::Held)) => held = tokio::time::Instant::now(),
            Ok(Ok(Lease::HeldBy(_))) => break,
            Ok(Err(error)) => tracing::warn!(%error, "cannot renew the lease"),
            Err(_) => tracing::warn!("cannot renew the lease: no answer"),
        }
        if held.elapsed() > ttl {
            break;
        }
    }
    leading.cancel();
}
