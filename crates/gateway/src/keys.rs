//! The keys of all namespaces, as the log has them.
//!
//! A gateway follows the events that make and end keys, so that both are known here as soon as they stand in the log.
//! Silence alone would not tell whether there is no news or no way for them to come; so now and then the end of the log
//! is asked for and the log read up to there. What is known is never older than [`Pace::stale`]: where the broker has
//! been away for longer, nobody is let in, and a key that was revoked meanwhile opens nothing.

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use redrive_broker::{Broker, BrokerError, Entry, Range, nats::NatsBroker};
use redrive_domain::{
    event::Envelope,
    ids::{KeyId, Namespace},
    keys::{Key, KeyStatus, KeyView, Keyrings, NotAdmitted, Scopes, Token},
    subject,
    time::Timestamp,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{Auth, Config, problem::Problem};

/// The wait before another try where the log cannot be followed.
const AGAIN: Duration = Duration::from_millis(500);
/// How long one look at the log may take.
const LOOK: Duration = Duration::from_secs(10);
/// How long somebody waits for the gateway to know what stands in the log.
const PATIENCE: Duration = Duration::from_secs(5);
/// Those who wait for a look at once; more are told what is known.
const WAITING: usize = 256;

/// How fresh what is known has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How often the log is asked for its end.
    pub(crate) check: Duration,
    /// The wait between two looks that callers with unknown keys ask for.
    pub(crate) rest: Duration,
    /// After how long without a look nobody is let in any more.
    pub(crate) stale: Duration,
}

impl Pace {
    /// The usual one.
    pub(crate) const USUAL: Self = Self {
        check: Duration::from_secs(2),
        rest: Duration::from_millis(100),
        stale: Duration::from_secs(15),
    };
}

/// What keys there are.
#[derive(Debug, Clone)]
pub(crate) struct Keyring {
    known: watch::Receiver<Known>,
    looks: mpsc::Sender<oneshot::Sender<()>>,
    stale: Duration,
    needed: bool,
}

/// What is known, and how far.
#[derive(Debug, Default)]
struct Known {
    rings: Keyrings,
    /// The last event that was taken.
    taken: u64,
    /// The sequence up to which the log was read.
    read: u64,
    /// A time at which nothing was missing here of what stood in the log.
    at: Option<Instant>,
}

impl Known {
    /// The log is read twice, by following it and by looking: what was taken once is not taken again.
    fn take(&mut self, entry: &Entry) {
        if entry.seq <= self.taken {
            return;
        }
        self.taken = entry.seq;
        match Envelope::decode(&entry.payload) {
            Ok(envelope) => self.rings.take(entry.seq, &envelope),
            // A key that only a later version can read lets nobody in here.
            Err(error) => {
                tracing::error!(seq = entry.seq, %error, "an event about keys is passed over");
            }
        }
    }
}

/// Whoever has a key that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) namespace: Namespace,
    pub(crate) key: KeyId,
    pub(crate) name: String,
    pub(crate) scopes: Scopes,
    pub(crate) expires_at: Option<Timestamp>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shut {
    /// The key is not good.
    Key(NotAdmitted),
    /// Nobody knows just now.
    OutOfTouch,
}

impl From<NotAdmitted> for Shut {
    fn from(why: NotAdmitted) -> Self {
        Self::Key(why)
    }
}

impl Keyring {
    /// Begins to follow the log.
    pub(crate) fn follow(broker: &NatsBroker, config: &Config, stop: &CancellationToken) -> Self {
        let needed = config.auth == Auth::Keys;
        let filter = subject::events_about_keys(config.shard, None);
        Self::begin(broker.clone(), filter, Pace::USUAL, needed, stop.clone())
    }

