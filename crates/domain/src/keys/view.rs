//! A key as people see it.

use serde::{Deserialize, Serialize};

use super::{Key, KeyStatus, Keyring, Scopes};
use crate::{
    ids::{KeyId, KeyName},
    time::Timestamp,
};

/// A key without its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct KeyView {
    /// What it is known by.
    pub id: KeyId,
    /// What people call it.
    pub name: KeyName,
    /// What it is good for.
    pub scopes: Scopes,
    /// Whether it is good now.
    pub status: KeyStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom, where that is known.
    pub created_by: Option<String>,
    /// From when on it is good for nothing, where it has an end.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, where it was.
    pub revoked_at: Option<Timestamp>,
    /// By whom, where that is known.
    pub revoked_by: Option<String>,
}

impl KeyView {
    /// A key as it is at a time.
    #[must_use]
    pub fn of(id: KeyId, key: &Key, at: Timestamp) -> Self {
        let revoked = key.revoked.as_ref();
        Self {
            id,
            name: key.name.clone(),
            scopes: key.scopes.clone(),
            status: key.status(at),
            created_at: key.created_at,
            created_by: key.created_by.clone(),
            expires_at: key.expires_at,
            revoked_at: revoked.map(|revoked| revoked.at),
            revoked_by: revoked.and_then(|revoked| revoked.by.clone()),
        }
    }
}

impl Keyring {
    /// The keys as they are at a time, in the order in which they were made; those that ended only if wanted.
    #[must_use]
    pub fn view(&self, at: Timestamp, ended: bool) -> Vec<KeyView> {
        let wanted = |(_, key): &(KeyId, &Key)| ended || key.status(at) == KeyStatus::Live;
        let mut keys: Vec<_> = self.iter().filter(wanted).collect();
        keys.sort_by_key(|(_, key)| key.created_seq);
        keys.into_iter()
            .map(|(id, key)| KeyView::of(id, key, at))
            .collect()
    }
}
