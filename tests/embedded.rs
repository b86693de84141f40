//! The command line over its own embedded system: nothing is set up, nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "embedded/interrupted.rs"]
mod interrupted;
mod support;

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Home, Running, SOON, count_lines, finish, free_port, until};

/// A command that counts its executions in a file for each document, and fails for some: `bad…` for good, `flaky…`
/// until its second execution.
const JOB: &str = r#"#!/bin/sh
mkdir -p ran
echo "$REDRIVE_ATTEMPT" >> "ran/$1"
case $1 in
    bad*) echo "cannot read $1" >&2; exit 65 ;;
    flaky*) [ "$(wc -l < "ran/$1")" -ge 2 ] || exit 75 ;;
esac
echo "made of $1"
"#;

/// A slow one, which only counts.
const SLOW: &str = r#"#!/bin/sh
mkdir -p ran
echo x >> "ran/$1"
sleep 0.05
"#;

fn executions(home: &Home, document: &str) -> usize {
    count_lines(&home.work().join("ran").join(document))
}

fn executed(home: &Home) -> usize {
    fs::read_dir(home.work().join("ran")).map_or(0, Iterator::count)
}

/// How often the log says of each document that it was completed.
fn completions(home: &Home) -> BTreeMap<String, u32> {
    let events = home
        .run(["events", "last", "--type", "documents.completed"])
        .exits(0);
    let mut counts = BTreeMap::new();
    for event in events.lines() {
        for document in event["documents"].as_array().unwrap() {
            let id = document.as_str().unwrap().to_owned();
            *counts.entry(id).or_default() += 1;
        }
    }
    counts
}

fn documents(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("doc-{n:03}")).collect()
}

fn names(rows: &Value, field: &str) -> Vec<String> {
    let rows = rows.as_array().unwrap();
    let mut names: Vec<String> = rows
        .iter()
        .map(|row| row[field].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn what_failed_is_retried_and_nothing_else() {
    let home = Home::new();
    home.script("job.sh", JOB);
    let _up = home.keep();
    let run = ["run", "--max-attempts", "1", "--exec", "./job.sh {}"];
    let all = ["good-1", "good-2", "good-3", "flaky-1", "bad-1"];
    let ran = home.run(run.iter().chain(&all)).exits(3);
    assert_eq!(ran.stdout, "", "a run has no data of its own to print");
    let ran = ran.says("3 of 5 documents completed, 2 failed");
    ran.says("redrive failures last").says("redrive retry last");

    let failures = home.run(["failures", "last", "-o", "json"]).exits(0).json();
    assert_eq!(names(&failures, "document"), ["bad-1", "flaky-1"]);
    assert_eq!(names(&failures, "class"), ["permanent", "transient"]);
    let bad = failures
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["document"] == "bad-1")
        .unwrap();
    assert_eq!(
        (&bad["kind"], &bad["code"], &bad["attempts"]),
        (&json!("invalid_data"), &json!("65"), &json!(1))
    );
    let only = home
        .run(["failures", "last", "--class", "transient", "-o", "jsonl"])
        .exits(0);
    assert_eq!(only.lines().len(), 1);

    // What may pass by itself is executed again; what cannot is left alone.
    home.run(["retry", "last"])
        .exits(3)
        .says("Retrying 1 document (1 unavailable)")
        .says("left alone: 1 permanent failure")
        .says("4 of 5 documents completed, 1 failed, 1 retry");
    let counts = |document| executions(&home, document);
    assert_eq!((counts("flaky-1"), counts("bad-1")), (2, 1));
    let left = home.run(["failures", "last", "-o", "json"]).exits(0).json();
    assert_eq!(names(&left, "document"), ["bad-1"]);

    home.run(["retry", "last", "--mode", "all"])
        .exits(3)
        .says("Retrying 1 document (1 invalid_data)");
    assert_eq!(counts("bad-1"), 2);
    for document in ["good-1", "good-2", "good-3"] {
        assert_eq!(counts(document), 1, "{document} had succeeded");
    }
    assert!(completions(&home).values().all(|times| *times == 1));

    let results = home
        .run(["results", "last", "-o", "jsonl"])
        .exits(0)
        .lines();
    let mut made: Vec<_> = results.iter().map(|row| row["output"].clone()).collect();
    made.sort_by_key(ToString::to_string);
    let want = ["flaky-1", "good-1", "good-2", "good-3"].map(|id| json!(format!("made of {id}\n")));
    assert_eq!(made, want);

    let status = home.run(["status", "-o", "json"]).exits(0).json();
    assert_eq!(status["status"], "completed_with_failures");
    assert_eq!(
        (
            &status["documents"],
            &status["retries"],
            &status["counts"]["completed"]
        ),
        (&json!(5), &json!(2), &json!(4))
    );
    let batches = home.run(["batches", "-o", "json"]).exits(0).json();
    assert_eq!(
        names(&batches, "batch"),
        [status["batch"].as_str().unwrap()]
    );

    history(&home);
}

/// What the log says of the batch above.
fn history(home: &Home) {
    let events = home.run(["events", "last"]).exits(0).lines();
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds.first(), Some(&"batch.created"));
    assert_eq!(kinds.last(), Some(&"batch.completed"));
    assert!(kinds.contains(&"documents.failed.permanent.invalid_data"));
    let retries = kinds
        .iter()
        .filter(|kind| **kind == "documents.retry_scheduled");
    assert_eq!(retries.count(), 2);
    let failed = home
        .run(["events", "last", "--type", "documents.failed.transient"])
        .exits(0)
        .lines();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["documents"], json!(["flaky-1"]));

    home.run(["replay", "last", "--verify"])
        .exits(0)
        .says("identical with the projector's");

    // As it was just before the first retry, and before anything had begun.
    let retry = events
        .iter()
        .find(|event| event["type"] == "documents.retry_scheduled")
        .unwrap();
    let before = (retry["seq"].as_u64().unwrap() - 1).to_string();
    let then = home
        .run(["replay", "last", "--until", &before])
        .exits(0)
        .stdout;
    assert!(then.contains("5: 3 completed, 2 failed"), "{then}");
    let first = events[0]["seq"].to_string();
    let then = home
        .run(["replay", "last", "--until", &first])
        .exits(0)
        .stdout;
    assert!(then.contains("0: 0 completed"), "{then}");
    let at = retry["at"].to_string();
    let by_time = home
        .run([
            "replay",
            "last",
            "-o",
            "json",
            "--until",
            at.trim_matches('"'),
        ])
        .exits(0);
    assert!(by_time.json()["last_seq"].as_u64() >= retry["seq"].as_u64());
}

