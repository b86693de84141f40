//! The time and the chance that a worker goes by, so that a simulation can choose both.

use std::{fmt, sync::Arc, time::SystemTime};

use redrive_domain::time::{Millis, Timestamp};

/// Where the time and the random numbers come from.
#[derive(Clone)]
pub struct World {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    number: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl World {
    /// A world of the caller's. The numbers are uniform over all of `u64`.
    pub fn new(
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        number: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            now: Arc::new(now),
            number: Arc::new(number),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.now)()
    }

    pub(crate) fn number(&self) -> u64 {
        (self.number)()
    }

    /// From 0, and below 1.
    #[allow(
        clippy::cast_precision_loss,
        reason = "as many bits as an f64 holds exactly"
    )]
    pub(crate) fn fraction(&self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Default for World {
    /// The wall clock, and the operating system's randomness.
    fn default() -> Self {
        Self::new(wall_clock, rand::random)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// The time by the wall clock.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(0).plus(Millis::from(since.unwrap_or_default()))
}
