//! Chance from a seed. Each part of a simulation has dice of its own, so that what one does leaves the others' throws
//! as they are.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
    ops::RangeInclusive,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use uuid::Uuid;

/// Random numbers that depend on the seed and on whose they are.
pub(crate) struct Dice(StdRng);

/// A number that depends on nothing but this, the same in every run.
pub(crate) fn print_of(value: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

impl Dice {
    pub(crate) fn new(seed: u64, whose: impl Hash) -> Self {
        Self(StdRng::seed_from_u64(print_of((seed, whose))))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.random()
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(self.0.random())
    }

    /// Whether something happens that has this probability.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability.clamp(0.0, 1.0))
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    pub(crate) fn count(&mut self, range: RangeInclusive<u32>) -> u32 {
        self.0.random_range(range)
    }

    pub(crate) fn ms(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// One of them; there has to be one.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.0.random_range(0..from.len())]
    }
}