    fn begin<B: Broker>(
        broker: B,
        filter: String,
        pace: Pace,
        needed: bool,
        stop: CancellationToken,
    ) -> Self {
        let (told, known) = watch::channel(Known::default());
        let (looks, asked) = mpsc::channel(WAITING);
        let follower = Follower {
            broker,
            filter,
            pace,
            told,
            asked,
        };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = follower.run() => {}
            }
        });
        Self {
            known,
            looks,
            stale: pace.stale,
            needed,
        }
    }

    /// Whether the keys are known as far as the log goes, or are not needed.
    pub(crate) fn is_read(&self) -> bool {
        !self.needed || self.is_in_touch()
    }

    fn is_in_touch(&self) -> bool {
        let at = self.known.borrow().at;
        at.is_some_and(|at| at.elapsed() < self.stale)
    }

    /// Lets somebody in who shows this. A key that is not known may have been made just now: so the log is looked at
    /// before anybody is turned away, at most [`Pace::rest`] apart for all who ask.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn admit(&self, token: &Token) -> Result<Holder, Shut> {
        if self.known.borrow().at.is_none() {
            // It has just begun.
            self.look().await;
        }
        match self.look_up(token) {
            Err(Shut::Key(NotAdmitted::Unknown)) => {
                self.look().await;
                self.look_up(token)
            }
            found => found,
        }
    }

    fn look_up(&self, token: &Token) -> Result<Holder, Shut> {
        if !self.is_in_touch() {
            return Err(Shut::OutOfTouch);
        }
        let known = self.known.borrow();
        let key = known.rings.admit(token, now())?;
        Ok(Holder {
            namespace: token.namespace.clone(),
            key: token.key,
            name: key.name.to_string(),
            scopes: key.scopes.clone(),
            expires_at: key.expires_at,
        })
    }

    /// Whether a key that was good still is, and that is known.
    pub(crate) fn is_good(&self, namespace: &Namespace, key: KeyId) -> bool {
        if !self.is_in_touch() {
            return false;
        }
        let known = self.known.borrow();
        let key = known.rings.of(namespace).and_then(|ring| ring.get(key));
        key.is_some_and(|key| key.status(now()) == KeyStatus::Live)
    }

    /// A key of a namespace, as it is now.
    pub(crate) fn one(&self, namespace: &Namespace, id: KeyId) -> Option<KeyView> {
        let known = self.known.borrow();
        let key: &Key = known.rings.of(namespace)?.get(id)?;
        Some(KeyView::of(id, key, now()))
    }

    /// The keys of a namespace, as they are now, and the sequence up to which the log was read for that.
    pub(crate) fn all(&self, namespace: &Namespace, ended: bool) -> (Vec<KeyView>, u64) {
        let known = self.known.borrow();
        let ring = known.rings.of(namespace);
        let keys = ring.map_or_else(Vec::new, |ring| ring.view(now(), ended));
        (keys, known.read.max(known.taken))
    }

    /// Reads the log up to its present end: what stood in it when this was called is known then.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(crate) async fn refresh(&self) -> Result<(), Problem> {
        let asked = Instant::now();
        // Whoever has been let in waits for a place: those who have not cannot crowd them out.
        let (answer, done) = oneshot::channel();
        let looked = async {
            if self.looks.send(answer).await.is_ok() {
                let _ = done.await;
            }
        };
        let _ = timeout(PATIENCE, looked).await;
        match self.known.borrow().at {
            Some(at) if at >= asked => Ok(()),
            _ => Err(out_of_touch()),
        }
    }

    async fn look(&self) {
        let (answer, done) = oneshot::channel();
        if self.looks.try_send(answer).is_ok() {
            let _ = timeout(PATIENCE, done).await;
        }
    }
}

/// Nobody is let in on what was known once.
pub(crate) fn out_of_touch() -> Problem {
    Problem::Unavailable {
        message: "keys cannot be checked just now: ask again".to_owned(),
    }
}

/// The time, by this machine's clock: expiries are judged by it.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::default().plus(since.unwrap_or_default().into())
}

struct Follower<B> {
    broker: B,
    filter: String,
    pace: Pace,
    told: watch::Sender<Known>,
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

impl<B: Broker> Follower<B> {
    async fn run(mut self) {
        let mut tick = interval(self.pace.check);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut news: Option<BoxStream<'static, Result<Entry, BrokerError>>> = None;
        let mut looked = None;
        let mut waiting = Vec::new();
        loop {
            let next = async {
                match &mut news {
                    Some(news) => news.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = tick.tick() => {}
                count = self.asked.recv_many(&mut waiting, WAITING) => {
                    if count == 0 {
                        return;
                    }
                    let rest = looked.map_or(Duration::ZERO, |at: Instant| {
                        self.pace.rest.saturating_sub(at.elapsed())
                    });
                    sleep(rest).await;
                }
                entry = next => {
                    match entry {
                        Some(Ok(entry)) => self.told.send_modify(|known| known.take(&entry)),
                        ended => {
                            if let Some(Err(error)) = ended {
                                tracing::warn!(%error, "keys cannot be followed; trying again");
                            }
                            sleep(AGAIN).await;
                            news = None;
                        }
                    }
                    continue;
                }
            }
            // Whoever asked while the rest went by has their answer from the same look.
            while let Ok(one) = self.asked.try_recv() {
                waiting.push(one);
            }
            let answered = timeout(LOOK, self.look()).await;
            looked = Some(Instant::now());
            waiting.clear();
            match answered {
                Ok(Ok(())) if news.is_none() => {
                    let from = self.told.borrow().taken + 1;
                    news = Some(self.read(from, None));
                }
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the log cannot be looked at for keys"),
                Err(_) => tracing::debug!("a look at the log for keys took too long"),
            }
        }
    }

    /// Reads up to the end that the log has now.
    async fn look(&self) -> Result<(), BrokerError> {
        let at = Instant::now();
        let end = self.broker.last_seq().await?;
        // A look that was cut short is gone on with: events come in order.
        let read = {
            let known = self.told.borrow();
            known.read.max(known.taken)
        };
        if end > read {
            let mut entries = self.read(read + 1, Some(end));
            while let Some(entry) = entries.next().await {
                let entry = entry?;
                self.told.send_modify(|known| known.take(&entry));
            }
        }
        self.told.send_modify(|known| {
            known.read = known.read.max(end);
            known.at = Some(at);
        });
        Ok(())
    }

    fn read(
        &self,
        from: u64,
        until: Option<u64>,
    ) -> BoxStream<'static, Result<Entry, BrokerError>> {
        self.broker.read(Range {
            from,
            until,
            filter: Some(self.filter.clone()),
        })
    }
}

#[cfg(test)]
mod tests;
