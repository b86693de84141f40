//! What a chunk refers to.

use redrive_domain::{
    pipeline::TierNum,
    state::BatchState,
    units::UnitSet,
    work::{Input, Source},
};

/// Where the documents and inputs of units stand in the log.
pub(super) fn references(
    batch: &BatchState,
    tier: TierNum,
    units: &UnitSet,
) -> (Vec<Source>, Vec<Input>) {
    let documents = batch
        .pages
        .split(units)
        .into_iter()
        .map(|(seq, units)| Source { seq, units })
        .collect();
    let inputs = batch
        .jobs()
        .filter(|(num, _, _)| num.checked_add(1) == Some(tier))
        .flat_map(|(_, spec, job)| {
            job.outputs
                .split(units)
                .into_iter()
                .map(|(seq, units)| Input {
                    job: spec.name.clone(),
                    seq,
                    units,
                })
        })
        .collect();
    (documents, inputs)
}
