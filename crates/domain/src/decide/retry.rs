use super::{Decision, refuse_if_cancelled, resubmit};
use crate::{
    canary::{self, Canary, Part},
    command::{Accepted, Excluded, Refusal, Retried, Retry, Sampled, Stale},
    event::{Event, Selected},
    limits::{DIFFERENCE_SHOWN, SET_BYTES_PER_EVENT},
    plan::Plan,
    segments::Segments,
    share::Share,
    state::BatchState,
    units::{Ordinal, UnitSet},
};

pub(super) fn retry(batch: &BatchState, retry: &Retry) -> Result<Decision, Refusal> {
    if let Some(plan) = &retry.plan {
        return planned(batch, plan, retry);
    }
    retry.validate(batch.tiers.len())?;
    resubmit::check_jobs(batch, retry)?;
    refuse_if_cancelled(batch, "retried")?;
    refuse_second_sample(batch, retry)?;
    let (selected, mut retried) = select(batch, retry);
    if retry.dry_run {
        retried.canary = in_events(batch, retry, selected.clone()).1;
        let plan = Plan::new(&batch.key, batch.last_seq, retry, &selected);
        return Ok(Decision {
            events: Vec::new(),
            accepted: Accepted {
                retry: Some(retried),
                plan: Some(plan),
                ..batch.accepted()
            },
        });
    }
    Ok(carry_out(batch, retry, selected, retried, None))
}

/// What a retry would do, with its plan.
pub(crate) fn preview(batch: &BatchState, asked: &Retry) -> Result<Accepted, Refusal> {
    let dry = Retry {
        dry_run: true,
        ..asked.clone()
    };
    retry(batch, &dry).map(|decision| decision.accepted)
}

/// Carries a plan out as it was made, or not at all.
fn planned(batch: &BatchState, plan: &Plan, asked: &Retry) -> Result<Decision, Refusal> {
    let alone = Retry {
        plan: asked.plan.clone(),
        ..Retry::default()
    };
    if *asked != alone {
        let message = "says already what to retry: leave the other fields out";
        return Err(Refusal::invalid("plan", message));
    }
    if !plan.is_of(&batch.key) {
        let message = format!("is of another batch than {}", batch.key.batch);
        return Err(Refusal::invalid("plan", message));
    }
    let retry = plan.retry();
    retry.validate(batch.tiers.len())?;
    resubmit::check_jobs(batch, &retry)?;
    refuse_if_cancelled(batch, "retried")?;
    refuse_second_sample(batch, &retry)?;
    let (selected, retried) = select(batch, &retry);
    if !plan.is_for(&selected) {
        return Err(Refusal::Stale(Stale {
            plan_seq: plan.seq,
            seq: batch.last_seq,
            ..Stale::default()
        }));
    }
    Ok(carry_out(batch, &retry, selected, retried, Some(plan.seq)))
}

/// The documents that a retry would execute again.
pub(super) fn documents(batch: &BatchState, retry: &Retry) -> UnitSet {
    let mut documents = UnitSet::new();
    let (selected, _) = select(batch, retry);
    selected
        .iter()
        .for_each(|part| documents.add(&batch.documents_of(&part.units)));
    documents
}

/// How a plan differs from what it would come to now; `then` is the batch as it was at the plan's sequence.
#[must_use]
pub fn difference(then: &BatchState, now: &BatchState, plan: &Plan) -> Stale {
    let retry = plan.retry();
    let (planned, _) = select(then, &retry);
    let (selected, _) = select(now, &retry);
    let without = |these: &[Selected], those: &[Selected]| {
        let mut documents = UnitSet::new();
        let mut count = 0;
        for this in these {
            let same = |that: &&Selected| that.tier == this.tier && that.job == this.job;
            let rest = match those.iter().find(same) {
                Some(that) => this.units.minus(&that.units),
                None => this.units.clone(),
            };
            count += rest.len();
            documents.add(&now.documents_of(&rest));
        }
        (count, documents.take(DIFFERENCE_SHOWN))
    };
    let (gone, gone_documents) = without(&planned, &selected);
    let (added, added_documents) = without(&selected, &planned);
    Stale {
        plan_seq: plan.seq,
        seq: now.last_seq,
        gone,
        added,
        gone_documents,
        added_documents,
    }
}

