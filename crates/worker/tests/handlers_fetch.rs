//! `fetch` with real files and a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod handlers_support;

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, SystemTime},
};

use handlers_support::{
    PATIENCE, context, name,
    server::{Answer, Server, answer},
    unit,
};
use redrive_domain::{
    document::Output,
    failure::{Failure, FailureClass, FailureKind},
    time::Millis,
};
use redrive_worker::{
    handler::{Context, Done, Handler},
    handlers::fetch::Fetch,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

async fn process(locator: &str, ctx: &Context) -> Result<Done, Failure> {
    let fetch = Fetch::new(name("fetch"));
    let unit = unit(locator);
    let done = timeout(PATIENCE * 2, fetch.process(&unit, ctx)).await;
    done.expect("it hangs")
}

async fn fetch(locator: &str, params: Value) -> Result<Output, Failure> {
    match process(locator, &context(params)).await? {
        Done::Completed(Some(output)) => Ok(output),
        other => panic!("{other:?}"),
    }
}

async fn failure(locator: &str, params: Value) -> Failure {
    fetch(locator, params).await.unwrap_err()
}

fn text(output: Result<Output, Failure>) -> (String, String) {
    let output = output.unwrap();
    (output.media_type, String::from_utf8(output.body).unwrap())
}

fn utf8(essence: &str, text: &str) -> (String, String) {
    (format!("{essence}; charset=utf-8"), text.to_owned())
}

#[tokio::test]
async fn every_status_has_its_meaning() {
    use FailureClass::{Permanent, Transient};
    let server = Server::start(|path| answer(&format!("{} Some", &path[1..]), &[], b"x")).await;
    assert_eq!(text(fetch(&server.url("/200"), json!({})).await).1, "x");
    let none = Server::always(Answer::Whole(b"HTTP/1.1 204 No\r\n\r\n".to_vec())).await;
    let done = process(&none.url("/"), &context(json!({}))).await;
    assert_eq!(done, Ok(Done::Completed(None)));
    for (status, kind, class) in [
        (408, "timeout", Transient),
        (425, "unavailable", Transient),
        (429, "rate_limited", Transient),
        (500, "unavailable", Transient),
        (501, "unavailable", Transient),
        (502, "unavailable", Transient),
        (503, "unavailable", Transient),
        (504, "unavailable", Transient),
        (599, "unavailable", Transient),
        (404, "not_found", Permanent),
        (410, "not_found", Permanent),
        (400, "rejected", Permanent),
        (401, "rejected", Permanent),
        (403, "rejected", Permanent),
        (418, "rejected", Permanent),
        (406, "unsupported_format", Permanent),
        (415, "unsupported_format", Permanent),
        (302, "rejected", Permanent),
        (304, "rejected", Permanent),
    ] {
        let failure = failure(&server.url(&format!("/{status}")), json!({})).await;
        let has = (failure.kind.as_str(), failure.class);
        assert_eq!(has, (kind, class), "{status}");
        assert_eq!(failure.code, Some(status.to_string()));
        assert_eq!(failure.retry_after, None);
    }
}

#[tokio::test]
async fn a_wait_that_is_asked_for_is_passed_on() {
    let wait = async |status: &str, value: &str| {
        let server = Server::always(answer(status, &[("Retry-After", value)], b"")).await;
        failure(&server.url("/"), json!({})).await.retry_after
    };
    assert_eq!(wait("429 Slow", "7").await, Some(Millis::seconds(7)));
    assert_eq!(
        wait("503 Later", "999999").await,
        Some(Millis::seconds(3_600))
    );
    assert_eq!(wait("503 Later", "soon").await, None);
    assert_eq!(wait("404 No", "7").await, None);
    let then = SystemTime::now() + Duration::from_secs(600);
    let date = wait("503 Later", &httpdate::fmt_http_date(then))
        .await
        .unwrap();
    assert!((500_000..=600_000).contains(&date.0), "{date:?}");
}

#[tokio::test]
async fn text_comes_as_utf8_whatever_it_was() {
    for (content_type, path, bytes, expected) in [
        (
            Some("text/plain; charset=ISO-8859-1"),
            "/",
            &b"caf\xe9"[..],
            utf8("text/plain", "café"),
        ),
        (
            Some("text/plain"),
            "/",
            b"\xff\xfeh\0\xe9\0",
            utf8("text/plain", "hé"),
        ),
        (
            Some("text/html"),
            "/",
            b"<meta charset=windows-1251>\xcf",
            utf8("text/html", "<meta charset=windows-1251>П"),
        ),
        (
            Some("Application/JSON"),
            "/",
            b"{}",
            utf8("application/json", "{}"),
        ),
        (
            None,
            "/a/page.md?x=1.pdf",
            b"# A",
            utf8("text/markdown", "# A"),
        ),
        (
            Some("application/octet-stream"),
            "/a.csv",
            b"a,b",
            utf8("text/csv", "a,b"),
        ),
        (None, "/", b"what", utf8("text/plain", "what")),
        (None, "/", b"", utf8("text/plain", "")),
    ] {
        let header = content_type.map(|value| ("Content-Type", value));
        let server = Server::always(answer("200 OK", header.as_slice(), bytes)).await;
        let output = fetch(&server.url(path), json!({})).await;
        assert_eq!(text(output), expected, "{content_type:?} {path}");
    }
}

#[tokio::test]
async fn what_is_not_text_is_refused_as_text() {
    for (content_type, bytes, kind, message) in [
        (
            "text/plain",
            &b"seventeen letters\xff"[..],
            FailureKind::INVALID_DATA,
            "is not valid UTF-8: byte 0xff at 17",
        ),
        ("text/plain", b"a\0", FailureKind::INVALID_DATA, "NUL"),
        (
            "application/pdf",
            b"a",
            FailureKind::UNSUPPORTED_FORMAT,
            "application/pdf",
        ),
        (
            "image/png",
            b"a",
            FailureKind::UNSUPPORTED_FORMAT,
            "image/png",
        ),
        (
            "application/octet-stream",
            b"%PDF-1.7",
            FailureKind::UNSUPPORTED_FORMAT,
            "as = \"bytes\"",
        ),
    ] {
        let headers = [("Content-Type", content_type)];
        let server = Server::always(answer("200 OK", &headers, bytes)).await;
        let failure = failure(&server.url("/"), json!({})).await;
        assert_eq!(
            (&failure.kind, failure.class),
            (&kind, FailureClass::Permanent)
        );
        assert!(failure.message.contains(message), "{failure:?}");
        let output = fetch(&server.url("/"), json!({ "as": "bytes" }))
            .await
            .unwrap();
        assert_eq!(
            (output.media_type.as_str(), &output.body[..]),
            (content_type, bytes)
        );
    }
    let headers = [("Content-Type", "text/plain"), ("Content-Encoding", "gzip")];
    let server = Server::always(answer("200 OK", &headers, b"\x1f\x8b")).await;
    let failure = failure(&server.url("/"), json!({})).await;
    assert_eq!(failure.kind, FailureKind::UNSUPPORTED_FORMAT);
}

#[tokio::test]
async fn input_and_output_have_their_own_limits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    fs::write(&path, "x".repeat(100)).unwrap();
    let path = path.to_str().unwrap();
    let whole = Server::always(answer("200 OK", &[], "x".repeat(100).as_bytes())).await;
    // Its length is not known before it has been read.
    let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let open = [&head[..], &[b'x'; 100]].concat();
    let open = Server::always(Answer::Whole(open)).await;
    // An endless one is not read to its end.
    let endless = [&head[..], &[b'x'; 101]].concat();
    let endless = Server::always(Answer::Stalled(endless)).await;
    for locator in [path, &whole.url("/"), &open.url("/")] {
        let output = fetch(locator, json!({ "max_bytes": 100 })).await;
        assert_eq!(output.unwrap().body.len(), 100);
    }
    for locator in [path, &whole.url("/"), &open.url("/"), &endless.url("/")] {
        let limit = if locator == endless.url("/") { 100 } else { 99 };
        let failure = failure(locator, json!({ "max_bytes": limit })).await;
        assert_eq!(failure.kind, FailureKind::REJECTED, "{failure:?}");
        assert!(failure.message.contains("max_bytes"), "{failure:?}");
    }
    let mut ctx = context(json!({}));
    ctx.max_output_bytes = 99;
    let failure = process(path, &ctx).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::OUTPUT_TOO_LARGE);
    assert!(failure.message.contains("max_output_bytes"), "{failure:?}");
}

