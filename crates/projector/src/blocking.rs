//! Where work that blocks is done: on threads made for it, unless a simulation says otherwise, since threads are not the
//! same each time.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::store::StoreError;

/// A piece of work that blocks.
pub type Work = Box<dyn FnOnce() + Send>;

/// Where it is done. The future ends when it is; work whose future is dropped may be done or not.
#[derive(Clone)]
pub struct Blocking(Arc<dyn Fn(Work) -> BoxFuture<'static, ()> + Send + Sync>);

impl Blocking {
    /// A way of the caller's.
    pub fn new(run: impl Fn(Work) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(run))
    }

    /// Begins it at once, where this is threads.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (done, result) = oneshot::channel();
        let running = (self.0)(Box::new(move || {
            done.send(work()).ok();
        }));
        Box::pin(async move {
            running.await;
            let panicked = |_| Err(StoreError::Broken("the work on it panicked".into()));
            result.await.unwrap_or_else(panicked)
        })
    }
}

impl Default for Blocking {
    fn default() -> Self {
        Self::new(|work| {
            let running = tokio::task::spawn_blocking(work);
            Box::pin(async {
                // A panic shows in that there is no result.
                running.await.ok();
            })
        })
    }
}

impl fmt::Debug for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blocking")
    }
}
