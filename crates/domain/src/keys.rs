//! Keys to the HTTP interface: what a caller has to know, and what the log knows of it.
//!
//! A key belongs to a namespace and is good for some [`Scopes`]. Its secret is 256 random bits, made by whoever asks for
//! the key and shown once; the log has a SHA-256 of the [`Token`] and nothing that it could be guessed from. Random bits
//! need no salt and no slow hash: there is nothing to try. The [`Keyring`] is a fold of the namespace's log, kept by
//! coordinators, which decide, and by gateways, which admit callers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    credits::NO_BATCH,
    event::{Envelope, Event},
    ids::{KeyId, KeyName, Namespace},
    limits::{KEYS_KEPT, KEYS_PER_NAMESPACE},
    time::Timestamp,
};

/// What a key is good for. None of them includes another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Scope {
    /// Look: batches, documents, failures, results, events, credits.
    Read,
    /// Act on batches: create, add documents, submit, retry, cancel, heal, pause, resume.
    Operate,
    /// Act on the namespace: its credits and its keys.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Operate, Self::Admin];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no scope, or no list of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    /// There is no such scope.
    #[error("{0:?} is not a scope: use read, operate or admin")]
    Unknown(String),
    /// It would be good for nothing.
    #[error("a key has at least one scope: read, operate or admin")]
    None,
}

impl FromStr for Scope {
    type Err = InvalidScope;
    fn from_str(value: &str) -> Result<Self, InvalidScope> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == value)
            .ok_or_else(|| InvalidScope::Unknown(value.chars().take(80).collect()))
    }
}

/// One or more scopes. As text they stand in a row with commas between, as data in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeSet<Scope>", into = "BTreeSet<Scope>")]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// These.
    ///
    /// # Errors
    /// Where there is none.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, InvalidScope> {
        BTreeSet::from_iter(scopes).try_into()
    }

    /// Every scope that there is.
    #[must_use]
    pub fn all() -> Self {
        Self(Scope::ALL.into())
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// They, in order.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|scope| scope.as_str()).collect();
        f.pad(&words.join(","))
    }
}

impl FromStr for Scopes {
    type Err = InvalidScope;
    fn from_str(value: &str) -> Result<Self, InvalidScope> {
        let words = value.split(',').map(str::trim);
        let words = words.filter(|word| !word.is_empty());
        let scopes: Result<Vec<Scope>, _> = words.map(str::parse).collect();
        Self::new(scopes?)
    }
}

impl TryFrom<BTreeSet<Scope>> for Scopes {
    type Error = InvalidScope;
    fn try_from(scopes: BTreeSet<Scope>) -> Result<Self, InvalidScope> {
        match scopes.is_empty() {
            true => Err(InvalidScope::None),
            false => Ok(Self(scopes)),
        }
    }
}

impl From<Scopes> for BTreeSet<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.0
    }
}

/// The SHA-256 of a [`Token`]'s text; as text `sha256:` and 64 digits of base 16. Two of them are compared in a time that
/// does not depend on what they are.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// One that no secret is known to have.
    pub const NONE: Self = Self([0; 32]);

    const KIND: &str = "sha256:";
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

/// A text that is no hash. It is not repeated: who mixes things up may have given the secret itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no hash of a secret: give sha256: and 64 digits of base 16 (0-9 a-f)")]
pub struct InvalidHash;

impl TryFrom<String> for SecretHash {
    type Error = InvalidHash;
    fn try_from(value: String) -> Result<Self, InvalidHash> {
        let digits = value.strip_prefix(Self::KIND).ok_or(InvalidHash)?;
        from_hex(digits).map(Self).ok_or(InvalidHash)
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> Self {
        format!("{}{}", SecretHash::KIND, HEXLOWER.encode(&hash.0))
    }
}

/// Lower case alone: one value, one text.
fn from_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let bytes = (digits.len() == 2 * N).then(|| HEXLOWER.decode(digits.as_bytes()));
    bytes?.ok()?.try_into().ok()
}

