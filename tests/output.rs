//! What the command line prints, word for word: help, tables, answers, and every error that a person is likely to meet.
//!
//! Ids, times, names of workers and paths are replaced by words in brackets. After a change, look at each difference, and
//! take the new texts over with `INSTA_UPDATE=always`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::OnceLock;

use serde_json::{Value, json};
use support::{Ended, Home, finish};

/// Compares what a command prints with what is on file.
#[track_caller]
fn prints(home: &Home, name: &str, shown: &str, ended: &Ended) {
    assert!(!ended.stderr.contains('\x1b') && !ended.stdout.contains('\x1b'));
    let code = ended.code.unwrap();
    let text = format!(
        "$ redrive {shown}\n[exit {code}]\n--- stdout\n{}--- stderr\n{}",
        ended.stdout, ended.stderr
    );
    let root = home.root().canonicalize().unwrap();
    let work = root.join("work");
    let text = text
        .replace(&*work.to_string_lossy(), "[here]")
        .replace(&*root.to_string_lossy(), "[home]");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (pattern, word) in [
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "[id]"),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "[time]"),
        (r"worker-[\w-]+", "[worker]"),
        (r"nats://127\.0\.0\.1:\d+", "[url]"),
        (r"(in |  )\d+(\.\d+)?m?s\b", "${1}[span]"),
        (r"\(process \d+\)", "(process [pid])"),
    ] {
        settings.add_filter(pattern, word);
    }
    if !shown.ends_with("-h") && !shown.ends_with("--help") {
        // How wide a column is depends on the names that were replaced.
        settings.add_filter(" {3,}", "   ");
    }
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[track_caller]
fn run(home: &Home, name: &str, args: &[&str]) {
    let shown: Vec<String> = args.iter().map(|arg| word(arg)).collect();
    prints(home, name, &shown.join(" "), &home.run(args));
}

/// An argument as one would write it; a very long one in brief.
fn word(arg: &str) -> String {
    match arg {
        _ if arg.len() > 300 => format!("[{} characters]", arg.len()),
        _ if arg.contains('\'') => format!("{arg:?}"),
        _ if arg.contains(' ') => format!("'{arg}'"),
        _ => arg.to_owned(),
    }
}

#[test]
fn help() {
    let home = Home::new();
    for (name, args) in [
        ("help", ["--help"].as_slice()),
        ("help-short", &["-h"]),
        ("help-run", &["run", "--help"]),
        ("help-submit", &["submit", "--help"]),
        ("help-retry", &["retry", "--help"]),
        ("help-worker", &["worker", "--help"]),
    ] {
        run(&home, name, args);
    }
    let bare = home.run::<&str>([]).exits(2);
    assert!(bare.stdout.is_empty() && bare.stderr.contains("Usage:"));
}

/// A run with failures of several kinds, and what one looks at after it.
#[test]
fn a_batch_and_what_became_of_it() {
    let home = Home::new();
    home.script(
        "job.sh",
        "#!/bin/sh\ncase $1 in bad*) echo 'not a text' >&2; exit 65 ;; busy*) exit 75 ;; odd*) exit 3 ;; esac\nwc -c\n",
    );
    let _up = home.keep();
    run(&home, "nothing-yet-batches", &["batches"]);
    run(&home, "nothing-yet-status", &["status"]);
    let command = [
        "run",
        "-j",
        "1",
        "--max-attempts",
        "1",
        "--exec",
        "./job.sh {}",
        "a.txt",
        "b.txt",
        "bad.txt",
        "busy.txt",
        "odd one.txt",
    ];
    run(&home, "run", &command);
    run(&home, "status", &["status"]);
    run(&home, "failures", &["failures", "last"]);
    run(&home, "failures-none", &["failures", "--kind", "timeout"]);
    run(&home, "results", &["results", "last"]);
    run(&home, "batches", &["batches"]);
    run(&home, "retry", &["retry", "last"]);
    run(
        &home,
        "retry-limit",
        &["retry", "last", "--mode", "all", "--max-retry-count", "1"],
    );
    run(&home, "replay-verify", &["replay", "last", "--verify"]);
    run(&home, "resume-over", &["resume"]);

    // Lists are one JSON array, properly indented, whether long or short.
    for args in [
        ["failures", "last"].as_slice(),
        &["results", "--limit", "1"],
        &["batches"],
    ] {
        let text = home.run(args.iter().chain(&["-o", "json"])).exits(0).stdout;
        let value: Value = serde_json::from_str(&text).unwrap();
        let count = value.as_array().unwrap().len();
        // The order of the keys aside, as pretty JSON has it.
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text
                .lines()
                .map(|line| line.trim_end_matches(',').to_owned())
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&text), sorted(&pretty));
        let lines = home
            .run(args.iter().chain(&["-o", "jsonl"]))
            .exits(0)
            .lines();
        assert_eq!(lines.len(), count);
    }
    let none = ["failures", "--kind", "timeout", "-o", "json"];
    let none = home.run(none).exits(0);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("[]\n", ""));
}

