//! A process's connection to the broker, and what becomes of the calls over it.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redrive_broker::{BrokerError, Result};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    dice::Dice,
    world::{World, lock},
};

/// How long a caller waits for an answer. What it asked for may still happen afterwards.
const PATIENCE: Duration = Duration::from_secs(5);

/// One life of one process.
pub(crate) struct Link {
    pub(crate) world: Arc<World>,
    pub(crate) name: String,
    dice: Mutex<Dice>,
    dead: CancellationToken,
    /// It is cut off, or stands still, until then.
    cut: Mutex<Option<Cut>>,
    /// The last sequence of the log that it was told of.
    knows: AtomicU64,
}

#[derive(Clone, Copy)]
struct Cut {
    until: Instant,
    /// Whether calls fail meanwhile; otherwise they wait.
    fails: bool,
}

/// What becomes of a call.
pub(crate) struct Fate {
    there: Duration,
    back: Duration,
    fails: bool,
    answer_lost: bool,
    crash: Option<Crash>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Crash {
    Before,
    OnTheWay,
    After,
}

impl Link {
    pub(crate) fn new(world: &Arc<World>, name: String) -> Arc<Self> {
        Arc::new(Self {
            dice: Mutex::new(world.dice(&name)),
            world: Arc::clone(world),
            name,
            dead: CancellationToken::new(),
            cut: Mutex::new(None),
            knows: AtomicU64::new(0),
        })
    }

    /// Nothing goes wrong any more where that is over.
    pub(crate) fn happens(&self, probability: f64) -> bool {
        let happens = lock(&self.dice).happens(probability);
        happens && !self.world.is_calm()
    }

    pub(crate) fn number(&self) -> u64 {
        lock(&self.dice).number()
    }

    pub(crate) fn count(&self, range: std::ops::RangeInclusive<u32>) -> u32 {
        lock(&self.dice).count(range)
    }

    /// A message's time on its way.
    pub(crate) fn way(&self) -> Duration {
        let weather = &self.world.weather;
        let mut dice = lock(&self.dice);
        let usual = dice.ms(0..=u64::try_from(weather.way.as_millis()).unwrap_or(0));
        let (often, most) = weather.slow;
        if dice.happens(often) && !self.world.is_calm() {
            return usual + dice.ms(0..=u64::try_from(most.as_millis()).unwrap_or(0));
        }
        match self.world.is_calm() {
            true => usual.min(Duration::from_millis(5)),
            false => usual,
        }
    }

    pub(crate) fn tell(&self, line: fmt::Arguments<'_>) {
        self.world.tell(format_args!("{} {line}", self.name));
    }

    /// It dies now: no call of its comes back, and no other begins.
    pub(crate) fn die(&self) {
        self.dead.cancel();
    }

    pub(crate) async fn died(&self) {
        self.dead.cancelled().await;
    }

    /// From now on for so long it does not reach the broker.
    pub(crate) fn cut(&self, time: Duration, fails: bool) {
        let until = Instant::now() + time;
        *lock(&self.cut) = Some(Cut { until, fails });
    }

    pub(crate) fn heal(&self) {
        *lock(&self.cut) = None;
    }

    pub(crate) fn learned(&self, seq: u64) {
        self.knows.fetch_max(seq, Ordering::Relaxed);
    }

    pub(crate) fn knows(&self) -> u64 {
        self.knows.load(Ordering::Relaxed)
    }

    fn is_cut(&self) -> Option<Cut> {
        lock(&self.cut).filter(|cut| cut.until > Instant::now() && !self.world.is_calm())
    }

    /// Where a process that died, or that stands still, stays.
    pub(crate) async fn gate(&self) {
        loop {
            if self.dead.is_cancelled() {
                std::future::pending::<()>().await;
            }
            match self.is_cut() {
                Some(cut) => sleep_until(cut.until).await,
                None => return,
            }
        }
    }

