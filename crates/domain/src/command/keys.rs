//! Keys to the HTTP interface. Both commands are commands to the namespace: bucket and batch are `_`.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{KeyId, KeyName},
    keys::{NewKey, Scopes, SecretHash},
    time::Timestamp,
};

/// Make a key. Whoever asks has made the secret, and nobody else ever sees it: the command carries its hash alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What it is known by; the same key twice is made once.
    pub key: KeyId,
    /// What people call it.
    pub name: KeyName,
    /// What it is good for.
    pub scopes: Scopes,
    /// The hash of the secret: [`crate::keys::Token::hash`].
    pub hash: SecretHash,
    /// From when on it is good for nothing; never, without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl From<CreateKey> for NewKey {
    fn from(create: CreateKey) -> Self {
        let CreateKey {
            key,
            name,
            scopes,
            hash,
            expires_at,
        } = create;
        Self {
            key,
            name,
            scopes,
            hash,
            expires_at,
        }
    }
}

/// End a key. It cannot be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RevokeKey {
    /// Which.
    pub key: KeyId,
}