#[tokio::test]
async fn a_slow_server_times_out() {
    let body = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    for answer in [Answer::Stalled(Vec::new()), Answer::Stalled(body.to_vec())] {
        let server = Server::always(answer).await;
        let mut ctx = context(json!({}));
        ctx.deadline = Instant::now() + Duration::from_millis(500);
        let failure = process(&server.url("/"), &ctx).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::TIMEOUT);
        assert_eq!(failure.class, FailureClass::Transient);
    }
}

#[tokio::test]
async fn a_cancelled_attempt_ends_at_once() {
    let server = Server::always(Answer::Stalled(Vec::new())).await;
    let ctx = context(json!({}));
    let (url, cancelled) = (server.url("/"), ctx.cancelled.clone());
    let attempt = tokio::spawn(async move { process(&url, &ctx).await });
    let end = Instant::now() + PATIENCE;
    while server.requests.lock().await.is_empty() {
        assert!(Instant::now() < end, "no request came");
        tokio::task::yield_now().await;
    }
    cancelled.cancel();
    let failure = attempt.await.unwrap().unwrap_err();
    assert_eq!(failure.kind, FailureKind::PREEMPTED);
    assert!(Instant::now() < end);
}

#[tokio::test]
async fn a_broken_connection_is_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let early = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec();
    let early = Server::always(Answer::Whole(early)).await;
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec();
    let chunked = Server::always(Answer::Whole(chunked)).await;
    let silent = Server::always(Answer::Whole(Vec::new())).await;
    let babble = Server::always(Answer::Whole(b"hello\r\n\r\n".to_vec())).await;
    // Whatever it is greeted with, it hangs up.
    let rude = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = format!("https://{}/", rude.local_addr().unwrap());
    tokio::spawn(async move { while rude.accept().await.is_ok() {} });
    let urls = [
        nobody,
        early.url("/"),
        chunked.url("/"),
        silent.url("/"),
        babble.url("/"),
        tls,
    ];
    for url in &urls {
        let failure = failure(url, json!({})).await;
        assert_eq!(failure.kind, FailureKind::NETWORK, "{url} {failure:?}");
        assert_eq!(failure.class, FailureClass::Transient);
    }
    let refused = failure(&urls[0], json!({})).await;
    assert!(refused.message.contains("refused"), "{refused:?}");
}

