//! Commands that come again: each is answered what it was answered then.

use std::collections::VecDeque;

use super::{Tenant, command_within, heal};
use crate::{
    command::{Accepted, Command, Refusal, Start},
    credits::Ledger,
    event::Event,
    ids::CommandId,
    state::BatchState,
    status::BatchStatus,
    time::Timestamp,
};

/// Refuses an id whose key came with another request before, as far as that is remembered.
pub(super) fn refuse_another(
    commands: &VecDeque<(CommandId, u64)>,
    id: CommandId,
) -> Result<(), Refusal> {
    match commands.iter().any(|(other, _)| id.contradicts(*other)) {
        true => Err(Refusal::KeyReused),
        false => Ok(()),
    }
}

/// What a command that stands at this sequence was answered, where the state still tells that. Where it does not, the log
/// has to: see [`as_then`].
#[must_use]
pub fn again_at(
    batch: &BatchState,
    ledger: Option<&Ledger>,
    seq: u64,
    asked: &Command,
) -> Option<Accepted> {
    let then = |status, documents, added| Accepted {
        status,
        seq,
        repeated: true,
        documents,
        added,
        ..Accepted::of_new(batch.key.batch)
    };
    // Before the submission nothing is charged and nothing happens beside it.
    let waits = batch.start == Start::OnSubmit;
    match asked {
        Command::Create(_) => Some(then(BatchStatus::Pending, 0, None)),
        Command::AddDocuments(_) if waits => {
            let mut pages = batch.pages.between(0, batch.documents.checked_sub(1)?);
            let (first, last, _) = pages.find(|(_, _, place)| *place == seq)?;
            let added = Some(last - first + 1);
            Some(then(BatchStatus::Pending, last + 1, added))
        }
        Command::Submit(_) if waits && batch.documents > 0 && ledger.is_none() => {
            Some(then(BatchStatus::Running, batch.documents, None))
        }
        _ => None,
    }
}

/// What a command was answered, from what was known then: the batch before the command's first event, the ledger and the
/// time at that moment, and the events that it led to. Its `status`, `seq` and `documents` are those before.
///
/// # Errors
/// Where it would be refused by the rules of today.
pub fn as_then(
    before: &BatchState,
    (ledger, at): (Option<&Ledger>, Timestamp),
    (id, asked): (CommandId, &Command),
    events: &[Event],
) -> Result<Accepted, Refusal> {
    let accepted = match asked {
        // What a leader saw then is not in the log, but what it found is.
        Command::Heal(asked) => Accepted {
            heal: Some(heal::told(asked.action, at, events)),
            ..before.accepted()
        },
        _ => {
            let tenant = Tenant { ledger, keys: None };
            let (key, bucket) = (&before.key, &before.bucket);
            command_within(tenant, at, Some(before), key, bucket, id, asked)?.accepted
        }
    };
    Ok(Accepted {
        repeated: true,
        ..accepted
    })
}