    pub(crate) fn fate(&self) -> Fate {
        let weather = &self.world.weather;
        let (there, back) = (self.way(), self.way());
        let fails = self.happens(weather.fail);
        let answer_lost = self.happens(weather.lose_answer);
        let crash = self
            .happens(weather.crash)
            .then(|| *lock(&self.dice).pick(&[Crash::Before, Crash::OnTheWay, Crash::After]));
        Fate {
            there,
            back,
            fails,
            answer_lost,
            crash,
        }
    }

    /// It may die here. There are few such moments, so it does so more often than in a call.
    pub(crate) async fn may_die(&self, when: &str) {
        if self.happens(10.0 * self.world.weather.crash) {
            self.world.count("crashes between steps");
            self.tell(format_args!("dies {when}"));
            self.die();
        }
        self.gate().await;
    }

    fn crash(&self, fate: &Fate, moment: Crash, call: &str) {
        if fate.crash == Some(moment) {
            let when = match moment {
                Crash::Before => "before",
                Crash::OnTheWay => "while it waits for",
                Crash::After => "right after",
            };
            self.world.count("crashes in a call");
            self.tell(format_args!("dies {when} {call}"));
            self.die();
        }
    }

    /// A call to the broker. Once it is on its way it happens, whatever becomes of the caller.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        call: &str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let fate = self.fate();
        self.crash(&fate, Crash::Before, call);
        if let Some(Cut { fails: true, .. }) = self.is_cut() {
            sleep(fate.there).await;
            return Err(BrokerError::Unreachable("the simulation".to_owned()));
        }
        self.gate().await;
        if fate.fails {
            self.world.count("calls that fail");
            self.tell(format_args!("{call} fails"));
            sleep(fate.there + fate.back).await;
            return Err(BrokerError::Timeout(PATIENCE));
        }
        let there = fate.there;
        let sent = tokio::spawn(async move {
            sleep(there).await;
            work.await
        });
        self.crash(&fate, Crash::OnTheWay, call);
        self.gate().await;
        let answer = timeout(PATIENCE, sent).await;
        sleep(fate.back).await;
        self.crash(&fate, Crash::After, call);
        self.gate().await;
        match answer {
            Err(_) => {
                self.world.count("calls that take too long");
                self.tell(format_args!("{call} is given up; it may happen yet"));
                Err(BrokerError::Timeout(PATIENCE))
            }
            Ok(_) if fate.answer_lost => {
                self.world.count("answers that get lost");
                self.tell(format_args!("the answer to {call} gets lost"));
                Err(BrokerError::Timeout(PATIENCE))
            }
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(BrokerError::Other(error.to_string())),
        }
    }

    /// What may go wrong before anything is taken.
    pub(crate) async fn before_taking(&self, fate: &Fate, what: &str) -> Result<()> {
        self.crash(fate, Crash::Before, what);
        if let Some(Cut { fails: true, .. }) = self.is_cut() {
            sleep(fate.there).await;
            return Err(BrokerError::Unreachable("the simulation".to_owned()));
        }
        self.gate().await;
        if fate.fails {
            self.world.count("calls that fail");
            self.tell(format_args!("taking of {what} fails"));
            sleep(fate.there).await;
            return Err(BrokerError::Timeout(PATIENCE));
        }
        Ok(())
    }

    /// A message that nobody waits for: it may come late, twice or never.
    pub(crate) async fn send<F>(
        self: &Arc<Self>,
        message: &str,
        send: impl Fn() -> F + Send + 'static,
    ) where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.gate().await;
        if self.happens(self.world.weather.lose) || self.is_cut().is_some() {
            self.world.count("messages that get lost");
            self.tell(format_args!("{message} gets lost"));
            return;
        }
        let again = self
            .happens(self.world.weather.duplicate)
            .then(|| self.way());
        let there = self.way();
        tokio::spawn(async move {
            sleep(there).await;
            send().await.ok();
            if let Some(later) = again {
                sleep(later).await;
                send().await.ok();
            }
        });
    }
}
