//! What holds for all routes.
#![allow(clippy::unwrap_used, clippy::panic)]

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    routing::{get, post},
};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{finish, problem::Problem, surface};

fn router() -> Router {
    async fn boom() -> &'static str {
        panic!("the reason is only for the log")
    }
    async fn broken() -> Problem {
        Problem::internal("the reason is only for the log")
    }
    let router = Router::new()
        .route("/boom", get(boom))
        .route("/v1/buckets/boom", get(boom))
        .route("/v1/knowledge-base/boom", get(boom))
        .route("/v1/batch-sessions/boom", get(boom))
        .route("/api/batch/scrape/boom", get(boom))
        .route("/broken", get(broken))
        .route("/body", post(|body: String| async move { body }))
        .fallback(surface::no_such_route)
        .method_not_allowed_fallback(surface::no_such_method);
    finish(router)
}

async fn ask(request: Request<Body>) -> (StatusCode, String) {
    let response = router().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
}

async fn get_at(path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    ask(request).await
}

#[tokio::test]
async fn a_handler_that_panics_is_one_answer_and_its_reason_stays_in_the_log() {
    for path in [
        "/boom",
        "/broken",
        "/v1/buckets/boom",
        "/v1/knowledge-base/boom",
        "/v1/batch-sessions/boom",
        "/api/batch/scrape/boom",
    ] {
        let (status, text) = get_at(path).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert!(!text.contains("the reason"), "{path}: {text}");
        let body: Value = serde_json::from_str(&text).unwrap();
        assert!(body.is_object(), "{path}: {text}");
    }
    let (_, text) = get_at("/boom").await;
    let body: Value = serde_json::from_str(&text).unwrap();
    let id = body["error"]["details"]["id"].as_str().unwrap();
    assert!(text.contains(id) && id.len() == 36, "{text}");
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_shape_of_all_errors() {
    let (status, text) = get_at("/nothing").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(
        text.contains("NotFoundError") && text.contains("/nothing"),
        "{text}"
    );
    let (status, text) = ask(Request::delete("/boom").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(text.contains("MethodNotAllowedError"), "{text}");
}
