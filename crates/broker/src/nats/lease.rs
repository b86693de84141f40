//! Leases: a bucket whose entries go by themselves.

use async_nats::{header, jetstream::message::PublishMessage};
use bytes::Bytes;
use serde_json::json;

use super::{
    Inner,
    error::{self, PublishFailure},
};
use crate::{BrokerError, Lease, Result};

/// How often to look again when somebody else was faster.
const TRIES: usize = 5;

struct Held {
    holder: Option<String>,
    revision: u64,
}

impl Inner {
    pub(super) async fn lease(&self, name: &str, holder: &str) -> Result<Lease> {
        check_name(name)?;
        for _ in 0..TRIES {
            let held = match self.held(name).await {
                Err(BrokerError::Missing(_)) => {
                    self.ensure_leases().await?;
                    self.held(name).await?
                }
                held => held?,
            };
            match held.holder {
                Some(other) if other != holder => return Ok(Lease::HeldBy(other)),
                // Renewing writes the entry anew, so that its age counts from now.
                _ => match self.write(name, holder, held.revision, false).await {
                    Ok(()) => return Ok(Lease::Held),
                    Err(PublishFailure::WrongSequence) => {}
                    Err(PublishFailure::Refused(BrokerError::Missing(_))) => {
                        self.ensure_leases().await?;
                    }
                    Err(failure) => return Err(failure.into_error(held.revision)),
                },
            }
        }
        Err(BrokerError::Other(format!(
            "the lease {name} is contended for"
        )))
    }

    pub(super) async fn release(&self, name: &str, holder: &str) -> Result<()> {
        check_name(name)?;
        let held = match self.held(name).await {
            Err(BrokerError::Missing(_)) => return Ok(()),
            held => held?,
        };
        if held.holder.as_deref() != Some(holder) {
            return Ok(());
        }
        match self.write(name, "", held.revision, true).await {
            // Somebody else has it by now, or nobody.
            Ok(()) | Err(PublishFailure::WrongSequence) => Ok(()),
            Err(PublishFailure::Refused(BrokerError::Missing(_))) => Ok(()),
            Err(failure) => Err(failure.into_error(held.revision)),
        }
    }

    async fn held(&self, name: &str) -> Result<Held> {
        let which = json!({ "last_by_subj": self.names.lease(name) });
        let found = self.stored(&self.names.leases(), &which).await?;
        Ok(found.map_or(
            Held {
                holder: None,
                revision: 0,
            },
            |stored| Held {
                // An entry with an operation marks that there is none.
                holder: match stored.operation {
                    None => Some(String::from_utf8_lossy(&stored.entry.payload).into_owned()),
                    Some(_) => None,
                },
                revision: stored.entry.seq,
            },
        ))
    }

    async fn write(
        &self,
        name: &str,
        holder: &str,
        revision: u64,
        gone: bool,
    ) -> Result<(), PublishFailure> {
        let subject = self.names.lease(name);
        let mut publish = PublishMessage::build()
            .payload(Bytes::copy_from_slice(holder.as_bytes()))
            .header(
                header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
                revision.to_string(),
            );
        if gone {
            publish = publish.header("KV-Operation", "DEL");
        }
        let mut guard = self.connection.denials.guard();
        let stream = self.names.leases();
        let sent = async {
            let ack = self.context.send_publish(subject.clone(), publish).await?;
            ack.await
        };
        guard
            .race(&subject, sent)
            .await
            .map_err(PublishFailure::Refused)?
            .map(|_| ())
            .map_err(|error| error::stream_publish(&stream, self.wait, &error))
    }
}

/// Names of leases become part of a subject.
fn check_name(name: &str) -> Result<()> {
    let token = |token: &str| {
        !token.is_empty()
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-/=".contains(&byte))
    };
    if name.split('.').all(token) {
        Ok(())
    } else {
        Err(BrokerError::Other(format!(
            "{name:?} cannot be the name of a lease: use A-Z a-z 0-9 _ - / = ."
        )))
    }
}
