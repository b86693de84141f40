//! A value kept as the bytes of its encoding until somebody wants it. The fold of the log only needs to know how
//! many documents came and where they stand; it must not pay for reading each of them.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

/// Bytes that do not hold what they should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the packed part cannot be read: {0}")]
pub struct Unreadable(String);

/// A value as MessagePack, inside a binary field of the message that carries it. In JSON it is the value itself.
pub struct Packed<T> {
    bytes: Vec<u8>,
    holds: PhantomData<fn() -> T>,
}

impl<T> Packed<T> {
    /// How many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl<T: Serialize> Packed<T> {
    /// Packs a value.
    ///
    /// # Errors
    /// Where the value has no MessagePack form.
    pub fn new(value: &T) -> Result<Self, Unreadable> {
        rmp_serde::to_vec_named(value)
            .map(|bytes| Self {
                bytes,
                holds: PhantomData,
            })
            .map_err(|e| Unreadable(e.to_string()))
    }
}

impl<T: DeserializeOwned> Packed<T> {
    /// Reads the value.
    ///
    /// # Errors
    /// Where the bytes do not hold it.
    pub fn open(&self) -> Result<T, Unreadable> {
        rmp_serde::from_slice(&self.bytes).map_err(|e| Unreadable(e.to_string()))
    }
}

impl<T> Clone for Packed<T> {
    fn clone(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
            holds: PhantomData,
        }
    }
}

impl<T> PartialEq for Packed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for Packed<T> {}

impl<T> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} bytes)", self.bytes.len())
    }
}

impl<T: Serialize + DeserializeOwned> Serialize for Packed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let value = self.open().map_err(serde::ser::Error::custom)?;
            value.serialize(serializer)
        } else {
            serializer.serialize_bytes(&self.bytes)
        }
    }
}

impl<'de, T: Serialize + DeserializeOwned> Deserialize<'de> for Packed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let value = T::deserialize(deserializer)?;
            Self::new(&value).map_err(serde::de::Error::custom)
        } else {
            let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?.into_vec();
            Ok(Self {
                bytes,
                holds: PhantomData,
            })
        }
    }
}
