//! Retrying a sample first, and the rest only if the sample succeeds well enough.

use serde::{Deserialize, Serialize};

use crate::{
    command::{Excluded, Retry},
    event::{Event, Selected},
    segments::Segments,
    share::Share,
    state::BatchState,
    time::Timestamp,
    units::UnitSet,
};

/// What of a retry that is tried on a sample an event speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = CanaryPart))]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Its units are the sample.
    Sample {
        /// How large a part of the documents it is.
        share: Share,
        /// How large a part of the sample has to succeed.
        success: Share,
        /// The units that wait for that.
        rest: Vec<Selected>,
    },
    /// The sample succeeded: its units are the rest.
    Rest,
}

/// A retry that is tried on a sample first. When all of the sample has ended, it is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// What was asked.
    pub asked: Retry,
    /// How large a part of the sample has to succeed.
    pub success: Share,
    /// The sample.
    pub sample: Vec<Selected>,
    /// What waits for its success; all of it is still failed.
    pub rest: Vec<Selected>,
    /// Whether all events of the decision were told.
    pub whole: bool,
    /// What came of the sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
}

/// What came of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Units of it that succeeded.
    pub succeeded: u64,
    /// Units of it.
    pub sample: u64,
    /// Whether that was enough for the rest to follow.
    pub passed: bool,
    /// When.
    pub at: Timestamp,
}

impl Canary {
    /// Whether the sample is still being tried, or the rest still to follow.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let decided = |judged: Judged| !judged.passed || self.rest.is_empty();
        self.whole && !self.judged.is_some_and(decided)
    }

    /// These units are retried already.
    pub(crate) fn forget(&mut self, selected: &[Selected]) {
        for part in selected {
            for rest in &mut self.rest {
                if rest.tier == part.tier && rest.job == part.job {
                    rest.units.remove(&part.units);
                }
            }
        }
        self.rest.retain(|rest| !rest.units.is_empty());
    }

    /// Units of the sample that have ended, and those of them that succeeded.
    #[must_use]
    pub fn progress(&self, batch: &BatchState) -> (u64, u64) {
        let (mut ended, mut succeeded) = (0, 0);
        for part in &self.sample {
            if let Some((_, job)) = batch.job(part.tier, &part.job) {
                ended += part.units.minus(&job.open).len();
                succeeded += job.done_of(&part.units).len();
            }
        }
        (ended, succeeded)
    }

    /// How large the sample is, in units.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.sample.iter().map(|part| part.units.len()).sum()
    }
}

/// What follows for the retry that is tried on a sample: the judgement, or the rest, part by part.
pub(crate) fn settle(
    batch: &BatchState,
    in_parts: impl Fn(Vec<Selected>) -> Vec<Vec<Selected>>,
) -> Option<Event> {
    let canary = batch.canary.as_ref().filter(|canary| canary.whole)?;
    match canary.judged {
        None => {
            let sample = canary.size();
            let (ended, succeeded) = canary.progress(batch);
            (ended == sample).then(|| Event::CanaryJudged {
                succeeded,
                sample,
                success: canary.success,
                passed: canary.success.is_reached(succeeded, sample),
            })
        }
        Some(judged) if judged.passed && !canary.rest.is_empty() => {
            let parts = in_parts(canary.rest.clone());
            let last = parts.len() <= 1;
            let selected = parts.into_iter().next().unwrap_or_default();
            Some(scheduled(
                &canary.asked,
                selected,
                Some(Part::Rest),
                (Excluded::default(), None),
                last,
            ))
        }
        Some(_) => None,
    }
}

/// The event of a retry.
pub(crate) fn scheduled(
    retry: &Retry,
    selected: Vec<Selected>,
    canary: Option<Part>,
    (excluded, plan_seq): (Excluded, Option<u64>),
    last: bool,
) -> Event {
    Event::RetryScheduled {
        mode: retry.retry_mode,
        tier_nums: retry.tier_nums.clone().unwrap_or_default(),
        kinds: retry.kinds.clone().unwrap_or_default(),
        fingerprints: retry.fingerprints.clone().unwrap_or_default(),
        max_retry_count: retry.max_retry_count,
        max_retries: retry.max_retries,
        selected,
        excluded,
        last,
        plan_seq,
        not_before: retry.not_before,
        canary,
        jobs: retry.jobs.clone().unwrap_or_default(),
    }
}

/// Takes a sample of a selection, by documents and evenly spread over them, and at least one: the sample and the rest.
#[must_use]
pub fn split(
    selected: Vec<Selected>,
    share: Share,
    segments: Option<&Segments>,
) -> (Vec<Selected>, Vec<Selected>) {
    let mut documents = UnitSet::new();
    for part in &selected {
        match segments {
            Some(segments) => documents.add(&segments.documents_of(&part.units)),
            None => documents.add(&part.units),
        }
    }
    let all = documents.len();
    let count = share.of_rounded_up(all);
    let mut sampled: UnitSet = (0..count)
        .filter_map(|n| {
            let rank = u128::from(n) * u128::from(all) / u128::from(count);
            documents.nth(u64::try_from(rank).ok()?)
        })
        .collect();
    if let Some(segments) = segments {
        sampled.add(&segments.units_of(&sampled));
    }
    let (mut sample, mut rest) = (Vec::new(), Vec::new());
    for part in selected {
        let taken = part.units.and(&sampled);
        let left = part.units.minus(&sampled);
        for (list, units) in [(&mut sample, taken), (&mut rest, left)] {
            if !units.is_empty() {
                list.push(Selected {
                    units,
                    ..part.clone()
                });
            }
        }
    }
    (sample, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::JobName;

    fn selected(job: &str, units: UnitSet) -> Selected {
        Selected {
            tier: 0,
            job: JobName::new(job).unwrap(),
            units,
        }
    }

    #[test]
    fn a_sample_is_spread_evenly_and_takes_documents_whole() {
        let all = [
            selected("a", (0..1_000).collect()),
            selected("b", (500..1_500).collect()),
        ];
        let (sample, rest) = split(all.to_vec(), "1%".parse().unwrap(), None);
        let documents: UnitSet = sample.iter().flat_map(|part| part.units.iter()).collect();
        assert_eq!(documents, (0..15).map(|n| n * 100).collect());
        assert_eq!(sample.iter().map(|it| it.units.len()).sum::<u64>(), 20);
        for (part, all) in rest.iter().zip(&all) {
            assert!(part.units.is_disjoint(&documents));
            assert_eq!(part.units, all.units.minus(&documents));
        }
        let (sample, rest) = split(all.to_vec(), Share::ALL, None);
        assert_eq!((sample.as_slice(), rest.len()), (&all[..], 0));
        let (sample, _) = split(
            vec![selected("a", [7].into())],
            "0.01%".parse().unwrap(),
            None,
        );
        assert_eq!(sample.len(), 1, "at least one");
        assert_eq!(
            split(Vec::new(), Share::ALL, None),
            (Vec::new(), Vec::new())
        );
    }
}
