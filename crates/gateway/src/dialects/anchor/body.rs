//! Bodies of Anchor.

use redrive_domain::{document::Document, ids::BatchId, limits::MAX_RETRIES, time::Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{dialects::items::whole, problem::Problem};

/// Sessions in a batch at most.
pub(super) const SESSIONS: u32 = 5_000;
/// Bytes of their documents at most: each has the configuration, and all of it goes into the log.
const BATCH_BYTES: usize = 32 * 1024 * 1024;

/// What every answer but an error stands in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorData)]
pub(super) struct Data<T> {
    /// The answer.
    pub(super) data: T,
}

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorError)]
pub(super) struct Refused {
    /// What is wrong.
    pub(super) error: Failed,
}

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorErrorDetail)]
pub(super) struct Failed {
    /// The HTTP status.
    pub(super) code: u16,
    /// For people.
    pub(super) message: String,
}

/// What a batch of sessions is to be. Fields that are not known here are passed over.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnchorCreate)]
pub(super) struct Create {
    /// How many sessions.
    #[serde(deserialize_with = "whole")]
    #[schema(value_type = u32, minimum = 1, maximum = 5000)]
    count: i64,
    /// How each is set up. Each document has it as its data: what a handler makes of it is the handler's.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    configuration: Option<Map<String, Value>>,
    /// What it is for. Each document has it as well.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

impl Create {
    /// Its documents, one by one: together they may be large.
    pub(super) fn documents(
        self,
    ) -> Result<impl Iterator<Item = Document> + Send + use<>, Problem> {
        let count = u32::try_from(self.count).unwrap_or(0);
        if !(1..=SESSIONS).contains(&count) {
            let message = format!("is {}: it takes 1 to {SESSIONS}", self.count);
            return Err(Problem::invalid("body", "count", message));
        }
        let last = self.document(count - 1);
        let valid = last.validate();
        valid.map_err(|error| Problem::invalid("body", "configuration", error.to_string()))?;
        let bytes = last.size().saturating_mul(count as usize);
        if bytes > BATCH_BYTES {
            let message = format!(
                "comes to {bytes} bytes with the metadata, for all sessions together: {BATCH_BYTES} are taken"
            );
            return Err(Problem::invalid("body", "configuration", message));
        }
        Ok((0..count).map(move |index| self.document(index)))
    }

    fn document(&self, index: u32) -> Document {
        let mut data = json!({ "item_index": index });
        for (name, value) in [
            ("configuration", &self.configuration),
            ("metadata", &self.metadata),
        ] {
            if let Some(value) = value {
                data[name] = Value::Object(value.clone());
            }
        }
        Document {
            data: Some(data),
            ..Document::new(format!("session-{index}"))
        }
    }
}

/// What is to be retried, and how often. Fields that are not known here are passed over.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnchorRetry)]
pub(super) struct Retry {
    /// Only what failed is ever opened anew, whatever this says.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub(super) retry_failed_only: bool,
    /// Attempts of each session in this round, stopping at the first success.
    #[serde(default = "one", deserialize_with = "whole")]
    #[schema(value_type = u8, minimum = 1, maximum = 3, default = 1)]
    max_retries: i64,
}

fn yes() -> bool {
    true
}

fn one() -> i64 {
    1
}

impl Retry {
    /// Attempts of each session.
    pub(super) fn attempts(&self) -> Result<u8, Problem> {
        let attempts = u8::try_from(self.max_retries).ok();
        let attempts = attempts.filter(|attempts| MAX_RETRIES.contains(attempts));
        attempts.ok_or_else(|| {
            let (least, most) = (MAX_RETRIES.start(), MAX_RETRIES.end());
            let message = format!("is {}: it takes {least} to {most}", self.max_retries);
            Problem::invalid("body", "max_retries", message)
        })
    }
}

/// What a batch is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnchorUpdate)]
pub(super) struct Update {
    /// The status that it is to have.
    pub(super) status: Target,
}

/// The only status that can be asked for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[schema(as = AnchorTarget)]
#[serde(rename_all = "lowercase")]
pub(super) enum Target {
    /// Stopped.
    Cancelled,
}

/// How a batch, or a session, is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AnchorStatus)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// It has not begun.
    Pending,
    /// It is going on.
    Processing,
    /// A session that is open; a batch that is over, and has any.
    Completed,
    /// A session that could not be opened; a batch that has none that could, or was given up.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Processing)
    }
}

/// A batch that was made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorCreated)]
pub(super) struct Created {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub(super) batch_id: BatchId,
    /// How it is doing.
    pub(super) status: Status,
    /// Its sessions.
    pub(super) total_requests: u32,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
}