/// What a caller shows: `rdk_<namespace>_<id>_<secret>`, the id in 32 and the secret in 64 digits of base 16.
///
/// The beginning is for those who look for secrets that leaked: it says what it is and whose. Nothing prints the secret by
/// accident: only [`Token::reveal`] has it.
#[derive(Clone)]
pub struct Token {
    /// The tenant.
    pub namespace: Namespace,
    /// The key.
    pub key: KeyId,
    secret: [u8; 32],
}

/// A text that is no key. It is not repeated: nearly all of it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no key: one begins with rdk_ and was printed when it was made")]
pub struct InvalidToken;

impl Token {
    /// What every key begins with.
    pub const PREFIX: &str = "rdk_";

    /// A new one, of a secret that has to be random.
    #[must_use]
    pub fn new(namespace: Namespace, key: KeyId, secret: [u8; 32]) -> Self {
        Self {
            namespace,
            key,
            secret,
        }
    }

    /// The text, with the secret.
    #[must_use]
    pub fn reveal(&self) -> String {
        let (namespace, id) = (&self.namespace, self.key.0.simple());
        let secret = HEXLOWER.encode(&self.secret);
        format!("{}{namespace}_{id}_{secret}", Self::PREFIX)
    }

    /// What of it may be kept.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.reveal()).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, id) = (&self.namespace, self.key.0.simple());
        write!(f, "{}{namespace}_{id}_…", Self::PREFIX)
    }
}

impl FromStr for Token {
    type Err = InvalidToken;
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let read = || {
            // A namespace may have underscores in it; what follows has none.
            let (rest, secret) = text.strip_prefix(Self::PREFIX)?.rsplit_once('_')?;
            let (namespace, id) = rest.rsplit_once('_')?;
            Some(Self {
                namespace: Namespace::new(namespace).ok()?,
                key: KeyId(uuid::Uuid::from_bytes(from_hex(id)?)),
                secret: from_hex(secret)?,
            })
        };
        read().ok_or(InvalidToken)
    }
}

/// A key that was made: what the event says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NewKey {
    /// What it is known by.
    pub key: KeyId,
    /// What people call it. Nothing keeps two keys from having the same name.
    pub name: KeyName,
    /// What it is good for.
    pub scopes: Scopes,
    /// The hash of its secret.
    pub hash: SecretHash,
    /// From when on it is good for nothing; never, without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A key, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Key {
    /// See [`NewKey::name`].
    pub name: KeyName,
    /// See [`NewKey::scopes`].
    pub scopes: Scopes,
    /// See [`NewKey::hash`].
    pub hash: SecretHash,
    /// See [`NewKey::expires_at`].
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it, where that is known.
    pub created_by: Option<String>,
    /// The sequence of the event that says so.
    pub created_seq: u64,
    /// Where it was revoked.
    pub revoked: Option<Revoked>,
}

/// The end of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Revoked {
    /// When.
    pub at: Timestamp,
    /// By whom, where that is known.
    pub by: Option<String>,
    /// The sequence of the event that says so.
    pub seq: u64,
}

/// Whether a key is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum KeyStatus {
    /// It is.
    Live,
    /// Its time is over.
    Expired,
    /// Somebody ended it.
    Revoked,
}

impl fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

impl Key {
    /// How it is at a time.
    #[must_use]
    pub fn status(&self, at: Timestamp) -> KeyStatus {
        match (&self.revoked, self.expires_at) {
            (Some(_), _) => KeyStatus::Revoked,
            (None, Some(expires)) if expires <= at => KeyStatus::Expired,
            (None, _) => KeyStatus::Live,
        }
    }

    /// When it ended, where it has by this time.
    fn ended_at(&self, at: Timestamp) -> Option<Timestamp> {
        let expired = self.expires_at.filter(|expires| *expires <= at);
        let revoked = self.revoked.as_ref().map(|revoked| revoked.at);
        revoked.into_iter().chain(expired).min()
    }
}

/// The keys of one namespace: all that are good, and of the others those that ended last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Keyring {
    keys: BTreeMap<KeyId, Key>,
}

impl Keyring {
    /// A key.
    #[must_use]
    pub fn get(&self, key: KeyId) -> Option<&Key> {
        self.keys.get(&key)
    }

