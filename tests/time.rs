//! The past of a batch: what changed, what happened, and a whole incident as a file that is replayed with no broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use support::{Ended, Home};

/// Fails where a file says so.
const PICKY: &str = r#"#!/bin/sh
if [ -e "bad-$1" ]; then echo "bad $1" >&2; exit 65; fi
echo "made of $1"
"#;

/// A batch of six documents of which three failed for good.
fn three_failed() -> Home {
    let home = Home::new();
    home.script("picky.sh", PICKY);
    for n in 1..=3 {
        home.file(&format!("bad-{n}"), "");
    }
    let run = ["run", "--exec", "./picky.sh {}"];
    home.run(run.iter().chain(&["1", "2", "3", "4", "5", "6"]))
        .exits(3);
    home
}

fn status(home: &Home) -> Value {
    home.run(["status", "-o", "json"]).exits(0).json()
}

/// A field of each row.
fn all(rows: &Value, field: &str) -> Vec<Value> {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row.pointer(field).cloned().unwrap_or_default())
        .collect()
}

#[test]
fn it_is_told_what_changed_and_what_happened() {
    let home = three_failed();
    let _keeper = home.keep();
    let failed_at = status(&home)["last_seq"].as_u64().unwrap().to_string();
    for n in 1..=2 {
        fs::remove_file(home.work().join(format!("bad-{n}"))).unwrap();
    }
    home.run(["retry", "--mode", "all"]).exits(3);
    let now = status(&home)["last_seq"].as_u64().unwrap().to_string();

    let diff = ["diff", "last", "--from", &failed_at];
    let told = home.run(diff.iter().chain(&["-o", "json"])).exits(0);
    let told = told
        .says("3 documents changed")
        .says("2 failed -> completed");
    let rows = told.json();
    assert_eq!(all(&rows, "/document"), ["1", "2", "3"]);
    let (done, bad) = (json!("completed"), json!("failed"));
    assert_eq!(
        all(&rows, "/before/status"),
        [&bad, &bad, &bad].map(Clone::clone)
    );
    assert_eq!(
        all(&rows, "/after/status"),
        [&done, &done, &bad].map(Clone::clone)
    );
    assert_eq!(all(&rows, "/after/retry_count"), [1, 1, 1]);
    let kind = "/after/failures/0/kind";
    assert_eq!(
        all(&rows, kind),
        [json!(null), json!(null), json!("invalid_data")]
    );
    let table = home.run(diff).exits(0).stdout;
    assert!(
        table.contains("permanent invalid_data") && table.contains("0 -> 1"),
        "{table}"
    );
    let whole = ["diff", "--from", "0", "--to", &failed_at, "-o", "jsonl"];
    assert_eq!(home.run(whole).exits(0).lines().len(), 6);
    home.run(["diff", "--from", &now, "--to", &failed_at])
        .exits(2)
        .says("from");
    home.run(["diff", "--from", "soon"])
        .exits(2)
        .says("2026-01-31");

    let rows = home.run(["timeline", "-o", "json"]).exits(0).json();
    let types = all(&rows, "/type");
    let place = |name: &str| types.iter().position(|it| it == name);
    assert_eq!(place("batch.created"), Some(0), "{types:?}");
    assert!(place("documents.failed") < place("documents.retry_scheduled"));
    let events: u64 = all(&rows, "/events").iter().filter_map(Value::as_u64).sum();
    let log = home.run(["events", "last"]).exits(0).lines();
    assert_eq!(events, log.len() as u64, "each event is told once");
    let table = home.run(["timeline", "last"]).exits(0).stdout;
    assert!(
        table.contains("failed: permanent invalid_data: bad"),
        "{table}"
    );
    assert!(table.contains("(by ann"), "{table}");
    let early = ["timeline", "last", "--at", &failed_at, "-o", "json"];
    let early = all(&home.run(early).exits(0).json(), "/type");
    assert!(
        !early.contains(&json!("documents.retry_scheduled")),
        "{early:?}"
    );

    // A replay takes the moments that everything takes.
    for flag in ["--until", "--at"] {
        let args = ["replay", "last", flag, &failed_at, "-o", "json"];
        assert_eq!(home.run(args).exits(0).json()["rounds"], 0);
    }
    home.run(["replay", "last", "--until", &failed_at, "--verify"])
        .exits(0);
    home.run(["replay", "last", "--until", "soon"])
        .exits(2)
        .says("2026-01-31");
}

/// Writes a batch into a file of the working directory.
fn export(home: &Home, name: &str, args: &[&str]) -> (PathBuf, Ended) {
    let written = home.run([&["export", "last"], args].concat()).exits(0);
    (home.file(name, &written.stdout), written)
}