fn carry_out(
    batch: &BatchState,
    retry: &Retry,
    selected: Vec<Selected>,
    mut retried: Retried,
    plan_seq: Option<u64>,
) -> Decision {
    let (parts, sampled) = in_events(batch, retry, selected);
    retried.canary = sampled;
    let last = parts.len().saturating_sub(1);
    let mut events = resubmit::resubmissions(batch, retry);
    events.extend(
        parts
            .into_iter()
            .enumerate()
            .map(|(place, (selected, part))| {
                let why = (retried.excluded.clone(), plan_seq);
                canary::scheduled(retry, selected, part, why, place == last)
            }),
    );
    Decision {
        events,
        accepted: Accepted {
            retry: Some(retried),
            ..batch.accepted()
        },
    }
}

type Parts = Vec<(Vec<Selected>, Option<Part>)>;

/// A selection as events tell of it, and what of it is tried first.
fn in_events(
    batch: &BatchState,
    retry: &Retry,
    selected: Vec<Selected>,
) -> (Parts, Option<Sampled>) {
    let segments = batch.segments.as_ref();
    let whole = |parts: Vec<Vec<Selected>>| parts.into_iter().map(|part| (part, None)).collect();
    let Some(share) = retry.canary else {
        return (
            whole(in_parts(selected, segments, SET_BYTES_PER_EVENT)),
            None,
        );
    };
    let success = retry.canary_success.unwrap_or(Share::NINE_OF_TEN);
    // Both halves of a part may be as large as the part.
    let parts = in_parts(selected, segments, SET_BYTES_PER_EVENT / 2);
    let split: Vec<_> = parts
        .iter()
        .map(|part| canary::split(part.clone(), share, segments))
        .collect();
    if split.iter().all(|(_, rest)| rest.is_empty()) {
        return (whole(parts), None);
    }
    let (mut documents, mut units) = (0, 0);
    for (sample, _) in &split {
        let mut all = UnitSet::new();
        for part in sample {
            all.add(&batch.documents_of(&part.units));
            units += part.units.len();
        }
        documents += all.len();
    }
    let sampled = Sampled {
        documents,
        units,
        success,
    };
    let part = |(sample, rest)| {
        let part = Part::Sample {
            share,
            success,
            rest,
        };
        (sample, Some(part))
    };
    (split.into_iter().map(part).collect(), Some(sampled))
}

fn refuse_second_sample(batch: &BatchState, retry: &Retry) -> Result<(), Refusal> {
    let is_open = batch.canary.as_ref().is_some_and(Canary::is_open);
    if is_open && retry.canary.is_some() {
        return Err(Refusal::conflict(
            "a sample of an earlier retry is still being tried: wait until it is judged (status tells), or retry without \
             a canary",
        ));
    }
    Ok(())
}

/// The next part of what follows a sample that succeeded, or its judgement.
pub(super) fn after_sample(batch: &BatchState) -> Option<Event> {
    canary::settle(batch, |rest| {
        in_parts(rest, batch.segments.as_ref(), SET_BYTES_PER_EVENT)
    })
}

/// The failed units that the command means, and why others are left out.
fn select(batch: &BatchState, retry: &Retry) -> (Vec<Selected>, Retried) {
    let mut retried = Retried::default();
    let mut excluded = Excluded::default();
    let mut selected = Vec::new();
    let mut documents = UnitSet::new();
    for (tier, spec, job) in batch.jobs() {
        let mut chosen = UnitSet::new();
        let alike = retry.wanted_fingerprints();
        let alike = alike.map(|wanted| job.fingerprints.units_of(wanted));
        for (class, kind, failed) in job.failed_by_kind() {
            if !retry.wants_tier(tier) {
                excluded.tier += failed.len();
                continue;
            }
            if job.cancellation.is_some() {
                excluded.cancelled += failed.len();
                continue;
            }
            if !retry.wants_job(&spec.name) {
                excluded.job += failed.len();
                continue;
            }
            if !retry.wants_kind(kind) {
                excluded.kind += failed.len();
                continue;
            }
            let all = failed.len();
            let failed = match &alike {
                Some(alike) => failed.and(alike),
                None => failed.clone(),
            };
            excluded.fingerprint += all - failed.len();
            if failed.is_empty() {
                continue;
            }
            if !retry.retry_mode.takes(class) {
                *excluded.class.entry(class).or_default() += failed.len();
                continue;
            }
            let spent = spent(batch, retry.max_retry_count, &failed);
            excluded.retry_limit += spent.len();
            let units = failed.minus(&spent);
            if !units.is_empty() {
                *retried.by_kind.entry(kind.clone()).or_default() += units.len();
                chosen.add(&units);
            }
        }
        if !chosen.is_empty() {
            *retried.by_tier.entry(tier).or_default() += chosen.len();
            retried.units += chosen.len();
            if batch.has_segments_in(tier) {
                retried.segments += chosen.len();
            }
            documents.add(&batch.documents_of(&chosen));
            selected.push(Selected {
                tier,
                job: spec.name.clone(),
                units: chosen,
            });
        }
    }
    retried.documents = documents.len();
    retried.set = retry.set.as_deref().cloned();
    retried.excluded = excluded;
    (selected, retried)
}

