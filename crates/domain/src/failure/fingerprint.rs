//! Failures that are alike, whichever document they name.

use std::{fmt, hash::Hasher, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{FailureClass, FailureKind, normal::normal};

/// What failures have in common whose messages differ only in what names a document: numbers, ids, paths, quoted texts.
/// As text it is eight digits of base 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub u32);

impl Fingerprint {
    /// Of failures of a class and kind with this code, whose message reads like this one: see [`normal`].
    #[must_use]
    pub fn of(class: FailureClass, kind: &FailureKind, code: Option<&str>, message: &str) -> Self {
        Self::of_normal(class, kind, code, &normal(message))
    }

    /// The same, for a message that is normal already.
    #[must_use]
    pub(crate) fn of_normal(
        class: FailureClass,
        kind: &FailureKind,
        code: Option<&str>,
        normal: &str,
    ) -> Self {
        let mut hasher = fnv::FnvHasher::default();
        // No part has a zero byte in it, so that none runs into the next.
        for part in [class.as_str(), kind.as_str(), code.unwrap_or(""), normal] {
            hasher.write(part.as_bytes());
            hasher.write(&[0]);
        }
        let [high, low] = [hasher.finish() >> 32, hasher.finish() & u64::from(u32::MAX)];
        Self(u32::try_from(high ^ low).unwrap_or_default())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:08x}", self.0))
    }
}

/// A text that is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no fingerprint: give the eight digits of base 16 that a diagnosis prints")]
pub struct InvalidFingerprint(pub String);

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let is_one = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let parsed = u32::from_str_radix(text, 16).ok().filter(|_| is_one);
        parsed
            .map(Self)
            .ok_or_else(|| InvalidFingerprint(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = InvalidFingerprint;
    fn try_from(value: String) -> Result<Self, InvalidFingerprint> {
        value.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(value: Fingerprint) -> String {
        value.to_string()
    }
}
