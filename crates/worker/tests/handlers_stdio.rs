//! `stdio` with real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod handlers_support;

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use futures::future::join_all;
use handlers_support::{PATIENCE, context, eventually, name, runs, unit, with_input};
use redrive_domain::{
    document::{Document, Output},
    failure::{Failure, FailureClass},
    time::Millis,
};
use redrive_worker::{
    handler::{Context, Done, Handler, Unit},
    handlers::stdio::Stdio,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

fn stdio() -> Stdio {
    Stdio::new(name("stdio"))
}

async fn process(stdio: &Stdio, unit: &Unit, ctx: &Context) -> Result<Done, Failure> {
    let done = timeout(PATIENCE * 2, stdio.process(unit, ctx)).await;
    done.expect("it hangs")
}

async fn failure(params: Value) -> Failure {
    let (unit, ctx) = (unit("doc"), context(params));
    process(&stdio(), &unit, &ctx).await.unwrap_err()
}

fn value(done: Result<Done, Failure>) -> Value {
    match done.unwrap() {
        Done::Completed(Some(output)) => output.to_value().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A process in Python: `say`, `hear` (which passes over heartbeats), and this.
fn python(script: &str) -> Value {
    const TOOLS: &str = "
import json, os, signal, sys, time
def say(**message):
    print(json.dumps(message), flush=True)
def hello(**more):
    say(type='hello', protocol=1, **more)
def hear():
    for line in sys.stdin:
        told = json.loads(line)
        if told['type'] != 'heartbeat':
            return told
    sys.exit()
";
    json!({ "command": ["python3", "-c", format!("{TOOLS}{script}")] })
}

fn with(mut params: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().clone();
    params.as_object_mut().unwrap().extend(more);
    params
}

#[tokio::test]
async fn a_process_is_told_all_and_stays() {
    let params = python(
        "
hello(name='echo')
count = 0
while True:
    told = hear()
    count += 1
    say(type='ok', id=told['id'], output={'told': told, 'count': count, 'pid': os.getpid()})
",
    );
    let params = with(params, &json!({ "params": { "lang": "en" } }));
    let (stdio, mut ctx) = (stdio(), context(params));
    ctx.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let mut unit = unit("a");
    unit.document = Arc::new(Document {
        uri: Some("dir/ä\n.txt".to_owned()),
        data: Some(json!([1, null])),
        ..Document::new("a")
    });
    let unit = with_input(unit, "ocr", Output::text("read"));
    let unit = with_input(unit, "meta", Output::json(&json!({ "pages": 3 })));
    let bytes = Output {
        media_type: "image/png".to_owned(),
        body: vec![0xff, 0],
    };
    let unit = with_input(unit, "image", bytes);
    let first = value(process(&stdio, &unit, &ctx).await);
    let mut told = first["told"].clone();
    let deadline = told["deadline_unix_ms"].take().as_i64().unwrap();
    assert!(deadline > 1_700_000_000_000, "{deadline}");
    assert_eq!(
        told,
        json!({
            "type": "document",
            "id": told["id"],
            "namespace": "team",
            "bucket": "docs",
            "batch": "01890a5d-ac96-774b-bcce-b302099a8057",
            "tier": 1,
            "job": "work",
            "ordinal": 7,
            "attempt": 2,
            "document": { "id": "a", "uri": "dir/ä\n.txt", "data": [1, null] },
            "inputs": {
                "ocr": { "media_type": "text/plain; charset=utf-8", "value": "read" },
                "meta": { "media_type": "application/json", "value": { "pages": 3 } },
                "image": { "media_type": "image/png", "base64": "/wA=" },
            },
            "params": { "lang": "en" },
            "deadline_unix_ms": null,
            "max_output_bytes": 65536,
            "trace": ctx.trace,
        })
    );
    let second = value(process(&stdio, &unit, &ctx).await);
    assert_eq!(
        (&second["pid"], &second["count"]),
        (&first["pid"], &json!(2))
    );

    // Another namespace has processes of its own, whatever the job.
    ctx.namespace = "other".parse().unwrap();
    let other = value(process(&stdio, &unit, &ctx).await);
    assert_ne!(other["pid"], first["pid"]);
}

#[tokio::test]
async fn every_answer_has_its_meaning() {
    let params = python(
        "
hello()
while True:
    told = hear()
    say(id=told['id'], **told['document']['data'])
",
    );
    let (stdio, ctx) = (stdio(), context(params));
    let ask = async |answer: Value| {
        let mut unit = unit("doc");
        unit.document = Arc::new(Document {
            data: Some(answer),
            ..Document::new("doc")
        });
        process(&stdio, &unit, &ctx).await
    };
    let output = async |answer: Value| match ask(answer).await.unwrap() {
        Done::Completed(Some(output)) => (output.media_type, output.body),
        other => panic!("{other:?}"),
    };
    let done = ask(json!({ "type": "ok" })).await;
    assert_eq!(done, Ok(Done::Completed(None)));
    assert_eq!(ask(json!({ "type": "skipped" })).await, Ok(Done::Skipped));
    let text = output(json!({ "type": "ok", "output": "é" })).await;
    assert_eq!(text, ("text/plain; charset=utf-8".to_owned(), "é".into()));
    let html = json!({ "type": "ok", "output": "<p>", "media_type": "text/html" });
    assert_eq!(output(html).await, ("text/html".to_owned(), b"<p>".into()));
    let bytes = json!({ "type": "ok", "base64": "/wA=", "media_type": "image/png" });
    assert_eq!(output(bytes).await, ("image/png".to_owned(), vec![0xff, 0]));

    let failed = json!({
        "type": "failed", "kind": "rate_limited", "message": "slow down", "code": 429,
        "detail": "why", "retry_after": 7,
    });
    let failure = ask(failed).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient);
    assert_eq!(
        (failure.kind.as_str(), failure.message.as_str()),
        ("rate_limited", "slow down")
    );
    assert_eq!(failure.code.as_deref(), Some("429"));
    assert_eq!(failure.detail.as_deref(), Some("why"));
    assert_eq!(failure.retry_after, Some(Millis::seconds(7)));
    let own = json!({ "type": "failed", "kind": "paywall", "class": "permanent" });
    let failure = ask(own).await.unwrap_err();
    assert_eq!(
        (failure.kind.as_str(), failure.class),
        ("paywall", FailureClass::Permanent)
    );

    let large = json!({ "type": "ok", "output": "x".repeat(60_000) });
    let mut small = ctx.clone();
    small.max_output_bytes = 100;
    let mut unit = unit("doc");
    unit.document = Arc::new(Document {
        data: Some(large),
        ..Document::new("doc")
    });
    let failure = process(&stdio, &unit, &small).await.unwrap_err();
    assert_eq!(failure.kind.as_str(), "output_too_large");
}

#[tokio::test]
async fn several_are_answered_at_once_in_any_order() {
    // Only when it holds four does it answer, the last one first.
    let params = python(
        "
hello(concurrency=4)
while True:
    held = [hear() for _ in range(4)]
    for told in reversed(held):
        say(type='ok', id=told['id'], output=[told['document']['id'], os.getpid()])
",
    );
    let (stdio, ctx) = (stdio(), context(params));
    let units: Vec<Unit> = (0..8).map(|n| unit(&format!("doc-{n}"))).collect();
    let done = join_all(units.iter().map(|unit| process(&stdio, unit, &ctx))).await;
    for (unit, done) in units.iter().zip(done) {
        assert_eq!(value(done)[0], unit.document.id.as_str());
    }
}

#[tokio::test]
async fn as_many_processes_run_as_there_is_work_for_but_no_more_than_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let script = "
hello()
while True:
    told = hear()
    open(f'{os.getpid()}', 'a').close()
    while len(os.listdir('.')) < told['params']:
        time.sleep(0.01)
    say(type='ok', id=told['id'])
";
    for (together, limit, want) in [(3, 8, 3), (1, 2, 2)] {
        let place = folder.path().join(want.to_string());
        fs::create_dir(&place).unwrap();
        let more = json!({ "cwd": place, "params": together, "processes": limit });
        let (stdio, ctx) = (stdio(), context(with(python(script), &more)));
        let units: Vec<Unit> = (0..6).map(|n| unit(&format!("doc-{n}"))).collect();
        let all = units.iter().take(if together == 3 { 3 } else { 6 });
        for done in join_all(all.map(|unit| process(&stdio, unit, &ctx))).await {
            assert_eq!(done, Ok(Done::Completed(None)));
        }
        let count = fs::read_dir(&place).unwrap().count();
        assert!(count <= want && (together == 1 || count == want), "{count}");
    }
}

#[tokio::test]
async fn a_crash_fails_only_what_the_process_held_and_the_next_is_new() {
    let params = python(
        "
hello()
while True:
    told = hear()
    how = told['document']['id']
    print('about to', how, file=sys.stderr, flush=True)
    if how == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    if how == 'exit':
        os._exit(3)
    if how == 'last words':
        say(type='ok', id=told['id'], output='said')
        os._exit(0)
    say(type='ok', id=told['id'], output=os.getpid())
",
    );
    let (stdio, ctx) = (stdio(), context(params));
    let ask = async |id: &str| process(&stdio, &unit(id), &ctx).await;
    let first = value(ask("a").await);
    let failure = ask("kill").await.unwrap_err();
    assert_eq!(
        (failure.kind.as_str(), failure.class),
        ("crashed", FailureClass::Unknown)
    );
    assert_eq!(failure.code.as_deref(), Some("SIGKILL"));
    let message = "the process was killed by SIGKILL while it held the document: about to kill";
    assert_eq!(failure.message, message);
    assert_eq!(failure.detail.as_deref(), Some("about to a\nabout to kill"));
    let second = value(ask("b").await);
    assert_ne!(first, second);
    let failure = ask("exit").await.unwrap_err();
    assert_eq!(
        (failure.kind.as_str(), failure.code.as_deref()),
        ("crashed", Some("3"))
    );
    // What was answered before the end counts.
    assert_eq!(value(ask("last words").await), "said");
}

#[tokio::test]
async fn a_process_may_leave_without_losing_anything() {
    let params = python(
        "
hello()
said = False
for line in sys.stdin:
    told = json.loads(line)
    if told['type'] == 'document':
        say(type='ok', id=told['id'], output=os.getpid())
        if not said:
            say(type='bye')
        said = True
",
    );
    let (stdio, ctx) = (stdio(), context(with(params, &json!({ "grace": "30s" }))));
    let mut pids = BTreeSet::new();
    for _ in 0..200 {
        let pid = value(process(&stdio, &unit("doc"), &ctx).await);
        pids.insert(pid.as_u64().unwrap());
        if pids.len() == 3 {
            return;
        }
    }
    panic!("it did not leave: {pids:?}");
}

#[tokio::test]
async fn what_cannot_work_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let exits =
        |code: u32| json!({ "command": ["sh", "-c", format!("echo why >&2; exit {code}")] });
    for (params, kind, says) in [
        (json!({}), "misconfigured", "param \"command\" is missing"),
        (
            json!({ "command": "x", "speed": 1 }),
            "misconfigured",
            "param \"speed\" is not known",
        ),
        (
            json!({ "command": "no-such-program" }),
            "misconfigured",
            "cannot run \"no-such-program\"",
        ),
        (
            json!({ "command": folder.path() }),
            "misconfigured",
            "cannot run",
        ),
        (
            json!({ "command": "cat", "cwd": "/no/such" }),
            "misconfigured",
            "is not a directory",
        ),
        (
            json!({ "command": "echo hello" }),
            "misconfigured",
            "does not speak the protocol",
        ),
        (
            json!({ "command": "cat", "start_timeout": "50ms" }),
            "misconfigured",
            "did not say hello within 50ms",
        ),
        (
            exits(1),
            "misconfigured",
            "exited with code 1 before it said hello: why",
        ),
        (
            exits(0),
            "misconfigured",
            "exited with code 0 before it said hello: why",
        ),
        (
            exits(75),
            "unavailable",
            "exited with code 75 before it said hello: why",
        ),
        (
            python("hello(); hear(); print('loading'); hear()"),
            "misconfigured",
            "goes to standard error",
        ),
        (
            python("hello(); os._exit(4)"),
            "crashed",
            "the process exited with code 4",
        ),
        (
            python("hello(); hello(); hear()"),
            "misconfigured",
            "hello twice",
        ),
        (
            python("say(type='heartbeat'); hear()"),
            "misconfigured",
            "first line",
        ),
        (
            python("hello(); hear(); say(type='ok', id=10**6); hear()"),
            "misconfigured",
            "id 1000000",
        ),
        (
            python("hello(); hear(); say(type='done'); hear()"),
            "misconfigured",
            "unknown variant `done`",
        ),
        (
            python(
                "hello(); hear(); sys.stdout.buffer.write(bytes([255, 10])); sys.stdout.flush(); hear()",
            ),
            "misconfigured",
            "UTF-8",
        ),
        (
            python("hello(); hear(); os.close(1); time.sleep(600)"),
            "crashed",
            "closed its standard output",
        ),
    ] {
        let failure = failure(params.clone()).await;
        assert_eq!(failure.kind.as_str(), kind, "{params}: {failure:?}");
        assert!(
            failure.message.contains(says),
            "{params}: {}",
            failure.message
        );
    }
}

