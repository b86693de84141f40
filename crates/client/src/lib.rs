//! What one who uses Redrive does: give commands, ask questions, hand documents over. The CLI and the gateway share it.

mod export;
mod pages;
mod upload;

use std::time::Duration;

use redrive_broker::{Broker, BrokerError, Message};
use redrive_domain::{
    command::{Accepted, Answer, Command, Refusal, Written},
    diagnosis::Diagnosis,
    ids::{BatchId, Bucket, CommandId, Namespace},
    query::{
        BatchView, CreditsView, Diff, ListChanges, OfBatch, OfNamespace, ReadState, StatePiece,
    },
    subject,
};
use serde::{Serialize, de::DeserializeOwned};

pub use export::{Export, ExportError};
pub use pages::{Paged, Paging};
pub use upload::{Upload, UploadError};

/// How long to wait for an answer before asking again.
const WAIT: Duration = Duration::from_secs(10);
/// How long to go on asking while nobody answers, unless said: a coordinator may be taking over.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Why something asked for was not had.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The broker is away, or nobody answers.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Nobody that could answer is running.
    #[error("no {0} is running: start one with `redrive {0}`, or everything with `redrive dev`")]
    NobodyServes(&'static str),
    /// The answer makes no sense.
    #[error("the answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// A user of one namespace.
#[derive(Debug, Clone)]
pub struct Client<B> {
    broker: B,
    namespace: Namespace,
    actor: Option<String>,
    patience: Duration,
}

impl<B: Broker> Client<B> {
    /// A user of a namespace; `actor` is noted in the history.
    pub fn new(broker: B, namespace: Namespace, actor: Option<String>) -> Self {
        Self {
            broker,
            namespace,
            actor,
            patience: PATIENCE,
        }
    }

    /// The same, which goes on asking for so long while nobody answers.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The broker.
    pub fn broker(&self) -> &B {
        &self.broker
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Gives a command and waits for the decision. It may be given again with the same id: it is done once.
    ///
    /// # Errors
    /// Where it is refused, or nobody decides.
    pub async fn command(
        &self,
        bucket: &Bucket,
        batch: BatchId,
        id: CommandId,
        command: &Command,
    ) -> Result<Accepted, ClientError> {
        let body = Written {
            id: Some(id),
            actor: self.actor.as_deref(),
            command,
        };
        let subject = subject::request(&self.namespace, bucket, batch, command.verb());
        self.ask(subject, &body, "coordinator").await
    }

    async fn query<Q: Serialize, A: DeserializeOwned>(
        &self,
        name: &str,
        query: &Q,
    ) -> Result<A, ClientError> {
        let subject = subject::query(&self.namespace, name);
        self.ask(subject, query, "projector").await
    }

    /// Asks until somebody answers or patience runs out. Only what may be asked twice is asked here.
    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        subject: String,
        body: &Q,
        role: &'static str,
    ) -> Result<A, ClientError> {
        let payload: bytes::Bytes = serde_json::to_vec(body)?.into();
        let limit = self.broker.info().max_payload;
        if payload.len() > limit {
            let size = payload.len();
            return Err(BrokerError::TooLarge { size, limit }.into());
        }
        let end = tokio::time::Instant::now() + self.patience;
        loop {
            let message = Message {
                subject: subject.clone(),
                payload: payload.clone(),
                trace: None,
            };
            let error = match self.broker.request(message, WAIT).await {
                Ok(answer) => {
                    return match serde_json::from_slice(&answer)? {
                        Answer::Ok(answer) => Ok(answer),
                        Answer::Error { refusal, .. } => Err(refusal.into()),
                    };
                }
                Err(error) => error,
            };
            let again = matches!(
                error,
                BrokerError::NoResponders(_) | BrokerError::Timeout(_)
            );
            if !again || tokio::time::Instant::now() > end {
                return Err(match error {
                    BrokerError::NoResponders(_) => ClientError::NobodyServes(role),
                    error => error.into(),
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How a batch is doing.
    ///
    /// # Errors
    /// Where there is no such batch, or nobody answers.
    pub async fn status(&self, query: &OfBatch) -> Result<BatchView, ClientError> {
        self.query("status", query).await
    }

    /// What is wrong with a batch, and what to do about it.
    ///
    /// # Errors
    /// Where there is no such batch, or nobody answers.
    pub async fn diagnose(&self, query: &OfBatch) -> Result<Diagnosis, ClientError> {
        self.query("diagnose", query).await
    }

    /// A piece of a state's bytes.
    ///
    /// # Errors
    /// Where there is no such batch, or nobody answers.
    pub async fn state(&self, query: &ReadState) -> Result<StatePiece, ClientError> {
        self.query("state", query).await
    }

    /// What the namespace may spend a month, and what it has spent.
    ///
    /// # Errors
    /// Where nobody answers.
    pub async fn credits(&self, query: &OfNamespace) -> Result<CreditsView, ClientError> {
        self.query("credits", query).await
    }

    /// What changed between two moments: the first page, with how much it is in all.
    ///
    /// # Errors
    /// Where there is no such batch, or nobody answers.
    pub async fn diff(&self, query: &ListChanges) -> Result<Diff, ClientError> {
        self.query("diff", query).await
    }
}