#[tokio::test]
async fn redirects_are_followed_so_far_and_only_to_http() {
    let to = |location: &str| answer("302 Found", &[("Location", location)], b"");
    let other = Server::always(answer("200 OK", &[], b"other")).await;
    let elsewhere = other.url("/");
    let server = Server::start(move |path| match path {
        "/1" => to("/2"),
        "/2" => to("3"),
        "/3" => answer("200 OK", &[], b"there"),
        "/loop" => to("/loop"),
        "/file" => to("file:///etc/passwd"),
        "/ftp" => to("ftp://127.0.0.1/"),
        "/bad" => to("http://["),
        _ => to(&elsewhere),
    })
    .await;
    let headers = json!({ "headers": { "X-Key": "secret" }, "user_agent": "me" });
    assert_eq!(
        text(fetch(&server.url("/1"), headers.clone()).await).1,
        "there"
    );
    assert_eq!(text(fetch(&server.url("/other"), headers).await).1, "other");
    let has = |head: &String, line: &str| head.lines().any(|l| l.eq_ignore_ascii_case(line));
    let seen = server.requests.lock().await.clone();
    assert!(
        seen.iter()
            .all(|head| has(head, "x-key: secret") && has(head, "user-agent: me"))
    );
    let seen = other.requests.lock().await.clone();
    assert!(
        seen.iter()
            .all(|head| !head.contains("secret") && has(head, "user-agent: me"))
    );
    assert_eq!(seen.len(), 1);

    server.requests.lock().await.clear();
    for (path, part) in [
        ("/loop", "max_redirects"),
        ("/file", "scheme \"file\""),
        ("/ftp", "scheme \"ftp\""),
        ("/bad", "not a URL"),
    ] {
        let failure = failure(&server.url(path), json!({})).await;
        assert_eq!(failure.kind, FailureKind::REJECTED);
        assert!(failure.message.contains(part), "{failure:?}");
    }
    // One request and five redirects, and one each for the others.
    assert_eq!(server.requests.lock().await.len(), 6 + 3);
    let failure = failure(&server.url("/1"), json!({ "max_redirects": 0 })).await;
    assert_eq!(failure.kind, FailureKind::REJECTED);
}

#[tokio::test]
async fn files_are_read_by_path_and_by_url() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a b%.html");
    fs::write(&path, b"<meta charset=latin1>\xe9").unwrap();
    let expected = utf8("text/html", "<meta charset=latin1>é");
    let path = path.to_str().unwrap();
    assert_eq!(text(fetch(path, json!({})).await), expected);
    let url = format!("file://{}", path.replace('%', "%25").replace(' ', "%20"));
    assert_eq!(text(fetch(&url, json!({})).await), expected);
}

