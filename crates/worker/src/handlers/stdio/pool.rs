//! The processes of one kind of job: as many as there is work for, and none for long without.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use redrive_domain::failure::Failure;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Ask,
    child::{self, Event, How, Over},
    settings::Spec,
};

/// What processes have to tell and was not looked at yet.
const EVENTS: usize = 256;
/// The most units that wait for a process; a worker runs fewer at once.
const QUEUE: usize = 4_096;
/// The most units that one process has.
const PLACES: usize = 1_024;
/// The first wait after a process broke; each one more in a row doubles it.
const BACKOFF: Duration = Duration::from_millis(100);
/// The longest wait after a process broke.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long units share the failure of a process that could not be started.
const REFUSED: Duration = Duration::from_secs(1);

/// A process as its pool sees it.
struct Process {
    /// Without one it has been let go.
    asks: Option<mpsc::Sender<Ask>>,
    /// Units that it takes at once; none before it said hello.
    places: Option<usize>,
    busy: usize,
    idle_since: Instant,
}

struct Pool {
    spec: Arc<Spec>,
    events: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    processes: BTreeMap<u64, Process>,
    next: u64,
    queue: VecDeque<Ask>,
    /// How many units a process takes, as one said.
    known: Option<usize>,
    /// Processes that broke in a row, without an answer in between.
    broken: u32,
    /// No process is started before this.
    not_before: Instant,
    /// Why no process could be started, and until when that counts.
    refused: Option<(Instant, Failure)>,
    idle_since: Instant,
}

/// Runs processes for units until there are none any more, for a while or for good.
pub(super) async fn run(spec: Arc<Spec>, mut asks: mpsc::Receiver<Ask>) {
    let (events, mut told) = mpsc::channel(EVENTS);
    let mut pool = Pool::new(spec, events);
    let mut open = true;
    loop {
        pool.place();
        if !open && pool.queue.is_empty() {
            pool.let_all_go();
            if pool.processes.is_empty() {
                return;
            }
        }
        let due = pool.due();
        tokio::select! {
            ask = asks.recv(), if open && pool.queue.len() < QUEUE => match ask {
                Some(ask) => pool.queue.push_back(ask),
                None => open = false,
            },
            Some(event) = told.recv() => pool.hear(event),
            () = sleep_until(due) => if pool.look() {
                // Whoever comes from now on makes another pool; those that came just before are served.
                asks.close();
            },
            Some(ended) = pool.tasks.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "what looks after a process ended unexpectedly");
            },
        }
    }
}

impl Pool {
    fn new(spec: Arc<Spec>, events: mpsc::Sender<Event>) -> Self {
        let now = Instant::now();
        Self {
            spec,
            events,
            tasks: JoinSet::new(),
            processes: BTreeMap::new(),
            next: 0,
            queue: VecDeque::new(),
            known: None,
            broken: 0,
            not_before: now,
            refused: None,
            idle_since: now,
        }
    }

    /// Gives units to processes, and starts more where that is of use.
    fn place(&mut self) {
        self.queue.retain(|ask| !ask.reply.is_closed());
        for process in self.processes.values_mut() {
            let (Some(asks), Some(places)) = (&process.asks, process.places) else {
                continue;
            };
            while process.busy < places {
                let Some(ask) = self.queue.pop_front() else {
                    return;
                };
                // One that has just ended takes none, and says so soon.
                if let Err(refused) = asks.try_send(ask) {
                    self.queue.push_front(refused.into_inner());
                    break;
                }
                process.busy += 1;
            }
        }
        self.start();
    }

    fn start(&mut self) {
        let now = Instant::now();
        if self.queue.is_empty() {
            return;
        }
        if let Some((_, failure)) = self.refused.as_ref().filter(|(until, _)| *until > now) {
            let failure = failure.clone();
            // Those that run go on with what waits.
            if self
                .processes
                .values()
                .all(|process| process.places.is_none())
            {
                for ask in self.queue.drain(..) {
                    let _ = ask.reply.send(Err(failure.clone()));
                }
            }
            return;
        }
        let wanted = self
            .known
            .map_or(1, |places| self.queue.len().div_ceil(places));
        let starting = |process: &&Process| process.places.is_none() && process.asks.is_some();
        let mut starting = self.processes.values().filter(starting).count();
        while starting < wanted
            && self.processes.len() < self.spec.processes
            && self.not_before <= now
        {
            starting += 1;
            let number = self.next;
            self.next += 1;
            let (asks, receiver) = mpsc::channel(PLACES);
            let process = Process {
                asks: Some(asks),
                places: None,
                busy: 0,
                idle_since: now,
            };
            self.processes.insert(number, process);
            let (spec, events) = (self.spec.clone(), self.events.clone());
            self.tasks.spawn(child::run(spec, number, receiver, events));
        }
    }

