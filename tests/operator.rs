//! An operator who reads what is printed and pastes it into a shell: what failed completes, and nothing else runs again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{env, fs, path::Path, process::Command};

use serde_json::Value;
use support::{Ended, Home};

/// Runs a line as a terminal would.
#[track_caller]
fn paste(home: &Home, line: &str) -> Ended {
    let mut shell = Command::new("sh");
    home.settle(&mut shell);
    let program = Path::new(env!("CARGO_BIN_EXE_redrive")).parent().unwrap();
    let others = env::var_os("PATH").unwrap_or_default();
    let found_in = [program.to_owned()]
        .into_iter()
        .chain(env::split_paths(&others));
    shell.env("PATH", env::join_paths(found_in).unwrap());
    support::finish(shell.args(["-c", line]), None)
}

/// The commands below the recommendation that says this, as they were printed for people.
#[track_caller]
fn printed(home: &Home, says: &str) -> Vec<String> {
    let text = home.run(["diagnose"]).exits(0).stdout;
    let part = text
        .split("\n\n")
        .find(|part| part.starts_with('→') && part.contains(says));
    let part = part.unwrap_or_else(|| panic!("nothing says {says:?}:\n{text}"));
    let commands = part.lines().filter_map(|line| line.strip_prefix("  $ "));
    commands.map(str::to_owned).collect()
}

/// The documents that were executed so far, once for each time.
fn executed(home: &Home) -> Vec<String> {
    let text = fs::read_to_string(home.work().join("executed")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Those that were executed after the first so many.
fn executed_since(home: &Home, before: usize) -> Vec<String> {
    let mut later = executed(home).split_off(before);
    later.sort_unstable();
    later
}

fn status(home: &Home) -> Value {
    home.run(["status", "-o", "json"]).exits(0).json()
}

/// The outputs of the batch, in the order of its documents.
fn outputs(home: &Home) -> Vec<Value> {
    let rows = home.run(["results", "-o", "jsonl"]).exits(0).lines();
    rows.into_iter().map(|row| row["output"].clone()).collect()
}

#[test]
fn what_ran_out_of_memory_completes_with_the_memory_that_is_recommended() {
    let home = Home::new();
    // A large one stays until it was seen: it ends where `enough` is, which is only there once it may have what it takes.
    home.script(
        "handler.py",
        "#!/usr/bin/env python3
import os, time
name = os.environ['REDRIVE_DOCUMENT_ID']
with open('executed', 'a') as executed:
    executed.write(name + '\\n')
large = name.startswith('large')
kept = b'x' * ((100 if large else 20) << 20)
while large and not os.path.exists('enough'):
    time.sleep(0.05)
time.sleep(0.3)
print('read', name)
",
    );
    home.file(
        "pipeline.toml",
        "[[tiers]]\n[[tiers.jobs]]\nhandler = \"exec\"\nmemory_bytes = 67108864\nmax_attempts = 1\n\
         backoff = { base = \"10ms\", max = \"10ms\" }\nparams = { command = [\"./handler.py\"] }\n",
    );
    let inputs = [
        "a", "large-1", "b", "c", "d", "large-2", "e", "f", "large-3", "g",
    ];
    let _keeper = home.keep();
    let run = ["run", "-f", "pipeline.toml"];
    home.run(run.iter().chain(&inputs)).exits(3);
    let failures = home.run(["failures", "-o", "json"]).exits(0).json();
    let failed: Vec<(&str, &str)> = failures
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["document"].as_str().unwrap(),
                row["kind"].as_str().unwrap(),
            )
        })
        .collect();
    let out_of_memory = ["large-1", "large-2", "large-3"].map(|name| (name, "out_of_memory"));
    assert_eq!(failed, out_of_memory, "{failures:#}");
    let before = executed(&home);
    for name in inputs.iter().filter(|name| !name.starts_with("large")) {
        let times = before.iter().filter(|ran| ran == name).count();
        assert_eq!(times, 1, "{name}: {before:?}");
    }

    let commands = printed(&home, "with 128.0 MiB each");
    home.file("enough", "");
    paste(&home, &commands[0])
        .exits(0)
        .says("Retrying 3 documents")
        .says("10 of 10 documents completed");
    assert_eq!(
        executed_since(&home, before.len()),
        ["large-1", "large-2", "large-3"],
        "only what had failed is executed again, once each"
    );
    assert_eq!(
        outputs(&home),
        inputs.map(|name| Value::from(format!("read {name}\n")))
    );
    let status = status(&home);
    let job = &status["tiers"][0]["jobs"][0];
    assert_eq!(job["submission"]["memory_bytes"], 128 << 20, "{job:#}");
    let peak = job["peak_memory"].as_u64().unwrap();
    assert!((100 << 20..128 << 20).contains(&peak), "{peak}");
    let after = home.run(["diagnose", "-o", "json"]).exits(0).json();
    assert_eq!(after["failure_category"], "none");
}

