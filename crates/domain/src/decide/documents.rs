use super::{Decision, refuse_if_cancelled};
use crate::{
    command::{AddDocuments, Refusal},
    event::Event,
    limits::{DOCUMENTS_PER_BATCH, DOCUMENTS_PER_PAGE, PAGE_BYTES},
    packed::Packed,
    pipeline::SpecError,
    state::BatchState,
};

/// More than this many errors of one page tell nothing new.
const ERRORS_SHOWN: usize = 20;

pub(super) fn add(batch: &BatchState, add: &AddDocuments) -> Result<Decision, Refusal> {
    let count = add.documents.len();
    if !(1..=DOCUMENTS_PER_PAGE).contains(&count) {
        return Err(Refusal::invalid(
            "documents",
            format!("has {count} entries: it takes 1 to {DOCUMENTS_PER_PAGE}; send more pages"),
        ));
    }
    let has = batch.documents;
    let first = add.first.unwrap_or(has);
    let end = u32::try_from(count)
        .ok()
        .and_then(|count| first.checked_add(count))
        .filter(|end| *end <= DOCUMENTS_PER_BATCH)
        .ok_or_else(|| {
            let total = u64::from(first) + count as u64;
            let message =
                format!("would make {total}: a batch takes at most {DOCUMENTS_PER_BATCH}");
            Refusal::invalid("documents", message)
        })?;
    if end <= has {
        let mut decision = batch.repeated(batch.last_seq);
        decision.accepted.added = Some(0);
        return Ok(decision);
    }
    if batch.submitted {
        return Err(Refusal::conflict(format!(
            "batch {} has been submitted with {has} documents: it takes no more",
            batch.key.batch
        )));
    }
    refuse_if_cancelled(batch, "added to")?;
    if first > has {
        return Err(Refusal::conflict(format!(
            "first is {first}, but the batch has {has} documents: the next page begins at {has}"
        )));
    }
    let errors: Vec<SpecError> = add
        .documents
        .iter()
        .enumerate()
        .filter_map(|(i, document)| {
            document.validate().err().map(|error| SpecError {
                path: format!("documents[{i}]"),
                message: error.to_string(),
            })
        })
        .take(ERRORS_SHOWN)
        .collect();
    if !errors.is_empty() {
        return Err(Refusal::Invalid { errors });
    }
    // A page may have been cut elsewhere when it was handed over before: what of it is there stays as it is.
    let there = usize::try_from(has - first).unwrap_or(usize::MAX);
    let rest;
    let documents = match there {
        0 => &add.documents,
        _ => {
            rest = add.documents.get(there..).unwrap_or_default().to_vec();
            &rest
        }
    };
    let documents =
        Packed::new(documents).map_err(|e| Refusal::invalid("documents", e.to_string()))?;
    if documents.size() > PAGE_BYTES {
        let size = documents.size();
        let message = format!("take {size} bytes together: a page takes at most {PAGE_BYTES}");
        return Err(Refusal::invalid("documents", message));
    }
    let mut accepted = batch.accepted();
    accepted.documents = end;
    accepted.added = Some(end - has);
    Ok(Decision {
        events: vec![Event::DocumentsAdded {
            first: has,
            count: end - has,
            documents,
        }],
        accepted,
    })
}
