//! What all parts of one run share.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use redrive_broker::memory::MemoryBroker;
use redrive_coordinator::world::Clock;
use redrive_domain::time::Timestamp;
use tokio::time::Instant;

use crate::{checks::Checks, dice::Dice, weather::Weather};

/// Lines of the story that are kept where nobody asked for all of them.
const KEPT: usize = 200;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) broker: MemoryBroker,
    pub(crate) weather: Weather,
    pub(crate) clock: Clock,
    began: Instant,
    calm_since: OnceLock<Instant>,
    shaken: Mutex<Instant>,
    checks: Mutex<Checks>,
    story: Mutex<Story>,
}

/// 2026-01-31T23:59:40Z: soon after, credits are those of another month.
pub(crate) const START: Timestamp = Timestamp(1_769_903_980_000);

/// What happened, for people; its hash is that of all lines, kept or not.
struct Story {
    lines: VecDeque<String>,
    all: bool,
    hasher: DefaultHasher,
    counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub(crate) fn new(seed: u64, all: bool) -> Self {
        let weather = Weather::of(&mut Dice::new(seed, "weather"));
        let clock = Clock::starting_at(START);
        Self {
            seed,
            broker: MemoryBroker::default(),
            checks: Mutex::new(Checks::new(seed)),
            weather,
            clock,
            began: Instant::now(),
            calm_since: OnceLock::new(),
            shaken: Mutex::new(Instant::now()),
            story: Mutex::new(Story {
                lines: VecDeque::new(),
                all,
                hasher: DefaultHasher::new(),
                counts: BTreeMap::new(),
            }),
        }
    }

    pub(crate) fn dice(&self, whose: impl Hash) -> Dice {
        Dice::new(self.seed, whose)
    }

    pub(crate) fn passed(&self) -> Duration {
        self.began.elapsed()
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm_down(&self) {
        self.calm_since.set(Instant::now()).ok();
        self.tell(format_args!("the storm is over"));
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm_since.get().is_some()
    }

    /// Something goes wrong once more.
    pub(crate) fn shake(&self) {
        *lock(&self.shaken) = Instant::now();
    }

    fn shaken_at(&self) -> Instant {
        *lock(&self.shaken)
    }

    /// For how long nothing has gone wrong.
    pub(crate) fn calm_for(&self) -> Duration {
        match self.calm_since.get() {
            _ if self.weather == Weather::calm(self.weather.storm) => Duration::MAX,
            Some(since) => since.elapsed().min(self.shaken_at().elapsed()),
            None => Duration::ZERO,
        }
    }

    pub(crate) fn checks(&self) -> MutexGuard<'_, Checks> {
        lock(&self.checks)
    }

    /// Looks at what is new in the log.
    pub(crate) fn observe(&self) {
        let told = self.checks().observe(&self.broker, self.clock.now());
        for (kind, line) in told {
            self.count(kind);
            self.tell(format_args!("log {line}"));
        }
    }

    pub(crate) fn tell(&self, line: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {line}", self.passed().as_secs_f64());
        let mut story = lock(&self.story);
        line.hash(&mut story.hasher);
        if !story.all && story.lines.len() == KEPT {
            story.lines.pop_front();
        }
        story.lines.push_back(line);
    }

    /// Notes that something happened, for the sums over many runs.
    pub(crate) fn count(&self, what: &'static str) {
        *lock(&self.story).counts.entry(what).or_default() += 1;
    }

    /// The story's lines, its hash and its counts.
    pub(crate) fn story(&self) -> (Vec<String>, u64, BTreeMap<&'static str, u64>) {
        let story = lock(&self.story);
        let lines = story.lines.iter().cloned().collect();
        (lines, story.hasher.finish(), story.counts.clone())
    }
}
