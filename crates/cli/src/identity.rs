//! Names and ids that nobody else has.

use redrive_domain::{
    ids::{BatchId, CommandId, WorkerId},
    time::Timestamp,
};
use uuid::Uuid;

fn since_epoch() -> std::time::Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}

/// The time, by this machine's clock.
pub(crate) fn now() -> Timestamp {
    Timestamp(i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX))
}

/// A UUIDv7.
pub(crate) fn uuid() -> Uuid {
    let millis = u64::try_from(since_epoch().as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

pub(crate) fn batch() -> BatchId {
    BatchId(uuid())
}

pub(crate) fn command() -> CommandId {
    CommandId(uuid())
}

/// The name of this machine, of the characters that a name may have.
pub(crate) fn host() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let host: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .take(40)
        .collect();
    if host.is_empty() {
        "host".to_owned()
    } else {
        host
    }
}

/// A name for a role of this process.
pub(crate) fn unique(role: &str) -> String {
    format!(
        "{role}-{}-{}-{:04x}",
        host().chars().take(30).collect::<String>(),
        std::process::id(),
        rand::random::<u16>()
    )
}

pub(crate) fn worker() -> anyhow::Result<WorkerId> {
    Ok(WorkerId::new(unique("worker"))?)
}

/// Who uses the command line, for the history.
pub(crate) fn actor() -> Option<String> {
    let user = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .ok()?;
    Some(format!("{user}@{}", host()))
}
