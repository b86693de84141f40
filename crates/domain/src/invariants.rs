//! What must hold whatever happened, written once: of a state ([`violations`]), and of a log ([`History`]). Tests, the
//! simulation and `replay --verify` share it.

mod history;

pub use history::History;

use std::collections::BTreeMap;

use crate::{
    limits::{FAILURE_GROUPS, INFRASTRUCTURE_EVENTS},
    pipeline::TierNum,
    state::{BatchState, JobState, TierState},
    status::BatchStatus,
    units::UnitSet,
};

/// All that does not hold; empty for a sound state.
#[must_use]
pub fn violations(batch: &BatchState) -> Vec<String> {
    let mut found = Vec::new();
    let all = UnitSet::run(0, batch.documents);
    if batch.pages.units() != all {
        found.push("a document stands nowhere in the log".to_owned());
    }
    if batch.tiers.first().is_some_and(|tier| tier.entered != all) {
        found.push("tier 0 has not let in every document, once".to_owned());
    }
    for (num, tier) in (0..).zip(&batch.tiers) {
        check_tier(batch, num, tier, &mut found);
    }
    if let Some(segments) = &batch.segments {
        let split = batch.tiers.get(usize::from(segments.at.split));
        let split = split.map(TierState::done).unwrap_or_default();
        found.extend(segments.problems(&split).into_iter().map(str::to_owned));
    }
    let counts = batch.counts();
    let total = counts.completed + counts.failed + counts.cancelled + counts.open;
    if total != u64::from(batch.documents) {
        found.push(format!(
            "{counts:?} do not add up to {} documents",
            batch.documents
        ));
    }
    if batch.status.is_over()
        && batch.aborted.is_none()
        && batch.tiers.iter().any(TierState::is_open)
    {
        found.push(format!("the batch is {} but has open units", batch.status));
    }
    if batch.status.is_over() && batch.tiers.iter().any(is_running) {
        found.push(format!(
            "the batch is {} but a tier is running",
            batch.status
        ));
    }
    if batch.status.is_over() != batch.ended_at.is_some() {
        found.push("the batch has an end, or the time of one, but not both".to_owned());
    }
    if batch.infrastructure.last.len() > INFRASTRUCTURE_EVENTS {
        found.push("too many events of the infrastructure are kept".to_owned());
    }
    if batch.aborted.is_some() && batch.status != BatchStatus::Failed {
        found.push(format!("the batch was aborted and is {}", batch.status));
    }
    if !batch.excused.is_subset(&batch.failed_documents()) {
        found.push("a document is excused and has not failed".to_owned());
    }
    if batch.canary.iter().flat_map(|it| &it.rest).any(|part| {
        let job = batch.job(part.tier, &part.job);
        !job.is_some_and(|(_, job)| part.units.is_subset(&job.all_failed()))
    }) {
        found.push("something waits for a sample and has not failed".to_owned());
    }
    if batch.retries.units().last() >= Some(batch.documents) {
        found.push("something was retried that is no document".to_owned());
    }
    if batch.status == BatchStatus::Completed && counts.completed != u64::from(batch.documents) {
        found.push(format!("the batch is completed with {counts:?}"));
    }
    let held: u64 = batch.credits.held.values().map(UnitSet::len).sum();
    if held != batch.credits.documents().len() {
        found.push("credits of two months are held for a document".to_owned());
    }
    if batch.credits.held.values().any(UnitSet::is_empty) {
        found.push("a month of which no credits are held is kept".to_owned());
    }
    found
}

fn is_running(tier: &TierState) -> bool {
    tier.status == BatchStatus::Running
}

fn check_tier(batch: &BatchState, num: TierNum, tier: &TierState, found: &mut Vec<String>) {
    if let Some(before) = num
        .checked_sub(1)
        .and_then(|n| batch.tiers.get(usize::from(n)))
        && !tier.entered.is_subset(&batch.entering(num, before.done()))
    {
        found.push(format!(
            "tier {num} let in a unit that the tier before had not done"
        ));
    }
    if tier.status.is_over() && tier.is_open() {
        found.push(format!("tier {num} is {} but has open units", tier.status));
    }
    if tier.is_stopped() && tier.jobs.iter().any(|job| job.cancellation.is_none()) {
        found.push(format!("tier {num} is cancelled, but a job of it is not"));
    }
    for (place, job) in tier.jobs.iter().enumerate() {
        for problem in job_problems(job, &tier.entered) {
            found.push(format!("tier {num} job {place}: {problem}"));
        }
    }
}

fn job_problems(job: &JobState, entered: &UnitSet) -> Vec<&'static str> {
    let mut found = Vec::new();
    let failed = job.all_failed();
    let by_kind: u64 = job.failed_by_kind().map(|(_, _, units)| units.len()).sum();
    if by_kind != failed.len() {
        found.push("a unit failed in two ways at once");
    }
    let sets = [
        &job.open,
        &job.completed,
        &job.skipped,
        &failed,
        &job.cancelled,
    ];
    let mut all = UnitSet::new();
    let mut total = 0;
    for set in sets {
        all.add(set);
        total += set.len();
    }
    if total != all.len() {
        found.push("a unit is in two states at once");
    }
    if all != *entered {
        found.push("its units are not those that entered the tier");
    }
    if job.cancellation.is_some() && !(job.open.is_empty() && job.paused.is_none()) {
        found.push("it is cancelled, but has something open, or is paused");
    }
    if job.is_waived() && !failed.is_empty() {
        found.push("documents go on without it, but it has failed some");
    }
    if !job.outputs.units().is_subset(&job.completed) {
        found.push("a unit that did not succeed has an output");
    }
    if !job.spent.units().is_subset(&job.open) {
        found.push("a unit that is not open has spent attempts");
    }
    if !job.strikes.units().is_subset(&job.open) {
        found.push("a unit that is not open has strikes");
    }
    if !job.attempts.units().is_subset(entered) {
        found.push("a unit was attempted that never entered");
    }
    if job
        .budgets
        .values()
        .any(|units| !units.is_subset(&job.open))
    {
        found.push("a unit that is not open has a budget");
    }
    if job.due.values().any(UnitSet::is_empty) || job.budgets.values().any(UnitSet::is_empty) {
        found.push("an empty set is kept");
    }
    if job.failures.units() != failed {
        found.push("the places of failures are not those of the failed units");
    }
    group_problems(job, &failed, &mut found);
    found
}

fn group_problems(job: &JobState, failed: &UnitSet, found: &mut Vec<&'static str>) {
    let mut all = UnitSet::new();
    let mut total = 0;
    for (_, group) in job.fingerprints.iter() {
        let kinds = job.failed.get(&group.class);
        let alike = kinds.and_then(|kinds| kinds.get(&group.kind));
        if !alike.is_some_and(|units| group.units.is_subset(units)) {
            found.push("a unit is in a group of failures of another kind");
        }
        all.add(&group.units);
        total += group.units.len();
    }
    if all != *failed || total != all.len() {
        found.push("the groups of failures do not have each failed unit once");
    }
    let kinds: usize = job.failed.values().map(BTreeMap::len).sum();
    if job.fingerprints.len() > FAILURE_GROUPS + kinds {
        found.push("there are too many groups of failures");
    }
}
