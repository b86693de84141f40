//! What goes in and what comes out.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::{DOCUMENT_DATA_BYTES, DOCUMENT_ID_BYTES, DOCUMENT_URI_BYTES};

/// One input of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The user's own id for it: any UTF-8, 1 to 512 bytes.
    pub id: String,
    /// Where it is: a path or a URL, at most 4,096 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// What it is, where it is small: any JSON of at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// A document that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDocument {
    /// The id is missing or too long.
    #[error("id has {0} bytes: it takes 1 to {DOCUMENT_ID_BYTES}")]
    Id(usize),
    /// The URI is too long.
    #[error("uri has {0} bytes: it takes at most {DOCUMENT_URI_BYTES}")]
    Uri(usize),
    /// The inline JSON is too large.
    #[error(
        "data has {0} bytes: it takes at most {DOCUMENT_DATA_BYTES}; larger documents go by uri"
    )]
    Data(usize),
}

impl Document {
    /// A document known by its id alone.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            uri: None,
            data: None,
        }
    }

    /// What stands for the document on a command line: its URI, or else its id.
    #[must_use]
    pub fn locator(&self) -> &str {
        self.uri.as_deref().unwrap_or(&self.id)
    }

    /// Bytes of its texts, with inline JSON in its compact encoding.
    #[must_use]
    pub fn size(&self) -> usize {
        let uri = self.uri.as_ref().map_or(0, String::len);
        let data = self.data.as_ref().map_or(0, json_size);
        self.id.len().saturating_add(uri).saturating_add(data)
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// The first bound that it breaks.
    pub fn validate(&self) -> Result<(), InvalidDocument> {
        if self.id.is_empty() || self.id.len() > DOCUMENT_ID_BYTES {
            return Err(InvalidDocument::Id(self.id.len()));
        }
        if let Some(uri) = self.uri.as_ref().filter(|u| u.len() > DOCUMENT_URI_BYTES) {
            return Err(InvalidDocument::Uri(uri.len()));
        }
        if let Some(data) = &self.data {
            let size = json_size(data);
            if size > DOCUMENT_DATA_BYTES {
                return Err(InvalidDocument::Data(size));
            }
        }
        Ok(())
    }
}

/// Bytes of the compact encoding, without making it.
fn json_size(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}

/// What a job made of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Output {
    /// Its media type (RFC 6838), for instance `text/plain; charset=utf-8` or `application/json`.
    pub media_type: String,
    /// The content. In JSON it is text, where bytes that are no UTF-8 show as U+FFFD.
    #[serde(with = "body")]
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub body: Vec<u8>,
}

mod body {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(body: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&String::from_utf8_lossy(body))
        } else {
            serializer.serialize_bytes(body)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer).map(String::into_bytes)
        } else {
            serde_bytes::ByteBuf::deserialize(deserializer).map(serde_bytes::ByteBuf::into_vec)
        }
    }
}

impl Output {
    /// Plain text.
    pub fn text(body: impl Into<String>) -> Self {
        Self {
            media_type: "text/plain; charset=utf-8".into(),
            body: body.into().into_bytes(),
        }
    }

    /// JSON.
    #[must_use]
    pub fn json(value: &Value) -> Self {
        Self {
            media_type: "application/json".into(),
            body: value.to_string().into_bytes(),
        }
    }

    /// JSON that is written already.
    #[must_use]
    pub fn json_text(body: Vec<u8>) -> Self {
        Self {
            media_type: "application/json".into(),
            body,
        }
    }

    /// JSON values, one a line.
    #[must_use]
    pub fn ndjson(body: Vec<u8>) -> Self {
        Self {
            media_type: "application/x-ndjson".into(),
            body,
        }
    }

    fn essence(&self) -> &str {
        self.media_type.split(';').next().unwrap_or_default().trim()
    }

    /// Whether it says that it is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        let essence = self.essence();
        essence == "application/json" || essence.ends_with("+json")
    }

    /// As a JSON value: JSON as itself, JSON values a line as a list, text as a string, anything else as nothing.
    #[must_use]
    pub fn to_value(&self) -> Option<Value> {
        if self.is_json()
            && let Ok(value) = serde_json::from_slice(&self.body)
        {
            return Some(value);
        }
        if self.essence() == "application/x-ndjson" {
            let values: Result<Vec<Value>, _> = crate::segments::lines(&self.body)
                .map(|line| serde_json::from_slice(self.body.get(line).unwrap_or_default()))
                .collect();
            if let Ok(values) = values {
                return Some(Value::Array(values));
            }
        }
        std::str::from_utf8(&self.body).ok().map(Value::from)
    }
}
