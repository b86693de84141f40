//! Which tiers work on segments. There is one level of them: one job splits documents, later tiers work on what it
//! made, and at most one tier after these takes whole documents again.

use serde::{Deserialize, Serialize};

use super::{Pipeline, SpecError, TierNum, TierSpec};
use crate::limits::SEGMENTS_PER_DOCUMENT;

/// Where a pipeline splits documents, and where it joins what became of their segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segmentation {
    /// The tier whose one job splits documents.
    pub split: TierNum,
    /// The tier that takes documents again, where one does.
    pub join: Option<TierNum>,
    /// Segments that one document may have at most.
    pub most: u32,
}

impl Segmentation {
    /// Whether the units of a tier are segments.
    #[must_use]
    pub fn covers(&self, tier: TierNum) -> bool {
        tier > self.split && self.join.is_none_or(|join| tier < join)
    }
}

fn splits(tier: &TierSpec) -> bool {
    tier.jobs.iter().any(|job| job.segments)
}

impl Pipeline {
    /// Where documents are split and joined; none where all units are documents.
    #[must_use]
    pub fn segmentation(&self) -> Option<Segmentation> {
        let at = |is: fn(&TierSpec) -> bool| {
            let place = self.tiers.iter().position(is)?;
            TierNum::try_from(place).ok()
        };
        let split = at(splits)?;
        let join = at(|tier| tier.join);
        let before = join.and_then(|join| self.tier(join.checked_sub(1)?));
        let jobs = before.map_or(1, |tier| tier.jobs.len().max(1));
        Some(Segmentation {
            split,
            join,
            most: SEGMENTS_PER_DOCUMENT / u32::try_from(jobs).unwrap_or(u32::MAX),
        })
    }

    /// What is wrong with where it splits and joins.
    pub(super) fn segmentation_errors(&self) -> Vec<SpecError> {
        let mut errors = Vec::new();
        let mut error = |path: String, message: &str| {
            errors.push(SpecError {
                path,
                message: message.to_owned(),
            });
        };
        let mut split: Option<usize> = None;
        let mut join: Option<usize> = None;
        for (num, tier) in self.tiers.iter().enumerate() {
            if tier.join {
                let path = format!("tiers[{num}].join");
                match (split, join) {
                    (None, _) => error(path, "no tier before it has a job with segments"),
                    (_, Some(_)) => error(path, "another tier joins the segments already"),
                    (Some(at), None) if at + 1 == num => {
                        error(path, "no tier works on the segments before they are joined");
                    }
                    _ => join = Some(num),
                }
            }
            for (place, job) in tier.jobs.iter().enumerate().filter(|(_, job)| job.segments) {
                let path = format!("tiers[{num}].jobs[{place}].segments");
                if tier.jobs.len() > 1 {
                    error(
                        path,
                        "a job with segments is to be the only one of its tier",
                    );
                } else if split.is_some() {
                    error(
                        path,
                        "another job makes segments already: there is one level",
                    );
                } else if num + 1 == self.tiers.len() {
                    error(path, "no tier follows that would take the segments");
                } else if job.max_output_bytes == 0 {
                    error(path, "max_output_bytes is 0: segments are an output");
                }
                split.get_or_insert(num);
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(tiers: Value) -> Result<Option<Segmentation>, Vec<String>> {
        Pipeline::from_value(&json!({ "tiers": tiers }))
            .map(|pipeline| pipeline.segmentation())
            .map_err(|e| e.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_split_and_joined_is_read_and_checked() {
        let plain = json!({ "jobs": [{ "handler": "a" }] });
        let split = json!({ "jobs": [{ "handler": "s", "segments": true }] });
        let join = json!({ "join": true, "jobs": [{ "handler": "j" }] });
        let two = json!({ "jobs": [{ "handler": "a" }, { "handler": "b" }] });
        assert_eq!(read(json!([plain, plain])), Ok(None));
        let whole = read(json!([plain, split, plain, two, join, plain])).unwrap();
        let whole = whole.unwrap();
        assert_eq!((whole.split, whole.join), (1, Some(4)));
        assert_eq!(whole.most, SEGMENTS_PER_DOCUMENT / 2);
        let covered: Vec<_> = (0..6).map(|tier| whole.covers(tier)).collect();
        assert_eq!(covered, [false, false, true, true, false, false]);
        let open = read(json!([split, plain])).unwrap().unwrap();
        assert!(open.join.is_none() && open.covers(1) && !open.covers(0));

        let both = json!({ "jobs": [{ "handler": "s", "segments": true }, { "handler": "b" }] });
        for (tiers, place) in [
            (json!([join, plain]), "tiers[0].join: no tier before it"),
            (json!([split, join]), "tiers[1].join: no tier works"),
            (
                json!([split, plain, join, plain, join]),
                "tiers[4].join: another",
            ),
            (
                json!([both, plain]),
                "tiers[0].jobs[0].segments: a job with",
            ),
            (
                json!([split, split, plain]),
                "tiers[1].jobs[0].segments: another",
            ),
            (
                json!([plain, split]),
                "tiers[1].jobs[0].segments: no tier follows",
            ),
        ] {
            let errors = read(tiers).unwrap_err();
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].starts_with(place), "{errors:?}");
        }
    }

    #[test]
    fn segments_are_one_output_so_it_may_be_large() {
        let tiers = json!([
            { "jobs": [{ "handler": "s", "segments": true }] },
            { "jobs": [{ "handler": "a" }] },
        ]);
        let pipeline = Pipeline::from_value(&json!({ "tiers": tiers })).unwrap();
        let most = pipeline.tiers[0].jobs[0].max_output_bytes;
        assert_eq!(most, crate::limits::OUTPUT_BYTES_MAX);
        let kept = serde_json::to_value(&pipeline).unwrap();
        assert_eq!(serde_json::from_value::<Pipeline>(kept).unwrap(), pipeline);
    }
}
