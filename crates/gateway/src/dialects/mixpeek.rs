//! mixpeek

use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;

use crate::{Shared, native, problem::Problem};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
}

/// How it says that something went wrong.
pub(crate) fn render(problem: &Problem) -> Response {
    native::error::render(problem)
}
