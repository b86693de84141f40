//! Failures of a job that are alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, FailureClass, FailureKind, Fingerprint, normal},
    limits::{COUNTED_KINDS, FAILURE_GROUPS},
    time::{Millis, Timestamp},
    units::UnitSet,
    work::FailedUnits,
};

/// The message of the group of those that are like no other.
const OTHERS: &str = "(other messages)";

/// The failed units of a job by what their failures have in common. Each failed unit is in exactly one group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Groups(BTreeMap<Fingerprint, Group>);

/// Failed units whose failures have one fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Their class.
    pub class: FailureClass,
    /// Their kind.
    pub kind: FailureKind,
    /// Their code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Their message, without what names a document: see [`normal`].
    pub message: String,
    /// Which.
    pub units: UnitSet,
    /// The latest time before which the other side asked not to be tried again, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
}

impl Groups {
    /// The groups by their fingerprints.
    pub fn iter(&self) -> impl Iterator<Item = (Fingerprint, &Group)> {
        self.0
            .iter()
            .map(|(fingerprint, group)| (*fingerprint, group))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The units of these fingerprints.
    #[must_use]
    pub fn units_of(&self, fingerprints: &[Fingerprint]) -> UnitSet {
        let groups = fingerprints.iter().filter_map(|f| self.0.get(f));
        groups.fold(UnitSet::new(), |mut all, group| {
            all.add(&group.units);
            all
        })
    }

    /// Units that have just failed; of what is told of others nothing is taken.
    pub(crate) fn add(
        &mut self,
        class: FailureClass,
        kind: &FailureKind,
        failed: &[FailedUnits],
        units: &UnitSet,
        at: Timestamp,
    ) {
        let mut left = units.clone();
        for FailedUnits { units, failure } in failed {
            let units = units.and(&left);
            if !units.is_empty() {
                left.remove(&units);
                self.add_alike(class, kind, failure, &units, at);
            }
        }
    }

    fn add_alike(
        &mut self,
        class: FailureClass,
        kind: &FailureKind,
        failure: &Failure,
        units: &UnitSet,
        at: Timestamp,
    ) {
        let mut code = failure.code.as_deref();
        let mut message = normal(&failure.message);
        let mut fingerprint = Fingerprint::of_normal(class, kind, code, &message);
        let fits = |of: &Group| of.class == class && of.kind == *kind;
        let has_place = match self.0.get(&fingerprint) {
            Some(group) => fits(group),
            None => self.0.len() < FAILURE_GROUPS,
        };
        if !has_place {
            code = None;
            OTHERS.clone_into(&mut message);
            fingerprint = Fingerprint::of_normal(class, kind, code, OTHERS);
        }
        let group = self.0.entry(fingerprint).or_insert_with(|| Group {
            class,
            kind: kind.clone(),
            code: code.map(str::to_owned),
            message,
            units: UnitSet::new(),
            not_before: None,
        });
        group.units.add(units);
        let asked = failure.retry_after.filter(|wait| *wait > Millis(0));
        group.not_before = group.not_before.max(asked.map(|wait| at.plus(wait)));
    }

    /// Units that are not failed any more.
    pub(crate) fn remove(&mut self, units: &UnitSet) {
        self.0.retain(|_, group| {
            group.units.remove(units);
            !group.units.is_empty()
        });
    }
}

/// How many attempts failed with each kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KindCounts(BTreeMap<FailureKind, u64>);

impl KindCounts {
    /// Counts some more. Beyond [`COUNTED_KINDS`] kinds, those that are new are counted as [`FailureKind::FAILED`].
    pub(crate) fn add(&mut self, kind: &FailureKind, units: u64) {
        let known = self.0.contains_key(kind) || self.0.len() < COUNTED_KINDS;
        let kind = if known { kind } else { &FailureKind::FAILED };
        let count = self.0.entry(kind.clone()).or_default();
        *count = count.saturating_add(units);
    }

    /// How many there were of a kind.
    #[must_use]
    pub fn of(&self, kind: &FailureKind) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    /// All kinds with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&FailureKind, u64)> {
        self.0.iter().map(|(kind, count)| (kind, *count))
    }
}
