//! What dialects share whose batches are small: all items of a batch stand in one answer, and a retry of nothing is an
//! error.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
    http::request::Parts,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use redrive_domain::{
    command::{Accepted, Cancel, Command, Retried, Retry, RetryMode, Start},
    document::Document,
    ids::{BatchId, Bucket},
    limits::MAX_RETRY_COUNT,
    query::{
        At, BatchRef, BatchSummary, BatchView, DocumentRow, ListBatches, ListDocuments, PAGE_MAX,
    },
    state::DocumentCounts,
    status::BatchStatus,
};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    Gateway, Shared,
    caller::Caller,
    dialects::fields::whole_number,
    extract::{Json, whole_body},
    ids::Ids,
    ops::NewBatch,
    problem::{Fault, Problem, Step},
};

/// Batches that a list by page numbers knows of at most, the last ones: it has to count them.
const LISTED: usize = 10_000;
/// Things wrong with a request that an error of one line names.
const FAULTS_NAMED: usize = 10;

/// A dialect of that kind.
pub(super) struct Dialect {
    /// Its bucket, and the name of its pipeline in the gateway's configuration. Batches of other buckets are not there
    /// for its clients.
    pub(super) name: &'static str,
    /// Items of a batch that are told, the first ones. A batch that was made here has no more.
    pub(super) most: usize,
    /// What its batches run unless the operator says otherwise.
    pub(super) pipeline: fn() -> Value,
}

/// How a batch is doing, in words that these dialects share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// It has not begun.
    Pending,
    /// It is going on.
    Running,
    /// Each item is at its end, however it ended.
    Completed,
    /// It was given up, with items that were never tried.
    GivenUp,
    /// It was stopped.
    Cancelled,
}

impl Word {
    pub(super) fn of(status: BatchStatus, counts: &DocumentCounts) -> Self {
        match status {
            BatchStatus::Pending => Self::Pending,
            BatchStatus::Running => Self::Running,
            BatchStatus::Cancelled => Self::Cancelled,
            BatchStatus::Completed | BatchStatus::CompletedWithFailures | BatchStatus::Failed => {
                match counts.open {
                    0 => Self::Completed,
                    _ => Self::GivenUp,
                }
            }
        }
    }

    /// Whether nothing goes on by itself any more.
    pub(super) fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

impl Dialect {
    fn bucket(&self) -> Result<Bucket, Problem> {
        Bucket::new(self.name).map_err(Problem::internal)
    }

    /// Makes a batch of these documents.
    pub(super) async fn create(
        &self,
        gateway: &Gateway,
        caller: &Caller,
        ids: &Ids,
        documents: impl IntoIterator<Item = Document, IntoIter: Send>,
    ) -> Result<Accepted, Problem> {
        let configured = gateway.pipeline(self.name).cloned();
        let new = NewBatch {
            bucket: self.bucket()?,
            pipeline: configured.unwrap_or_else(self.pipeline),
            start: Start::OnSubmit,
        };
        let documents = stream::iter(documents.into_iter().map(Ok));
        let made = caller.create(ids, &new, documents).await;
        made.map_err(|problem| match problem {
            // Who asked cannot help it: the pipeline is the operator's.
            Problem::Invalid(faults) if !faults.iter().any(is_about_documents) => {
                let name = self.name;
                let faults = one_line(&faults);
                Problem::internal(format!("the pipeline {name:?} is not valid: {faults}"))
            }
            problem => problem,
        })
    }

    /// How a batch is doing.
    pub(super) async fn view(&self, caller: &Caller, batch: BatchId) -> Result<BatchView, Problem> {
        let view = caller.view(BatchRef::Id(batch)).await?;
        if view.summary.bucket.as_str() != self.name {
            return Err(no_batch(&batch.to_string()));
        }
        Ok(view)
    }

