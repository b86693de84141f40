use super::{Decision, refuse_if_cancelled};
use crate::{
    command::{Accepted, Excluded, Refusal, Retried, Retry, Stale},
    event::{Event, Selected},
    limits::{DIFFERENCE_SHOWN, SET_BYTES_PER_EVENT},
    plan::Plan,
    state::BatchState,
    units::{Ordinal, UnitSet},
};

pub(super) fn retry(batch: &BatchState, retry: &Retry) -> Result<Decision, Refusal> {
    if let Some(plan) = &retry.plan {
        return planned(batch, plan, retry);
    }
    retry.validate(batch.tiers.len())?;
    refuse_if_cancelled(batch, "retried")?;
    let (selected, retried) = select(batch, retry);
    if retry.dry_run {
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
    refuse_if_cancelled(batch, "retried")?;
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
            documents.add(&rest);
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
    retried: Retried,
    plan_seq: Option<u64>,
) -> Decision {
    let mut parts = in_parts(selected);
    let last = parts.pop().unwrap_or_default();
    let event = |selected, last| Event::RetryScheduled {
        mode: retry.retry_mode,
        tier_nums: retry.tier_nums.clone().unwrap_or_default(),
        kinds: retry.kinds.clone().unwrap_or_default(),
        fingerprints: retry.fingerprints.clone().unwrap_or_default(),
        max_retry_count: retry.max_retry_count,
        max_retries: retry.max_retries,
        selected,
        excluded: retried.excluded.clone(),
        last,
        plan_seq,
        not_before: retry.not_before,
    };
    let mut events: Vec<Event> = parts.into_iter().map(|part| event(part, false)).collect();
    events.push(event(last, true));
    Decision {
        events,
        accepted: Accepted {
            retry: Some(retried),
            ..batch.accepted()
        },
    }
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
            let spent = batch
                .retries
                .at_least(u32::from(retry.max_retry_count), &failed);
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
            documents.add(&chosen);
            selected.push(Selected {
                tier,
                job: spec.name.clone(),
                units: chosen,
            });
        }
    }
    retried.documents = documents.len();
    retried.excluded = excluded;
    (selected, retried)
}

/// Splits a selection that is too large for one event, by ordinals: all units of a document stay in one part, so that
/// its retry is counted once.
fn in_parts(selected: Vec<Selected>) -> Vec<Vec<Selected>> {
    let size: usize = selected.iter().map(|s| s.units.encoded_size()).sum();
    if size <= SET_BYTES_PER_EVENT {
        return vec![selected];
    }
    // At worst each ordinal takes a bit in the set of each job.
    let bits = SET_BYTES_PER_EVENT / selected.len().max(1) * 8;
    let window = Ordinal::try_from(bits).unwrap_or(Ordinal::MAX).max(1 << 16);
    let end = selected
        .iter()
        .filter_map(|s| s.units.last())
        .max()
        .unwrap_or(0);
    let mut parts = Vec::new();
    let mut first = 0;
    while first <= end {
        let within = UnitSet::run(first, window);
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
        first = first.saturating_add(window);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::JobName;

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
        let parts = in_parts(selected.clone());
        assert!(parts.len() > 1);
        for part in &parts {
            let size: usize = part.iter().map(|s| s.units.encoded_size()).sum();
            assert!(size <= SET_BYTES_PER_EVENT + 4_096, "{size}");
        }
        let total: u64 = parts.iter().flatten().map(|s| s.units.len()).sum();
        assert_eq!(total, 8_000_000);
    }
}