#[test]
fn errors_say_what_is_wrong_and_what_to_do() {
    let home = Home::new();
    let _up = home.keep();
    home.run(["run", "--exec", "true", "x"]).exits(0);
    let nobody = "01980000-0000-7000-8000-00000000dead";
    home.file(
        "three.toml",
        "name = \"three\"\n[[tiers]]\nname = \"a\"\n[[tiers.jobs]]\nhandler = \"ex ec\"\ntimeout = \"soon\"\nmax_atempts = 2\n",
    );
    home.file("broken.toml", "name = \n");
    home.file("bad.ndjson", "{\"id\": 1}\n[1]\n");
    home.file("worse.ndjson", "{\"id\": 1}\n{\"id\": \n");
    let long = "x".repeat(600);
    for (name, args) in [
        ("error-unknown-batch", ["status", nobody].as_slice()),
        ("error-unknown-batch-retry", &["retry", nobody]),
        ("error-unknown-batch-events", &["events", nobody]),
        ("error-unknown-batch-replay", &["replay", nobody]),
        ("error-not-a-batch", &["status", "lst"]),
        ("error-three-at-once", &["submit", "-f", "three.toml", "x"]),
        ("error-not-toml", &["submit", "-f", "broken.toml", "x"]),
        (
            "error-no-pipeline-file",
            &["submit", "-f", "nowhere.toml", "x"],
        ),
        (
            "error-no-ndjson-file",
            &["run", "--exec", "true", "--ndjson", "nowhere.ndjson"],
        ),
        (
            "error-not-a-record",
            &["run", "--exec", "true", "--ndjson", "bad.ndjson"],
        ),
        (
            "error-not-json",
            &["run", "--exec", "true", "--ndjson", "worse.ndjson"],
        ),
        (
            "error-long-document",
            &["run", "--exec", "true", "ok", &long],
        ),
        ("error-quotes", &["run", "--exec", "echo 'a", "x"]),
        ("error-no-command", &["run", "x"]),
        ("error-tier", &["retry", "last", "--tier", "one"]),
        ("error-tier-unknown", &["retry", "last", "--tier", "7"]),
        (
            "error-retry-count",
            &["retry", "last", "--max-retry-count", "11"],
        ),
        ("error-mode", &["retry", "last", "--mode", "some"]),
        ("error-until", &["replay", "last", "--until", "yesterday"]),
        ("error-class", &["failures", "--class", "temporary"]),
        ("error-status", &["batches", "--status", "done"]),
        ("error-namespace", &["status", "--namespace", "a.b"]),
        (
            "error-config-missing",
            &["status", "--config", "nowhere.toml"],
        ),
        (
            "error-timeout",
            &["run", "--timeout", "5", "--exec", "true", "x"],
        ),
        ("error-handler", &["worker", "--handler", "exce"]),
        ("error-results-tier", &["results", "last", "--tier", "3"]),
        ("error-results-job", &["results", "last", "--job", "nojob"]),
    ] {
        run(&home, name, args);
    }
    home.file("odd.toml", "nats_url = \"nats://h\"\nname_space = \"x\"\n");
    run(
        &home,
        "error-config-key",
        &["status", "--config", "odd.toml"],
    );
    home.file("odder.toml", "output = \"yaml\"\n");
    run(
        &home,
        "error-config-value",
        &["status", "--config", "odder.toml"],
    );
    // What came before a line that cannot be read can be gone on with.
    let part = home.feed(
        ["run", "--exec", "true", "--ndjson", "-"],
        "{\"id\": 1}\nnonsense\n",
    );
    prints(
        &home,
        "error-stdin",
        "run --exec true --ndjson - < nonsense",
        &part,
    );
    home.run(["resume"])
        .exits(0)
        .says("1 of 1 documents completed");
    let odd = finish(home.command(["status"]).env("REDRIVE_OUTPUT", "xml"), None);
    prints(&home, "error-variable", "status (REDRIVE_OUTPUT=xml)", &odd);
}

