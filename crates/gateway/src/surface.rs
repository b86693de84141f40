//! Who speaks: Redrive's own interface, or that of a service which clients were written for. They share handlers' logic,
//! and differ in credentials and in how errors look.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::Uri,
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{dialects, fill::Progress, native, problem::Problem};

/// An interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Surface {
    /// `/v1/…`: Redrive's own.
    Native,
    /// `/v1/buckets/{bucket}/batches/…`: buckets and batches.
    Mixpeek,
    /// `/v1/knowledge-base/ingestion-jobs/…`: ingestion jobs with segments.
    Feather,
    /// `/v1/batch-sessions/…`: batches of browser sessions.
    Anchor,
    /// `/api/batch/scrape/…`: batches of scrapes.
    Spidra,
}

impl Surface {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Native,
        Self::Mixpeek,
        Self::Feather,
        Self::Anchor,
        Self::Spidra,
    ];

    /// What people call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Native => "Redrive",
            Self::Mixpeek => "Mixpeek",
            Self::Feather => "Feather",
            Self::Anchor => "Anchor",
            Self::Spidra => "Spidra",
        }
    }

    /// The one that a path belongs to. What belongs to none is Redrive's own, so that every answer has some shape.
    pub(crate) fn of(path: &str) -> Self {
        let under = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if under("/v1/buckets") {
            Self::Mixpeek
        } else if under("/v1/knowledge-base") {
            Self::Feather
        } else if under("/v1/batch-sessions") {
            Self::Anchor
        } else if under("/api/batch/scrape") {
            Self::Spidra
        } else {
            Self::Native
        }
    }

    /// How it says that something went wrong.
    pub(crate) fn render(self, problem: &Problem) -> Response {
        match self {
            Self::Native => native::error::render(problem),
            Self::Mixpeek => dialects::mixpeek::render(problem),
            Self::Feather => dialects::feather::render(problem),
            Self::Anchor => dialects::anchor::render(problem),
            Self::Spidra => dialects::spidra::render(problem),
        }
    }
}

/// Tells handlers which surface they speak on, and renders the problem that they return.
pub(crate) async fn speak(mut request: Request, next: Next) -> Response {
    let surface = Surface::of(request.uri().path());
    request.extensions_mut().insert(surface);
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Arc<Problem>>() {
        Some(problem) => {
            let progress = response.extensions_mut().remove::<Progress>();
            let mut rendered = match (surface, progress) {
                (Surface::Native, Some(progress)) => {
                    native::error::render_after(&problem, &progress)
                }
                _ => surface.render(&problem),
            };
            problem.set_headers(surface, rendered.headers_mut());
            rendered
        }
        None => response,
    }
}

/// Nothing is there.
pub(crate) async fn no_such_route(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    Problem::NoSuchRoute { path }.into_response()
}

/// Something is there, but not for this method.
pub(crate) async fn no_such_method() -> Response {
    Problem::NoSuchMethod.into_response()
}

#[cfg(test)]
mod tests {
    use super::Surface;

    #[test]
    fn a_path_belongs_to_one_surface() {
        for (path, surface) in [
            ("/v1/batches/last", Surface::Native),
            ("/v1/buckets/b/batches", Surface::Mixpeek),
            ("/v1/bucketsful", Surface::Native),
            ("/v1/knowledge-base/ingestion-jobs", Surface::Feather),
            ("/v1/batch-sessions", Surface::Anchor),
            ("/api/batch/scrape/x/retry", Surface::Spidra),
            ("/", Surface::Native),
        ] {
            assert_eq!(Surface::of(path), surface, "{path}");
        }
    }
}
