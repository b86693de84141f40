//! Permissions: the broker tells of a denial beside the operation, which itself is never answered.

use std::{collections::VecDeque, future::Future, pin::pin, sync::Arc};

use tokio::sync::watch;

use crate::{BrokerError, Result};

/// How many denials are remembered.
const KEPT: usize = 64;

/// What the broker has denied lately.
#[derive(Clone)]
pub(super) struct Denials(Arc<watch::Sender<Noted>>);

struct Noted {
    replies: String,
    count: u64,
    latest: VecDeque<(u64, String, String)>,
    /// Where replies cannot come in, nothing is ever answered.
    deaf: Option<String>,
}

impl Default for Denials {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Noted {
            replies: "_INBOX.".to_owned(),
            count: 0,
            latest: VecDeque::new(),
            deaf: None,
        })))
    }
}

impl Denials {
    /// Where replies go.
    pub(super) fn replies_at(&self, prefix: &str) {
        self.0
            .send_modify(|noted| noted.replies = format!("{prefix}."));
    }

    pub(super) fn reconnected(&self) {
        self.0.send_modify(|noted| noted.deaf = None);
    }

    /// Notes the text of a denial; `false` where it is none.
    pub(super) fn note(&self, text: &str) -> bool {
        if !text.to_ascii_lowercase().contains("permissions violation") {
            return false;
        }
        let subject = text.split('"').nth(1).unwrap_or_default().to_owned();
        let subscription = text.to_ascii_lowercase().contains("subscription");
        self.0.send_modify(|noted| {
            noted.count += 1;
            if subscription && subject.starts_with(&noted.replies) {
                noted.deaf = Some(text.to_owned());
            }
            if noted.latest.len() == KEPT {
                noted.latest.pop_front();
            }
            noted
                .latest
                .push_back((noted.count, subject, text.to_owned()));
        });
        true
    }

    /// Begins to look out for denials of what is about to be done.
    pub(super) fn guard(&self) -> Guard {
        let receiver = self.0.subscribe();
        let since = receiver.borrow().count;
        Guard { receiver, since }
    }
}

/// Looks out for denials since it was made.
pub(super) struct Guard {
    receiver: watch::Receiver<Noted>,
    since: u64,
}

impl Guard {
    /// Waits for the operation on a subject, but no longer than until it is denied.
    pub(super) async fn race<T>(
        &mut self,
        subject: &str,
        operation: impl Future<Output = T>,
    ) -> Result<T> {
        let mut operation = pin!(operation);
        self.check(subject)?;
        loop {
            tokio::select! {
                biased;
                output = &mut operation => return Ok(output),
                changed = self.receiver.changed() => {
                    if changed.is_err() {
                        return Ok(operation.await);
                    }
                    self.check(subject)?;
                }
            }
        }
    }

    /// Whether the operation on a subject has been denied.
    pub(super) fn check(&mut self, subject: &str) -> Result<()> {
        let noted = self.receiver.borrow_and_update();
        if noted.count == self.since && noted.deaf.is_none() {
            return Ok(());
        }
        let denied = noted
            .latest
            .iter()
            .find(|(count, denied, _)| *count > self.since && denied == subject)
            .map(|(_, _, text)| text)
            .or(noted.deaf.as_ref());
        match denied {
            Some(text) => Err(BrokerError::Denied(text.clone())),
            None => Ok(()),
        }
    }
}
