//! What the projector knows, in memory: a pure fold of the log over the batches that are active or were recently
//! asked for. It does no I/O; what is not here is in the store, as of the last checkpoint that held it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use redrive_domain::{
    credits::{Ledger, Ledgers},
    event::Envelope,
    evolve::evolve,
    ids::{BatchId, BatchKey, Namespace},
    state::BatchState,
};

/// How far the log has been read, and a mark of the last message, by which the log is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// The sequence of the last message that was read; 0 before the first.
    pub(crate) seq: u64,
    /// See [`redrive_broker::mark`].
    pub(crate) print: u64,
}

/// A batch with what it weighs.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) state: Arc<BatchState>,
    /// Bytes of its encoding, about what it takes in memory too.
    pub(crate) weight: usize,
}

/// What a checkpoint has to write: all of it or nothing.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) mark: Mark,
    pub(crate) states: Vec<Arc<BatchState>>,
    /// Those ledgers that have changed.
    pub(crate) ledgers: Ledgers,
}

/// A batch that a checkpoint wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) key: BatchKey,
    pub(crate) last_seq: u64,
    pub(crate) weight: usize,
}

/// One batch in memory.
#[derive(Debug)]
struct Held {
    state: Arc<BatchState>,
    /// The sequence of its last event that is in the store; 0 if it is not there.
    saved: u64,
    weight: usize,
    used: AtomicU64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct View {
    mark: Mark,
    batches: BTreeMap<BatchKey, Held>,
    dirty: BTreeSet<BatchKey>,
    clean_weight: usize,
    tick: AtomicU64,
    /// Grows whenever a batch leaves memory: what was read from the store before that may be out of date.
    evictions: u64,
    ledgers: Ledgers,
    /// The sequence up to which the store has the ledgers.
    ledgers_saved: u64,
}

impl View {
    /// A view that goes on from a checkpoint.
    pub(crate) fn at(mark: Mark, ledgers: Ledgers) -> Self {
        Self {
            mark,
            ledgers,
            ledgers_saved: mark.seq,
            ..Self::default()
        }
    }

    /// The ledger of a namespace, where it has one.
    pub(crate) fn ledger(&self, namespace: &Namespace) -> Option<&Ledger> {
        self.ledgers.of(namespace)
    }

    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    pub(crate) fn evictions(&self) -> u64 {
        self.evictions
    }

    pub(crate) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    fn touch(&self, held: &Held) {
        let now = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        held.used.store(now, Ordering::Relaxed);
    }

    /// A batch, if it is in memory.
    pub(crate) fn get(&self, key: &BatchKey) -> Option<Arc<BatchState>> {
        let held = self.batches.get(key)?;
        self.touch(held);
        Some(Arc::clone(&held.state))
    }

    pub(crate) fn has(&self, key: &BatchKey) -> bool {
        self.batches.contains_key(key)
    }

    /// The batches of a namespace that are in memory.
    pub(crate) fn of_namespace(
        &self,
        namespace: &Namespace,
    ) -> impl Iterator<Item = &Arc<BatchState>> {
        let end = |id: u128| BatchKey {
            namespace: namespace.clone(),
            batch: BatchId(uuid::Uuid::from_u128(id)),
        };
        let range = self.batches.range(end(0)..=end(u128::MAX));
        range.map(|(_, held)| &held.state)
    }

    /// Takes in a batch that was read from the store, unless it is here already.
    pub(crate) fn insert(&mut self, loaded: Loaded) {
        let Loaded { state, weight } = loaded;
        let key = state.key.clone();
        if self.has(&key) {
            return;
        }
        let held = Held {
            saved: state.last_seq,
            state,
            weight,
            used: AtomicU64::new(0),
        };
        self.touch(&held);
        self.clean_weight += weight;
        self.batches.insert(key, held);
    }

    /// Folds an event. Its batch has to be in memory if the store has it.
    pub(crate) fn apply(&mut self, seq: u64, envelope: &Envelope) {
        self.ledgers.take(seq, envelope);
        let key = envelope.key();
        match self.batches.remove(&key) {
            Some(held) => {
                if !self.dirty.contains(&key) {
                    self.clean_weight -= held.weight;
                }
                // Only while a query or a checkpoint holds the state is it copied.
                let mut state = Some(Arc::unwrap_or_clone(held.state));
                evolve(&mut state, seq, envelope);
                if let Some(state) = state {
                    self.hold(key, state, held.saved, held.weight);
                }
            }
            None => {
                let mut state = None;
                evolve(&mut state, seq, envelope);
                if let Some(state) = state {
                    self.hold(key, state, 0, 0);
                }
            }
        }
    }

    fn hold(&mut self, key: BatchKey, state: BatchState, saved: u64, weight: usize) {
        let held = Held {
            state: Arc::new(state),
            saved,
            weight,
            used: AtomicU64::new(0),
        };
        self.touch(&held);
        self.batches.insert(key.clone(), held);
        self.dirty.insert(key);
    }

    /// Notes that the log has been read up to here.
    pub(crate) fn reached(&mut self, mark: Mark) {
        self.mark = mark;
    }

    /// What a checkpoint has to write now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let states = self.dirty.iter().filter_map(|key| self.batches.get(key));
        let changed = |(_, ledger): &(&Namespace, &Ledger)| ledger.last_seq > self.ledgers_saved;
        let ledgers = self.ledgers.iter().filter(changed);
        Snapshot {
            mark: self.mark,
            states: states.map(|held| Arc::clone(&held.state)).collect(),
            ledgers: ledgers
                .map(|(namespace, ledger)| (namespace.clone(), ledger.clone()))
                .collect(),
        }
    }

    /// Notes what a checkpoint up to this sequence has written.
    pub(crate) fn saved(&mut self, seq: u64, saved: &[Saved]) {
        self.ledgers_saved = seq;
        for Saved {
            key,
            last_seq,
            weight,
        } in saved
        {
            let Some(held) = self.batches.get_mut(key) else {
                continue;
            };
            held.saved = *last_seq;
            held.weight = *weight;
            if held.state.last_seq == *last_seq && self.dirty.remove(key) {
                self.clean_weight += held.weight;
            }
        }
    }

    /// Lets go of batches that are in the store as they are here, those first that were not asked for longest, until
    /// at most so many, of so many bytes, are left of them.
    pub(crate) fn evict(&mut self, batches: usize, bytes: usize) {
        let clean = self.batches.len() - self.dirty.len();
        if clean <= batches && self.clean_weight <= bytes {
            return;
        }
        let mut oldest: Vec<(u64, BatchKey)> = self
            .batches
            .iter()
            .filter(|(key, _)| !self.dirty.contains(*key))
            .map(|(key, held)| (held.used.load(Ordering::Relaxed), key.clone()))
            .collect();
        oldest.sort_unstable_by_key(|(used, _)| *used);
        let mut left = clean;
        for (_, key) in oldest {
            if left <= batches && self.clean_weight <= bytes {
                break;
            }
            if let Some(held) = self.batches.remove(&key) {
                self.clean_weight -= held.weight;
                self.evictions += 1;
                left -= 1;
            }
        }
    }
}
