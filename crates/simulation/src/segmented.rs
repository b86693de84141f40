//! Pipelines that split documents, and what is made of the segments.

use redrive_domain::{
    document::Output,
    ids::{BatchId, JobName},
    segments::lines,
    state::BatchState,
};
use redrive_worker::handler::Unit;
use serde_json::{Value, json};

use crate::{
    dice::{Dice, print_of},
    ledger::Execution,
};

/// The name of jobs that split.
const SPLIT: &str = "split";

/// Makes some pipelines such as split their documents, and some of these such as join them again.
pub(crate) fn some(batch: BatchId, tiers: &mut [Value]) {
    // The batch's own dice, so that what others throw stays as it is.
    let mut dice = Dice::new(0, ("segments", batch));
    if tiers.len() < 2 || !dice.happens(0.35) {
        return;
    }
    let split = dice.count(0..=1) as usize;
    let split = if split + 1 < tiers.len() { split } else { 0 };
    if let Some(jobs) = tiers[split]["jobs"].as_array_mut() {
        jobs.truncate(1);
        jobs[0]["segments"] = true.into();
        jobs[0]["name"] = SPLIT.into();
    }
    let last = tiers.len() - 1;
    if last >= split + 2 && dice.happens(0.7) {
        tiers[last]["join"] = true.into();
    }
}

pub(crate) fn splits(job: &JobName) -> bool {
    job.as_str() == SPLIT
}

/// The segments that a job makes of a document: some have none.
pub(crate) fn segments_of(execution: &Execution) -> String {
    let Execution { batch, unit, .. } = execution;
    let count = print_of(("segments", batch, unit)) % 5;
    let line = |index| format!("\"{batch} {unit} segment {index}\"\n");
    (0..count).map(line).collect()
}

/// What of the inputs of a unit is not what the tier before made.
pub(crate) fn wrong_input(
    batch: &BatchState,
    execution: &Execution,
    unit: &Unit,
    job: &JobName,
    input: &Output,
) -> Option<String> {
    let of = |unit| Execution {
        tier: execution.tier.saturating_sub(1),
        job: job.clone(),
        unit,
        ..execution.clone()
    };
    let (document, segment) = batch.document_of(execution.unit);
    if unit.segment != segment {
        return Some(format!("it is told that it is segment {:?}", unit.segment));
    }
    let segments = batch.segments.as_ref()?;
    let fine = if segments.at.join == Some(execution.tier) {
        let own = segments.of_document(document);
        let expected: Vec<String> = own
            .into_iter()
            .flatten()
            .map(|unit| of(unit).output())
            .collect();
        let given: Vec<&[u8]> = lines(&input.body).map(|line| &input.body[line]).collect();
        // Those whose handler made nothing, or had nothing to do, are null.
        given.len() == expected.len()
            && given.iter().zip(&expected).all(|(given, expected)| {
                *given == b"null" || *given == json!(expected).to_string().as_bytes()
            })
    } else if splits(job) {
        let all = segments_of(&of(document));
        let index = segment.unwrap_or(u32::MAX) as usize;
        all.lines().nth(index).map(str::as_bytes) == Some(&input.body)
    } else {
        input.body == of(execution.unit).output().as_bytes()
    };
    (!fine).then(|| format!("it was given {input:?} of job {job}"))
}