/// Of these units, those whose document has been retried that often.
fn spent(batch: &BatchState, most: u8, failed: &UnitSet) -> UnitSet {
    let spent = batch
        .retries
        .at_least(u32::from(most), &batch.documents_of(failed));
    match &batch.segments {
        Some(segments) if !spent.is_empty() => failed.and(&spent.or(&segments.units_of(&spent))),
        _ => spent,
    }
}

/// Splits a selection that is too large for one event, by ordinals: all units of a document stay in one part, so that
/// its retry is counted once.
fn in_parts(
    selected: Vec<Selected>,
    segments: Option<&Segments>,
    most: usize,
) -> Vec<Vec<Selected>> {
    let size: usize = selected.iter().map(|s| s.units.encoded_size()).sum();
    if size <= most {
        return vec![selected];
    }
    // At worst each ordinal takes a bit in the set of each job.
    let bits = most / selected.len().max(1) * 8;
    let window = Ordinal::try_from(bits).unwrap_or(Ordinal::MAX).max(1 << 16);
    let end = selected
        .iter()
        .filter_map(|s| s.units.last())
        .max()
        .unwrap_or(0);
    let mut parts = Vec::new();
    let mut first = 0;
    while first <= end {
        let next = first.saturating_add(window);
        let next = segments.map_or(next, |segments| segments.next_boundary(next));
        let within = UnitSet::run(first, next - first);
        let part: Vec<Selected> = selected
            .iter()
            .map(|s| Selected {
                units: s.units.and(&within),
                ..s.clone()
            })
            .filter(|s| !s.units.is_empty())
            .collect();
        if !part.is_empty() {
            parts.push(part);
        }
        if next == Ordinal::MAX {
            break;
        }
        first = next;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::JobName, limits::SEGMENTS_PER_DOCUMENT, pipeline::Segmentation, segments::Segmented,
    };

    #[test]
    fn a_selection_too_large_for_one_event_is_split_without_loss() {
        let every_other =
            |offset: u32| -> UnitSet { (0..4_000_000).map(|i| i * 2 + offset).collect() };
        let selected: Vec<Selected> = (0..2)
            .map(|tier| Selected {
                tier,
                job: JobName::new("job").unwrap(),
                units: every_other(u32::from(tier)),
            })
            .collect();
        let parts = in_parts(selected.clone(), None, SET_BYTES_PER_EVENT);
        assert!(parts.len() > 1);
        for part in &parts {
            let size: usize = part.iter().map(|s| s.units.encoded_size()).sum();
            assert!(size <= SET_BYTES_PER_EVENT + 4_096, "{size}");
        }
        let total: u64 = parts.iter().flatten().map(|s| s.units.len()).sum();
        assert_eq!(total, 8_000_000);
    }

    #[test]
    fn all_segments_of_a_document_stay_in_one_part() {
        let at = Segmentation {
            split: 0,
            join: None,
            most: SEGMENTS_PER_DOCUMENT,
        };
        let mut segments = Segments::new(at);
        let counts: Vec<(u32, u32)> = (0..90).map(|d| (d, 60_000 + d)).collect();
        let segmented = Segmented {
            first: segments.next(),
            counts,
        };
        segments.add(&segmented, &UnitSet::run(0, 90)).unwrap();
        let units = segments.units_of(&UnitSet::run(0, 90));
        let selected: Vec<Selected> = (1..3)
            .map(|tier| Selected {
                tier,
                job: JobName::new("job").unwrap(),
                units: units.iter().filter(|unit| unit % 2 == 0).collect(),
            })
            .collect();
        let total: u64 = selected.iter().map(|s| s.units.len()).sum();
        let parts = in_parts(selected, Some(&segments), SET_BYTES_PER_EVENT);
        assert!(parts.len() > 1);
        let found: u64 = parts.iter().flatten().map(|s| s.units.len()).sum();
        assert_eq!(found, total);
        let mut before = UnitSet::new();
        for part in &parts {
            let mut documents = UnitSet::new();
            for selected in part {
                documents.add(&segments.documents_of(&selected.units));
            }
            assert!(documents.is_disjoint(&before), "a retry would count twice");
            before.add(&documents);
        }
    }
}
