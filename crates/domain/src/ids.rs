//! Names and ids that may stand in a subject. They are checked when made, so that nothing unchecked comes near one.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits::NAME_BYTES;

/// A name that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not a name: use 1 to {NAME_BYTES} of the characters A-Z a-z 0-9 _ -")]
pub struct InvalidName {
    /// What the name was to be, for instance `namespace`.
    pub what: &'static str,
    /// The text that was refused, cut to a printable length.
    pub value: String,
}

/// An id that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct InvalidId {
    /// What the id was to be, for instance `batch`.
    pub what: &'static str,
    /// The text that was refused, cut to a printable length.
    pub value: String,
}

fn cut(value: &str) -> String {
    value.chars().take(80).collect()
}

pub(crate) fn is_name(value: &str) -> bool {
    (1..=NAME_BYTES).contains(&value.len())
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks the text.
            ///
            /// # Errors
            /// Where it is not 1 to 64 of `A-Z a-z 0-9 _ -`.
            pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidName> {
                let value = value.as_ref();
                if is_name(value) {
                    Ok(Self(value.into()))
                } else {
                    Err(InvalidName { what: $what, value: cut(value) })
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.0.as_ref().to_owned()
            }
        }
    };
}

name!(
    /// A tenant. Nothing of one namespace is visible from another.
    Namespace,
    "namespace"
);
name!(
    /// A named source of documents within a namespace.
    Bucket,
    "bucket"
);
name!(
    /// What a worker must be able to do: the name under which it serves a job.
    HandlerName,
    "handler"
);
name!(
    /// A job within a tier.
    JobName,
    "job"
);
name!(
    /// What a worker must have: `cpu`, `gpu`, or any label of the operator's.
    ResourceClass,
    "class"
);
name!(
    /// One running worker.
    WorkerId,
    "worker"
);

name!(
    /// What people call a key to the HTTP interface.
    KeyName,
    "key name"
);

impl ResourceClass {
    /// Jobs of a class with this prefix run in the terminal of whoever runs the batch: they need its files, its programs
    /// and its environment.
    pub const OF_ONE_TERMINAL: &str = "run-";

    /// Whether only the terminal that runs the batch serves it.
    #[must_use]
    pub fn is_of_one_terminal(&self) -> bool {
        self.as_str().starts_with(Self::OF_ONE_TERMINAL)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub Uuid);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $type {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(value)
                    .map(Self)
                    .map_err(|_| InvalidId { what: $what, value: cut(value) })
            }
        }
    };
}

id!(
    /// A batch: a UUIDv7, or any UUID that the user chose.
    BatchId,
    "batch"
);
id!(
    /// A chunk of work handed to a worker.
    ChunkId,
    "chunk"
);
id!(
    /// A command. The same id twice is done once.
    CommandId,
    "command id"
);
id!(
    /// An event.
    EventId,
    "event id"
);
id!(
    /// A key to the HTTP interface. It is no secret.
    KeyId,
    "key"
);

impl CommandId {
    /// What ids that are made of keys begin with. No other UUIDv8 does: those that the system makes begin with a log
    /// sequence, and none will ever be so high.
    const OF_A_KEY: [u8; 2] = *b"RK";

    /// The id of what somebody asked under a key of their own: ten octets of a hash of the key, and four of a hash of what
    /// was asked, so that the same key with another request can be told. It is a UUIDv8 (RFC 9562), which takes six bits
    /// of the ten octets.
    #[must_use]
    pub fn of_key(key: [u8; 10], asked: [u8; 4]) -> Self {
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&Self::OF_A_KEY);
        octets[2..12].copy_from_slice(&key);
        octets[12..].copy_from_slice(&asked);
        Self(uuid::Builder::from_custom_bytes(octets).into_uuid())
    }

    /// Whether both are of the same key, and of different requests.
    #[must_use]
    pub fn contradicts(self, other: Self) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        ours[..2] == Self::OF_A_KEY
            && self.0.get_version_num() == 8
            && ours[..12] == theirs[..12]
            && ours[12..] != theirs[12..]
    }
}

/// A batch with its place: what all its events have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BatchKey {
    /// The tenant.
    pub namespace: Namespace,
    /// The batch.
    pub batch: BatchId,
}

impl fmt::Display for BatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_means_something_to_the_broker_is_a_name() {
        for bad in [
            "",
            "a.b",
            "*",
            ">",
            "a b",
            "a\n",
            "ä",
            "$JS",
            &"x".repeat(65),
        ] {
            assert!(Namespace::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Namespace::new("Team_1-a").unwrap().as_str(), "Team_1-a");
    }

    #[test]
    fn only_ids_of_one_key_can_contradict_each_other() {
        let id = |key: u8, asked: u8| CommandId::of_key([key; 10], [asked; 4]);
        assert!(id(1, 1).contradicts(id(1, 2)));
        assert!(!id(1, 1).contradicts(id(1, 1)));
        assert!(!id(1, 1).contradicts(id(2, 2)));
        let of_delivery = |last: u64| {
            let number = 7u128 << 64 | u128::from(last);
            CommandId(uuid::Builder::from_custom_bytes(number.to_be_bytes()).into_uuid())
        };
        assert!(!of_delivery(1).contradicts(of_delivery(2)));
    }

    #[test]
    fn the_error_says_what_and_why() {
        let error = Bucket::new("a.b").unwrap_err().to_string();
        assert_eq!(
            error,
            "bucket \"a.b\" is not a name: use 1 to 64 of the characters A-Z a-z 0-9 _ -"
        );
    }
}
