//! Lists, a page at a time.

use futures::{Stream, StreamExt, stream};
use redrive_broker::Broker;
use redrive_domain::query::{
    BatchSummary, Change, DocumentRow, FailureRow, ListBatches, ListChanges, ListDocuments,
    ListFailures, ListResults, Page, ReadTimeline, ResultRow, TimelineRow,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Client, ClientError};

/// What every question about a list says of its pages.
#[derive(Debug)]
pub struct Paging<'a> {
    /// Entries on the page.
    pub limit: &'a mut Option<u32>,
    /// Where the page before ended.
    pub after: &'a mut Option<String>,
    /// What the answer has to include.
    pub min_seq: &'a mut Option<u64>,
}

/// A question that is answered page by page.
pub trait Paged: Serialize + Send + Sync + 'static {
    /// An entry.
    type Row: Serialize + DeserializeOwned + Send + 'static;
    /// The name of the query.
    const QUERY: &'static str;

    /// What it says of its pages.
    fn paging(&mut self) -> Paging<'_>;
}

macro_rules! paged {
    ($($query:ty, $name:literal, $row:ty;)*) => {$(
        impl Paged for $query {
            type Row = $row;
            const QUERY: &'static str = $name;

            fn paging(&mut self) -> Paging<'_> {
                Paging {
                    limit: &mut self.limit,
                    after: &mut self.after,
                    min_seq: &mut self.min_seq,
                }
            }
        }
    )*};
}

paged! {
    ListBatches, "batches", BatchSummary;
    ListDocuments, "documents", DocumentRow;
    ListFailures, "failures", FailureRow;
    ListResults, "results", ResultRow;
    ListChanges, "diff", Change;
    ReadTimeline, "timeline", TimelineRow;
}

impl<B: Broker> Client<B> {
    /// One page of a list.
    ///
    /// # Errors
    /// Where the question is refused, there is no such batch, or nobody answers.
    pub async fn page<Q: Paged>(&self, query: &Q) -> Result<Page<Q::Row>, ClientError> {
        self.query(Q::QUERY, query).await
    }

    /// All entries of a list, from the page on that the question asks for.
    pub fn pages<Q: Paged>(
        &self,
        query: Q,
    ) -> impl Stream<Item = Result<Q::Row, ClientError>> + '_ {
        stream::unfold(Some(query), move |query| async move {
            let mut query = query?;
            Some(match self.page(&query).await {
                Ok(page) => {
                    let next = page.next.map(|after| {
                        *query.paging().after = Some(after);
                        query
                    });
                    (
                        stream::iter(page.items.into_iter().map(Ok).collect::<Vec<_>>()),
                        next,
                    )
                }
                Err(error) => (stream::iter(vec![Err(error)]), None),
            })
        })
        .flatten()
    }
}
