//! What must hold of credits, document by document.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    canary::Part,
    command::Start,
    credits::Month,
    event::{Envelope, Event},
    ids::{BatchKey, Namespace},
    units::{Ordinal, UnitSet},
};

/// Every credit that is held, by the document that it is held for.
#[derive(Debug, Clone, Default)]
pub(super) struct Books {
    limits: BTreeMap<Namespace, u64>,
    /// What counts against the limit.
    used: BTreeMap<(Namespace, Month), u64>,
    batches: BTreeMap<BatchKey, Book>,
}

#[derive(Debug, Clone)]
struct Book {
    price: u64,
    start: Start,
    held: BTreeMap<Ordinal, Month>,
}

impl Books {
    /// Takes an event; `through` says which documents can have been through all tiers and which surely have,
    /// `document` which one a unit is of.
    pub(super) fn take(
        &mut self,
        envelope: &Envelope,
        (through, surely): (impl Fn(Ordinal) -> bool, impl Fn(Ordinal) -> bool),
        document: impl Fn(Ordinal) -> Ordinal,
        found: &mut Vec<String>,
    ) {
        let (key, namespace) = (envelope.key(), &envelope.namespace);
        match &envelope.event {
            Event::CreditsLimitSet { limit: Some(limit) } => {
                self.limits.insert(namespace.clone(), *limit);
                return;
            }
            Event::CreditsLimitSet { limit: None } => {
                self.limits.remove(namespace);
                return;
            }
            Event::BatchCreated {
                pipeline, start, ..
            } => {
                let book = Book {
                    price: pipeline.credits_per_document,
                    start: *start,
                    held: BTreeMap::new(),
                };
                self.batches.entry(key).or_insert(book);
                return;
            }
            _ => {}
        }
        let limit = self.limits.get(namespace);
        let Some(book) = self.batches.get_mut(&key) else {
            return;
        };
        match &envelope.event {
            Event::CreditsReserved {
                month,
                amount,
                documents,
            } => {
                book.costs(documents, *amount, found);
                for ordinal in documents.iter() {
                    if book.held.insert(ordinal, *month).is_some() {
                        found.push(format!("credits for {ordinal} are held already"));
                    }
                }
                let used = self.used.entry((namespace.clone(), *month)).or_default();
                *used = used.saturating_add(*amount);
                if limit.is_none_or(|limit| *used > *limit) {
                    found.push(format!("{used} credits are used of {limit:?} for {month}"));
                }
            }
            Event::CreditsSettled {
                month,
                amount,
                documents,
            } => {
                book.costs(documents, *amount, found);
                book.let_go(*month, documents, found);
                if let Some(ordinal) = documents.iter().find(|ordinal| !through(*ordinal)) {
                    found.push(format!("{ordinal} is paid for and is not through"));
                }
            }
            Event::CreditsReleased {
                month,
                amount,
                documents,
            } => {
                book.costs(documents, *amount, found);
                book.let_go(*month, documents, found);
                if let Some(ordinal) = documents.iter().find(|ordinal| surely(*ordinal)) {
                    found.push(format!("{ordinal} is through and is not paid for"));
                }
                let used = self.used.entry((namespace.clone(), *month)).or_default();
                *used = used.saturating_sub(*amount);
            }
            event if limit.is_some() && book.price > 0 => {
                if let Some(ordinal) = book
                    .begun(event, document)
                    .into_iter()
                    .find(|ordinal| !book.held.contains_key(ordinal))
                {
                    found.push(format!("{ordinal} begins, and no credits are held for it"));
                }
            }
            _ => {}
        }
    }

    /// Documents of a batch for which credits are held.
    pub(super) fn holds(&self, key: &BatchKey) -> u64 {
        let book = self.batches.get(key);
        book.map_or(0, |book| book.held.len() as u64)
    }

    /// Credits of a month that are held in a namespace.
    pub(super) fn held(&self, namespace: &Namespace, month: Month) -> u64 {
        let books = self.batches.iter();
        let here = books.filter(|(key, _)| key.namespace == *namespace);
        here.map(|(_, book)| {
            let held = book.held.values().filter(|in_month| **in_month == month);
            (held.count() as u64).saturating_mul(book.price)
        })
        .sum()
    }
}

impl Book {
    fn costs(&self, documents: &UnitSet, amount: u64, found: &mut Vec<String>) {
        let cost = documents.len().saturating_mul(self.price);
        if amount != cost || amount == 0 {
            found.push(format!("{amount} credits, for what costs {cost}"));
        }
    }

    fn let_go(&mut self, month: Month, documents: &UnitSet, found: &mut Vec<String>) {
        for ordinal in documents.iter() {
            let held = self.held.remove(&ordinal);
            if held != Some(month) {
                found.push(format!("{ordinal} had credits of {held:?}, not of {month}"));
            }
        }
    }

    /// Documents that begin. The rest of a retry is paid for with its sample.
    fn begun(&self, event: &Event, document: impl Fn(Ordinal) -> Ordinal) -> BTreeSet<Ordinal> {
        match event {
            Event::BatchSubmitted { documents } if self.start == Start::OnSubmit => {
                (0..*documents).collect()
            }
            Event::DocumentsAdded { first, count, .. } if self.start == Start::AtOnce => {
                (*first..first.saturating_add(*count)).collect()
            }
            Event::RetryScheduled {
                canary: Some(Part::Rest),
                ..
            } => BTreeSet::new(),
            Event::RetryScheduled {
                selected, canary, ..
            } => {
                let rest = match canary {
                    Some(Part::Sample { rest, .. }) => rest.as_slice(),
                    _ => &[],
                };
                let parts = selected.iter().chain(rest);
                parts
                    .flat_map(|part| part.units.iter())
                    .map(document)
                    .collect()
            }
            _ => BTreeSet::new(),
        }
    }
}
