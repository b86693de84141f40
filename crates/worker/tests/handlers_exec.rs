//! `exec` with real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod handlers_support;

use std::{fs, path::Path, sync::Arc, time::Duration};

use handlers_support::{PATIENCE, context, eventually, name, runs, unit, with_input};
use redrive_domain::{
    document::{Document, Output},
    failure::{Failure, FailureClass, FailureKind},
};
use redrive_worker::{
    handler::{Context, Done, Handler, Unit},
    handlers::exec::Exec,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

async fn process(unit: &Unit, ctx: &Context) -> Result<Done, Failure> {
    let exec = Exec::new(name("exec"));
    let done = timeout(PATIENCE * 2, exec.process(unit, ctx)).await;
    done.expect("it hangs")
}

async fn run(params: Value) -> Result<Done, Failure> {
    process(&unit("doc"), &context(params)).await
}

async fn failure(params: Value) -> Failure {
    run(params).await.unwrap_err()
}

fn body(done: Result<Done, Failure>) -> String {
    match done.unwrap() {
        Done::Completed(Some(output)) => String::from_utf8(output.body).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn exit(code: u32) -> Value {
    json!({ "command": ["sh", "-c", format!("exit {code}")] })
}

fn pids(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(str::to_owned).collect()
}

/// Writes the numbers of a shell, its child, and a grandchild that has left the pipes, and then stays.
fn family(file: &Path) -> Value {
    let script = "echo $$ >> $F
        sleep 600 & echo $! >> $F
        (sh -c 'echo $$ >> $F; exec sleep 600' > /dev/null 2>&1 &)
        wait";
    json!({ "command": ["sh", "-c", script], "env": { "F": file }, "grace": "200ms" })
}

/// Waits until none of a family runs any more.
async fn all_dead(file: &Path) {
    for pid in pids(file) {
        eventually("dead", || !runs(&pid)).await;
    }
}

#[tokio::test]
async fn every_exit_code_has_its_meaning() {
    use FailureClass::{Permanent, Transient, Unknown};
    let completed = run(exit(0)).await;
    assert_eq!(completed, Ok(Done::Completed(None)));
    assert_eq!(run(exit(99)).await, Ok(Done::Skipped));
    for (code, kind, class) in [
        (75, "unavailable", Transient),
        (69, "unavailable", Transient),
        (71, "unavailable", Transient),
        (74, "unavailable", Transient),
        (111, "network", Transient),
        (65, "invalid_data", Permanent),
        (66, "not_found", Permanent),
        (100, "rejected", Permanent),
        (64, "misconfigured", Permanent),
        (77, "misconfigured", Permanent),
        (78, "misconfigured", Permanent),
        (126, "misconfigured", Permanent),
        (127, "misconfigured", Permanent),
        (1, "failed", Unknown),
        (3, "failed", Unknown),
        (137, "failed", Unknown),
    ] {
        let failure = failure(exit(code)).await;
        let has = (failure.kind.as_str(), failure.class);
        assert_eq!(has, (kind, class), "{code}");
        assert_eq!(failure.code, Some(code.to_string()));
        assert_eq!(failure.message, format!("exited with code {code}"));
    }
}

#[tokio::test]
async fn the_job_may_say_what_codes_mean() {
    use FailureClass::{Permanent, Transient, Unknown};
    let codes = json!({
        "0": "skipped",
        "3": "ok",
        "10-19": "transient",
        "12": "paywall",
        "20": { "kind": "rate_limited", "class": "permanent" },
        "21": { "kind": "rate_limited" },
        "65": { "class": "transient" },
    });
    let run = async |code: u32| {
        let script = format!("exit {code}");
        run(json!({ "command": ["sh", "-c", script], "exit_codes": codes })).await
    };
    assert_eq!(run(0).await, Ok(Done::Skipped));
    assert_eq!(run(3).await, Ok(Done::Completed(None)));
    for (code, kind, class) in [
        (10, "failed", Transient),
        (19, "failed", Transient),
        (12, "paywall", Unknown),
        (20, "rate_limited", Permanent),
        (21, "rate_limited", Transient),
        (65, "invalid_data", Transient),
        (66, "not_found", Permanent),
    ] {
        let failure = run(code).await.unwrap_err();
        assert_eq!(
            (failure.kind.as_str(), failure.class),
            (kind, class),
            "{code}"
        );
    }
}

#[tokio::test]
async fn a_signal_is_a_crash_with_its_name() {
    for signal in ["SEGV", "KILL", "TERM"] {
        let script = format!("echo on the edge >&2; kill -{signal} $$");
        let failure = failure(json!({ "command": ["sh", "-c", script] })).await;
        assert_eq!(failure.kind, FailureKind::CRASHED);
        assert_eq!(failure.class, FailureClass::Unknown);
        assert_eq!(failure.code, Some(format!("SIG{signal}")));
        let message = format!("was killed by SIG{signal}: on the edge");
        assert_eq!(failure.message, message);
    }
}

#[tokio::test]
async fn the_last_line_of_stderr_is_the_message_and_its_end_the_detail() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done >&2
        printf 'it broke\\n\\n  \\n' >&2; exit 3";
    let failure = failure(json!({ "command": ["sh", "-c", script] })).await;
    assert_eq!(failure.message, "it broke");
    let detail = failure.detail.unwrap();
    assert!(detail.ends_with("line 19999\nit broke"), "{detail}");
    assert!(!detail.contains("line 0\n"));
}

#[tokio::test]
async fn what_cannot_be_started_is_misconfigured() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    for params in [
        json!({ "command": "/nonexistent/program" }),
        json!({ "command": [plain] }),
        json!({ "command": "true", "cwd": "/nonexistent" }),
    ] {
        let failure = failure(params).await;
        assert_eq!(failure.kind, FailureKind::MISCONFIGURED);
        assert!(failure.message.starts_with("cannot run"), "{failure:?}");
    }
    let failure = failure(json!({ "command": "true", "cwd": "/nonexistent" })).await;
    assert!(
        failure.message.ends_with("is not a directory"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn wrong_params_are_all_named() {
    let params = json!({ "command": "echo 'open", "shell": "yes", "stdin": "file", "colour": 1 });
    let all = failure(params).await.message;
    for part in [
        r#"param "shell" is "yes": it takes true or false"#,
        r#"param "command" is "echo 'open": a quote in it is not closed"#,
        r#"param "stdin" is "file": it takes auto, document, input or none"#,
        r#"param "colour" is not known; known are shell, command, cwd, env, stdin, "#,
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
    let with = |name: &str, value: Value| json!({ "command": "true", name: value });
    for (params, part) in [
        (json!({}), "\"command\" is missing"),
        (Value::Null, "\"command\" is missing"),
        (json!([]), "they are to be a table"),
        (json!({ "command": "" }), "the program"),
        (json!({ "command": [1] }), "the program"),
        (
            json!({ "command": "a", "colour": 1 }),
            "\"colour\" is not known",
        ),
        (json!({ "command": ["a"], "shell": true }), "for /bin/sh"),
        (json!({ "command": ["a", "b\u{0}"] }), "the program"),
        (
            with("cwd", json!("")),
            "\"cwd\" is \"\": it takes a directory",
        ),
        (
            with("env", json!({ "A=B": "x" })),
            "\"env.A=B\" is no variable",
        ),
        (
            with("env", json!({ "C": [] })),
            "\"env.C\" is []: it takes a text",
        ),
        (with("media_type", json!("json")), "it takes a media type"),
        (with("grace", json!("soon")), "it takes a span"),
        (with("grace", json!(-1)), "it takes a span"),
        (
            with("exit_codes", json!({ "300": "ok" })),
            "\"exit_codes.300\" is no exit code",
        ),
        (
            with("exit_codes", json!({ "1": 5 })),
            "\"exit_codes.1\" is 5: it takes ok",
        ),
        (
            with("exit_codes", json!({ "1": { "klass": "x" } })),
            "\"exit_codes.1\" is",
        ),
        (
            with("exit_codes", json!({ "1": { "class": "odd" } })),
            "\"exit_codes.1\" is",
        ),
        (
            with("exit_codes", json!({ "1": "a.b" })),
            "\"exit_codes.1\" is",
        ),
        (
            with("exit_codes", json!({ "3-5": "ok", "5-6": "ok" })),
            "overlaps",
        ),
    ] {
        let failure = self::failure(params).await;
        assert_eq!(failure.kind, FailureKind::MISCONFIGURED);
        assert!(
            failure.message.contains(part),
            "{part} in {}",
            failure.message
        );
    }
}

#[tokio::test]
async fn placeholders_are_filled_within_words() {
    let mut unit = unit("the id");
    Arc::make_mut(&mut unit.document).uri = Some("dir/a b.tar.gz".into());
    let words = [
        "printf",
        "%s\n",
        "{}",
        "in={}!",
        "{/}",
        "{.}",
        "{/.}",
        "{//}",
        "{id}",
        "{uri}",
        "{ordinal}",
        "{attempt}",
        "{a: {b}}",
        "{",
    ];
    let params = json!({ "command": words });
    let text = body(process(&unit, &context(params)).await);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "dir/a b.tar.gz",
            "in=dir/a b.tar.gz!",
            "a b.tar.gz",
            "dir/a b.tar",
            "a b.tar",
            "dir",
            "the id",
            "dir/a b.tar.gz",
            "7",
            "2",
            "{a: {b}}",
            "{",
        ]
    );
    let params = json!({ "command": "cat {uri}" });
    let failure = process(&handlers_support::unit("x"), &context(params))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::MISSING_FIELD);
}

#[tokio::test]
async fn nothing_in_a_document_is_ever_interpreted() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "").unwrap();
    let v = victim.display();
    for id in [
        "a b  c".to_owned(),
        format!("$(rm {v})"),
        format!("`rm {v}`"),
        format!("'; rm {v}; '"),
        format!("\"; rm {v}; \""),
        format!("\\\"$(rm {v})"),
        format!("x\nrm {v}\n"),
        "{id}{}".to_owned(),
        "*".to_owned(),
        "-n".to_owned(),
        "$HOME ${1} \\".to_owned(),
    ] {
        let expected = format!("<{id}>");
        for (params, exact) in [
            (json!({ "command": "printf '<%s>' {}" }), true),
            (json!({ "command": ["printf", "<%s>", "{}"] }), true),
            (
                json!({ "command": "printf '<%s>' {}", "shell": true }),
                true,
            ),
            (
                json!({ "command": "printf '<%s>' \"{}\"", "shell": true }),
                true,
            ),
            (
                json!({ "command": "printf '<%s>' {id}", "shell": true }),
                true,
            ),
            (
                json!({ "command": "# don't\nprintf '<%s>' {}", "shell": true }),
                true,
            ),
            (
                json!({ "command": "printf %s \"<$(printf '%s' {})>\"", "shell": true }),
                !id.ends_with('\n'),
            ),
            (
                json!({ "command": "printf '<%s>' \"$1\"", "shell": true }),
                true,
            ),
            (
                json!({ "command": "printf '<%s>' \"$REDRIVE_DOCUMENT_ID\"", "shell": true }),
                true,
            ),
            (
                json!({ "command": "cat << E\n{}\nE\n: \"`echo {}`\" `echo \"{}\"`", "shell": true }),
                false,
            ),
        ] {
            let text = body(process(&unit(&id), &context(params.clone())).await);
            assert!(!exact || text == expected, "{params}: {text:?}");
            assert!(victim.exists(), "{params} ran {id:?}");
        }
    }
    // As in the shell itself, single quotes keep a text as it is.
    let params = json!({ "command": "printf '{}' x; printf \\{}", "shell": true });
    assert_eq!(body(process(&unit("d"), &context(params)).await), "{}{}");
}

