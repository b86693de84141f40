//! Redrive's own interface, under `/v1`.

pub(crate) mod error;
mod events;
mod keys;
mod read;
mod write;

pub(crate) use events::Streams;
use utoipa_axum::router::OpenApiRouter;

use crate::Shared;

/// Its routes.
pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .merge(read::router())
        .merge(events::router())
        .merge(write::router())
        .merge(keys::router())
}
