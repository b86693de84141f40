//! Redrive's own interface, under `/v1`.

pub(crate) mod error;
mod read;
mod write;

use utoipa_axum::router::OpenApiRouter;

use crate::Shared;

/// Its routes.
pub(crate) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .merge(read::router())
        .merge(write::router())
}
