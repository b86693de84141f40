//! Knowing a log again.

use std::hash::Hasher;

/// Bytes of a message that go into its mark.
const MARKED: usize = 1_024;

/// A short mark of a stored message, by which whoever kept something of a log knows it again: FNV-1a, which is the same in
/// every build. It guards against another log under the same name, not against forgery: the beginning, which holds the
/// event's id, is enough of a message.
#[must_use]
pub fn mark(subject: &str, payload: &[u8]) -> u64 {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(subject.as_bytes());
    hasher.write(&payload[..payload.len().min(MARKED)]);
    hasher.finish()
}
