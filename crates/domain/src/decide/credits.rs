//! Reserving credits for what begins, and ending what was reserved when a batch is over.

use super::{Decision, command, keys, repeat, retry};
use crate::{
    canary::Part,
    command::{Accepted, Command, Refusal, SetCredits, Start},
    credits::{Charge, Ledger, Month, NO_BATCH},
    event::Event,
    ids::{BatchKey, Bucket, CommandId},
    keys::Keyring,
    limits::{CREDITS, SET_BYTES_PER_EVENT},
    state::BatchState,
    time::Timestamp,
    units::{Ordinal, UnitSet},
};

/// Ordinals of which any set fits in an event.
#[allow(clippy::cast_possible_truncation)]
const WINDOW: Ordinal = (SET_BYTES_PER_EVENT * 8) as Ordinal;

/// What a namespace has beside its batches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tenant<'a> {
    /// What it may spend, where that was ever limited.
    pub ledger: Option<&'a Ledger>,
    /// Its keys to the HTTP interface, where it ever had one.
    pub keys: Option<&'a Keyring>,
}

/// Decides on a command of a namespace that has this, at this time: as [`command`] does, but what begins documents
/// reserves their credits in the same decision, or is refused.
///
/// # Errors
/// Why it is not carried out. Nothing of it was done.
pub fn command_within(
    Tenant { ledger, keys }: Tenant<'_>,
    at: Timestamp,
    batch: Option<&BatchState>,
    key: &BatchKey,
    bucket: &Bucket,
    id: CommandId,
    asked: &Command,
) -> Result<Decision, Refusal> {
    match asked {
        Command::SetCredits(set) if key.batch == NO_BATCH => set_credits(ledger, id, *set),
        Command::CreateKey(create) if key.batch == NO_BATCH => keys::create(keys, at, create),
        Command::RevokeKey(revoke) if key.batch == NO_BATCH => {
            keys::revoke(keys, &key.namespace, revoke)
        }
        _ => {
            let decision = command(batch, key, bucket, id, asked)?;
            match (batch, ledger) {
                (Some(batch), Some(ledger)) => charge(batch, ledger, at, asked, decision),
                _ => Ok(decision),
            }
        }
    }
}

pub(super) fn not_of_a_batch() -> Refusal {
    let message = "credits are the namespace's: give _ in place of the bucket and of the batch";
    Refusal::invalid("batch", message)
}

fn set_credits(
    ledger: Option<&Ledger>,
    id: CommandId,
    set: SetCredits,
) -> Result<Decision, Refusal> {
    if let Some(limit) = set.limit.filter(|limit| *limit > CREDITS) {
        let message = format!("is {limit}: it takes 0 to {CREDITS}, or null for no limit");
        return Err(Refusal::invalid("limit", message));
    }
    let there = ledger.cloned().unwrap_or_default();
    repeat::refuse_another(&there.commands, id)?;
    let so_already = (there.limit == set.limit).then_some(there.limit_seq);
    if let Some(seq) = there.remembered(id).or(so_already) {
        return Ok(Decision {
            events: Vec::new(),
            accepted: Accepted {
                seq,
                repeated: true,
                ..Accepted::of_new(NO_BATCH)
            },
        });
    }
    Ok(Decision {
        events: vec![Event::CreditsLimitSet { limit: set.limit }],
        accepted: Accepted::of_new(NO_BATCH),
    })
}