#[test]
fn documents_come_from_arguments_lines_and_records() {
    let home = Home::new();
    let _up = home.keep();
    let outputs = || {
        let results = home
            .run(["results", "last", "-o", "jsonl"])
            .exits(0)
            .lines();
        let pairs = results.iter().map(|row| {
            let output = match &row["output"] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (row["document"].as_str().unwrap().to_owned(), output)
        });
        pairs.collect::<BTreeMap<_, _>>()
    };
    let map = |pairs: &[(&str, &str)]| {
        let owned = pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        owned.collect::<BTreeMap<_, _>>()
    };

    // What a shell would do something with is a word like any other.
    let evil = "$(touch pwned); `touch pwned` > pwned | *";
    home.run(["run", "--exec", "echo <{}>", "a b", evil])
        .exits(0);
    let shown = format!("<{evil}>\n");
    assert_eq!(outputs(), map(&[("a b", "<a b>\n"), (evil, &shown)]));
    assert!(!home.work().join("pwned").exists());

    // Nothing says where the document goes: it comes on standard input.
    home.feed(["run", "--exec", "cat"], "one\r\n\ntwo words\nlast")
        .exits(0);
    assert_eq!(
        outputs(),
        map(&[
            ("one", "one\n"),
            ("two words", "two words\n"),
            ("last", "last\n")
        ])
    );
    home.feed(
        ["run", "--exec", "echo {/} {.}", "-"],
        "/some/dir/file.txt\n",
    )
    .exits(0);
    assert_eq!(
        outputs(),
        map(&[("/some/dir/file.txt", "file.txt /some/dir/file\n")])
    );

    // Records: a document with uri and data, one that is all data, one without an id.
    let records = concat!(
        r#"{"id": "doc", "uri": "where/it/is", "data": {"n": 1}}"#,
        "\n\n",
        r#"{"id": 7, "name": "Ann"}"#,
        "\n",
        r#"{"name": "Bob"}"#,
        "\n"
    );
    home.file("people.ndjson", records);
    home.run(["run", "--exec", "cat", "--ndjson", "people.ndjson"])
        .exits(0);
    let read = outputs();
    let json = |id: &str| serde_json::from_str::<Value>(&read[id]).unwrap();
    assert_eq!(json("doc"), json!({"n": 1}));
    assert_eq!(json("7"), json!({"id": 7, "name": "Ann"}));
    assert_eq!(json("line-4"), json!({"name": "Bob"}));
    home.feed(["run", "--exec", "echo {}", "--ndjson", "-"], records)
        .exits(0);
    assert_eq!(outputs()["doc"], "where/it/is\n");

    // With a shell it is the shell's, and the document still only an argument.
    home.run([
        "run",
        "--shell",
        "--exec",
        r#"printf %s "$1" | tr a-z A-Z"#,
        evil,
    ])
    .exits(0);
    assert_eq!(outputs(), map(&[(evil, &evil.to_uppercase())]));
    assert!(!home.work().join("pwned").exists());

    // Nothing to do is done.
    home.feed(["run", "--exec", "cat"], "").exits(0);
}

#[test]
fn work_begins_before_the_input_ends() {
    let home = Home::new();
    home.script("job.sh", JOB);
    let mut run = Running::reading(&home, "run", &["run", "--exec", "./job.sh {}"]);
    run.write("first\n");
    until("the first document is worked on", SOON, || {
        (executions(&home, "first") == 1).then_some(())
    });
    assert!(run.is_running());
    run.write("second\n");
    run.close();
    run.end().exits(0).says("2 of 2 documents completed");
    assert_eq!(executions(&home, "second"), 1);
}

