//! What must hold of keys: each is made once, and ended at most once, and only where it was made.

use std::collections::BTreeMap;

use crate::{
    credits::NO_BATCH,
    event::{Envelope, Event},
    ids::KeyId,
};

/// The keys that were told of, and whether they were revoked. However many there are, all are kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(BTreeMap<KeyId, bool>);

impl Told {
    pub(super) fn take(&mut self, envelope: &Envelope, found: &mut Vec<String>) {
        if envelope.batch != NO_BATCH {
            found.push("a key stands under a batch".to_owned());
        }
        match &envelope.event {
            Event::KeyCreated(new) => {
                if self.0.insert(new.key, false).is_some() {
                    found.push(format!("key {} is made twice", new.key));
                }
                if new.expires_at.is_some_and(|expires| expires <= envelope.at) {
                    found.push(format!("key {} was expired when it was made", new.key));
                }
            }
            Event::KeyRevoked { key } => match self.0.insert(*key, true) {
                Some(false) => {}
                before => found.push(format!("key {key} is revoked, and was {before:?}")),
            },
            _ => {}
        }
    }
}
