//! Looking into the log.

use crate::{Entry, Range, pattern::matches};

pub(super) fn index(seq: u64) -> usize {
    usize::try_from(seq - 1).unwrap_or(usize::MAX)
}

/// The next entry of the range, and the place after it.
pub(super) fn find(log: &[Entry], range: &Range, next: &mut u64) -> Option<Entry> {
    let rest = log.get(index(*next)..).unwrap_or_default();
    for entry in rest {
        if range.until.is_some_and(|until| entry.seq > until) {
            return None;
        }
        *next = entry.seq + 1;
        let filter = range.filter.as_deref();
        if filter.is_none_or(|filter| matches(filter, &entry.subject)) {
            return Some(entry.clone());
        }
    }
    None
}
