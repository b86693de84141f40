//! What people ask for, and what they are answered. All of it travels as JSON.

mod credits;
mod heal;
mod keys;
mod pause;
mod refusal;
mod retry;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    credits::Charge,
    document::Document,
    heal::Healed,
    ids::{BatchId, CommandId, JobName},
    pause::JobRef,
    pipeline::TierNum,
    plan::Plan,
    status::BatchStatus,
};

pub use credits::SetCredits;
pub use heal::Heal;
pub use keys::{CreateKey, RevokeKey};
pub use pause::{Pause, Resume};
pub use refusal::{Refusal, Shortage, Stale};
pub use retry::{Excluded, Retried, Retry, RetryMode, Sampled};

/// What can be asked of a batch: the last token of a command's subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Make a batch.
    Create,
    /// Add documents to it.
    AddDocuments,
    /// Say that it has all its documents.
    Submit,
    /// Execute failed units again.
    Retry,
    /// Stop.
    Cancel,
    /// Hand nothing more out for a while.
    Pause,
    /// Hand out again.
    Resume,
    /// Look for what is stuck or executed twice, and put it right.
    Heal,
    /// Set what the namespace may spend a month.
    SetCredits,
    /// Make a key to the HTTP interface.
    CreateKey,
    /// End a key to the HTTP interface.
    RevokeKey,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Create,
        Self::AddDocuments,
        Self::Submit,
        Self::Retry,
        Self::Cancel,
        Self::Pause,
        Self::Resume,
        Self::Heal,
        Self::SetCredits,
        Self::CreateKey,
        Self::RevokeKey,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::AddDocuments => "add_documents",
            Self::Submit => "submit",
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Heal => "heal",
            Self::SetCredits => "set_credits",
            Self::CreateKey => "create_key",
            Self::RevokeKey => "revoke_key",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no verb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a verb: use create, add_documents, submit, retry, cancel, pause, resume, heal, set_credits, create_key \
     or revoke_key"
)]
pub struct InvalidVerb(pub String);

impl FromStr for Verb {
    type Err = InvalidVerb;
    fn from_str(value: &str) -> Result<Self, InvalidVerb> {
        Self::ALL
            .into_iter()
            .find(|verb| verb.as_str() == value)
            .ok_or_else(|| InvalidVerb(value.chars().take(80).collect()))
    }
}

/// A command as it stands in a message: what to do is in the subject, the rest here.
///
/// ```json
/// {"id": "0198…", "actor": "ann", "retry_mode": "transient_only", "tier_nums": [2]}
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandBody {
    /// The same id twice is done once. Without one every message is a new command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// Who asks, for the history; at most 128 characters are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The fields of the verb.
    #[serde(flatten)]
    pub fields: serde_json::Map<String, Value>,
}

/// A command with its circumstances, written as [`CommandBody`] is, without the detour over JSON values: a page of
/// documents is large.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Written<'a> {
    /// See [`CommandBody::id`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// See [`CommandBody::actor`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<&'a str>,
    /// What is asked.
    #[serde(flatten)]
    pub command: &'a Command,
}

/// A command with its circumstances, as it was read from a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// See [`CommandBody::id`].
    pub id: Option<CommandId>,
    /// See [`CommandBody::actor`].
    pub actor: Option<String>,
    /// What is asked.
    pub command: Command,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Command {
    /// Make a batch.
    Create(Create),
    /// Add documents.
    AddDocuments(AddDocuments),
    /// The batch has all its documents.
    Submit(Submit),
    /// Execute failed units again.
    Retry(Retry),
    /// Stop.
    Cancel(Cancel),
    /// Hand nothing more out for a while.
    Pause(Pause),
    /// Hand out again.
    Resume(Resume),
    /// Look for what is stuck or executed twice, and put it right.
    Heal(Heal),
    /// Set what the namespace may spend a month.
    SetCredits(SetCredits),
    /// Make a key to the HTTP interface.
    CreateKey(CreateKey),
    /// End a key to the HTTP interface.
    RevokeKey(RevokeKey),
}

impl Command {
    /// Its verb.
    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            Self::Create(_) => Verb::Create,
            Self::AddDocuments(_) => Verb::AddDocuments,
            Self::Submit(_) => Verb::Submit,
            Self::Retry(_) => Verb::Retry,
            Self::Cancel(_) => Verb::Cancel,
            Self::Pause(_) => Verb::Pause,
            Self::Resume(_) => Verb::Resume,
            Self::Heal(_) => Verb::Heal,
            Self::SetCredits(_) => Verb::SetCredits,
            Self::CreateKey(_) => Verb::CreateKey,
            Self::RevokeKey(_) => Verb::RevokeKey,
        }
    }

    /// Reads the body of a message; none at all is an object without fields.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], naming the field.
    pub fn read_body(verb: Verb, body: &[u8]) -> Result<Read, Refusal> {
        if let (Verb::AddDocuments, Ok(page)) = (verb, serde_json::from_slice::<PageBody>(body)) {
            let add = AddDocuments {
                first: page.first,
                documents: page.documents,
            };
            return Ok(Read {
                id: page.id,
                actor: page.actor,
                command: Self::AddDocuments(add),
            });
        }
        // What is wrong with a page is told in the same words as what is wrong with anything else.
        let body = if body.is_empty() { b"{}" } else { body };
        let body: CommandBody =
            serde_json::from_slice(body).map_err(|e| Refusal::invalid("body", e.to_string()))?;
        Ok(Read {
            id: body.id,
            actor: body.actor,
            command: Self::read(verb, body.fields)?,
        })
    }

    /// Reads the fields of a verb.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], naming the field.
    pub fn read(verb: Verb, fields: serde_json::Map<String, Value>) -> Result<Self, Refusal> {
        let fields = Value::Object(fields);
        let read = match verb {
            Verb::Create => serde_json::from_value(fields).map(Self::Create),
            Verb::AddDocuments => serde_json::from_value(fields).map(Self::AddDocuments),
            Verb::Submit => serde_json::from_value(fields).map(Self::Submit),
            Verb::Retry => serde_json::from_value(fields).map(Self::Retry),
            Verb::Cancel => serde_json::from_value(fields).map(Self::Cancel),
            Verb::Pause => serde_json::from_value(fields).map(Self::Pause),
            Verb::Resume => serde_json::from_value(fields).map(Self::Resume),
            Verb::Heal => serde_json::from_value(fields).map(Self::Heal),
            Verb::SetCredits => serde_json::from_value(fields).map(Self::SetCredits),
            Verb::CreateKey => serde_json::from_value(fields).map(Self::CreateKey),
            Verb::RevokeKey => serde_json::from_value(fields).map(Self::RevokeKey),
        };
        read.map_err(|e| Refusal::invalid("", e.to_string()))
    }
}

