//! What is known of a job, for those who advise.

use super::{
    figures::{at_once, rate},
    parts,
};
use crate::{
    failure::{FailureClass, FailureKind, Fingerprint},
    pipeline::{JobSpec, TierNum},
    state::{BatchState, Group, JobState, TierState},
    time::{Millis, Timestamp},
    units::UnitSet,
};

/// A job that is running, with all around it.
#[derive(Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub(super) batch: &'a BatchState,
    pub(super) tier: TierNum,
    pub(super) state: &'a TierState,
    pub(super) spec: &'a JobSpec,
    pub(super) job: &'a JobState,
    pub(super) now: Timestamp,
}

impl<'a> Evidence<'a> {
    /// That of all jobs.
    pub(super) fn all(batch: &'a BatchState, now: Timestamp) -> impl Iterator<Item = Self> {
        batch.jobs().filter_map(move |(tier, spec, job)| {
            Some(Self {
                batch,
                tier,
                state: batch.tiers.get(usize::from(tier))?,
                spec,
                job,
                now,
            })
        })
    }

    /// Whether its tier has no other job.
    pub(super) fn is_alone(&self) -> bool {
        self.state.jobs.len() == 1
    }

    /// Units that succeeded.
    pub(super) fn succeeded(&self) -> u64 {
        self.job.completed.len() + self.job.skipped.len()
    }

    /// The kinds of its failures, each with its units.
    pub(super) fn kinds(&self) -> Vec<(FailureClass, FailureKind, UnitSet)> {
        let mut kinds: Vec<(FailureClass, FailureKind, UnitSet)> = Vec::new();
        for (class, kind, units) in self.job.failed_by_kind() {
            match kinds.iter_mut().find(|(_, of, _)| of == kind) {
                Some((_, _, all)) => all.add(units),
                None => kinds.push((class, kind.clone(), units.clone())),
            }
        }
        kinds
    }

    /// The groups of failures of a kind, the largest first.
    pub(super) fn groups(&self, kind: &FailureKind) -> Vec<(Fingerprint, &'a Group)> {
        let groups = self.job.fingerprints.iter();
        let mut groups: Vec<_> = groups.filter(|(_, group)| group.kind == *kind).collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.units.len()));
        groups
    }

    /// What most failures of a kind say, in quotation marks.
    pub(super) fn said(&self, kind: &FailureKind) -> String {
        let groups = self.groups(kind);
        let Some((_, first)) = groups.first() else {
            return "nothing".to_owned();
        };
        match groups.len() {
            1 => quoted(first),
            n => format!("{} and {} other messages", quoted(first), n - 1),
        }
    }

    /// Until when the other side asked to be left alone, after failures of a kind.
    pub(super) fn not_before(&self, kind: &FailureKind) -> Option<Timestamp> {
        let groups = self.groups(kind);
        groups
            .iter()
            .filter_map(|(_, group)| group.not_before)
            .max()
    }

    /// The time in which all that is known of it happened.
    pub(super) fn elapsed(&self) -> Millis {
        let (start, last) = (self.state.started_at, self.job.last_at);
        start
            .zip(last)
            .map_or(Millis(0), |(start, last)| last.since(start))
    }

    /// Units that succeeded a second.
    pub(super) fn rate(&self) -> Option<f64> {
        rate(self.succeeded(), self.elapsed())
    }

    /// How many of its units ran at once, on average.
    pub(super) fn at_once(&self) -> u32 {
        let ran = at_once(self.job.busy, self.elapsed());
        parts::max_concurrency(self.spec).map_or(ran, |most| ran.min(most))
    }

    /// How long units that succeeded took, on average: what is left of the time in the handler without attempts that ran
    /// into the timeout. None where nothing succeeded, or where the timeout was another one for some.
    pub(super) fn usual(&self) -> Option<Millis> {
        let timed_out = self.job.failed_kinds.of(&FailureKind::TIMEOUT);
        let lost = self.spec.timeout.0.saturating_mul(timed_out);
        let rest = self.job.busy.0.checked_sub(lost)?;
        let others = self.job.executed.checked_sub(timed_out)?;
        rest.checked_div(others)
            .map(Millis)
            .filter(|_| self.succeeded() > 0)
    }

    /// How long nothing has happened in it, though it has work that could be done; none where that is as it should be.
    pub(super) fn quiet_for(&self) -> Option<Millis> {
        let last = self.job.last_at.max(self.state.started_at)?;
        let quiet = self.now.since(last);
        let most = self.spec.timeout.0.saturating_add(GRACE.0);
        let waits = self.job.paused.is_some() || self.job.ready(self.now).is_empty();
        (!waits && quiet.0 > most).then_some(quiet)
    }
}

/// What it may take beyond the timeout of an attempt until that is seen in the log.
const GRACE: Millis = Millis::seconds(60);

/// What the failures of a group say.
pub(super) fn quoted(group: &Group) -> String {
    let code = group.code.as_ref();
    let code = code.map_or_else(String::new, |code| format!(" (code {code})"));
    match group.message.as_str() {
        "" => format!("without a message{code}"),
        message => format!("“{message}”{code}"),
    }
}