/// Puts the reservation in front of what it is for: cut off in between, it is held for nothing and released with the
/// batch, and nothing begins without one.
fn charge(
    batch: &BatchState,
    ledger: &Ledger,
    at: Timestamp,
    asked: &Command,
    mut decision: Decision,
) -> Result<Decision, Refusal> {
    let month = Month::of(at);
    let (Some(limit), Some(left)) = (ledger.limit, ledger.left(month)) else {
        return Ok(decision);
    };
    let price = batch.pipeline.credits_per_document;
    let mut documents = match asked {
        Command::Retry(asked) if asked.dry_run => retry::documents(batch, asked),
        _ => begun(batch, &decision.events),
    };
    documents.remove(&batch.credits.documents());
    let takes = documents.len().saturating_mul(price);
    if takes == 0 {
        return Ok(decision);
    }
    let charge = Charge {
        month,
        limit,
        left,
        takes,
    };
    decision.accepted.credits = Some(charge);
    // A preview tells what it would take.
    if decision.events.is_empty() {
        return Ok(decision);
    }
    if charge.missing() > 0 {
        return Err(Refusal::Credits(charge.into()));
    }
    let reserved = in_windows(&documents).map(|documents| Event::CreditsReserved {
        month,
        amount: documents.len().saturating_mul(price),
        documents,
    });
    decision.events = reserved.chain(decision.events).collect();
    Ok(decision)
}

/// The documents that begin, for the first time or again, with these events.
fn begun(batch: &BatchState, events: &[Event]) -> UnitSet {
    let mut documents = UnitSet::new();
    for event in events {
        match event {
            Event::BatchSubmitted { documents: count } if batch.start == Start::OnSubmit => {
                documents.add(&UnitSet::run(0, *count));
            }
            Event::DocumentsAdded { first, count, .. } if batch.start == Start::AtOnce => {
                documents.add(&UnitSet::run(*first, *count));
            }
            Event::RetryScheduled {
                selected, canary, ..
            } => {
                // What waits for a sample is paid for with it: nothing of a retry is refused later.
                let rest = match canary {
                    Some(Part::Sample { rest, .. }) => rest.as_slice(),
                    _ => &[],
                };
                for part in selected.iter().chain(rest) {
                    documents.add(&batch.documents_of(&part.units));
                }
                documents.add(&stopped(batch));
            }
            Event::DispatchResumed { .. } => documents.add(&stopped(batch)),
            // What a job had failed goes on without it.
            Event::JobCancelled {
                tier,
                job,
                waived: true,
                ..
            } => {
                let failed = batch.job(*tier, job).map(|(_, job)| job.all_failed());
                if let Some(failed) = failed.filter(|failed| !failed.is_empty()) {
                    documents.add(&batch.documents_of(&failed));
                    documents.add(&stopped(batch));
                }
            }
            _ => {}
        }
    }
    documents
}

/// Documents that go on with a batch that was aborted, or may when a sample has been judged: what was held for them was
/// given back then.
fn stopped(batch: &BatchState) -> UnitSet {
    if batch.aborted.is_none() {
        return UnitSet::new();
    }
    let mut failed = batch.failed_documents();
    for part in batch.canary.iter().flat_map(|canary| &canary.rest) {
        failed.remove(&batch.documents_of(&part.units));
    }
    let over = batch.completed_documents().or(&failed);
    UnitSet::run(0, batch.documents).minus(&over)
}

/// A set in parts, each of which fits in an event.
fn in_windows(documents: &UnitSet) -> impl Iterator<Item = UnitSet> {
    let mut rest = documents.clone();
    std::iter::from_fn(move || {
        let part = first_window(&rest)?;
        rest.remove(&part);
        Some(part)
    })
}

fn first_window(documents: &UnitSet) -> Option<UnitSet> {
    let first = documents.first()?;
    Some(documents.and(&UnitSet::run(first, WINDOW)))
}

/// Ends what a batch that is over still holds: what is through is settled, the rest released.
pub(super) fn close(batch: &BatchState) -> Option<Event> {
    if !batch.status.is_over() {
        return None;
    }
    let (month, held) = batch.credits.held.first_key_value()?;
    let month = *month;
    let price = batch.pipeline.credits_per_document;
    let amount = |documents: &UnitSet| documents.len().saturating_mul(price);
    match first_window(&held.and(&batch.completed_documents())) {
        Some(documents) => Some(Event::CreditsSettled {
            month,
            amount: amount(&documents),
            documents,
        }),
        None => first_window(held).map(|documents| Event::CreditsReleased {
            month,
            amount: amount(&documents),
            documents,
        }),
    }
}
