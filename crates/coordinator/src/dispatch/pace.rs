//! How long units take.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use redrive_domain::{ids::Namespace, pipeline::JobSpec, work::Outcome};

/// Kinds of work that are remembered; with more, all are learned afresh.
const KINDS: usize = 1_024;

/// What is executed, whichever batch wants it: a hash of who wants it, the handler and its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind(u64);

impl Kind {
    pub(super) fn of(namespace: &Namespace, spec: &JobSpec) -> Self {
        // Fixed keys: the same in every run of a simulation.
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        Self(hasher.hash_one((namespace, &spec.handler, &spec.params)))
    }
}

/// What a unit of each kind took, in milliseconds: the first chunk of a batch need not find out what the batch before
/// has shown.
#[derive(Debug, Default)]
pub(super) struct Paces(BTreeMap<Kind, f64>);

impl Paces {
    pub(super) fn get(&self, kind: Kind) -> Option<f64> {
        self.0.get(&kind).copied()
    }

    pub(super) fn learn(&mut self, kind: Kind, unit_ms: f64) {
        if self.0.len() >= KINDS && !self.0.contains_key(&kind) {
            self.0.clear();
        }
        self.0.insert(kind, unit_ms);
    }

    pub(super) fn forget(&mut self, kind: Kind) {
        self.0.remove(&kind);
    }
}

/// The time that a unit of a report took, in milliseconds; `None` where none was tried.
#[allow(clippy::cast_precision_loss)]
pub(super) fn sample(outcome: &Outcome) -> Option<f64> {
    let tried = outcome.units().minus(&outcome.returned).len();
    // A report tells whole milliseconds, and drops half of one as a rule.
    (tried > 0).then(|| (outcome.busy.0 as f64 + 0.5) / tried as f64)
}

#[cfg(test)]
mod tests {
    use redrive_domain::pipeline::Pipeline;
    use serde_json::{Value, json};

    use super::*;

    fn kind(namespace: &str, params: &Value) -> Kind {
        let job = json!({ "name": "a", "handler": "exec", "params": params });
        let value = json!({ "tiers": [{ "jobs": [job] }] });
        let pipeline = Pipeline::from_value(&value).unwrap();
        Kind::of(
            &Namespace::new(namespace).unwrap(),
            &pipeline.tiers[0].jobs[0],
        )
    }

    #[test]
    fn only_the_same_work_of_the_same_namespace_is_alike() {
        let (slow, fast) = (json!({ "command": "slow" }), json!({ "command": "fast" }));
        assert_eq!(kind("a", &slow), kind("a", &slow));
        assert_ne!(kind("a", &slow), kind("a", &fast));
        assert_ne!(kind("a", &slow), kind("b", &slow));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut paces = Paces::default();
        for number in 0..10 * KINDS as u64 {
            paces.learn(Kind(number), 1.0);
            assert_eq!(paces.get(Kind(number)), Some(1.0));
            assert!(paces.0.len() <= KINDS);
        }
        paces.forget(Kind(10 * KINDS as u64 - 1));
        assert_eq!(paces.get(Kind(10 * KINDS as u64 - 1)), None);
    }
}
