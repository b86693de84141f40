//! Slots: how many units run at once, shared by all that want to run some.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots of a worker. Whoever waits longest is next.
#[derive(Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// The right to run one unit at a time.
pub(crate) type Slot = OwnedSemaphorePermit;

struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    pub(crate) fn new(count: NonZeroU32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count.get() as usize)),
            waiting: Arc::default(),
        }
    }

    /// Waits for a slot. `None` never comes: the slots are not closed.
    pub(crate) async fn acquire(&self) -> Option<Slot> {
        if let Ok(slot) = self.free.clone().try_acquire_owned() {
            return Some(slot);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(self.waiting.clone());
        self.free.clone().acquire_owned().await.ok()
    }

    /// How many wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// The slots that a chunk has: one from the beginning, and more while there are some to be had.
pub(crate) struct HeldSlots {
    all: Slots,
    held: Vec<Slot>,
    another: Option<BoxFuture<'static, Option<Slot>>>,
}

impl HeldSlots {
    pub(crate) fn new(all: Slots, first: Slot) -> Self {
        Self {
            all,
            held: vec![first],
            another: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Asks for one more slot where one would be of use, and gives up those that are of none: so many are busy, there
    /// are `more` units ready, and these are the `last`.
    pub(crate) fn settle(&mut self, busy: usize, more: bool, last: bool) {
        if !more || busy < self.held.len() {
            self.another = None;
        } else if self.another.is_none() {
            let slots = self.all.clone();
            self.another = Some(async move { slots.acquire().await }.boxed());
        }
        if !more && (last || self.others_wait()) {
            self.held.truncate(busy.max(1));
        }
    }

    /// A unit has ended: where others wait for a slot, they are next, and this chunk goes on with one less.
    pub(crate) fn share(&mut self) {
        if self.held.len() > 1 && self.others_wait() {
            self.held.pop();
        }
    }

    /// Whether it waits for one more.
    pub(crate) fn wants_another(&self) -> bool {
        self.another.is_some()
    }

    /// Waits for one more, which is held from then on. It keeps its turn when it is given up and called again.
    pub(crate) async fn another(&mut self) {
        if let Some(another) = &mut self.another {
            let slot = another.await;
            self.another = None;
            self.held.extend(slot);
        }
    }

    fn others_wait(&self) -> bool {
        self.all.waiting() > usize::from(self.another.is_some())
    }
}