/// How a batch is doing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorBatch)]
pub(super) struct Batch {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub(super) batch_id: BatchId,
    /// How it is doing.
    pub(super) status: Status,
    /// Its sessions.
    pub(super) total_requests: u32,
    /// Sessions that are open.
    pub(super) completed_requests: u64,
    /// Sessions that are failed now.
    pub(super) failed_requests: u64,
    /// Sessions of which a tier is done, and another not.
    pub(super) processing_requests: u64,
    /// Sessions that are in their first tier.
    pub(super) pending_requests: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
    /// When it was last over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime)]
    pub(super) actual_completion_time: Option<Timestamp>,
    /// Why it failed, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub(super) error: Option<String>,
    /// Its sessions, by their index.
    pub(super) sessions: Vec<Session>,
    /// How far it is.
    pub(super) progress: Progress,
}

/// How far a batch is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorProgress)]
pub(super) struct Progress {
    /// Sessions at their end, of a hundred.
    #[schema(minimum = 0, maximum = 100)]
    pub(super) percentage: u64,
    /// What it is about.
    pub(super) current_phase: Phase,
}

/// What a batch is about.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = AnchorPhase)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// To begin.
    Queued,
    /// Opening sessions.
    Provisioning,
    /// Nothing more.
    Ready,
}

/// A session of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorSession)]
pub(super) struct Session {
    /// Its place in the batch, from 0.
    pub(super) item_index: u32,
    /// Its id, where it is open: `session_id` of the job's output, or one that was made up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Uuid)]
    pub(super) session_id: Option<Uuid>,
    /// How it is doing.
    pub(super) status: Status,
    /// `cdp_url` of the job's output.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub(super) cdp_url: Option<String>,
    /// `live_view_url` of the job's output.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub(super) live_view_url: Option<String>,
    /// Why it failed, where it is failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub(super) error: Option<String>,
    /// How often it has been retried.
    pub(super) retry_count: u32,
    /// When it failed, where it is failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime)]
    pub(super) completed_at: Option<Timestamp>,
}

/// What came of a retry.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorRetried)]
pub(super) struct Retried {
    /// The batch.
    #[schema(value_type = Uuid)]
    pub(super) batch_id: BatchId,
    /// How it is doing.
    pub(super) status: Status,
    /// Sessions that are opened anew.
    pub(super) retried_sessions: u64,
    /// For people.
    pub(super) message: String,
}

/// A batch that was stopped.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorUpdated)]
pub(super) struct Updated {
    /// The batch.
    #[schema(value_type = Uuid)]
    pub(super) batch_id: BatchId,
    /// The status that it has now.
    pub(super) status: Target,
    /// Sessions that this stopped.
    pub(super) cancelled_sessions: u64,
    /// For people.
    pub(super) message: String,
}

/// Which batches, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct List {
    /// Only with this status.
    pub(super) status: Option<Status>,
    /// Its number, from 1; 1 unless said.
    #[param(minimum = 1)]
    pub(super) page: Option<u32>,
    /// Batches on a page, 1 to 100; 20 unless said.
    #[param(minimum = 1, maximum = 100)]
    pub(super) limit: Option<u32>,
    /// Only those made after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    pub(super) created_after: Option<Timestamp>,
    /// Only those made before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    pub(super) created_before: Option<Timestamp>,
}

/// A page of batches.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorListed)]
pub(super) struct Listed {
    /// The batches.
    pub(super) batches: Vec<Entry>,
    /// Which page it is.
    pub(super) pagination: Page,
}

/// A batch in a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorEntry)]
pub(super) struct Entry {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub(super) batch_id: BatchId,
    /// How it is doing.
    pub(super) status: Status,
    /// Its sessions.
    pub(super) total_requests: u32,
    /// Sessions that are open.
    pub(super) completed_requests: u64,
    /// Sessions that are failed now.
    pub(super) failed_requests: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
    /// When anything last happened in it, where it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime)]
    pub(super) actual_completion_time: Option<Timestamp>,
}

/// Which page it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnchorPage)]
pub(super) struct Page {
    /// Its number, from 1.
    pub(super) current_page: u32,
    /// Pages in all.
    pub(super) total_pages: usize,
    /// Batches in all; of more than 10,000 the last ones are known here.
    pub(super) total_records: usize,
    /// Whether there is one after it.
    pub(super) has_next: bool,
    /// Whether there is one before it.
    pub(super) has_prev: bool,
}
