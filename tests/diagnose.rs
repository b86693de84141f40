//! Diagnoses of batches that really failed, and what becomes of them when what is recommended is pasted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;

use serde_json::Value;
use support::{Ended, Home};

/// Fails for each sort of input in its own way.
const PICKY: &str = r#"#!/bin/sh
if [ -e mended ]; then exit 0; fi
case "$1" in
  title-*) echo "row ${1#title-} has no title" >&2; exit 65 ;;
  date-*) echo "row ${1#date-}: '$1' is no date" >&2; exit 65 ;;
  crash-*) kill -SEGV $$ ;;
esac
"#;

fn picky() -> Home {
    let home = Home::new();
    home.script("picky.sh", PICKY);
    let inputs = ["a", "b", "title-1", "title-22", "date-3", "crash-1"];
    home.run(["run", "--exec", "./picky.sh {}"].iter().chain(&inputs))
        .exits(3);
    home
}

fn diagnosis(home: &Home, args: &[&str]) -> Value {
    let args = [&["diagnose", "-o", "json"], args].concat();
    home.run(args).exits(0).json()
}

/// What is recommended for a cause.
#[track_caller]
fn recommended(diagnosis: &Value, cause: &str) -> Value {
    let all = diagnosis["recommendations"].as_array().unwrap();
    let found = all.iter().find(|one| one["cause"] == cause);
    found.unwrap_or_else(|| panic!("{diagnosis:#}")).clone()
}

/// Runs a command as it was printed.
#[track_caller]
fn paste(home: &Home, line: &str) -> Ended {
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[0], "redrive", "{line}");
    home.run(&words[1..])
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn what_failed_is_grouped_explained_and_retried_as_it_was_printed() {
    let home = picky();
    let _keeper = home.keep();
    let found = diagnosis(&home, &[]);
    assert_eq!(found["status"], "completed_with_failures");
    assert_eq!(found["failure_category"], "pipeline");
    assert_eq!(found["failed_document_count"], 4);

    // Rows 1 and 22 lack their titles alike.
    let groups = found["failure_groups"].as_array().unwrap();
    let sizes: Vec<u64> = groups
        .iter()
        .map(|g| g["units"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [2, 1, 1], "{found:#}");
    let titles = &groups[0];
    assert_eq!(
        (text(&titles["kind"]), text(&titles["job"])),
        ("invalid_data", "exec")
    );
    let fingerprint = text(&titles["fingerprint"]);
    let listed = home
        .run(["failures", "-o", "json", "--fingerprint", fingerprint])
        .exits(0)
        .json();
    let mut ids: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|row| text(&row["document"]))
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["title-1", "title-22"]);

    let sample = found["failed_documents_sample"].as_array().unwrap();
    assert_eq!(sample.len(), 4);
    assert!(
        sample
            .iter()
            .all(|row| row["kind"].is_string() && row["message"].is_string())
    );
    let events = found["infrastructure_events"].as_array().unwrap();
    assert!(events.iter().all(|event| event["type"] == "crashed"));
    assert_eq!(found["infrastructure_attempts"]["crashed"], 2);
    let tier = &found["per_tier"][0];
    let stages: Vec<&str> = tier["stage_history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| text(&stage["name"]))
        .collect();
    assert_eq!(stages, ["loading", "processing", "writing"]);
    assert_eq!(
        tier["tasks"][0]["submission_params"]["extractor_name"],
        "exec"
    );

    // What people see has the same commands.
    let shown = home.run(["diagnose"]).exits(0);
    for one in found["recommendations"].as_array().unwrap() {
        assert!(
            shown.stdout.contains(text(&one["sentence"])),
            "{}",
            shown.stdout
        );
        assert!(
            shown.stdout.contains(text(&one["command"])),
            "{}",
            shown.stdout
        );
        assert!(
            shown.stdout.contains(text(&one["plan"])),
            "{}",
            shown.stdout
        );
    }

    // Mended, the documents without titles go first, as the command says; the rest by its plan.
    fs::write(home.work().join("mended"), "").unwrap();
    let data = recommended(&found, "permanent");
    assert_eq!(data["fingerprint"], fingerprint);
    paste(&home, text(&data["command"]))
        .exits(3)
        .says("Retrying 2 documents");
    let crash = recommended(&found, "crashed");
    let batch = text(&found["batch"]);
    paste(
        &home,
        &format!("redrive retry {batch} --plan {}", text(&crash["plan"])),
    )
    .exits(3)
    .says("Retrying 1 document");
    let left = recommended(&diagnosis(&home, &[]), "permanent");
    paste(&home, text(&left["command"]))
        .exits(0)
        .says("6 of 6 documents completed");

    let after = diagnosis(&home, &[]);
    assert_eq!(after["failure_category"], "none");
    assert_eq!(recommended(&after, "none")["command"], Value::Null);
    // The past is diagnosed as it was.
    let then = diagnosis(&home, &["--at", &found["last_seq"].to_string()]);
    assert_eq!(then["recommendations"], found["recommendations"]);
    assert_eq!(
        then["failed_documents_sample"],
        found["failed_documents_sample"]
    );
}

#[test]
fn a_handler_that_is_misconfigured_is_told_with_the_command_that_goes_on() {
    let home = Home::new();
    let _keeper = home.keep();
    let inputs: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let run = ["run", "-j", "2", "--exec", "./later.sh {}"].map(str::to_owned);
    home.run(run.iter().chain(&inputs)).exits(8);
    let found = diagnosis(&home, &[]);
    let one = recommended(&found, "misconfigured");
    assert!(text(&one["reason"]).contains("wait since"), "{one:#}");
    home.script("later.sh", "#!/bin/sh\ntrue\n");
    paste(&home, text(&one["command"]))
        .exits(0)
        .says("300 of 300 documents completed");
}

#[test]
fn what_took_too_long_gets_the_time_that_is_recommended() {
    let home = Home::new();
    let _keeper = home.keep();
    home.script(
        "slow.sh",
        "#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.05; done\n",
    );
    home.file(
        "slow.toml",
        "[[tiers]]\n[[tiers.jobs]]\nhandler = \"exec\"\ntimeout = \"300ms\"\nmax_attempts = 1\n\
         params = { command = \"./slow.sh {id}\" }\n",
    );
    home.run(["run", "-f", "slow.toml", "1", "2"]).exits(3);
    let found = diagnosis(&home, &[]);
    assert_eq!(found["failure_category"], "timeout");
    let one = recommended(&found, "timeout");
    assert!(
        text(&one["reason"]).contains("nothing has succeeded"),
        "{one:#}"
    );
    let command = text(&one["command"]);
    assert!(command.ends_with("--set timeout=1s"), "{command}");
    // What they waited for comes; they have the longer time from now on.
    fs::write(home.work().join("go"), "").unwrap();
    paste(&home, command)
        .exits(0)
        .says("2 of 2 documents completed");
    let after = diagnosis(&home, &[]);
    let resources = &after["per_tier"][0]["tasks"][0]["resources"];
    assert_eq!(resources["timeout_ms"], 1_000);
}

#[test]
fn what_is_not_there_is_not_diagnosed() {
    let home = Home::new();
    let _keeper = home.keep();
    home.run(["diagnose"]).exits(4);
    home.run(["diagnose", "first"]).exits(2);
    home.run(["retry", "--fingerprint", "nonsense"])
        .exits(2)
        .says("eight digits");
}
