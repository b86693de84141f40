//! Credits, as they are told.

use serde::{Deserialize, Serialize};

use super::At;
use crate::{
    credits::{Account, Ledger, Month},
    state::BatchState,
};

/// Months that an answer has at most.
const MONTHS: usize = 24;

/// Asks about the namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct OfNamespace {
    /// See [`super::OfBatch::min_seq`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
    /// As of this moment; as of now unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
}

/// What the namespace may spend a month, and what it has spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreditsView {
    /// Credits a month; none for no limit.
    pub limit: Option<u64>,
    /// The present month.
    pub month: Month,
    /// What is left of it, where there is a limit.
    pub left: Option<u64>,
    /// The months in which something was reserved, the last one first, at most 24, and in any case the present one.
    pub months: Vec<MonthView>,
    /// The log sequence of the last event about credits; 0 if there is none.
    pub last_seq: u64,
    /// The log sequence that the answer includes.
    pub as_of: u64,
}

/// What was reserved in a month, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MonthView {
    /// Which.
    pub month: Month,
    /// Reserved, in all: settled, released and held together.
    pub reserved: u64,
    /// Spent on documents that are through.
    pub settled: u64,
    /// Given back for documents that failed or were stopped.
    pub released: u64,
    /// Held for documents of batches that are not over.
    pub held: u64,
}

impl MonthView {
    fn of(month: Month, account: Account) -> Self {
        Self {
            month,
            reserved: account.reserved,
            settled: account.settled,
            released: account.released,
            held: account.held(),
        }
    }
}

impl CreditsView {
    /// The view of a ledger in a month; `as_of` is the sequence that it includes.
    #[must_use]
    pub fn of(ledger: &Ledger, month: Month, as_of: u64) -> Self {
        let mut months = ledger.months.clone();
        months.entry(month).or_default();
        let months = months.into_iter().rev().take(MONTHS);
        Self {
            limit: ledger.limit,
            month,
            left: ledger.left(month),
            months: months
                .map(|(month, account)| MonthView::of(month, account))
                .collect(),
            last_seq: ledger.last_seq,
            as_of,
        }
    }
}

/// What a batch has to do with credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BatchCredits {
    /// What a document takes.
    pub per_document: u64,
    /// Held until the batch is over.
    pub held: u64,
    /// Spent on documents that are through.
    pub settled: u64,
    /// Given back for documents that failed or were stopped.
    pub released: u64,
}

impl BatchCredits {
    pub(super) fn of(batch: &BatchState) -> Option<Self> {
        let (credits, per_document) = (&batch.credits, batch.pipeline.credits_per_document);
        (!credits.is_none()).then(|| Self {
            per_document,
            held: credits.documents().len().saturating_mul(per_document),
            settled: credits.settled,
            released: credits.released,
        })
    }
}
