//! What a namespace may spend in a month, and what it has spent.
//!
//! A namespace may have a limit of credits a month. Then what begins documents (a submission, a page of a batch that
//! begins at once, a retry) reserves credits for them first, all or nothing; when the batch is over, those of documents
//! that are through are settled, and those of all others are released. Months are months of UTC; a reservation counts in
//! the month in which it was decided, whenever it ends. The [`Ledger`] is a fold of the namespace's log; a namespace that
//! never had a limit has none.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    event::{Cause, Envelope, Event},
    ids::{BatchId, CommandId, Namespace},
    limits::{CREDIT_MONTHS, REMEMBERED_COMMANDS},
    time::Timestamp,
    units::UnitSet,
};

/// The batch under which a namespace's own events stand: the nil UUID, `_` in a command's subject.
pub const NO_BATCH: BatchId = BatchId(uuid::Uuid::nil());

/// A month of UTC. As text, in every format, it is for instance `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: u16,
    /// 1 to 12.
    month: u8,
}

impl Month {
    const LAST_YEAR: u16 = 9_999;

    /// The month of a moment; years before 0 or after 9999 count as those.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        let time = jiff::Timestamp::from_millisecond(time.0).unwrap_or_default();
        let date = jiff::tz::TimeZone::UTC.to_datetime(time);
        Self {
            year: u16::try_from(date.year()).unwrap_or(0),
            month: u8::try_from(date.month()).unwrap_or(1),
        }
    }

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        match self.month {
            12 => Self {
                year: self.year.saturating_add(1).min(Self::LAST_YEAR),
                month: 1,
            },
            month => Self {
                month: month + 1,
                ..self
            },
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// A text that is no month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a month such as 2026-11")]
pub struct InvalidMonth(pub String);

impl FromStr for Month {
    type Err = InvalidMonth;
    fn from_str(value: &str) -> Result<Self, InvalidMonth> {
        let read = || {
            let (year, month) = value.split_once('-')?;
            let month = Self {
                year: year.parse().ok()?,
                month: month
                    .parse()
                    .ok()
                    .filter(|month| (1..=12).contains(month))?,
            };
            // One month, one text.
            (month.year <= Self::LAST_YEAR && month.to_string() == value).then_some(month)
        };
        read().ok_or_else(|| InvalidMonth(value.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Month {
    type Error = InvalidMonth;
    fn try_from(value: String) -> Result<Self, InvalidMonth> {
        value.parse()
    }
}

impl From<Month> for String {
    fn from(value: Month) -> String {
        value.to_string()
    }
}

/// What was reserved in one month, and what became of it. What is neither settled nor released is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Reserved, in all.
    pub reserved: u64,
    /// Of that, spent on documents that are through.
    pub settled: u64,
    /// Of that, given back for documents that failed or were stopped.
    pub released: u64,
}

impl Account {
    /// Reserved for documents of batches that are not over.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.reserved
            .saturating_sub(self.settled)
            .saturating_sub(self.released)
    }

    /// What counts against the limit: held and settled.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.reserved.saturating_sub(self.released)
    }
}

/// What a namespace may spend a month, and what it has spent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Credits a month; without one nothing is reserved.
    pub limit: Option<u64>,
    /// The months in which something was reserved; the oldest ones are dropped when all of theirs has ended.
    pub months: BTreeMap<Month, Account>,
    /// The sequence of the event that set the limit; 0 if none did.
    pub limit_seq: u64,
    /// The last commands that set the limit, with the sequence of their event.
    pub commands: VecDeque<(CommandId, u64)>,
    /// The sequence of its last event.
    pub last_seq: u64,
}

impl Ledger {
    /// What happened in a month.
    #[must_use]
    pub fn account(&self, month: Month) -> Account {
        self.months.get(&month).copied().unwrap_or_default()
    }

    /// What is left of a month's credits, where there is a limit.
    #[must_use]
    pub fn left(&self, month: Month) -> Option<u64> {
        let limit = self.limit?;
        Some(limit.saturating_sub(self.account(month).used()))
    }

    /// Where a command that set the limit stands in the log.
    #[must_use]
    pub fn remembered(&self, command: CommandId) -> Option<u64> {
        let found = self.commands.iter().rev().find(|(id, _)| *id == command);
        found.map(|(_, seq)| *seq)
    }

    /// Total: what does not balance, because it would end more than is held, counts as far as it does.
    fn take(&mut self, seq: u64, envelope: &Envelope) {
        match &envelope.event {
            Event::CreditsLimitSet { limit } => {
                self.limit = *limit;
                self.limit_seq = seq;
                if let Cause::Command(id) = envelope.cause {
                    self.commands.push_back((id, seq));
                    if self.commands.len() > REMEMBERED_COMMANDS {
                        self.commands.pop_front();
                    }
                }
            }
            Event::CreditsReserved { month, amount, .. } => {
                let account = self.months.entry(*month).or_default();
                account.reserved = account.reserved.saturating_add(*amount);
                self.drop_oldest();
            }
            Event::CreditsSettled { month, amount, .. } => {
                if let Some(account) = self.months.get_mut(month) {
                    account.settled += (*amount).min(account.held());
                }
            }
            Event::CreditsReleased { month, amount, .. } => {
                if let Some(account) = self.months.get_mut(month) {
                    account.released += (*amount).min(account.held());
                }
            }
            _ => return,
        }
        self.last_seq = seq;
    }

    fn drop_oldest(&mut self) {
        while self.months.len() > CREDIT_MONTHS {
            let ended =
                |(month, account): (&Month, &Account)| (account.held() == 0).then_some(*month);
            let Some(month) = self.months.iter().find_map(ended) else {
                return;
            };
            self.months.remove(&month);
        }
    }
}

/// The ledgers of several namespaces, for those who fold more than one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ledgers(BTreeMap<Namespace, Ledger>);

impl Ledgers {
    /// Folds an event; all but those about credits change nothing.
    pub fn take(&mut self, seq: u64, envelope: &Envelope) {
        if envelope.event.is_about_credits() {
            let ledger = self.0.entry(envelope.namespace.clone()).or_default();
            ledger.take(seq, envelope);
        }
    }

    /// The ledger of a namespace, where it has one.
    #[must_use]
    pub fn of(&self, namespace: &Namespace) -> Option<&Ledger> {
        self.0.get(namespace)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Namespace, &Ledger)> {
        self.0.iter()
    }
}

impl FromIterator<(Namespace, Ledger)> for Ledgers {
    fn from_iter<I: IntoIterator<Item = (Namespace, Ledger)>>(ledgers: I) -> Self {
        Self(ledgers.into_iter().collect())
    }
}

/// What a batch has to do with credits. A batch of a namespace without a limit has nothing to do with them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holding {
    /// Documents for which credits are held, by the month that they count in; no document is in two of them.
    pub held: BTreeMap<Month, UnitSet>,
    /// Credits spent on documents that are through.
    pub settled: u64,
    /// Credits given back.
    pub released: u64,
}