#[tokio::test]
async fn a_nul_byte_is_a_clear_failure() {
    let ctx = context(json!({ "command": "true" }));
    let failure = process(&unit("a\0b"), &ctx).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::INVALID_DATA);
    assert!(failure.message.contains("id has a NUL byte"), "{failure:?}");
    let mut unit = unit("a");
    Arc::make_mut(&mut unit.document).uri = Some("\0".into());
    let failure = process(&unit, &ctx).await.unwrap_err();
    assert!(
        failure.message.contains("uri has a NUL byte"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn stdin_is_what_there_is_to_read() {
    let plain = unit("dir/doc");
    let mut data = plain.clone();
    data.document = Arc::new(Document {
        data: Some(json!({ "a": 1 })),
        ..Document::new("dir/doc")
    });
    let one = with_input(data.clone(), "extract", Output::text("extracted"));
    let two = with_input(one.clone(), "meta", Output::json(&json!({ "pages": 3 })));
    let both = r#"{"extract":"extracted","meta":{"pages":3}}"#;
    for (unit, command, stdin, expected) in [
        (&plain, "cat", "auto", "dir/doc\n"),
        (&plain, "sh -c cat {}", "auto", ""),
        (&plain, "sh -c cat {attempt}", "auto", "dir/doc\n"),
        (&data, "cat", "auto", r#"{"a":1}"#),
        (&data, "sh -c cat {}", "auto", r#"{"a":1}"#),
        (&one, "cat", "auto", "extracted"),
        (&one, "cat", "input", "extracted"),
        (&one, "cat", "document", r#"{"a":1}"#),
        (&one, "cat", "none", ""),
        (&two, "cat", "auto", both),
        (&plain, "cat", "input", ""),
        (&plain, "sh -c cat {}", "document", "dir/doc\n"),
    ] {
        let ctx = context(json!({ "command": command, "stdin": stdin }));
        let text = match process(unit, &ctx).await.unwrap() {
            Done::Completed(output) => output.map(|o| o.body).unwrap_or_default(),
            Done::Skipped => panic!("skipped"),
        };
        assert_eq!(
            String::from_utf8(text).unwrap(),
            expected,
            "{command} {stdin}"
        );
    }
    let mut first = context(json!({ "command": "cat", "stdin": "input" }));
    first.tier = 0;
    let failure = process(&plain, &first).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::MISCONFIGURED);
}

#[tokio::test]
async fn the_environment_tells_the_circumstances() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let params = json!({ "command": "env; pwd", "shell": true, "cwd": dir, "env": { "MINE": 5 } });
    let mut ctx = context(params);
    ctx.deadline = Instant::now() + Duration::from_secs(1_000);
    let text = body(process(&unit("doc"), &ctx).await);
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        "REDRIVE_NAMESPACE=team",
        "REDRIVE_BUCKET=docs",
        "REDRIVE_BATCH=01890a5d-ac96-774b-bcce-b302099a8057",
        "REDRIVE_TIER=1",
        "REDRIVE_JOB=work",
        "REDRIVE_DOCUMENT_ID=doc",
        "REDRIVE_DOCUMENT_URI=",
        "REDRIVE_ORDINAL=7",
        "REDRIVE_ATTEMPT=2",
        "MINE=5",
        dir.to_str().unwrap(),
    ] {
        assert!(lines.contains(&line), "{line} in {text}");
    }
    assert!(lines.iter().any(|line| line.starts_with("PATH=")));
    let number = |name: &str| -> u128 {
        let found = lines.iter().find_map(|line| line.strip_prefix(name));
        found.unwrap().parse().unwrap()
    };
    assert!((900..=1_000).contains(&number("REDRIVE_TIMEOUT_SECONDS=")));
    let now = std::time::SystemTime::now();
    let now = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let left = number("REDRIVE_DEADLINE_UNIX_MS=") - now;
    assert!((900_000..=1_000_000).contains(&left), "{left}");
}

#[tokio::test]
async fn an_output_has_a_media_type() {
    let media = async |params: Value| match run(params).await.unwrap() {
        Done::Completed(Some(output)) => output.media_type,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        media(json!({ "command": "echo hé" })).await,
        "text/plain; charset=utf-8"
    );
    let binary = json!({ "command": ["printf", "\\377"] });
    assert_eq!(media(binary).await, "application/octet-stream");
    let own = json!({ "command": "echo {}", "media_type": "application/json" });
    assert_eq!(media(own).await, "application/json");
}

#[tokio::test]
async fn an_output_may_be_as_large_as_allowed_and_no_larger() {
    let of = async |command: &str| {
        let mut ctx = context(json!({ "command": command }));
        ctx.max_output_bytes = 1_000;
        process(&unit("doc"), &ctx).await
    };
    assert_eq!(body(of("head -c 1000 /dev/zero").await).len(), 1_000);
    // The last of these would stay, and nothing it writes later could break its pipe.
    let stays = "sh -c 'head -c 1001 /dev/zero; exec sleep 600'";
    for more in ["head -c 1001 /dev/zero", "cat /dev/zero", stays] {
        let failure = of(more).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::OUTPUT_TOO_LARGE, "{more}");
        assert!(failure.message.contains("1000 bytes"), "{failure:?}");
        assert!(failure.message.contains("max_output_bytes"), "{failure:?}");
    }
}

#[tokio::test]
async fn neither_pipe_holds_up_the_other() {
    let large = || with_input(unit("doc"), "before", Output::text("x".repeat(10 << 20)));
    // Does not read at all.
    let ignores = context(json!({ "command": "echo done" }));
    assert_eq!(body(process(&large(), &ignores).await), "done\n");
    // Reads and writes at once, more than any pipe holds.
    let mut echoes = context(json!({ "command": "cat" }));
    echoes.max_output_bytes = 16 << 20;
    assert_eq!(body(process(&large(), &echoes).await).len(), 10 << 20);
    // Writes more to standard error than a pipe holds before it reads.
    let floods =
        context(json!({ "command": "head -c 1000000 /dev/zero >&2; wc -c", "shell": true }));
    assert_eq!(body(process(&large(), &floods).await).trim(), "10485760");
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let mut ctx = context(family(&file));
    // Ample for a family to come up; if it does not, the count below says so.
    ctx.deadline = Instant::now() + Duration::from_secs(3);
    let failure = process(&unit("doc"), &ctx).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TIMEOUT);
    assert!(failure.message.contains("stopped after 3."), "{failure:?}");
    assert_eq!(pids(&file).len(), 3);
    all_dead(&file).await;
}

