//! `http` with a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod handlers_support;

use std::{collections::BTreeMap, time::Duration};

use handlers_support::{
    PATIENCE, context, name,
    server::{Answer, Server, answer},
    unit, with_input,
};
use redrive_domain::{
    document::Output,
    failure::{Failure, FailureClass, FailureKind},
    time::Millis,
};
use redrive_worker::{
    handler::{Context, Done, Handler},
    handlers::http::Http,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

async fn process(ctx: &Context) -> Result<Done, Failure> {
    let http = Http::new(name("http"));
    let unit = with_input(unit("doc"), "ocr", Output::text("read"));
    let done = timeout(PATIENCE * 2, http.process(&unit, ctx)).await;
    done.expect("it hangs")
}

async fn ask(params: Value) -> Result<Done, Failure> {
    process(&context(params)).await
}

async fn failure(server: &Server, path: &str) -> Failure {
    ask(json!({ "url": server.url(path) })).await.unwrap_err()
}

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json; charset=utf-8")];
const PROBLEM: &[(&str, &str)] = &[("Content-Type", "application/problem+json")];

/// The headers of a request, and its body.
async fn request(server: &Server) -> (BTreeMap<String, String>, Value) {
    let request = server.requests.lock().await.pop().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let (first, headers) = head.split_once("\r\n").unwrap();
    assert!(first.starts_with("POST "), "{first}");
    let headers = headers.lines().map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    });
    (headers.collect(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn a_document_is_posted_with_all_that_is_known_of_it() {
    let server = Server::always(answer("200 OK", JSON, br#"{"pages":3}"#)).await;
    let mut ctx = context(json!({
        "url": server.url("/v1"),
        "params": { "lang": "en" },
        "headers": {
            "X-Team": "a",
            "User-Agent": "mine",
        },
    }));
    ctx.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let done = process(&ctx).await;
    let output = Output {
        media_type: "application/json".to_owned(),
        body: br#"{"pages":3}"#.to_vec(),
    };
    assert_eq!(done, Ok(Done::Completed(Some(output))));
    let (headers, mut body) = request(&server).await;
    assert!(body["deadline_unix_ms"].take().is_i64());
    assert_eq!(
        body,
        json!({
            "namespace": "team",
            "bucket": "docs",
            "batch": "01890a5d-ac96-774b-bcce-b302099a8057",
            "tier": 1,
            "job": "work",
            "ordinal": 7,
            "attempt": 2,
            "document": { "id": "doc" },
            "inputs": { "ocr": { "media_type": "text/plain; charset=utf-8", "value": "read" } },
            "params": { "lang": "en" },
            "deadline_unix_ms": null,
            "max_output_bytes": 65536,
            "trace": ctx.trace,
        })
    );
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-team", "a"),
        ("user-agent", "mine"),
        ("redrive-attempt", "2"),
        ("traceparent", ctx.trace.as_deref().unwrap()),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_repetition_is_known_by_its_key() {
    let server = Server::always(answer("204 No", &[], b"")).await;
    let key = async |params: &Value, attempt: u32| {
        let mut ctx = context(params.clone());
        ctx.attempt = attempt;
        assert_eq!(process(&ctx).await, Ok(Done::Completed(None)));
        request(&server).await.0["idempotency-key"].clone()
    };
    let unit = json!({ "url": server.url("/") });
    let batch = "01890a5d-ac96-774b-bcce-b302099a8057";
    let want = format!("\"team/{batch}/1/work/7\"");
    assert_eq!(key(&unit, 1).await, want);
    assert_eq!(key(&unit, 2).await, want);
    let attempt = json!({ "url": server.url("/"), "idempotency": "attempt" });
    assert_eq!(
        key(&attempt, 2).await,
        format!("\"team/{batch}/1/work/7/2\"")
    );
}

#[tokio::test]
async fn every_status_has_its_meaning() {
    use FailureClass::{Permanent, Transient};
    let server = Server::start(|path| answer(&format!("{} Some", &path[1..]), &[], b"")).await;
    for status in [200, 201, 202, 204, 205] {
        let done = ask(json!({ "url": server.url(&format!("/{status}")) })).await;
        assert_eq!(done, Ok(Done::Completed(None)), "{status}");
    }
    for (status, kind, class) in [
        (301, "misconfigured", Permanent),
        (302, "misconfigured", Permanent),
        (304, "misconfigured", Permanent),
        (401, "misconfigured", Permanent),
        (403, "misconfigured", Permanent),
        (404, "misconfigured", Permanent),
        (405, "misconfigured", Permanent),
        (408, "timeout", Transient),
        (425, "unavailable", Transient),
        (429, "rate_limited", Transient),
        (500, "unavailable", Transient),
        (503, "unavailable", Transient),
        (400, "rejected", Permanent),
        (410, "not_found", Permanent),
        (413, "rejected", Permanent),
        (415, "unsupported_format", Permanent),
        (422, "rejected", Permanent),
    ] {
        let failure = failure(&server, &format!("/{status}")).await;
        let has = (failure.kind.as_str(), failure.class);
        assert_eq!(has, (kind, class), "{status}");
        assert_eq!(failure.code, Some(status.to_string()));
        assert_eq!(failure.retry_after, None);
    }
}

#[tokio::test]
async fn a_post_is_not_redirected() {
    let server = Server::start(|path| match path {
        "/old" => answer("307 Temporary Redirect", &[("Location", "/new")], b""),
        _ => answer("200 OK", JSON, b"1"),
    })
    .await;
    let failure = failure(&server, "/old").await;
    assert!(
        failure.message.contains("redirects to /new"),
        "{}",
        failure.message
    );
    assert_eq!(server.requests.lock().await.len(), 1);
}

#[tokio::test]
async fn a_wait_that_is_asked_for_is_passed_on() {
    let server = Server::always(answer("503 Later", &[("Retry-After", "7")], b"")).await;
    let failure = failure(&server, "/").await;
    assert_eq!(failure.retry_after, Some(Millis::seconds(7)));
}

#[tokio::test]
async fn a_problem_says_more_than_its_status() {
    let problem = async |status: &str, problem: Value| {
        let server = Server::always(answer(status, PROBLEM, problem.to_string().as_bytes())).await;
        failure(&server, "/").await
    };
    let all = json!({
        "type": "https://example.com/probs/paywall", "title": "Behind a paywall", "detail": "page 3",
        "status": 403, "class": "transient", "kind": "paywall", "code": "PW-1", "retry_after": 30,
    });
    let want = Failure::new(FailureKind::new("paywall").unwrap(), "Behind a paywall")
        .with_class(FailureClass::Transient)
        .with_code("PW-1")
        .with_detail("page 3")
        .with_retry_after(Millis::seconds(30));
    assert_eq!(problem("403 Forbidden", all).await, want);

    // A kind brings its class, and what is not said is as the status has it.
    let kind = problem("422 No", json!({ "kind": "unavailable", "detail": "soon" })).await;
    let want = Failure::new(FailureKind::UNAVAILABLE, "soon").with_code(422);
    assert_eq!(kind, want);
    let least = problem("422 No", json!({})).await;
    assert_eq!(
        (least.kind.as_str(), least.code.as_deref()),
        ("rejected", Some("422"))
    );
    assert!(least.message.contains("422"), "{}", least.message);

    let wrong = problem(
        "500 No",
        json!({ "title": "t", "kind": "a.b", "class": "bad" }),
    )
    .await;
    assert_eq!(
        (wrong.kind, wrong.class),
        (FailureKind::UNAVAILABLE, FailureClass::Transient)
    );
    assert!(wrong.detail.unwrap().contains("kind is passed over"));
    let none = problem("500 No", json!("text")).await;
    assert_eq!(none.kind, FailureKind::UNAVAILABLE);

    // It is a problem whatever the status.
    let fine = problem("200 OK", json!({ "title": "no" })).await;
    assert_eq!(
        (fine.kind, fine.message.as_str()),
        (FailureKind::FAILED, "no")
    );
}

#[tokio::test]
async fn an_answer_is_json_and_fits() {
    for (headers, body, kind) in [
        (
            &[("Content-Type", "text/html")] as &[_],
            "<p>",
            "misconfigured",
        ),
        (&[], "{}", "misconfigured"),
        (JSON, "{", "failed"),
        (
            JSON,
            &format!("[{}1]", "1,".repeat(40_000)),
            "output_too_large",
        ),
    ] {
        let server = Server::always(answer("200 OK", headers, body.as_bytes())).await;
        assert_eq!(failure(&server, "/").await.kind.as_str(), kind);
    }
    // One that does not say how long it is is measured as it comes.
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
    let endless = format!("{head}{}", "1".repeat(100_000));
    let server = Server::always(Answer::Whole(endless.into_bytes())).await;
    assert_eq!(
        failure(&server, "/").await.kind.as_str(),
        "output_too_large"
    );
}

#[tokio::test]
async fn no_answer_passes() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let failure = ask(json!({ "url": url })).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NETWORK);

    let server = Server::always(Answer::Stalled(b"HTTP/1.1 200 OK\r\n".to_vec())).await;
    let mut ctx = context(json!({ "url": server.url("/") }));
    ctx.deadline = Instant::now() + Duration::from_millis(300);
    let failure = process(&ctx).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TIMEOUT);
    let ctx = context(json!({ "url": server.url("/") }));
    ctx.cancelled.cancel();
    let failure = process(&ctx).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::PREEMPTED);
}

#[tokio::test]
async fn a_wrong_job_is_told_what_is_wrong() {
    for (params, says) in [
        (json!({}), "param \"url\" is missing"),
        (json!({ "url": "ftp://x/" }), "param \"url\" is"),
        (
            json!({ "url": "http://x/", "speed": 1 }),
            "param \"speed\" is not known",
        ),
        (
            json!({ "url": "http://x/", "idempotency": "no" }),
            "it takes unit or attempt",
        ),
        (
            json!({ "url": "http://x/", "headers": { "a b": "c" } }),
            "param \"headers.a b\" cannot be",
        ),
        (
            json!({ "url": "http://x/", "headers": { "a": { "env": "" } } }),
            "param \"headers.a\" is",
        ),
        (
            json!({ "url": "http://x/", "headers": { "a": { "env": "REDRIVE_SECRET_NONE" } } }),
            "asks for the environment variable \"REDRIVE_SECRET_NONE\", which the worker does not have",
        ),
    ] {
        let failure = ask(params).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::MISCONFIGURED);
        assert!(failure.message.contains(says), "{}", failure.message);
    }
}
