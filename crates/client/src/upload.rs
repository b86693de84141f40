//! Handing documents over in pages, with bounded memory, so that a break at any point can be taken up again.

use redrive_broker::{Broker, BrokerError};
use redrive_domain::{
    command::{Accepted, AddDocuments, Command, Submit},
    document::{Document, InvalidDocument},
    ids::{BatchId, Bucket, CommandId},
    limits::DOCUMENTS_PER_PAGE,
};

use tokio_util::task::AbortOnDropHandle;

use crate::{Client, ClientError};

/// Documents on a page.
const DOCUMENTS: usize = DOCUMENTS_PER_PAGE;
/// Bytes on a page, about: it has to fit in a message with room to spare.
const BYTES: usize = 512 * 1024;

/// Why documents were not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// A document is out of bounds.
    #[error("document {number}: {error}")]
    Document {
        /// Its number, from 1.
        number: u64,
        /// Which bound.
        error: InvalidDocument,
    },
    /// The system did not take them.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A batch that is being filled.
pub struct Upload<'a, B, I> {
    client: &'a Client<B>,
    bucket: Bucket,
    batch: BatchId,
    new_id: I,
    page: Vec<Document>,
    bytes: usize,
    /// The ordinal of the page's first document; none is the one after the last, wherever that is.
    next: Option<u32>,
    /// Documents that were added here, sent or not.
    count: u32,
    /// The answer to the last page that was taken.
    taken: Option<Accepted>,
    /// Documents that were not there before.
    added: u64,
    /// The page before, on its way while this one is filled.
    sending: Option<AbortOnDropHandle<Result<Accepted, ClientError>>>,
}

impl<'a, B: Broker, I: FnMut() -> CommandId> Upload<'a, B, I> {
    /// Begins to fill a batch that has been created. `new_id` makes ids of commands.
    pub fn new(client: &'a Client<B>, bucket: Bucket, batch: BatchId, new_id: I) -> Self {
        Self {
            client,
            bucket,
            batch,
            new_id,
            page: Vec::new(),
            bytes: 0,
            next: Some(0),
            count: 0,
            taken: None,
            added: 0,
            sending: None,
        }
    }

    /// The same, where the first document gets this ordinal; without one, it comes after those that are there.
    #[must_use]
    pub fn starting_at(mut self, first: Option<u32>) -> Self {
        self.next = first;
        self
    }

    /// How many documents were added here by now.
    pub fn documents(&self) -> u32 {
        self.count
    }

    /// The answer to the last page that was taken: so far it is known to have come.
    pub fn taken(&self) -> Option<&Accepted> {
        self.taken.as_ref()
    }

    /// How many documents of the pages that were taken had not been there before.
    pub fn added(&self) -> u64 {
        self.added
    }

    /// Whether there are documents that have not been handed over.
    pub fn has_unsent(&self) -> bool {
        !self.page.is_empty()
    }

    /// Adds a document. It is handed over with its page, while the next page is filled.
    ///
    /// # Errors
    /// Where it is out of bounds, or a page before was not taken.
    pub async fn add(&mut self, document: Document) -> Result<(), UploadError> {
        let number = u64::from(self.documents()) + 1;
        document
            .validate()
            .map_err(|error| UploadError::Document { number, error })?;
        // Quotes and escapes make JSON somewhat longer than its texts.
        let size = document.size().saturating_add(32);
        if self.page.len() >= DOCUMENTS || (self.bytes + size > BYTES && !self.page.is_empty()) {
            self.send().await?;
        }
        self.bytes += size;
        self.count = self.count.saturating_add(1);
        self.page.push(document);
        Ok(())
    }

    /// Hands over what has been added.
    ///
    /// # Errors
    /// Where it was not taken.
    pub async fn flush(&mut self) -> Result<(), UploadError> {
        self.send().await?;
        self.sent().await
    }

    /// Sends the page once the one before has been taken: pages are taken in order only.
    async fn send(&mut self) -> Result<(), UploadError> {
        self.sent().await?;
        if self.page.is_empty() {
            return Ok(());
        }
        let documents = std::mem::take(&mut self.page);
        let count = u32::try_from(documents.len()).unwrap_or(u32::MAX);
        let add = Command::AddDocuments(AddDocuments {
            first: self.next,
            documents,
        });
        self.next = self.next.map(|first| first.saturating_add(count));
        self.bytes = 0;
        let (client, bucket) = (self.client.clone(), self.bucket.clone());
        let (batch, id) = (self.batch, (self.new_id)());
        let sending = async move { client.command(&bucket, batch, id, &add).await };
        self.sending = Some(AbortOnDropHandle::new(tokio::spawn(sending)));
        Ok(())
    }

    /// Waits until the page that is on its way has been taken.
    async fn sent(&mut self) -> Result<(), UploadError> {
        let Some(sending) = &mut self.sending else {
            return Ok(());
        };
        let taken = sending.await;
        self.sending = None;
        let taken = taken.map_err(|error| {
            let lost = BrokerError::Other(format!("the sending of a page ended: {error}"));
            ClientError::Broker(lost)
        })??;
        self.added += u64::from(taken.added.unwrap_or(0));
        self.next = self.next.or(Some(taken.documents));
        self.taken = Some(taken);
        Ok(())
    }

    /// Says that the batch has all its documents.
    ///
    /// # Errors
    /// Where that was not taken.
    pub async fn finish(mut self) -> Result<Accepted, UploadError> {
        self.flush().await?;
        let submit = Command::Submit(Submit {
            documents: self.next,
        });
        let id = (self.new_id)();
        Ok(self
            .client
            .command(&self.bucket, self.batch, id, &submit)
            .await?)
    }
}
