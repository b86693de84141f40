//! Reading for units that are segments, and for those that join them.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, stream};
use redrive_broker::Broker;
use redrive_domain::{
    document::Output,
    failure::{Failure, FailureKind},
    ids::{BatchKey, JobName},
    segments,
    units::{Ordinal, Places},
    work::{Chunk, Join, Source},
};

use super::{READS, Reader};
use crate::segments::List;

/// Where the lines of an output are: from which byte to which.
pub(super) fn lines_of(output: &Output) -> Vec<(u32, u32)> {
    let offset = |at| u32::try_from(at).unwrap_or(u32::MAX);
    segments::lines(&output.body)
        .map(|line| (offset(line.start), offset(line.end)))
        .collect()
}

/// The document of each unit, and which segment of it the unit is.
pub(super) fn places_of(chunk: &Chunk, units: &[Ordinal]) -> Vec<(Ordinal, u32)> {
    let mut runs = chunk.segments.clone();
    runs.sort_unstable_by_key(|run| run.first);
    let place = |unit: &Ordinal| {
        let after = runs.partition_point(|run| run.first <= *unit);
        let run = after.checked_sub(1).and_then(|at| runs.get(at));
        run.filter(|run| *unit <= run.last)
            .map_or((*unit, 0), |run| {
                (run.document, run.index.saturating_add(unit - run.first))
            })
    };
    match chunk.segments.is_empty() {
        true => Vec::new(),
        false => units.iter().map(place).collect(),
    }
}

/// The sequence for the document of each unit; 0 where there is none.
pub(super) fn by_document<'a>(
    sources: impl Iterator<Item = &'a Source>,
    of: &[(Ordinal, u32)],
) -> Vec<u64> {
    let mut places = Places::default();
    for source in sources {
        places.insert(&source.units, source.seq);
    }
    let at = |(document, _): &(Ordinal, u32)| places.get(*document).unwrap_or(0);
    of.iter().map(at).collect()
}

/// The joins of a chunk, by their unit.
pub(super) fn joins_of(chunk: &Chunk) -> BTreeMap<Ordinal, Vec<Join>> {
    let mut joins: BTreeMap<Ordinal, Vec<Join>> = BTreeMap::new();
    for join in &chunk.joins {
        joins.entry(join.document).or_default().push(join.clone());
    }
    joins
}

impl<B: Broker> Reader<B> {
    /// What a job made of all segments of a document.
    pub(super) async fn joined(
        &self,
        key: &BatchKey,
        join: &Join,
    ) -> Result<(JobName, Arc<Output>), Failure> {
        let unavailable = |why: String| Failure::new(FailureKind::UNAVAILABLE, why);
        let mut list = List::default();
        let mut next = join.first;
        // In order, so that no more is held than has been added and the few that are on their way.
        let mut pages = stream::iter(join.places.clone())
            .map(|(seq, count)| async move {
                match seq {
                    0 => (seq, count, Ok(None)),
                    seq => (seq, count, self.page(seq).await.map(Some)),
                }
            })
            .buffered(READS);
        while let Some((seq, count, page)) = pages.next().await {
            let page = page.map_err(unavailable)?;
            for _ in 0..count {
                let output = match &page {
                    None => None,
                    Some(page) => page.output(key, &join.job, next).ok_or_else(|| {
                        let (job, unit) = (&join.job, next);
                        unavailable(format!(
                            "the log at {seq} does not hold the output of job {job} for unit {unit}"
                        ))
                    })?,
                };
                list.add(output.as_deref())?;
                next = next.saturating_add(1);
            }
        }
        Ok((join.job.clone(), Arc::new(list.finish())))
    }
}
