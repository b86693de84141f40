//! What a retry was said to touch, and what it touched when its plan was carried out.

use std::collections::BTreeSet;

use futures::{FutureExt, StreamExt};
use redrive_broker::{Broker, Range, memory::MemoryBroker};
use redrive_domain::{
    canary::Part,
    command::{Accepted, Retried, Retry, RetryMode},
    event::{Envelope, Event, Selected},
    evolve::{Batches, evolve_among},
    failure::FailureClass,
    ids::{BatchKey, JobName},
    pipeline::TierNum,
    plan::Plan,
    state::BatchState,
    subject,
    units::Ordinal,
};

type Units = BTreeSet<(TierNum, JobName, Ordinal)>;

/// What users were told that plans of theirs would touch.
#[derive(Default)]
pub(crate) struct Previews(Vec<(BatchKey, Plan, Retried)>);

impl Previews {
    /// An answer; what of it must not be.
    pub(crate) fn told(&mut self, key: &BatchKey, accepted: &Accepted) -> Option<String> {
        let plan = accepted.plan.as_ref()?;
        let Some(retried) = &accepted.retry else {
            return Some(format!("{key}: a plan says nothing of what it would do"));
        };
        self.0.push((key.clone(), plan.clone(), retried.clone()));
        (plan.seq != accepted.seq).then(|| format!("{key}: a plan is of another place in the log"))
    }

    /// An event of the log; where it carries a plan out, it touches just what it would have touched where it was made,
    /// and as much as was said.
    pub(crate) fn carried_out(&self, log: &MemoryBroker, envelope: &Envelope) -> Option<String> {
        let Event::RetryScheduled {
            mode,
            tier_nums,
            kinds,
            fingerprints,
            max_retry_count,
            max_retries,
            jobs,
            selected,
            last: true,
            plan_seq: Some(seq),
            canary,
            ..
        } = &envelope.event
        else {
            return None;
        };
        let key = envelope.key();
        let Some(then) = state_at(log, &key, *seq) else {
            return Some(format!("a plan of {key} is of {seq}, where there is none"));
        };
        let asked = Retry {
            retry_mode: *mode,
            tier_nums: (!tier_nums.is_empty()).then(|| tier_nums.clone()),
            kinds: (!kinds.is_empty()).then(|| kinds.clone()),
            fingerprints: (!fingerprints.is_empty()).then(|| fingerprints.clone()),
            max_retry_count: *max_retry_count,
            max_retries: *max_retries,
            jobs: (!jobs.is_empty()).then(|| jobs.clone()),
            ..Retry::default()
        };
        let rest = match canary {
            Some(Part::Sample { rest, .. }) => touched(rest),
            Some(Part::Rest) | None => Units::new(),
        };
        let mut touched = touched(selected);
        touched.extend(rest);
        let planned = wanted(&then, &asked);
        if planned != touched {
            return Some(format!(
                "a plan of {key} made at {seq} meant {planned:?}, and touches {touched:?}"
            ));
        }
        let said: Vec<&Retried> = self
            .0
            .iter()
            .filter(|(of, plan, _)| {
                // A sample of all is none.
                let of_all = Retry {
                    canary: None,
                    canary_success: None,
                    // What else it sets stands in events of its own.
                    set: None,
                    ..plan.retry()
                };
                *of == key && plan.seq == *seq && of_all == asked
            })
            .map(|(_, _, said)| said)
            .collect();
        if said.is_empty() {
            return Some(format!("nobody was given the plan of {key} made at {seq}"));
        }
        let units = touched.len() as u64;
        let wrong = said.iter().find(|said| said.units != units)?;
        Some(format!(
            "a plan of {key} was said to touch {}, and touches {units}",
            wrong.units
        ))
    }
}

fn state_at(log: &MemoryBroker, key: &BatchKey, seq: u64) -> Option<BatchState> {
    let mut entries = log.read(Range {
        from: 1,
        until: Some(seq),
        filter: Some(subject::events_of_batch(0, key)),
    });
    let mut batches = Batches::new();
    // The broker in memory has it all at hand.
    while let Some(Some(Ok(entry))) = entries.next().now_or_never() {
        if let Ok(envelope) = Envelope::decode(&entry.payload) {
            evolve_among(&mut batches, entry.seq, &envelope);
        }
    }
    batches.remove(key)
}

/// The failed units that are asked for, one by one.
fn wanted(batch: &BatchState, asked: &Retry) -> Units {
    let mut found = Units::new();
    for (tier, spec, job) in batch.jobs() {
        for (class, kind, units) in job.failed_by_kind() {
            let all = asked.retry_mode == RetryMode::All;
            let is_meant = (all || class == FailureClass::Transient)
                && asked
                    .tier_nums
                    .as_ref()
                    .is_none_or(|tiers| tiers.contains(&tier))
                && asked
                    .kinds
                    .as_ref()
                    .is_none_or(|kinds| kinds.contains(kind))
                && asked
                    .jobs
                    .as_ref()
                    .is_none_or(|jobs| jobs.contains(&spec.name))
                && job.cancellation.is_none();
            if !is_meant {
                continue;
            }
            for unit in units.iter() {
                let (document, _) = batch.document_of(unit);
                if batch.retries.get(document) < u32::from(asked.max_retry_count) {
                    found.insert((tier, spec.name.clone(), unit));
                }
            }
        }
    }
    found
}

fn touched(selected: &[Selected]) -> Units {
    let units = |part: &Selected| {
        let (tier, job) = (part.tier, part.job.clone());
        let units: Vec<Ordinal> = part.units.iter().collect();
        units.into_iter().map(move |unit| (tier, job.clone(), unit))
    };
    selected.iter().flat_map(units).collect()
}
