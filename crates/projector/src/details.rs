//! What stands in the log and not in the state: documents, outputs and why units failed. It is looked up by the
//! sequences that the state keeps, through a cache of bounded size.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt, TryStreamExt};
use redrive_broker::{Broker, Entry};
use redrive_domain::{
    document::Output,
    event::{Attempt, Envelope, Event},
    failure::Failure,
    time::Timestamp,
    units::{Ordinal, Places, UnitSet},
};

use crate::{
    lru::Lru,
    shared::{Shared, Unavailable},
};

/// Messages that one question fetches at once.
const AT_ONCE: usize = 8;

/// A document, as rows name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) id: String,
    pub(crate) uri: Option<String>,
}

/// Units that failed for one reason.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) units: UnitSet,
    pub(crate) failure: Failure,
}

/// What is needed of one message.
#[derive(Debug)]
pub(crate) enum Detail {
    Documents {
        first: Ordinal,
        names: Vec<Name>,
    },
    Failed {
        at: Timestamp,
        attempt: Attempt,
        groups: Vec<Group>,
    },
    Outputs(BTreeMap<Ordinal, Output>),
    Nothing,
}

impl Detail {
    fn of(entry: &Entry) -> Result<Self, String> {
        let envelope = Envelope::decode(&entry.payload).map_err(|e| e.to_string())?;
        Ok(match envelope.event {
            Event::DocumentsAdded {
                first, documents, ..
            } => {
                let documents = documents.open().map_err(|e| e.to_string())?;
                let name = |document: redrive_domain::document::Document| Name {
                    id: document.id,
                    uri: document.uri,
                };
                let names = documents.into_iter().map(name).collect();
                Self::Documents { first, names }
            }
            Event::DocumentsFailed { attempt, units, .. } => {
                let group = |failed: redrive_domain::work::FailedUnits| Group {
                    units: failed.units,
                    failure: failed.failure,
                };
                Self::Failed {
                    at: envelope.at,
                    attempt,
                    groups: units.into_iter().map(group).collect(),
                }
            }
            Event::DocumentsCompleted {
                outputs: Some(outputs),
                ..
            } => {
                let outputs = outputs.open().map_err(|e| e.to_string())?;
                Self::Outputs(outputs.into_iter().collect())
            }
            _ => Self::Nothing,
        })
    }

    /// The name of a document that the message adds.
    fn name(&self, ordinal: Ordinal) -> Option<&Name> {
        match self {
            Self::Documents { first, names } => {
                names.get(usize::try_from(ordinal.checked_sub(*first)?).ok()?)
            }
            _ => None,
        }
    }
}

/// Where single messages of a log are read.
pub(crate) trait Source: Send + Sync {
    /// Grows whenever it has become another log.
    fn epoch(&self) -> u64;

    /// The message of that sequence, where it is there.
    fn get(&self, seq: u64) -> impl Future<Output = Result<Option<Entry>, String>> + Send;
}

/// The log of a broker, as far as a view of it goes.
pub(crate) struct Live<B> {
    pub(crate) broker: B,
    pub(crate) shared: Arc<Shared>,
}

impl<B: Broker> Source for Live<B> {
    fn epoch(&self) -> u64 {
        self.shared.read().epoch
    }

    async fn get(&self, seq: u64) -> Result<Option<Entry>, String> {
        self.broker.get(seq).await.map_err(|e| e.to_string())
    }
}

/// See the module.
pub(crate) struct Details<S> {
    source: S,
    /// By the source's epoch and the sequence.
    cache: Mutex<Lru<(u64, u64), Arc<Detail>>>,
}

impl<S: Source> Details<S> {
    pub(crate) fn new(source: S, cache_bytes: usize) -> Self {
        Self {
            source,
            cache: Mutex::new(Lru::new(cache_bytes)),
        }
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Lru<(u64, u64), Arc<Detail>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn at(&self, seq: u64) -> Result<Arc<Detail>, Unavailable> {
        let key = (self.source.epoch(), seq);
        if let Some(detail) = self.cache().get(&key) {
            return Ok(detail);
        }
        let unreadable = |why: String| {
            Unavailable(format!(
                "message {seq} of the log cannot be read ({why}): ask again"
            ))
        };
        let found = self.source.get(seq).await.map_err(unreadable)?;
        let entry = found.ok_or_else(|| unreadable("it is not there".into()))?;
        let detail = Arc::new(Detail::of(&entry).map_err(unreadable)?);
        // Decoded it takes about twice its encoded size, and something for each text.
        let texts = match &*detail {
            Detail::Documents { names, .. } => names.len(),
            Detail::Failed { groups, .. } => groups.len(),
            Detail::Outputs(outputs) => outputs.len(),
            Detail::Nothing => 0,
        };
        let weight = entry.payload.len() * 2 + texts * 100 + 200;
        self.cache().put(key, Arc::clone(&detail), weight);
        Ok(detail)
    }

    /// What stands at the places of these units, a few messages at a time, handed to `take` with the units of each.
    pub(crate) async fn each(
        &self,
        places: &Places,
        units: &UnitSet,
        mut take: impl FnMut(u64, &UnitSet, &Detail),
    ) -> Result<(), Unavailable> {
        let wanted = places.split(units);
        let mut found = futures::stream::iter(wanted)
            .map(|(seq, units)| async move { Ok((seq, units, self.at(seq).await?)) })
            .buffer_unordered(AT_ONCE);
        while let Some((seq, units, detail)) = found.try_next().await? {
            take(seq, &units, &detail);
        }
        Ok(())
    }

    /// The documents of these ordinals.
    pub(crate) async fn names(
        &self,
        pages: &Places,
        units: &UnitSet,
    ) -> Result<BTreeMap<Ordinal, Name>, Unavailable> {
        let mut names = BTreeMap::new();
        self.each(pages, units, |_, units, detail| {
            for ordinal in units.iter() {
                if let Some(name) = detail.name(ordinal) {
                    names.insert(ordinal, name.clone());
                }
            }
        })
        .await?;
        Ok(names)
    }
}