    fn hear(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Ready(number, places) => {
                self.known = Some(places);
                if let Some(process) = self.processes.get_mut(&number) {
                    process.places = Some(places);
                    process.idle_since = now;
                }
            }
            Event::Freed(number) => {
                self.broken = 0;
                if let Some(process) = self.processes.get_mut(&number) {
                    process.busy = process.busy.saturating_sub(1);
                    process.idle_since = now;
                }
            }
            Event::Leaving(number) => {
                if let Some(process) = self.processes.get_mut(&number) {
                    process.asks = None;
                }
            }
            Event::Over(number, Over { how, returned }) => {
                self.processes.remove(&number);
                for ask in returned.into_iter().rev() {
                    self.queue.push_front(ask);
                }
                match how {
                    How::Ended => {}
                    How::Broken => self.back_off(now),
                    How::NotStarted(failure) => {
                        self.not_before = now + REFUSED;
                        self.refused = Some((self.not_before, failure));
                    }
                }
            }
        }
        self.idle_since = now;
    }

    fn back_off(&mut self, now: Instant) {
        let wait = BACKOFF * 2_u32.saturating_pow(self.broken.min(16));
        self.broken = self.broken.saturating_add(1);
        self.not_before = now + wait.min(BACKOFF_MAX);
    }

    /// When to look again, whatever happens.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let idle = self.idle().map(|(_, since)| since + self.spec.idle);
        let refused = self.refused.as_ref().map(|(until, _)| *until);
        let start = [Some(self.not_before), refused].into_iter().flatten();
        let start = start.filter(|due| *due > now && !self.queue.is_empty());
        let soonest = idle.into_iter().chain(start).min();
        // With nothing to wait for, all that can come of time is that the pool itself ends.
        soonest.unwrap_or_else(|| self.idle_since.max(now) + self.spec.idle.max(REFUSED))
    }

    /// Processes that hold nothing, with the moment since when.
    fn idle(&self) -> Option<(u64, Instant)> {
        let idle = self.processes.iter().filter(|(_, process)| {
            process.busy == 0 && process.places.is_some() && process.asks.is_some()
        });
        idle.map(|(number, process)| (*number, process.idle_since))
            .min_by_key(|(_, since)| *since)
    }

    /// Lets go of what has been idle for long; whether nothing is left.
    fn look(&mut self) -> bool {
        let now = Instant::now();
        while let Some((number, since)) = self.idle() {
            if since + self.spec.idle > now {
                break;
            }
            if let Some(process) = self.processes.get_mut(&number) {
                process.asks = None;
            }
        }
        self.processes.is_empty()
            && self.queue.is_empty()
            && self.idle_since + self.spec.idle <= now
    }

    fn let_all_go(&mut self) {
        for process in self.processes.values_mut() {
            process.asks = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{handlers::stdio::settings::Settings, limits::Share};

    #[test]
    fn the_wait_after_a_broken_process_grows_within_a_bound_and_an_answer_ends_it() {
        let share = Share {
            memory_bytes: None,
            num_cpus: 1,
        };
        let settings = Settings::read(&json!({ "command": "true" }), share).unwrap();
        let mut pool = Pool::new(settings.spec, mpsc::channel(EVENTS).0);
        let now = Instant::now();
        let waits: Vec<Duration> = (0..100)
            .map(|_| {
                pool.back_off(now);
                pool.not_before - now
            })
            .collect();
        assert_eq!(waits[..3], [BACKOFF, BACKOFF * 2, BACKOFF * 4]);
        assert_eq!(waits.last(), Some(&BACKOFF_MAX));
        pool.hear(Event::Freed(0));
        pool.back_off(now);
        assert_eq!(pool.not_before - now, BACKOFF);
    }
}