#[tokio::test]
async fn files_that_cannot_be_read_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("file"), "").unwrap();
    symlink("loop", at("loop")).unwrap();
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), pipe, 0o600.into(), 0).unwrap();
    for (path, kind) in [
        (at("missing"), FailureKind::NOT_FOUND),
        (at("file/below"), FailureKind::NOT_FOUND),
        (at(""), FailureKind::INVALID_DATA),
        (at("loop"), FailureKind::INVALID_DATA),
        (at("pipe"), FailureKind::INVALID_DATA),
        ("/dev/zero".to_owned(), FailureKind::INVALID_DATA),
        ("a\0b".to_owned(), FailureKind::INVALID_DATA),
        ("x".repeat(300), FailureKind::INVALID_DATA),
    ] {
        let failure = failure(&path, json!({})).await;
        assert_eq!(failure.kind, kind, "{path:?} {failure:?}");
        assert_eq!(failure.class, FailureClass::Permanent);
    }
    fs::write(at("secret"), "").unwrap();
    rustix::fs::chmod(at("secret"), rustix::fs::Mode::empty()).unwrap();
    // To the superuser nothing is forbidden.
    if fs::read(at("secret")).is_err() {
        let failure = failure(&at("secret"), json!({})).await;
        assert_eq!(failure.kind, FailureKind::REJECTED);
    }
}

#[tokio::test]
async fn nothing_outside_of_the_root_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(at("root/sub")).unwrap();
    fs::create_dir(at("root-too")).unwrap();
    for file in ["outside", "root/inside", "root/sub/deep", "root-too/x"] {
        fs::write(at(file), file).unwrap();
    }
    symlink(at("outside"), at("root/absolute")).unwrap();
    symlink("../outside", at("root/relative")).unwrap();
    symlink("..", at("root/up")).unwrap();
    symlink("../inside", at("root/sub/fine")).unwrap();
    symlink(at("root"), at("link-to-root")).unwrap();
    for root in [at("root"), at("link-to-root")] {
        let fetch = async |locator: &str| {
            self::fetch(locator, json!({ "root": root }))
                .await
                .map(|output| String::from_utf8(output.body).unwrap())
        };
        for inside in ["inside", "./sub/../inside", "sub/fine", "../root/inside"] {
            assert_eq!(
                fetch(inside).await,
                Ok("root/inside".to_owned()),
                "{inside}"
            );
        }
        assert_eq!(fetch("sub/deep").await, Ok("root/sub/deep".to_owned()));
        assert_eq!(
            fetch(&at("root/inside")).await,
            Ok("root/inside".to_owned())
        );
        let url = format!("file://{}", at("root/inside"));
        assert_eq!(fetch(&url).await, Ok("root/inside".to_owned()));
        for outside in [
            "../outside",
            "absolute",
            "relative",
            "up/outside",
            "sub/../../outside",
            "../root-too/x",
            &at("outside"),
            &at("root-too/x"),
            &format!("file://{}", at("outside")),
            &format!("file://{}/%2e%2e/outside", at("root")),
        ] {
            let failure = fetch(outside).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::REJECTED, "{outside} {failure:?}");
            assert!(failure.message.contains("root"), "{failure:?}");
        }
        assert_eq!(
            fetch("missing").await.unwrap_err().kind,
            FailureKind::NOT_FOUND
        );
        assert_eq!(
            fetch(".").await.unwrap_err().kind,
            FailureKind::INVALID_DATA
        );
    }
    let failure = failure("x", json!({ "root": at("nowhere") })).await;
    assert_eq!(failure.kind, FailureKind::MISCONFIGURED);
    assert!(Path::new(&at("outside")).exists());
}

#[tokio::test]
async fn wrong_params_and_locators_are_named() {
    for (params, part) in [
        (
            json!({ "max_bytes": 0 }),
            "\"max_bytes\" is 0: it takes a whole number from 1",
        ),
        (json!({ "root": 1 }), "\"root\" is 1: it takes a directory"),
        (json!({ "user_agent": "a\nb" }), "\"user_agent\""),
        (
            json!({ "headers": { "a b": "c" } }),
            "\"headers.a b\" cannot be",
        ),
        (
            json!({ "headers": { "a": "\n" } }),
            "\"headers.a\" cannot be",
        ),
        (json!({ "headers": ["a"] }), "a table of texts"),
        (json!({ "max_redirects": 21 }), "from 0 to 20"),
        (json!({ "as": "json" }), "it takes text or bytes"),
        (
            json!({ "colour": 1 }),
            "\"colour\" is not known; known are max_bytes, root",
        ),
        (json!("x"), "they are to be a table"),
    ] {
        let failure = failure("doc", params).await;
        assert_eq!(failure.kind, FailureKind::MISCONFIGURED);
        assert!(
            failure.message.contains(part),
            "{part} in {}",
            failure.message
        );
    }
    let failure = failure("s3://bucket/key", json!({})).await;
    assert_eq!(failure.kind, FailureKind::UNSUPPORTED_FORMAT);
    assert!(
        failure.message.contains("use http, https, file or a path"),
        "{failure:?}"
    );
}