    /// All of them, by their ids.
    pub fn iter(&self) -> impl Iterator<Item = (KeyId, &Key)> {
        self.keys.iter().map(|(id, key)| (*id, key))
    }

    /// How many are good at a time.
    #[must_use]
    pub fn live(&self, at: Timestamp) -> usize {
        let live = |key: &&Key| key.status(at) == KeyStatus::Live;
        self.keys.values().filter(live).count()
    }

    /// Total: a second key of an id, and the end of one that is not there, change nothing.
    fn take(&mut self, seq: u64, envelope: &Envelope) {
        let (at, by) = (envelope.at, &envelope.actor);
        match &envelope.event {
            Event::KeyCreated(new) => {
                self.keys.entry(new.key).or_insert_with(|| Key {
                    name: new.name.clone(),
                    scopes: new.scopes.clone(),
                    hash: new.hash,
                    expires_at: new.expires_at,
                    created_at: at,
                    created_by: by.clone(),
                    created_seq: seq,
                    revoked: None,
                });
                self.drop_ended(at);
            }
            Event::KeyRevoked { key } => {
                if let Some(key) = self.keys.get_mut(key) {
                    let by = by.clone();
                    key.revoked.get_or_insert(Revoked { at, by, seq });
                }
            }
            _ => {}
        }
    }

    /// One that is revoked is remembered for a thousand others: a command to make it that was given before, and comes
    /// late, does not bring it back.
    fn drop_ended(&mut self, at: Timestamp) {
        while self.keys.len() > KEYS_KEPT {
            let ended = |(id, key): (&KeyId, &Key)| Some((key.ended_at(at)?, *id));
            let Some((_, first)) = self.keys.iter().filter_map(ended).min() else {
                return;
            };
            self.keys.remove(&first);
        }
    }
}

// What is good is never dropped, so there has to be room for it.
const _: () = assert!(KEYS_PER_NAMESPACE < KEYS_KEPT);

/// Why a caller is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// There is no such key, or its secret is another one; which of the two is not told.
    #[error("the key is not known")]
    Unknown,
    /// Its time is over. Only who has the secret is told.
    #[error("the key expired at {0}")]
    Expired(Timestamp),
    /// Somebody ended it. Only who has the secret is told.
    #[error("the key was revoked")]
    Revoked,
}

/// The keys of several namespaces, for those who fold more than one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keyrings(BTreeMap<Namespace, Keyring>);

impl Keyrings {
    /// Folds an event; all but those about keys change nothing.
    pub fn take(&mut self, seq: u64, envelope: &Envelope) {
        if envelope.event.is_about_keys() && envelope.batch == NO_BATCH {
            let ring = self.0.entry(envelope.namespace.clone()).or_default();
            ring.take(seq, envelope);
        }
    }

    /// The keys of a namespace, where it ever had any.
    #[must_use]
    pub fn of(&self, namespace: &Namespace) -> Option<&Keyring> {
        self.0.get(namespace)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Namespace, &Keyring)> {
        self.0.iter()
    }

    /// The key of a caller who shows this, at this time.
    ///
    /// # Errors
    /// Why the caller is not let in.
    pub fn admit(&self, token: &Token, at: Timestamp) -> Result<&Key, NotAdmitted> {
        let key = self
            .of(&token.namespace)
            .and_then(|ring| ring.get(token.key));
        // One that is not there takes as long as one whose secret is another.
        let hash = key.map_or(SecretHash::NONE, |key| key.hash);
        let fits = token.hash() == hash;
        let key = key.filter(|_| fits).ok_or(NotAdmitted::Unknown)?;
        match (key.status(at), key.expires_at) {
            (KeyStatus::Live, _) => Ok(key),
            (KeyStatus::Expired, Some(expired)) => Err(NotAdmitted::Expired(expired)),
            (KeyStatus::Expired | KeyStatus::Revoked, _) => Err(NotAdmitted::Revoked),
        }
    }
}

impl Event {
    /// Whether a namespace's keys are made of such events.
    #[must_use]
    pub fn is_about_keys(&self) -> bool {
        matches!(self, Self::KeyCreated(_) | Self::KeyRevoked { .. })
    }
}

mod view;

pub use view::KeyView;

#[cfg(test)]
mod tests;
