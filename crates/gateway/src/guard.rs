//! What goes on ends with its key: streams of events, long answers, long uploads. It is seen to here, for all routes, so
//! that no handler has to think of it.
//!
//! A request is admitted once, when it comes. As long as it goes on after that, its key is looked at every second. When
//! the key has ended, a request that is being handled is dropped as if its client had left, which every handler bears; an
//! answer that is being sent breaks off, so that nobody takes it for a whole one.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use redrive_domain::ids::{KeyId, Namespace};
use tokio::time::sleep;

use crate::{
    Shared,
    keys::{Holder, Keyring},
    metrics,
    problem::Problem,
};

/// How often a key is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// With which key a request came, once that is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guarded(Arc<OnceLock<(Namespace, KeyId)>>);

impl Guarded {
    /// It came with this one.
    pub(crate) fn came_with(&self, holder: &Holder) {
        let key = (holder.namespace.clone(), holder.key);
        // One request has one key.
        let _ = self.0.set(key);
    }

    /// Comes when the key has ended, or when that cannot be known; never, where there is none.
    async fn ended(self, keys: Keyring) {
        loop {
            sleep(EVERY).await;
            let key = self.0.get();
            if key.is_some_and(|(namespace, key)| !keys.is_good(namespace, *key)) {
                metrics::turned_away("ended");
                return;
            }
        }
    }
}

/// Lets a request go on for as long as its key is good.
pub(crate) async fn watch(
    State(gateway): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let guarded = Guarded::default();
    request.extensions_mut().insert(guarded.clone());
    let keys = gateway.keys.clone();
    let response = tokio::select! {
        biased;
        response = next.run(request) => response,
        () = guarded.clone().ended(keys.clone()) => {
            let message = "the key ended while the request was being answered".to_owned();
            return Problem::Unauthenticated { message }.into_response();
        }
    };
    if guarded.0.get().is_none() || response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| {
        let ended = Box::pin(guarded.ended(keys));
        Body::from_stream(cut(body.into_data_stream(), ended))
    })
}

/// The body, until its key has ended.
fn cut(
    body: BodyDataStream,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
    stream::unfold(Some((body, ended)), |going| async {
        let (mut body, mut ended) = going?;
        tokio::select! {
            biased;
            () = &mut ended => {
                let why = io::Error::other("the key ended");
                Some((Err(axum::Error::new(why)), None))
            }
            part = body.next() => part.map(|part| (part, Some((body, ended)))),
        }
    })
}