#[tokio::test]
async fn who_ignores_the_first_signal_is_killed_after_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script = "trap 'echo asked >&2' TERM; echo $$ >> $F; while :; do sleep 600 & wait; done";
    let params = json!({ "command": ["sh", "-c", script], "env": { "F": file }, "grace": 0.3 });
    let mut ctx = context(params);
    ctx.deadline = Instant::now() + Duration::from_secs(2);
    let before = Instant::now();
    let failure = process(&unit("doc"), &ctx).await.unwrap_err();
    assert!(before.elapsed() >= Duration::from_millis(2_300));
    assert_eq!(failure.kind, FailureKind::TIMEOUT);
    assert_eq!(failure.detail.as_deref(), Some("asked"));
    all_dead(&file).await;
}

#[tokio::test]
async fn a_cancelled_attempt_ends_the_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let ctx = context(family(&file));
    let cancelled = ctx.cancelled.clone();
    let attempt = tokio::spawn(async move { process(&unit("doc"), &ctx).await });
    eventually("started", || pids(&file).len() == 3).await;
    assert!(pids(&file).iter().all(|pid| runs(pid)));
    cancelled.cancel();
    let failure = attempt.await.unwrap().unwrap_err();
    assert_eq!(failure.kind, FailureKind::PREEMPTED);
    all_dead(&file).await;
}

#[tokio::test]
async fn a_dropped_attempt_ends_the_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let ctx = context(family(&file));
    let attempt = tokio::spawn(async move { process(&unit("doc"), &ctx).await });
    eventually("started", || pids(&file).len() == 3).await;
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());
    all_dead(&file).await;
}

#[tokio::test]
async fn an_attempt_cancelled_before_it_began_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let ctx = context(family(&file));
    ctx.cancelled.cancel();
    let failure = process(&unit("doc"), &ctx).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::PREEMPTED);
    assert!(!file.exists());
}

#[tokio::test]
async fn who_is_left_behind_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script = "sleep 600 & echo $! >> $F; sleep 600 > /dev/null 2>&1 & echo $! >> $F; echo done";
    let params = json!({ "command": script, "shell": true, "env": { "F": file } });
    let before = Instant::now();
    assert_eq!(body(run(params).await), "done\n");
    assert!(before.elapsed() < PATIENCE);
    assert_eq!(pids(&file).len(), 2);
    all_dead(&file).await;
}
