//! How much one caller may ask.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, MonotonicClock},
    state::keyed::DashMapStateStore,
};

use crate::problem::Problem;

/// Callers that are remembered before those that have been quiet are forgotten.
const REMEMBERED: usize = 10_000;

/// The rate at which each caller may ask.
pub(crate) struct Rates {
    each: NonZeroU32,
    clock: MonotonicClock,
    limiter: RateLimiter<String, DashMapStateStore<String>, MonotonicClock>,
}

impl Rates {
    /// So many a second for each, with twice as many at once.
    pub(crate) fn new(each: NonZeroU32) -> Self {
        let clock = MonotonicClock;
        let quota = Quota::per_second(each).allow_burst(each.saturating_mul(TWICE));
        Self {
            each,
            limiter: RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()),
            clock,
        }
    }

    /// Goes on only if the caller has not asked too much.
    ///
    /// # Errors
    /// [`Problem::TooMany`], with how long to wait.
    pub(crate) fn admit(&self, caller: &str) -> Result<(), Problem> {
        if self.limiter.len() > REMEMBERED {
            self.limiter.retain_recent();
        }
        // Whoever asks has a valid key, or is on this machine: there are not many.
        let caller = caller.to_owned();
        self.limiter.check_key(&caller).map_err(|not_until| {
            let after: Duration = not_until.wait_time_from(self.clock.now());
            let each = self.each;
            Problem::TooMany {
                after,
                message: format!("more than {each} requests a second: ask again later"),
            }
        })
    }
}

/// How many seconds' worth may come at once.
const TWICE: NonZeroU32 = NonZeroU32::new(2).expect("2 is not 0");

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_has_twice_its_rate_at_once_and_another_one_its_own() {
        let rates = Rates::new(NonZeroU32::new(1).unwrap());
        let mut admitted = 0;
        let refused = loop {
            match rates.admit("a") {
                Ok(()) => admitted += 1,
                Err(problem) => break problem,
            }
        };
        // A slow machine may see another second pass.
        assert!((2..60).contains(&admitted), "{admitted}");
        assert!(
            matches!(refused, Problem::TooMany { after, .. } if after <= Duration::from_secs(1))
        );
        assert_eq!(rates.admit("b"), Ok(()));
    }
}
