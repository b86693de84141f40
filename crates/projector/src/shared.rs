//! What the follower and the queries share: the view, the store behind it, and how far the log has been read.

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use redrive_domain::{
    credits::Ledger,
    ids::{BatchId, BatchKey, Namespace},
    query::BatchSummary,
    state::BatchState,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use crate::{
    blocking::Blocking,
    store::{Store, StoreError},
    view::{Loaded, View},
};

/// Entries of the stored list that one question looks at, at most; a filter that fits few of them is answered with a
/// page that is short and goes on.
pub(crate) const LIST_SCAN: usize = 20_000;

/// The view with its store. They are replaced together.
#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) view: View,
    /// None while the view is being opened or made anew.
    pub(crate) store: Option<Arc<Store>>,
    /// Whether the log is known to be the one that the view was read from.
    pub(crate) trusted: bool,
    /// Grows when the view is made anew: what was read from the store before means nothing then.
    pub(crate) epoch: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: RwLock<Inner>,
    applied: watch::Sender<u64>,
    /// Tells the follower that the view has to be made anew.
    pub(crate) unusable: Notify,
    blocking: Blocking,
}

/// Why there is no answer now, though there may be one soon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(pub(crate) String);

impl Unavailable {
    fn rebuilding() -> Self {
        Self("the projector is building its view anew from the log: ask again".into())
    }
}

/// A batch, and what of the log it includes.
#[derive(Debug, Clone)]
pub(crate) struct Found<T> {
    pub(crate) what: T,
    pub(crate) as_of: u64,
}

/// A page of a list of batches, newest first.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) items: Vec<BatchSummary>,
    /// The sequence from before which the next page goes on.
    pub(crate) next: Option<u64>,
}

