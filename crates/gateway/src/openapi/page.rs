//! The page that shows the document. All that it needs is in the binary, and it may load nothing from elsewhere.

use axum::{
    Router,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::Shared;

/// Only what this gateway serves may be loaded, and no page may put this one in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Its routes.
pub(super) fn router() -> Router<Shared> {
    let html = || file("text/html; charset=utf-8", include_str!("page/page.html"));
    let js = || {
        file(
            "text/javascript; charset=utf-8",
            include_str!("page/page.js"),
        )
    };
    let css = || file("text/css; charset=utf-8", include_str!("page/page.css"));
    Router::new()
        .route("/docs", get(html))
        .route("/docs/page.js", get(js))
        .route("/docs/page.css", get(css))
}

async fn file(media_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, media_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        // It is of this version of the gateway: whoever opens it after an update sees the new one.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
