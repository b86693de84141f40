//! Filling a batch with the documents of a request, page by page, with bounded memory: the next page is read while the one
//! before is on its way, and nothing more is read from a client than the system takes.

use std::sync::{Arc, Mutex, PoisonError};

use axum::response::{IntoResponse, Response};
use redrive_broker::nats::NatsBroker;
use redrive_client::Upload;
use redrive_domain::{
    command::Accepted,
    document::{Document, InvalidDocument},
    ids::{BatchId, Bucket, CommandId},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    caller::Caller,
    ids::Ids,
    problem::{Fault, Problem, Step},
};

type NewId<'a> = Box<dyn FnMut() -> CommandId + Send + 'a>;

/// A batch that a request fills.
///
/// Where the request has a key, the id of each page says what has been asked up to its end. So the same request goes on
/// where it broke off, and another one with the same key is found out at the first page that differs.
pub(crate) struct Fill<'a> {
    batch: BatchId,
    upload: Upload<'a, NatsBroker, NewId<'a>>,
    /// What has been asked, where there is a key to hold it to.
    asked: Option<Arc<Mutex<Sha256>>>,
}

/// How far a request came that was carried out in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Progress {
    /// The batch.
    pub(crate) batch: BatchId,
    /// Documents that it has, as far as is known: a client goes on with the one that has this ordinal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) documents: Option<u32>,
    /// Documents that this request added.
    pub(crate) added: u64,
}

/// Why a request was carried out in part only, and how far.
#[derive(Debug)]
pub(crate) struct Stopped {
    problem: Problem,
    progress: Option<Progress>,
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            progress: None,
        }
    }
}

impl IntoResponse for Stopped {
    fn into_response(self) -> Response {
        let mut response = self.problem.into_response();
        if let Some(progress) = self.progress {
            response.extensions_mut().insert(progress);
        }
        response
    }
}

impl<'a> Fill<'a> {
    /// Begins. `asked` is what a request with the same key is held to beside its documents.
    pub(crate) fn new(
        caller: &'a Caller,
        ids: &'a Ids,
        bucket: Bucket,
        batch: BatchId,
        asked: &[u8],
    ) -> Self {
        let asked = ids
            .are_of_a_key()
            .then(|| Arc::new(Mutex::new(Sha256::new_with_prefix(asked))));
        let so_far = asked.clone();
        let mut nth = 0;
        let new_id: NewId<'a> = Box::new(move || {
            nth += 1;
            let asked = so_far.as_ref().map(|asked| {
                let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
                asked.clone().finalize()
            });
            ids.command(
                caller.namespace(),
                nth,
                asked.as_deref().unwrap_or_default(),
            )
        });
        Self {
            batch,
            upload: Upload::new(&caller.client, bucket, batch, new_id),
            asked,
        }
    }

    /// The same, where the first document gets this ordinal; without one, it comes after those that are there.
    pub(crate) fn starting_at(mut self, first: Option<u32>) -> Self {
        self.upload = self.upload.starting_at(first);
        self
    }

    /// Adds a document. Returns once there is room for it.
    ///
    /// # Errors
    /// Where it is out of bounds, or a page before was not taken.
    pub(crate) async fn add(&mut self, document: Document) -> Result<(), Problem> {
        let hashed = self.asked.as_ref().map(|_| serde_json::to_vec(&document));
        let hashed = hashed.transpose().map_err(Problem::internal)?;
        self.upload.add(document).await?;
        // Only now: a page that had to go first ended before this document.
        if let (Some(asked), Some(hashed)) = (&self.asked, hashed) {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.update(hashed);
        }
        Ok(())
    }

    /// Says that these are all. The answer is that to the last page; none, where there was no document.
    ///
    /// # Errors
    /// Where a page was not taken.
    pub(crate) async fn flush(&mut self) -> Result<Option<Accepted>, Problem> {
        self.upload.flush().await?;
        Ok(self.upload.taken().cloned())
    }

    /// Says that the batch has all its documents: work begins.
    ///
    /// # Errors
    /// Where that was not taken.
    pub(crate) async fn finish(self) -> Result<Accepted, Problem> {
        Ok(self.upload.finish().await?)
    }

    /// The same, and how far it came where it is refused.
    ///
    /// # Errors
    /// Where that was not taken.
    pub(crate) async fn finish_or_stop(mut self) -> Result<Accepted, Stopped> {
        if let Err(problem) = self.flush().await {
            return Err(self.stopped(problem));
        }
        let progress = self.progress();
        self.finish().await.map_err(|problem| Stopped {
            problem,
            progress: Some(progress),
        })
    }

    /// How many documents were added here, and how many of those were not there before.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (u64::from(self.upload.documents()), self.upload.added())
    }

    fn progress(&self) -> Progress {
        Progress {
            batch: self.batch,
            documents: self.upload.taken().map(|taken| taken.documents),
            added: self.upload.added(),
        }
    }

    /// What went wrong, with how far it came. What a page still holds is given up.
    pub(crate) fn stopped(&self, problem: Problem) -> Stopped {
        Stopped {
            problem,
            progress: Some(self.progress()),
        }
    }

    /// The same for a document that is wrong: those before it are handed over, so that it is clear which are there.
    pub(crate) async fn stopped_at(&mut self, wrong: Problem) -> Stopped {
        match self.flush().await {
            Ok(_) => self.stopped(wrong),
            Err(problem) => self.stopped(problem),
        }
    }
}

/// What is wrong with a document that stands at this place in the body.
pub(crate) fn fault_at(place: &[Step], error: &InvalidDocument) -> Fault {
    let field = match error {
        InvalidDocument::Id(_) => "id",
        InvalidDocument::Uri(_) => "uri",
        InvalidDocument::Data(_) => "data",
    };
    let mut fault = Fault::at("body", "", error.to_string(), "value_error");
    fault.loc.extend_from_slice(place);
    fault.loc.push(field.into());
    fault
}