#[test]
fn commands_share_one_system_which_ends_with_the_last() {
    let home = Home::new();
    home.script(
        "wait.sh",
        "#!/bin/sh\ntouch started\nwhile [ ! -e gate ]; do sleep 0.02; done\n",
    );
    let mut run = home.start("run", ["run", "--exec", "./wait.sh {}", "a", "b"]);
    until("the run is going on", SOON, || {
        home.work().join("started").exists().then_some(())
    });
    let system = home.system_pid().unwrap();
    let mut others: Vec<Running> = ["status", "failures", "batches"]
        .iter()
        .map(|verb| home.start(verb, [verb, "-o", "json"]))
        .collect();
    for other in &mut others {
        other.end().exits(0);
    }
    let status: Value = serde_json::from_str(&others[0].out()).unwrap();
    assert_eq!(status["status"], "running");
    assert_eq!(home.system_pid(), Some(system), "they shared it");
    assert_eq!(home.brokers().len(), 1, "a folder has one broker");
    home.file("gate", "");
    run.end().exits(0);
    home.quiet();
    assert!(!home.data().join("system.json").exists());

    // Many that start at once agree on one as well.
    let mut many: Vec<Running> = (0..6)
        .map(|n| home.start(&format!("many-{n}"), ["status", "last", "-o", "json"]))
        .collect();
    for one in &mut many {
        one.end().exits(0);
    }
    home.quiet();
}

#[test]
fn a_reader_that_leaves_early_is_no_trouble() {
    let home = Home::new();
    let _up = home.keep();
    let documents = documents(300).join("\n");
    home.feed(["run", "--exec", "echo {}"], documents).exits(0);
    for args in [
        "results last -o jsonl",
        "results last",
        "results last -o json",
        "events last",
    ] {
        let line = format!("{} {args} | head -1", env!("CARGO_BIN_EXE_redrive"));
        let mut shell = Command::new("/bin/sh");
        home.settle(&mut shell);
        let ended = finish(shell.args(["-c", &line]).stdin(Stdio::null()), None).exits(0);
        assert_eq!(ended.stdout.lines().count(), 1);
        assert_eq!(ended.stderr, "", "{args}");
    }
}

#[test]
fn the_same_id_twice_is_one_batch() {
    let home = Home::new();
    home.script("job.sh", JOB);
    let _up = home.keep();
    let id = "01980000-0000-7000-8000-000000000001";
    let run = [
        "run",
        "--id",
        id,
        "--exec",
        "./job.sh {}",
        "good-1",
        "good-2",
    ];
    home.run(run).exits(0);
    home.run(run).exits(0).says("2 of 2 documents completed");
    assert_eq!(
        (executions(&home, "good-1"), executions(&home, "good-2")),
        (1, 1)
    );
    // Something else under the same id is a conflict.
    let other = ["run", "--id", id, "--exec", "./job.sh -v {}", "good-1"];
    home.run(other).exits(5).says(id);
    let more = [
        "run",
        "--id",
        id,
        "--exec",
        "./job.sh {}",
        "good-1",
        "good-2",
        "good-3",
    ];
    home.run(more).exits(5);
    assert_eq!(executions(&home, "good-3"), 0);
    let batches = home.run(["batches", "-o", "jsonl"]).exits(0);
    assert_eq!(batches.lines().len(), 1);
}

#[test]
fn attempts_are_repeated_by_themselves() {
    let home = Home::new();
    home.script("job.sh", JOB);
    let ended = home
        .run(["run", "--exec", "./job.sh {}", "flaky-1"])
        .exits(0);
    ended.says("1 of 1 documents completed, 0 failed");
    let attempts = fs::read_to_string(home.work().join("ran/flaky-1")).unwrap();
    assert_eq!(attempts, "1\n2\n");
}

#[test]
fn what_takes_too_long_is_stopped() {
    let home = Home::new();
    let run = ["run", "--timeout", "300ms", "--max-attempts", "1", "--exec"];
    let started = Instant::now();
    home.run(run.iter().chain(&["sleep {}", "600"])).exits(3);
    assert!(started.elapsed() < Duration::from_secs(20));
    let failures = home.run(["failures", "-o", "jsonl"]).exits(0).lines();
    assert_eq!(
        (&failures[0]["class"], &failures[0]["kind"]),
        (&json!("transient"), &json!("timeout"))
    );
    home.quiet();
}

#[test]
fn a_system_that_is_just_ending_is_waited_for() {
    let home = Home::new();
    for turn in 0..3 {
        // At once after a command whose system has not quite ended, and the other way round.
        home.run(["batches"]).exits(0);
        let mut dev = home.start(&format!("dev-{turn}"), ["dev", "--port", &free_port()]);
        dev.wait_for("Ctrl-C ends it");
        dev.interrupt();
        until("it is ending", SOON, || {
            (!home.data().join("system.json").exists()).then_some(())
        });
        home.run(["batches"]).exits(0);
        dev.end().exits(0);
    }
}
