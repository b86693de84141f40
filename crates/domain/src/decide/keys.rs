//! Making and ending keys to the HTTP interface.

use super::Decision;
use crate::{
    command::{Accepted, CreateKey, Refusal, RevokeKey},
    credits::NO_BATCH,
    event::Event,
    ids::Namespace,
    keys::{Key, Keyring},
    limits::KEYS_PER_NAMESPACE,
    time::Timestamp,
};

pub(super) fn not_of_a_batch() -> Refusal {
    let message = "keys are the namespace's: give _ in place of the bucket and of the batch";
    Refusal::invalid("batch", message)
}

/// The key's id is what makes the command safe to send twice: a second secret for it counts for nothing.
pub(super) fn create(
    keys: Option<&Keyring>,
    at: Timestamp,
    create: &CreateKey,
) -> Result<Decision, Refusal> {
    if let Some(there) = keys.and_then(|keys| keys.get(create.key)) {
        let same = (&there.name, &there.scopes, there.expires_at)
            == (&create.name, &create.scopes, create.expires_at);
        return match same {
            true => Ok(so_already(there.created_seq)),
            false => Err(Refusal::conflict(format!(
                "key {} exists already, with another name, scope or expiry",
                create.key
            ))),
        };
    }
    if let Some(expired) = create.expires_at.filter(|expires| *expires <= at) {
        let message = format!("is {expired}, which is past: name a later time, or none");
        return Err(Refusal::invalid("expires_at", message));
    }
    let live = keys.map_or(0, |keys| keys.live(at));
    if live >= KEYS_PER_NAMESPACE {
        return Err(Refusal::conflict(format!(
            "the namespace has {live} keys that are good, and may have {KEYS_PER_NAMESPACE}: revoke one that is not used any more"
        )));
    }
    Ok(does(Event::KeyCreated(create.clone().into())))
}

pub(super) fn revoke(
    keys: Option<&Keyring>,
    namespace: &Namespace,
    revoke: &RevokeKey,
) -> Result<Decision, Refusal> {
    let key = revoke.key;
    let Some(there) = keys.and_then(|keys| keys.get(key)) else {
        let what = format!("key {key} in namespace {namespace}");
        return Err(Refusal::NotFound { what });
    };
    Ok(match there {
        Key {
            revoked: Some(revoked),
            ..
        } => so_already(revoked.seq),
        _ => does(Event::KeyRevoked { key }),
    })
}

fn does(event: Event) -> Decision {
    Decision {
        events: vec![event],
        accepted: Accepted::of_new(NO_BATCH),
    }
}

fn so_already(seq: u64) -> Decision {
    Decision {
        events: Vec::new(),
        accepted: Accepted {
            seq,
            repeated: true,
            ..Accepted::of_new(NO_BATCH)
        },
    }
}