#[test]
fn an_incident_is_mailed_and_replayed_with_no_broker() {
    let home = three_failed();
    let keeper = home.keep();
    let seq = status(&home)["last_seq"].as_u64().unwrap().to_string();
    fs::remove_file(home.work().join("bad-1")).unwrap();
    home.run(["retry", "--mode", "all"]).exits(3);
    let (whole, written) = export(&home, "whole.jsonl", &[]);
    written.says("It holds all of the batch");
    let (redacted, written) = export(&home, "redacted.jsonl", &["--redact"]);
    written.says("no data");
    let mut theirs = status(&home);
    let their_failures = home.run(["failures", "-o", "json"]).exits(0).json();
    let their_timeline = home.run(["timeline", "-o", "json"]).exits(0).json();
    let mut their_diagnosis = home.run(["diagnose", "-o", "json"]).exits(0).json();
    let mut their_first = home
        .run(["diagnose", "-o", "json", "--at", &seq])
        .exits(0)
        .json();
    let missing = "01890a5d-ac96-774b-bcce-b302099a8057";
    let none = home.run(["export", missing]).exits(4);
    assert_eq!(
        none.stdout, "",
        "nothing is written of a batch that is not there"
    );
    drop(keeper);

    // Somewhere else, where nothing runs.
    let away = Home::new();
    let file = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let path = away.file(path.file_name().unwrap().to_str().unwrap(), &text);
        path.to_str().unwrap().to_owned()
    };
    let (whole, redacted) = (file(&whole), file(&redacted));
    let mut here = away.run(["replay", &whole, "-o", "json"]).exits(0).json();
    // How far the log of all batches went, no file of one batch says.
    for told in [&mut theirs, &mut their_diagnosis, &mut their_first] {
        told["as_of"] = json!(null);
    }
    for field in ["status", "diagnosis"] {
        here[field]["as_of"] = json!(null);
    }
    assert_eq!(here["status"], theirs);
    assert_eq!(here["failures"], their_failures);
    assert_eq!(here["diagnosis"], their_diagnosis);
    let sample = &their_diagnosis["failed_documents_sample"];
    assert_eq!(all(sample, "/document"), ["2", "3"]);
    let shown = ["replay", &whole, "--show", "timeline", "-o", "json"];
    assert_eq!(away.run(shown).exits(0).json(), their_timeline);
    let table = away.run(["replay", &whole]).exits(0).stdout;
    assert!(
        table.contains("completed_with_failures") && table.contains("bad 2"),
        "{table}"
    );
    // For people, it says what there is to paste where the batch is.
    let shown = ["replay", &whole, "--show", "diagnosis"];
    let advice = &their_diagnosis["recommendations"][0];
    let command = advice["command"].as_str().unwrap();
    let text = away.run(shown).exits(0).stdout;
    assert!(text.contains(&format!("  $ {command}\n")), "{text}");
    let plan = format!("--plan {}\n", advice["plan"].as_str().unwrap());
    assert!(text.contains(&plan), "{text}");
    let mut then = away
        .run(["replay", &whole, "--at", &seq, "-o", "json"])
        .exits(0)
        .json();
    then["diagnosis"]["as_of"] = json!(null);
    assert_eq!(then["diagnosis"], their_first);
    assert_eq!(then["failures"].as_array().unwrap().len(), 3);
    assert_eq!(then["status"]["retries"], 0);
    for file in [&whole, &redacted] {
        away.run(["replay", file, "--verify"])
            .exits(0)
            .says("is whole");
    }

    // Redacted, statuses and failures are the same, and what was executed is not in it.
    let of = away
        .run(["replay", &redacted, "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(of["file"]["redacted"], true);
    assert_eq!(of["status"]["counts"], theirs["counts"]);
    assert_eq!(
        all(&of["failures"], "/message"),
        all(&their_failures, "/message")
    );
    assert_eq!(all(&of["failures"], "/detail"), [json!(null), json!(null)]);
    assert_eq!(
        of["diagnosis"]["recommendations"],
        their_diagnosis["recommendations"]
    );
    let state = |file: &str| {
        away.run(["replay", file, "--show", "state", "-o", "json"])
            .exits(0)
    };
    assert!(state(&whole).stdout.contains("picky.sh"));
    assert!(!state(&redacted).stdout.contains("picky.sh"));

    // A file that was cut short, one that was changed, one that is something else, and none.
    let text = fs::read_to_string(&whole).unwrap();
    let cut = away.file("cut.jsonl", &text[..text.len() - 40]);
    let replay = |path: &Path| away.run(["replay", path.to_str().unwrap()]);
    replay(&cut).exits(5).says("was cut short after");
    let lines: Vec<&str> = text.lines().collect();
    let changed = text.replacen(
        lines[3],
        &lines[3].replacen("\"payload\":\"i", "\"payload\":\"j", 1),
        1,
    );
    assert_ne!(changed, text);
    let changed = away.file("changed.jsonl", &changed);
    replay(&changed)
        .exits(5)
        .says("was changed after it was written");
    let other = away.file("other.jsonl", "{\"a\": 1}\n");
    replay(&other)
        .exits(2)
        .says("no file that `redrive export` wrote");
    away.run(["replay", "nowhere.jsonl"])
        .exits(2)
        .says("names no batch");
    away.run(["replay", &whole, "--show", "failures", "-o", "jsonl"])
        .exits(0);
    assert!(!away.data().exists(), "no system was started");
    assert_eq!(away.processes(), []);
}

fn incidents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/incidents")
}

/// What of the expected is otherwise: fields that are not expected may be there.
fn otherwise(path: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(fields), Value::Object(_)) => {
            for (name, value) in fields {
                otherwise(&format!("{path}/{name}"), value, &found[name], differences);
            }
        }
        (Value::Array(items), Value::Array(there)) if items.len() == there.len() => {
            for (n, (item, there)) in items.iter().zip(there).enumerate() {
                otherwise(&format!("{path}/{n}"), item, there, differences);
            }
        }
        _ if expected == found => {}
        _ => differences.push(format!("{path}: {expected} was expected, here is {found}")),
    }
}

#[test]
fn every_incident_that_was_kept_still_comes_to_what_it_came_to() {
    let home = Home::new();
    let mut found = 0;
    for entry in fs::read_dir(incidents()).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|ext| ext != "jsonl") {
            continue;
        }
        found += 1;
        let file = path.to_str().unwrap();
        home.run(["replay", file, "--verify"]).exits(0);
        let told = home.run(["replay", file, "-o", "json"]).exits(0).json();
        let expected = fs::read(path.with_extension("json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let mut differences = Vec::new();
        otherwise("", &expected, &told, &mut differences);
        assert!(
            differences.is_empty(),
            "{file}:\n{}",
            differences.join("\n")
        );
    }
    assert!(found > 0, "there is no incident");
}