    /// The items of a batch as they were when this view of it was taken, so that the two fit together.
    pub(super) fn items<'a>(
        &self,
        caller: &'a Caller,
        view: &BatchView,
    ) -> impl Stream<Item = Result<DocumentRow, Problem>> + use<'a> {
        let query = ListDocuments {
            outputs: true,
            limit: Some(PAGE_MAX),
            at: Some(At::Seq(view.last_seq)),
            ..ListDocuments::of(BatchRef::Id(view.summary.batch))
        };
        let rows = caller.client.pages(query).take(self.most);
        rows.map_err(Problem::from)
    }

    /// Executes again what failed, whatever it failed of. Nothing that succeeded is executed again. What goes on goes on
    /// beside it, so a batch that still runs may be retried.
    pub(super) async fn retry(
        &self,
        caller: &Caller,
        ids: &Ids,
        batch: BatchId,
        max_retries: Option<u8>,
    ) -> Result<u64, Problem> {
        let command = Command::Retry(Retry {
            retry_mode: RetryMode::All,
            max_retry_count: *MAX_RETRY_COUNT.end(),
            max_retries,
            ..Retry::default()
        });
        let accepted = caller
            .command(ids, &self.bucket()?, batch, &command)
            .await?;
        count_retried(accepted.retry.as_ref())
    }

    /// Stops a batch: how many items that stopped, or nothing where it was over.
    pub(super) async fn cancel(
        &self,
        caller: &Caller,
        ids: &Ids,
        batch: BatchId,
    ) -> Result<Option<u64>, Problem> {
        let command = Command::Cancel(Cancel::default());
        match caller.command(ids, &self.bucket()?, batch, &command).await {
            Ok(accepted) => Ok(accepted.cancelled_documents),
            Err(Problem::Conflict { .. }) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// The batches that were made here, the last one first. One that never got all its items was not made.
    pub(super) async fn batches(&self, caller: &Caller) -> Result<Vec<BatchSummary>, Problem> {
        let query = ListBatches {
            bucket: Some(self.bucket()?),
            limit: Some(PAGE_MAX),
            ..ListBatches::default()
        };
        let batches = caller.client.pages(query).take(LISTED);
        let batches: Vec<BatchSummary> = batches.map_err(Problem::from).try_collect().await?;
        let made = batches.into_iter();
        Ok(made
            .filter(|batch| batch.status != BatchStatus::Pending)
            .collect())
    }
}

/// How many documents a retry takes; none is an error here.
fn count_retried(retried: Option<&Retried>) -> Result<u64, Problem> {
    match retried {
        Some(retried) if retried.documents > 0 => Ok(retried.documents),
        Some(retried) if retried.excluded.retry_limit > 0 => {
            let often = MAX_RETRY_COUNT.end();
            let message = format!("what failed has been retried {often} times, which is the limit");
            Err(Problem::invalid("path", "", message))
        }
        _ => Err(Problem::NothingToRetry),
    }
}

fn is_about_documents(fault: &Fault) -> bool {
    matches!(fault.loc.get(1), Some(Step::Name(name)) if name == "documents")
}

/// An id of an item that is always the same. `execution` tells ids of one item apart.
pub(super) fn item_id(batch: BatchId, ordinal: u32, execution: u32) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(batch.0.as_bytes());
    hash.update(ordinal.to_be_bytes());
    hash.update(execution.to_be_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// What is wrong with a request, in one line, each with its place.
pub(super) fn one_line(faults: &[Fault]) -> String {
    let told = faults.iter().take(FAULTS_NAMED).map(|fault| {
        let mut place = String::new();
        for step in fault.loc.iter().skip(1) {
            match step {
                Step::Index(index) => place.push_str(&format!("[{index}]")),
                Step::Name(name) if place.is_empty() => place.push_str(name),
                Step::Name(name) => {
                    place.push('.');
                    place.push_str(name);
                }
            }
        }
        match place.as_str() {
            "" => fault.msg.clone(),
            place => format!("{place}: {}", fault.msg),
        }
    });
    told.collect::<Vec<_>>().join("; ")
}

fn no_batch(id: &str) -> Problem {
    let id: String = id.chars().take(80).collect();
    Problem::NotFound {
        what: format!("batch {id}"),
    }
}

/// The batch that the path names. What is no UUID is the id of no batch.
pub(super) struct Id(pub(super) BatchId);

impl FromRequestParts<Shared> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, gateway).await;
        let id = path.map(|path| path.0).unwrap_or_default();
        id.parse().map(Self).map_err(|_| no_batch(&id))
    }
}

