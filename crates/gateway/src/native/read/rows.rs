//! Lists: a page as JSON, or all of it as lines, a page in memory at a time.

use axum::{
    Json,
    body::Body,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use redrive_broker::nats::NatsBroker;
use redrive_client::{Client, ClientError, Paged};
use redrive_domain::query::{PAGE_MAX, Page};

use super::{not_read, reachable};
use crate::{Shared, caller::Caller, problem::Problem};

/// Lines of JSON.
const LINES: &str = "application/x-ndjson";
/// Media types that mean lines of JSON.
const LINE_TYPES: [&str; 3] = [LINES, "application/ndjson", "application/jsonl"];
/// The log sequence that an answer in lines includes: they have no place for it themselves.
const AS_OF: &str = "redrive-as-of";

/// In which shape a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One page, as JSON.
    Page,
    /// One entry a line, from the first to the last.
    Lines,
}

impl Shape {
    fn of(headers: &HeaderMap) -> Self {
        let named = headers.get_all(header::ACCEPT).iter();
        let mut types = named
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|one| one.split(';').next().unwrap_or_default().trim());
        let in_lines = |one: &str| {
            LINE_TYPES
                .iter()
                .any(|lines| one.eq_ignore_ascii_case(lines))
        };
        match types.any(in_lines) {
            true => Self::Lines,
            false => Self::Page,
        }
    }
}

impl FromRequestParts<Shared> for Shape {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &Shared,
    ) -> Result<Self, std::convert::Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// Answers with a list.
///
/// # Errors
/// Where it may not be read, is refused or is not answered. Once lines have begun there is no status left to say it with:
/// the body breaks off then, which a client sees.
pub(super) async fn list<Q: Paged>(
    caller: &Caller,
    shape: Shape,
    mut query: Q,
) -> Result<Response, Problem> {
    reachable(caller, *query.paging().min_seq).await?;
    match shape {
        Shape::Page => {
            let page = caller.client.page(&query).await.map_err(not_read)?;
            Ok(Json(page).into_response())
        }
        Shape::Lines => lines(caller.client.clone(), query).await,
    }
}

/// What is left of a list.
struct Rest<Q: Paged> {
    client: Client<NatsBroker>,
    query: Q,
    /// The page that is told next, where it is here already.
    page: Option<Page<Q::Row>>,
    /// Entries that may still be told.
    left: u64,
    over: bool,
}

async fn lines<Q: Paged>(client: Client<NatsBroker>, mut query: Q) -> Result<Response, Problem> {
    let left = query.paging().limit.map_or(u64::MAX, u64::from);
    if left == 0 {
        let message = "is 0: it takes 1 or more";
        return Err(Problem::invalid("query", "limit", message));
    }
    *query.paging().limit = Some(page_size(left));
    let page = client.page(&query).await.map_err(not_read)?;
    let as_of = page.as_of;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
    headers.insert(AS_OF, HeaderValue::from(as_of));
    let rest = Rest {
        client,
        query,
        page: Some(page),
        left,
        over: false,
    };
    let chunks = stream::try_unfold(rest, |mut rest| async move {
        let chunk = rest.next().await?;
        Ok::<_, ClientError>(chunk.map(|chunk| (chunk, rest)))
    });
    // A page may be short of entries and go on; a chunk may not be empty.
    let chunks = chunks.filter(|chunk| {
        let is_empty = chunk.as_ref().is_ok_and(Bytes::is_empty);
        std::future::ready(!is_empty)
    });
    let chunks = chunks.inspect(|chunk| {
        if let Err(error) = chunk {
            tracing::warn!(%error, "a list broke off");
        }
    });
    Ok((headers, Body::from_stream(chunks)).into_response())
}

fn page_size(left: u64) -> u32 {
    u32::try_from(left).unwrap_or(u32::MAX).min(PAGE_MAX)
}

impl<Q: Paged> Rest<Q> {
    /// The lines of the next page.
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        if self.over {
            return Ok(None);
        }
        let page = match self.page.take() {
            Some(page) => page,
            None => self.client.page(&self.query).await?,
        };
        let mut text = Vec::new();
        for row in page
            .items
            .iter()
            .take(usize::try_from(self.left).unwrap_or(usize::MAX))
        {
            serde_json::to_writer(&mut text, row)?;
            text.push(b'\n');
        }
        self.left = self.left.saturating_sub(page.items.len() as u64);
        let paging = self.query.paging();
        self.over = page.next.is_none() || self.left == 0;
        *paging.after = page.next;
        *paging.limit = Some(page_size(self.left));
        // Whichever projector is asked next has to be as far as this one.
        *paging.min_seq = Some(page.as_of);
        Ok(Some(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_for_those_who_ask_for_them() {
        for (accept, shape) in [
            ("*/*", Shape::Page),
            ("application/json", Shape::Page),
            ("application/x-ndjson", Shape::Lines),
            ("text/html, Application/JSONL;q=0.9, */*", Shape::Lines),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Shape::of(&headers), shape, "{accept}");
        }
        assert_eq!(Shape::of(&HeaderMap::new()), Shape::Page);
    }
}
