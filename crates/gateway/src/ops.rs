//! What all surfaces do: handlers read their request, do one of these, and say what came of it in their own words.

use futures::{Stream, StreamExt, pin_mut};
use redrive_domain::{
    command::{Accepted, Command, Create, Start},
    document::Document,
    ids::{BatchId, Bucket},
    query::{BatchRef, BatchView, OfBatch},
};
use serde_json::Value;

use crate::{Gateway, caller::Caller, fill::Fill, ids::Ids, problem::Problem};

/// A batch to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewBatch {
    /// Its bucket.
    pub(crate) bucket: Bucket,
    /// Its pipeline, as people write it.
    pub(crate) pipeline: Value,
    /// When work begins.
    pub(crate) start: Start,
}

impl Gateway {
    /// A pipeline that the operator configured under this name.
    pub(crate) fn pipeline(&self, name: &str) -> Option<&Value> {
        self.config.pipelines.get(name)
    }
}

impl Caller {
    /// How a batch is doing.
    ///
    /// # Errors
    /// Where there is no such batch, or nobody answers.
    pub(crate) async fn view(&self, batch: BatchRef) -> Result<BatchView, Problem> {
        let view = self.client.status(&OfBatch::of(batch)).await;
        view.map_err(|error| Problem::of(error, "query"))
    }

    /// Gives a command to a batch: the request's only one.
    ///
    /// # Errors
    /// Where it is refused, or nobody decides.
    pub(crate) async fn command(
        &self,
        ids: &Ids,
        bucket: &Bucket,
        batch: BatchId,
        command: &Command,
    ) -> Result<Accepted, Problem> {
        let asked = serde_json::to_vec(command).map_err(Problem::internal)?;
        let id = ids.command(self.namespace(), 0, &asked);
        Ok(self.client.command(bucket, batch, id, command).await?)
    }

    /// Makes a batch of all these documents. Cut off anywhere, nothing has begun, and the same request with the same
    /// `Idempotency-Key` goes on where it was.
    ///
    /// # Errors
    /// Where a document cannot be read or is out of bounds, or a command is refused.
    pub(crate) async fn create(
        &self,
        ids: &Ids,
        new: &NewBatch,
        documents: impl Stream<Item = Result<Document, Problem>> + Send,
    ) -> Result<Accepted, Problem> {
        let batch = ids.batch(self.namespace());
        let asked = (&new.bucket, &new.pipeline, new.start);
        let asked = serde_json::to_vec(&asked).map_err(Problem::internal)?;
        self.begin(ids, new, batch, &asked).await?;
        let mut fill = Fill::new(self, ids, new.bucket.clone(), batch, &asked);
        pin_mut!(documents);
        while let Some(document) = documents.next().await {
            fill.add(document?).await?;
        }
        fill.finish().await
    }

    /// Makes a batch without documents. `asked` is all that a request with the same key is held to.
    ///
    /// # Errors
    /// Where it is refused, or nobody decides.
    pub(crate) async fn begin(
        &self,
        ids: &Ids,
        new: &NewBatch,
        batch: BatchId,
        asked: &[u8],
    ) -> Result<Accepted, Problem> {
        let create = Command::Create(Create {
            pipeline: new.pipeline.clone(),
            start: new.start,
        });
        let id = ids.command(self.namespace(), 0, asked);
        let made = self.client.command(&new.bucket, batch, id, &create).await;
        Ok(made?)
    }
}