impl Shared {
    pub(crate) fn new(blocking: Blocking) -> Self {
        Self {
            inner: RwLock::default(),
            applied: watch::Sender::new(0),
            unusable: Notify::new(),
            blocking,
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes batches into memory that were read from the store.
    pub(crate) fn take_in(&self, loaded: Vec<Loaded>) {
        let mut inner = self.write();
        for loaded in loaded {
            inner.view.insert(loaded);
        }
    }

    /// Tells those who wait how far the log has been read.
    pub(crate) fn publish(&self, seq: u64) {
        self.applied.send_replace(seq);
    }

    pub(crate) fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Waits until the view includes a sequence, a bounded while.
    pub(crate) async fn wait_for(&self, seq: u64, wait: Duration) -> Result<(), Unavailable> {
        let mut applied = self.applied.subscribe();
        let reached = timeout(wait, applied.wait_for(|applied| *applied >= seq)).await;
        if matches!(reached, Ok(Ok(_))) {
            return Ok(());
        }
        let applied = self.applied();
        Err(Unavailable(format!(
            "the projector has read the log up to {applied} of {seq}: ask again"
        )))
    }

    /// The view, if it includes that sequence.
    fn open(&self, need: u64) -> Result<(RwLockReadGuard<'_, Inner>, Arc<Store>), Unavailable> {
        let inner = self.read();
        match &inner.store {
            Some(store) if inner.trusted && inner.view.mark().seq >= need => {
                let store = Arc::clone(store);
                Ok((inner, store))
            }
            _ => Err(Unavailable::rebuilding()),
        }
    }

    /// Works on the store where blocking does no harm.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.blocking.start(work).await
    }

    fn lost(&self, error: &StoreError) -> Unavailable {
        tracing::warn!(%error, "the stored view cannot be read");
        self.unusable.notify_one();
        Unavailable::rebuilding()
    }

    /// A batch as of now, where there is one, from memory or from the store.
    pub(crate) async fn batch(
        &self,
        key: &BatchKey,
        need: u64,
    ) -> Result<Found<Option<Arc<BatchState>>>, Unavailable> {
        loop {
            let (store, as_of, epoch, evictions) = {
                let (inner, store) = self.open(need)?;
                let as_of = inner.view.mark().seq;
                if let Some(state) = inner.view.get(key) {
                    let as_of = as_of.max(state.last_seq);
                    let what = Some(state);
                    return Ok(Found { what, as_of });
                }
                (store, as_of, inner.epoch, inner.view.evictions())
            };
            let wanted = key.clone();
            let loaded = self.blocking(move || store.load(&wanted)).await;
            let mut inner = self.write();
            if inner.epoch != epoch {
                continue;
            }
            let loaded = loaded.map_err(|error| self.lost(&error))?;
            let Some(loaded) = loaded else {
                return Ok(Found { what: None, as_of });
            };
            let state = Arc::clone(&loaded.state);
            // If anything left memory meanwhile, it may have been a newer state of this batch.
            if inner.view.evictions() == evictions {
                inner.view.insert(loaded);
            }
            let as_of = as_of.max(state.last_seq);
            let what = Some(state);
            return Ok(Found { what, as_of });
        }
    }

    /// The ledger of a namespace; an empty one, where it has none.
    pub(crate) fn ledger(
        &self,
        namespace: &Namespace,
        need: u64,
    ) -> Result<Found<Ledger>, Unavailable> {
        let (inner, _) = self.open(need)?;
        let what = inner.view.ledger(namespace).cloned().unwrap_or_default();
        let as_of = inner.view.mark().seq.max(what.last_seq);
        Ok(Found { what, as_of })
    }

    /// The id of the namespace's last batch.
    pub(crate) async fn last(
        &self,
        namespace: &Namespace,
        need: u64,
    ) -> Result<Option<BatchId>, Unavailable> {
        let any = |_: &BatchSummary| true;
        let found = self.list(namespace, need, None, 1, any).await?;
        Ok(found.what.items.first().map(|summary| summary.batch))
    }

    /// The batches of a namespace from before a sequence, newest first, those that are wanted.
    pub(crate) async fn list(
        &self,
        namespace: &Namespace,
        need: u64,
        before: Option<u64>,
        limit: usize,
        wanted: impl Fn(&BatchSummary) -> bool + Clone + Send + 'static,
    ) -> Result<Found<Listed>, Unavailable> {
        loop {
            let (store, as_of, epoch, here) = {
                let (inner, store) = self.open(need)?;
                let here = inner.view.of_namespace(namespace);
                let here: Vec<Arc<BatchState>> = here.map(Arc::clone).collect();
                (store, inner.view.mark().seq, inner.epoch, here)
            };
            // What came after this moment is for the next question.
            let before = before.unwrap_or(u64::MAX).min(as_of.saturating_add(1));
            let (namespace, wanted) = (namespace.clone(), wanted.clone());
            let work = move || merge(&store, &namespace, here, before, limit, &wanted);
            let listed = self.blocking(work).await;
            if self.read().epoch != epoch {
                continue;
            }
            let what = listed.map_err(|error| self.lost(&error))?;
            return Ok(Found { what, as_of });
        }
    }
}

/// The stored list, with the batches that are in memory in place of what the store has of them.
fn merge(
    store: &Store,
    namespace: &Namespace,
    mut here: Vec<Arc<BatchState>>,
    before: u64,
    limit: usize,
    wanted: &impl Fn(&BatchSummary) -> bool,
) -> Result<Listed, StoreError> {
    here.retain(|state| state.created_seq < before);
    here.sort_unstable_by_key(|state| state.created_seq);
    let mut stored = store.list(namespace, before).peekable();
    let mut listed = Listed::default();
    let mut last = None;
    for _ in 0..LIST_SCAN {
        let next = match stored.peek() {
            Some(Ok((seq, _))) => Some(*seq),
            Some(Err(_)) | None => None,
        };
        let (seq, summary) = match here.last() {
            Some(state) if next.is_none_or(|seq| seq <= state.created_seq) => {
                if next == Some(state.created_seq) {
                    stored.next().transpose()?;
                }
                (state.created_seq, BatchSummary::of(state))
            }
            _ => match stored.next().transpose()? {
                Some(found) => found,
                None => return Ok(listed),
            },
        };
        if here.last().is_some_and(|state| state.created_seq == seq) {
            here.pop();
        }
        if wanted(&summary) {
            if listed.items.len() == limit {
                listed.next = last;
                return Ok(listed);
            }
            listed.items.push(summary);
        }
        last = Some(seq);
    }
    listed.next = last;
    Ok(listed)
}
