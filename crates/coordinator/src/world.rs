//! The time and the chance that the coordinator feeds to the pure core, so that a simulation can choose both.

use rand::{Rng, SeedableRng, rngs::StdRng};
use redrive_domain::time::{Millis, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

/// Where the time comes from. Both kinds follow tokio's clock after the start, so a paused clock is a simulated one.
#[derive(Debug, Clone)]
pub struct Clock {
    base: Timestamp,
    start: Instant,
}

impl Clock {
    /// The machine's clock, read once and then advanced monotonically.
    #[must_use]
    pub fn system() -> Self {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self::starting_at(Timestamp::default().plus(since.into()))
    }

    /// A clock that shows this time now.
    #[must_use]
    pub fn starting_at(base: Timestamp) -> Self {
        Self {
            base,
            start: Instant::now(),
        }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.base.plus(Millis::from(self.start.elapsed()))
    }
}

/// Where ids and jitter come from.
#[derive(Debug)]
pub struct Chance(StdRng);

impl Chance {
    /// Seeded by the operating system.
    #[must_use]
    pub fn system() -> Self {
        Self(StdRng::from_rng(&mut rand::rng()))
    }

    /// The same seed gives the same numbers.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A uniformly random number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A UUIDv7 (RFC 9562) for this time.
    pub fn id(&mut self, now: Timestamp) -> Uuid {
        let mut random = [0; 10];
        self.0.fill_bytes(&mut random);
        let millis = u64::try_from(now.0).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}