/// A body of JSON that has to be there.
pub(super) struct Required<T>(pub(super) T);

impl<T: serde::de::DeserializeOwned> FromRequest<Shared> for Required<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, gateway: &Shared) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let body = whole_body(body).await?;
        if body.is_empty() {
            let message = "a body of JSON is required: {} takes all defaults";
            return Err(Problem::invalid("body", "", message));
        }
        let request = Request::from_parts(parts, Body::from(body));
        Ok(Self(Json::from_request(request, gateway).await?.0))
    }
}

/// A page by its number, from 1.
pub(super) struct Numbered {
    pub(super) page: u32,
    pub(super) limit: u32,
}

impl Numbered {
    /// Checks what was asked for.
    pub(super) fn of(
        page: Option<u32>,
        limit: Option<u32>,
        usual: u32,
        most: u32,
    ) -> Result<Self, Problem> {
        let page = page.unwrap_or(1);
        let limit = limit.unwrap_or(usual);
        if page == 0 {
            return Err(Problem::invalid(
                "query",
                "page",
                "is 0: pages count from 1",
            ));
        }
        if !(1..=most).contains(&limit) {
            let message = format!("is {limit}: it takes 1 to {most}");
            return Err(Problem::invalid("query", "limit", message));
        }
        Ok(Self { page, limit })
    }

    /// How many pages so many entries make.
    pub(super) fn pages(&self, total: usize) -> usize {
        total.div_ceil(self.limit as usize)
    }

    /// The entries of the page.
    pub(super) fn cut<T>(&self, all: Vec<T>) -> impl Iterator<Item = T> + use<T> {
        let limit = self.limit as usize;
        let before = (self.page as usize - 1).saturating_mul(limit);
        all.into_iter().skip(before).take(limit)
    }
}

/// A whole number, also one that is written `3.0`: to JSON Schema that is an integer as well.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = whole_number(&number);
    whole.ok_or_else(|| D::Error::custom(format!("is {number}: it takes a whole number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction() {
        let read = |text: &str| whole(&mut serde_json::Deserializer::from_str(text)).ok();
        assert_eq!(read("3"), Some(3));
        assert_eq!(read("3.0"), Some(3));
        assert_eq!(read("-1"), Some(-1));
        for bad in ["3.5", "\"3\"", "null", "true"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line() {
        let faults = [
            Fault::at("body", "urls[3]", "is no URL", "value_error"),
            Fault::at("body", "a.b", "is missing", "missing"),
            Fault::at("body", "", "is no object", "value_error"),
        ];
        let line = "urls[3]: is no URL; a.b: is missing; is no object";
        assert_eq!(one_line(&faults), line);
    }

    #[test]
    fn pages_count_from_one() {
        let page = |page, limit| Numbered::of(Some(page), Some(limit), 20, 50);
        assert!(page(0, 1).is_err() && page(1, 0).is_err() && page(1, 51).is_err());
        let second = page(2, 2).unwrap();
        assert_eq!(second.pages(5), 3);
        assert_eq!(second.cut(vec![1, 2, 3, 4, 5]).collect::<Vec<_>>(), [3, 4]);
        let far = page(u32::MAX, 50).unwrap();
        assert_eq!(far.cut(vec![1]).count(), 0);
    }

    #[test]
    fn nothing_to_retry_is_an_error_and_says_why() {
        let mut retried = Retried::default();
        assert_eq!(count_retried(Some(&retried)), Err(Problem::NothingToRetry));
        retried.excluded.retry_limit = 1;
        let Err(Problem::Invalid(faults)) = count_retried(Some(&retried)) else {
            panic!("it says that a limit was reached");
        };
        assert!(one_line(&faults).contains("10 times"));
        retried.documents = 3;
        assert_eq!(count_retried(Some(&retried)), Ok(3));
    }
}