/// Waits for what does not come, or fails for good in two ways; all is well once a file says so.
const PICKY: &str = r#"#!/bin/sh
echo "$1" >> executed
case "$1" in
  slow-*) while [ ! -e came ]; do sleep 0.05; done ;;
  title-*) [ -e mended ] || { echo "row ${1#title-} has no title" >&2; exit 65; } ;;
  date-*) [ -e mended ] || { echo "row ${1#date-} has no date" >&2; exit 65; } ;;
esac
echo "read $1"
"#;

#[test]
fn a_plan_that_is_pasted_does_what_was_read_and_only_once() {
    let home = Home::new();
    home.script("picky.sh", PICKY);
    home.file(
        "pipeline.toml",
        "[[tiers]]\n[[tiers.jobs]]\nhandler = \"exec\"\ntimeout = \"3s\"\nmax_attempts = 1\n\
         params = { command = \"./picky.sh {id}\" }\n",
    );
    let inputs = ["a", "title-1", "slow-1", "date-1", "title-22", "b"];
    let _keeper = home.keep();
    let run = ["run", "-f", "pipeline.toml"];
    home.run(run.iter().chain(&inputs)).exits(3);
    let mut before = executed(&home).len();
    assert_eq!(before, inputs.len());

    // Those that fail for good, by fingerprint: two of them alike, the third another time.
    home.file("mended", "");
    let titles = printed(&home, "has no title");
    assert!(
        titles[0].contains("--fingerprint") && titles[1].contains("--plan"),
        "{titles:?}"
    );
    paste(&home, &titles[1])
        .exits(3)
        .says("Retrying 2 documents");
    assert_eq!(executed_since(&home, before), ["title-1", "title-22"]);
    paste(&home, &titles[1]).exits(5).says("no longer holds");
    assert_eq!(executed(&home).len(), before + 2, "nothing is done twice");

    // What took too long gets the time that the plan carries.
    before += 2;
    home.file("came", "");
    let slow = printed(&home, "with a timeout of 6s");
    assert!(slow[0].ends_with("--set timeout=6s"), "{slow:?}");
    paste(&home, &slow[1])
        .exits(3)
        .says("Retrying 1 document")
        .says("5 of 6 documents completed");
    assert_eq!(executed_since(&home, before), ["slow-1"]);
    let diagnosis = home.run(["diagnose", "-o", "json"]).exits(0).json();
    let resources = &diagnosis["per_tier"][0]["tasks"][0]["resources"];
    assert_eq!(resources["timeout_ms"], 6_000);

    before += 1;
    let dates = printed(&home, "has no date");
    paste(&home, &dates[1])
        .exits(0)
        .says("6 of 6 documents completed");
    assert_eq!(executed_since(&home, before), ["date-1"]);
    assert_eq!(
        outputs(&home),
        inputs.map(|name| Value::from(format!("read {name}\n")))
    );
}
