//! What is taken and acknowledged.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

use super::{Part, Store, wait};
use crate::{BrokerError, Deliveries, Delivery, Message, Receipt, Result, pattern::matches};

/// How long a delivery may stay without an answer.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// How long ids are remembered.
const REMEMBERED: Duration = Duration::from_secs(120);

pub(super) struct Queue {
    /// Which queue it is, or who reads it: what belongs to another one is void.
    pub(super) incarnation: u64,
    /// Which queue it is, whoever reads it.
    number: u64,
    /// Whether somebody has become its reader.
    pub(super) is_read: bool,
    last: u64,
    messages: BTreeMap<u64, Queued>,
    ids: BTreeMap<String, Instant>,
}

struct Queued {
    message: Message,
    delivered: u64,
    /// Until when it is somebody's.
    held: Option<Instant>,
}

impl Queue {
    pub(super) fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            number: incarnation,
            is_read: false,
            last: 0,
            messages: BTreeMap::new(),
            ids: BTreeMap::new(),
        }
    }

    pub(super) fn put(&mut self, message: Message, id: Option<&str>) {
        let now = Instant::now();
        if let Some(id) = id {
            self.ids.retain(|_, until| *until > now);
            if self.ids.contains_key(id) {
                return;
            }
            self.ids.insert(id.to_owned(), now + REMEMBERED);
        }
        self.last += 1;
        self.messages.insert(
            self.last,
            Queued {
                message,
                delivered: 0,
                held: None,
            },
        );
    }

    /// Gives everything to a new reader, as if it had never been delivered.
    pub(super) fn start_over(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
        self.is_read = true;
        for queued in self.messages.values_mut() {
            queued.held = None;
            queued.delivered = 0;
        }
    }

    pub(super) fn purge(&mut self, filter: &str) {
        self.messages
            .retain(|_, queued| !matches(filter, &queued.message.subject));
    }

    /// How many messages nobody has, and how many somebody has.
    pub(super) fn counts(&self) -> (u64, u64) {
        let now = Instant::now();
        let is_held = |queued: &&Queued| queued.held.is_some_and(|until| until > now);
        let held = self.messages.values().filter(is_held).count();
        ((self.messages.len() - held) as u64, held as u64)
    }

    pub(super) fn subjects(&self) -> Vec<String> {
        let mut subjects: Vec<String> = self
            .messages
            .values()
            .map(|queued| queued.message.subject.clone())
            .collect();
        subjects.sort();
        subjects.dedup();
        subjects
    }
}

pub(super) struct Taker {
    pub(super) store: Arc<Store>,
    pub(super) part: Part,
    pub(super) incarnation: u64,
    pub(super) filter: String,
}

impl Taker {
    /// Takes what is there, or says when to look again at the latest.
    fn take(&self, max: usize) -> Result<(Vec<Delivery>, Option<Instant>)> {
        let now = Instant::now();
        let mut state = self.store.lock();
        let queue = state
            .queue(self.part)
            .filter(|queue| queue.incarnation == self.incarnation)
            .ok_or_else(|| BrokerError::Missing(format!("{:?}", self.part)))?;
        let number = queue.number;
        let mut taken = Vec::new();
        let mut again: Option<Instant> = None;
        for (seq, queued) in &mut queue.messages {
            if taken.len() == max {
                break;
            }
            if !matches(&self.filter, &queued.message.subject) {
                continue;
            }
            if let Some(until) = queued.held.filter(|until| *until > now) {
                again = Some(again.map_or(until, |again| again.min(until)));
                continue;
            }
            queued.held = Some(now + ACK_WAIT);
            queued.delivered += 1;
            taken.push(Delivery {
                subject: queued.message.subject.clone(),
                payload: queued.message.payload.clone(),
                trace: queued.message.trace.clone(),
                id: u128::from(number) << 64 | u128::from(*seq),
                delivered: queued.delivered,
                receipt: Box::new(MemoryReceipt {
                    store: self.store.clone(),
                    part: self.part,
                    incarnation: self.incarnation,
                    seq: *seq,
                }),
            });
        }
        Ok((taken, again))
    }
}

impl Deliveries for Taker {
    fn next(&mut self, max: usize, wait_for: Duration) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        async move {
            let end = Instant::now() + wait_for;
            loop {
                let changed = self.store.changes.notified();
                let (taken, again) = self.take(max)?;
                if !taken.is_empty() || Instant::now() >= end {
                    return Ok(taken);
                }
                let until = again.map_or(end, |again| again.min(end));
                wait(changed, Some(until)).await;
            }
        }
        .boxed()
    }
}

struct MemoryReceipt {
    store: Arc<Store>,
    part: Part,
    incarnation: u64,
    seq: u64,
}

impl MemoryReceipt {
    fn answer(&self, answer: impl FnOnce(&mut BTreeMap<u64, Queued>, u64)) {
        self.store.change(|state| {
            let queue = state.queue(self.part);
            if let Some(queue) = queue.filter(|queue| queue.incarnation == self.incarnation) {
                answer(&mut queue.messages, self.seq);
            }
        });
    }

    fn hold(&self, until: Option<Instant>) {
        self.answer(|messages, seq| {
            if let Some(queued) = messages.get_mut(&seq) {
                queued.held = until;
            }
        });
    }
}

impl Receipt for MemoryReceipt {
    fn ack(&self) -> BoxFuture<'_, Result<()>> {
        async {
            self.answer(|messages, seq| {
                messages.remove(&seq);
            });
            Ok(())
        }
        .boxed()
    }

    fn give_back(&self) -> BoxFuture<'_, Result<()>> {
        async {
            self.hold(None);
            Ok(())
        }
        .boxed()
    }

    fn extend(&self) -> BoxFuture<'_, Result<()>> {
        async {
            self.hold(Some(Instant::now() + ACK_WAIT));
            Ok(())
        }
        .boxed()
    }
}
