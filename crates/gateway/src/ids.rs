//! Ids for what a request does: fresh ones, or the same for the same `Idempotency-Key`, so that a request that is sent
//! again is done once.

use axum::{extract::FromRequestParts, http::request::Parts};
use redrive_domain::ids::{BatchId, CommandId, Namespace};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{Shared, problem::Problem};

/// The header, as in the draft RFC "The Idempotency-Key HTTP Header Field".
const HEADER: &str = "idempotency-key";
/// Longest key, in bytes of visible ASCII.
const LONGEST: usize = 255;

/// A UUIDv7.
pub(crate) fn fresh_uuid() -> Uuid {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

/// Where the ids of a request come from.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    /// The key, with the method and the path that it counts for.
    key: Option<String>,
}

impl Ids {
    /// The id of the request's command number `nth`. `body` is what was asked.
    pub(crate) fn command(&self, namespace: &Namespace, nth: u32, body: &[u8]) -> CommandId {
        match &self.key {
            None => CommandId(fresh_uuid()),
            Some(key) => {
                let of_key = digest(&[
                    namespace.as_str().as_bytes(),
                    key.as_bytes(),
                    &nth.to_be_bytes(),
                ]);
                CommandId::of_key(first(&of_key), first(&digest(&[body])))
            }
        }
    }

    /// Whether the request came with a key.
    pub(crate) fn are_of_a_key(&self) -> bool {
        self.key.is_some()
    }

    /// The id of the batch that the request makes.
    pub(crate) fn batch(&self, namespace: &Namespace) -> BatchId {
        match &self.key {
            None => BatchId(fresh_uuid()),
            Some(key) => {
                let parts = [namespace.as_str().as_bytes(), key.as_bytes(), b"batch"];
                let octets = first(&digest(&parts));
                BatchId(uuid::Builder::from_custom_bytes(octets).into_uuid())
            }
        }
    }
}

/// The first octets of a hash.
fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|place| hash.get(place).copied().unwrap_or_default())
}

/// The hash of some texts, each with its length in front, so that none runs into the next.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl FromRequestParts<Shared> for Ids {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let Some(key) = parts.headers.get(HEADER) else {
            return Ok(Self { key: None });
        };
        let key = key.to_str().unwrap_or_default();
        if key.is_empty() || key.len() > LONGEST || !key.bytes().all(|b| b.is_ascii_graphic()) {
            let message = format!("takes 1 to {LONGEST} visible ASCII characters");
            return Err(Problem::invalid("header", "Idempotency-Key", message));
        }
        let key = format!("{} {} {key}", parts.method, parts.uri.path());
        Ok(Self { key: Some(key) })
    }
}