#[tokio::test]
async fn a_line_without_an_end_is_not_held() {
    let failure = failure(python(
        "hello(); hear()\nwhile True: sys.stdout.write('x' * 65536)",
    ))
    .await;
    assert_eq!(failure.kind.as_str(), "output_too_large");
}

#[tokio::test]
async fn a_flood_on_standard_error_is_not_held() {
    let script = "hello(); hear(); sys.stderr.write('x' * (1 << 22) + 'the end'); os._exit(1)";
    let failure = failure(python(script)).await;
    let detail = failure.detail.unwrap();
    assert!(detail.ends_with("xthe end") && detail.len() <= 8 * 1024);
}

/// Notes its number and that of a child in the file F.
const FAMILY: &str = "
import subprocess
child = subprocess.Popen(['sleep', '600'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
with open(os.environ['F'], 'a') as file:
    file.write(f'{os.getpid()}\\n{child.pid}\\n')
";

fn pids(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn family(script: &str, file: &Path, more: &Value) -> Value {
    let params = with(python(&format!("{FAMILY}{script}")), more);
    with(params, &json!({ "env": { "F": file } }))
}

async fn all_dead(file: &Path) {
    let pids = pids(file);
    assert!(!pids.is_empty());
    for pid in pids {
        eventually("dead", || !runs(&pid)).await;
    }
}

#[tokio::test]
async fn a_document_that_is_not_stopped_takes_its_process_with_it_but_not_the_budget_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = "
hello(concurrency=2)
while True:
    hear()
";
    let params = family(script, &file, &json!({ "grace": "100ms" }));
    let (stdio, ctx) = (stdio(), context(params));
    let mut short = ctx.clone();
    short.deadline = Instant::now() + Duration::from_secs(2);
    let (late, other) = (unit("late"), unit("other"));
    let (late, other) = tokio::join!(
        process(&stdio, &late, &short),
        process(&stdio, &other, &ctx)
    );
    assert_eq!(late.unwrap_err().kind.as_str(), "timeout");
    let other = other.unwrap_err();
    assert_eq!(other.kind.as_str(), "preempted");
    assert!(other.message.contains("did not stop another document"));
    all_dead(&file).await;
}

#[tokio::test]
async fn a_process_that_stops_a_document_stays() {
    let params = python(
        "
hello(concurrency=2)
while True:
    told = hear()
    if told['type'] == 'cancel':
        say(type='failed', id=told['id'], kind='preempted')
    elif told['document']['id'] == 'quick':
        say(type='ok', id=told['id'], output=os.getpid())
    else:
        open(told['document']['id'], 'w').close()
",
    );
    let (stdio, ctx) = (stdio(), context(with(params, &json!({ "grace": "30s" }))));
    let folder = tempfile::tempdir().unwrap();
    let started = folder.path().join("started");
    let before = value(process(&stdio, &unit("quick"), &ctx).await);
    let slow = unit(started.to_str().unwrap());
    let stop = async {
        eventually("it runs", || started.exists()).await;
        ctx.cancelled.cancel();
    };
    let (stopped, ()) = tokio::join!(process(&stdio, &slow, &ctx), stop);
    assert_eq!(stopped.unwrap_err().kind.as_str(), "preempted");
    let ctx = context((*ctx.params).clone());
    assert_eq!(value(process(&stdio, &unit("quick"), &ctx).await), before);
}

#[tokio::test]
async fn a_silent_process_is_killed_only_where_it_promised_to_speak() {
    let folder = tempfile::tempdir().unwrap();
    let (promised, asked) = (folder.path().join("promised"), folder.path().join("asked"));
    for (file, script, more) in [
        (
            &promised,
            "hello(heartbeat_seconds=0.05); hear(); time.sleep(600)",
            json!({}),
        ),
        (
            &asked,
            "hello(); hear(); time.sleep(600)",
            json!({ "silence": "100ms" }),
        ),
    ] {
        let failure = failure(family(script, file, &more)).await;
        assert_eq!(failure.kind.as_str(), "timeout");
        assert!(
            failure.message.contains("said nothing for"),
            "{}",
            failure.message
        );
        all_dead(file).await;
    }
    // One that beats is left alone, however long its document takes.
    let script = "
hello(heartbeat_seconds=1)
told = hear()
for _ in range(400):
    say(type='heartbeat')
    time.sleep(0.01)
say(type='ok', id=told['id'])
hear()
";
    let (unit, ctx) = (unit("doc"), context(python(script)));
    let done = process(&stdio(), &unit, &ctx).await;
    assert_eq!(done, Ok(Done::Completed(None)));
    assert!(ctx.alive.last().is_some());
}

const SERVE: &str = "
hello()
for line in sys.stdin:
    told = json.loads(line)
    if told['type'] == 'document':
        say(type='ok', id=told['id'])
open(os.environ['F'] + '-end', 'w').close()
";

#[tokio::test]
async fn closing_lets_processes_end_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let (stdio, ctx) = (
        stdio(),
        context(family(SERVE, &file, &json!({ "grace": "30s" }))),
    );
    process(&stdio, &unit("doc"), &ctx).await.unwrap();
    assert!(runs(&pids(&file)[0]));
    timeout(PATIENCE, stdio.close()).await.expect("it hangs");
    assert!(folder.path().join("pids-end").exists());
    all_dead(&file).await;
}

#[tokio::test]
async fn an_idle_process_ends() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let more = json!({ "idle": "50ms", "grace": "30s" });
    let (stdio, ctx) = (stdio(), context(family(SERVE, &file, &more)));
    process(&stdio, &unit("doc"), &ctx).await.unwrap();
    all_dead(&file).await;
    assert!(folder.path().join("pids-end").exists());
    // And another starts when it is needed.
    process(&stdio, &unit("doc"), &ctx).await.unwrap();
}

#[tokio::test]
async fn one_that_does_not_end_by_itself_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (closed, dropped) = (folder.path().join("closed"), folder.path().join("dropped"));
    let script = "
hello()
say(type='ok', id=hear()['id'])
time.sleep(600)
";
    let more = json!({ "grace": "50ms" });
    let (stdio, ctx) = (stdio(), context(family(script, &closed, &more)));
    process(&stdio, &unit("doc"), &ctx).await.unwrap();
    timeout(PATIENCE, stdio.close()).await.expect("it hangs");
    all_dead(&closed).await;

    let ctx = context(family(script, &dropped, &json!({})));
    process(&stdio, &unit("doc"), &ctx).await.unwrap();
    drop(stdio);
    all_dead(&dropped).await;
}