impl Holding {
    /// Whether there was never anything.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// All documents for which credits are held.
    #[must_use]
    pub fn documents(&self) -> UnitSet {
        let mut all = UnitSet::new();
        self.held.values().for_each(|documents| all.add(documents));
        all
    }

    /// Holds credits of a month for documents for which none are held.
    pub(crate) fn reserve(&mut self, month: Month, documents: &UnitSet) -> Option<()> {
        let new = documents.minus(&self.documents());
        if new.is_empty() {
            return None;
        }
        self.held.entry(month).or_default().add(&new);
        Some(())
    }

    /// Holds nothing for these any more; how many of them it was.
    pub(crate) fn let_go(&mut self, month: Month, documents: &UnitSet) -> Option<u64> {
        let held = self.held.get_mut(&month)?;
        let gone = held.and(documents).len();
        if gone == 0 {
            return None;
        }
        held.remove(documents);
        if held.is_empty() {
            self.held.remove(&month);
        }
        Some(gone)
    }
}

/// What a command takes of a month's credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Charge {
    /// The month.
    pub month: Month,
    /// Credits a month.
    pub limit: u64,
    /// What was left of them before.
    pub left: u64,
    /// What it takes.
    pub takes: u64,
}

impl Charge {
    /// How much more would have to be left.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.takes.saturating_sub(self.left)
    }
}

#[cfg(test)]
mod tests;