/// Make a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The pipeline, as people write it.
    pub pipeline: Value,
    /// When work begins.
    #[serde(default)]
    pub start: Start,
}

/// When work on a batch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// When the batch has all its documents: a submission that breaks off has done nothing.
    #[default]
    OnSubmit,
    /// With the first documents, while others still come.
    AtOnce,
}

/// Add documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AddDocuments {
    /// The ordinal that the first of them gets. What of a page is there already is not added again; a page beyond the end
    /// is refused. Without one they go to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u32>,
    /// 1 to 10,000 of them, at most 768 KiB together.
    pub documents: Vec<Document>,
}

/// A body of `add_documents`. Nearly all that comes in by size is this, so it is read straight into what it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageBody {
    #[serde(default)]
    id: Option<CommandId>,
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    first: Option<u32>,
    documents: Vec<Document>,
}

/// The batch has all its documents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// How many there must be by now; refused if it is another number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<u32>,
}

/// Stop: nothing new starts, what runs is told to stop, and what it still reports changes nothing.
///
/// A tier that is stopped keeps the documents that were not through it; those that were go on. A job that is stopped
/// while others of its tier go on is waived: documents go on without its output. The last job that is live in a tier
/// is the tier.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Only this tier; without it and `job`, the whole batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierNum>,
    /// Only this job. Its tier need not be named where only one has a job of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// Why, for the history; at most 1,000 characters are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer to a command that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Accepted {
    /// The batch.
    pub batch: BatchId,
    /// What the batch is now.
    pub status: BatchStatus,
    /// The log sequence that holds the decision; a query that names it sees it.
    #[serde(default)]
    pub seq: u64,
    /// Whether this command had been carried out before, so that nothing was done now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// Documents in the batch.
    pub documents: u32,
    /// What a retry does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retried>,
    /// Documents that a cancellation stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_documents: Option<u64>,
    /// Units that the cancellation of a tier or of a job stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_units: Option<u64>,
    /// The plan, where a retry was only to be previewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Jobs that were paused, resumed or cancelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobRef>,
    /// What was found stuck, or executed twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heal: Option<Healed>,
    /// What it takes of the namespace's credits, where these are limited and it takes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credits: Option<Charge>,
    /// Documents that a page added: fewer than it has, where some were there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<u32>,
}

impl Accepted {
    /// The answer of a batch that was just made.
    #[must_use]
    pub fn of_new(batch: BatchId) -> Self {
        Self {
            batch,
            status: BatchStatus::Pending,
            seq: 0,
            repeated: false,
            documents: 0,
            retry: None,
            cancelled_documents: None,
            cancelled_units: None,
            plan: None,
            jobs: Vec::new(),
            heal: None,
            credits: None,
            added: None,
        }
    }
}

/// What a request is answered with: `{"ok": …}` or `{"error": …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// It was done.
    Ok(T),
    /// It was not: `{"code": …, "message": …}` with the fields of the refusal beside them.
    #[serde(with = "error")]
    Error {
        /// Why, for programs.
        refusal: Refusal,
        /// Why, for people.
        message: String,
    },
}

/// Some refusals have a message of their own; it stands once.
mod error {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use serde_json::Value;

    use super::Refusal;

    #[derive(Serialize)]
    struct WithMessage<'a> {
        #[serde(flatten)]
        refusal: &'a Refusal,
        message: &'a str,
    }

    fn has_its_own(refusal: &Refusal) -> bool {
        matches!(
            refusal,
            Refusal::Conflict { .. } | Refusal::NotAllowed { .. } | Refusal::Unavailable { .. }
        )
    }

    pub(super) fn serialize<S: Serializer>(
        refusal: &Refusal,
        message: &str,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if has_its_own(refusal) {
            refusal.serialize(serializer)
        } else {
            WithMessage { refusal, message }.serialize(serializer)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<(Refusal, String), D::Error> {
        let value = Value::deserialize(deserializer)?;
        let message = value
            .get("message")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let refusal: Refusal = serde_json::from_value(value).map_err(de::Error::custom)?;
        let message = message.filter(|_| !has_its_own(&refusal));
        let message = message.unwrap_or_else(|| refusal.to_string());
        Ok((refusal, message))
    }
}
