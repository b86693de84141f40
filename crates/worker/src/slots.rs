//! Slots: how many units run at once, shared by all that want to run some.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

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
