//! What holds for all routes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    routing::{get, post},
};
use serde_json::Value;
use tower::ServiceExt as _;

use tracing::instrument::WithSubscriber as _;

use crate::{extract::whole_body, finish, problem::Problem, surface};

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
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let (_, text) = get_at("/boom").with_subscriber(subscriber).await;
    let body: Value = serde_json::from_str(&text).unwrap();
    let id = body["error"]["details"]["id"].as_str().unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = log.lines().find(|line| line.contains(id));
    assert!(line.unwrap_or_default().contains("the reason"), "{log}");
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_too_slowly_is_given_up_whatever_reads_it() {
    let drops = || {
        let drop = |n: u32| async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            Some((Ok::<_, io::Error>("{"), n + 1))
        };
        Body::from_stream(futures::stream::unfold(0, drop))
    };
    let problem = whole_body(drops()).await.unwrap_err();
    assert!(
        format!("{problem:?}").contains("did not come within"),
        "{problem:?}"
    );
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