#[test]
fn a_cancelled_batch_takes_no_commands() {
    let home = Home::new();
    let _up = home.keep();
    let mut run_ = support::Running::reading(&home, "run", &["run", "--exec", "true"]);
    run_.write("one\n");
    support::until("it is there", support::SOON, || {
        let ended = home.run(["status", "last", "-o", "json"]);
        (ended.code == Some(0) && ended.json()["counts"]["completed"] == 1).then_some(())
    });
    run(&home, "cancel", &["cancel", "last"]);
    run_.close();
    let ended = run_.end();
    prints(&home, "cancel-run", "run (meanwhile)", &ended);
    run(&home, "cancel-again", &["cancel", "last"]);
    run(&home, "error-retry-cancelled", &["retry", "last"]);
    run(&home, "error-resume-cancelled", &["resume", "last"]);
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let home = Home::new();
    let up = home.keep();
    home.run(["run", "--exec", "true", "x", "--namespace", "by-flag"])
        .exits(0);
    home.run(["run", "--exec", "true", "x", "x2", "--namespace", "by-env"])
        .exits(0);
    home.run([
        "run",
        "--exec",
        "true",
        "x",
        "x2",
        "x3",
        "--namespace",
        "by-file",
    ])
    .exits(0);
    let config = home.root().join("config/redrive/config.toml");
    let documents = |command: &mut std::process::Command| {
        finish(command, None).exits(0).json()[0]["documents"].clone()
    };
    std::fs::write(&config, "namespace = \"by-file\"\noutput = \"json\"\n").unwrap();
    assert_eq!(documents(&mut home.command(["batches"])), json!(3));
    let by_env = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("REDRIVE_NAMESPACE", "by-env");
        command
    };
    assert_eq!(documents(&mut by_env(&["batches"])), json!(2));
    let flag = ["batches", "--namespace", "by-flag"];
    assert_eq!(documents(&mut by_env(&flag)), json!(1));
    // Another file instead of the usual one.
    let other = home.file("other.toml", "namespace = \"by-flag\"\noutput = \"json\"\n");
    let other = other.to_string_lossy();
    assert_eq!(
        documents(&mut home.command(["batches", "--config", &other])),
        json!(1)
    );
    // The output, too; and no file gives the default.
    let lines = home.run(["batches", "-o", "jsonl"]).exits(0);
    assert_eq!(lines.lines()[0]["documents"], json!(3));
    std::fs::remove_file(&config).unwrap();
    assert_eq!(
        home.run(["batches"]).exits(0).says("No batches.").stdout,
        ""
    );
    drop(up);
}

/// Off a terminal nothing moves and nothing is coloured, with and without NO_COLOR; and standard output has data only.
#[test]
fn data_goes_to_standard_output_and_the_rest_beside_it() {
    static OUTPUTS: OnceLock<Vec<String>> = OnceLock::new();
    let home = Home::new();
    let _up = home.keep();
    for variables in [
        [("A", "b")],
        [("NO_COLOR", "1")],
        [("TERM", "xterm-256color")],
    ] {
        let ended = |args: &[&str]| {
            let ended = finish(home.command(args).envs(variables), None);
            assert!(!ended.stderr.contains(['\x1b', '\r']), "{}", ended.stderr);
            assert!(!ended.stdout.contains(['\x1b', '\r']), "{}", ended.stdout);
            ended
        };
        assert_eq!(
            ended(&["run", "--exec", "true", "a", "b"]).exits(0).stdout,
            ""
        );
        assert_eq!(ended(&["run", "--exec", "false", "a"]).exits(3).stdout, "");
        assert_eq!(ended(&["status", "last"]).exits(0).stderr, "");
        assert_eq!(ended(&["failures", "last"]).exits(0).stderr, "");
        assert_eq!(ended(&["retry", "last"]).exits(0).stdout, "");
        ended(&["retry", "last", "-o", "json"]).exits(0).json();
        assert_eq!(ended(&["status", "nonsense"]).exits(2).stdout, "");
        let failed = ended(&["failures"])
            .exits(0)
            .stdout
            .lines()
            .count()
            .to_string();
        assert_eq!(OUTPUTS.get_or_init(|| vec![failed.clone()]), &[failed]);
    }
}

#[test]
fn waiting_ends_when_it_is_told_to() {
    let home = Home::new();
    home.file("p.toml", "[[tiers]]\njobs = [{ handler = 'fetch' }]\n");
    home.run(["submit", "-f", "p.toml", "nobody-works-on-this"])
        .exits(0);
    home.run(["watch", "last", "--timeout", "300ms"])
        .exits(124)
        .says("it goes on");
}
