//! A few failed documents, for those who want to see what failures look like.

use std::collections::BTreeSet;

use redrive_domain::{
    query::{BatchRef, FailureRow, ListFailures},
    state::BatchState,
};

use super::failures;
use crate::{
    answer::Failed,
    details::{Details, Source},
};

/// How many documents are shown.
const SHOWN: usize = 10;
/// Units that are looked at on the way, a page at a time: one document may have failed in several jobs.
const PAGES: usize = 8;

/// The first documents that failed, by tier and job, each with what failed first of it.
pub(crate) async fn first_failed<S: Source>(
    details: &Details<S>,
    max_payload: usize,
    state: &BatchState,
    as_of: u64,
) -> Result<Vec<FailureRow>, Failed> {
    let mut ask = ListFailures::of(BatchRef::Id(state.key.batch));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for _ in 0..PAGES {
        let limit = u32::try_from(SHOWN).unwrap_or(u32::MAX);
        let page = failures(details, max_payload / 4, state, as_of, &ask, limit).await?;
        let new = page
            .items
            .into_iter()
            .filter(|row| seen.insert(row.ordinal));
        found.extend(new);
        if found.len() >= SHOWN || page.next.is_none() {
            break;
        }
        ask.after = page.next;
    }
    found.truncate(SHOWN);
    Ok(found)
}
