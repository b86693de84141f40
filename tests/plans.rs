//! Retries that are planned first, jobs that are paused, and the past: on the command line, with everything real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;

use serde_json::Value;
use support::{Ended, Home, count_lines};

/// Fails where a file says so, and notes that it ran.
const PICKY: &str = r#"#!/bin/sh
echo x >> "ran-$1"
if [ -e "bad-$1" ]; then echo "bad $1" >&2; exit 65; fi
"#;

/// A batch of six documents of which three failed for good.
fn three_failed() -> Home {
    let home = Home::new();
    home.script("picky.sh", PICKY);
    for n in 1..=3 {
        home.file(&format!("bad-{n}"), "");
    }
    home.run([
        "run",
        "--exec",
        "./picky.sh {}",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
    ])
    .exits(3);
    home
}

fn plan(home: &Home, args: &[&str]) -> String {
    let args = [&["retry", "--dry-run", "-o", "json"], args].concat();
    let answer = home.run(args).exits(0).json();
    answer["plan"].as_str().unwrap().to_owned()
}

fn failed(home: &Home, args: &[&str]) -> Vec<String> {
    let args = [&["failures", "-o", "json"], args].concat();
    let rows = home.run(args).exits(0).json();
    let rows = rows.as_array().unwrap().iter();
    let mut ids: Vec<String> = rows
        .map(|row| row["document"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

#[test]
fn a_plan_does_what_was_previewed_or_nothing() {
    let home = three_failed();
    let _keeper = home.keep();
    let ran = |n: u32| count_lines(&home.work().join(format!("ran-{n}")));
    let shown = home.run(["retry", "--dry-run", "--mode", "all"]).exits(0);
    let shown = shown.says("Would retry 3 documents (3 invalid_data)");
    let stale = plan(&home, &["--mode", "all"]);
    shown.says(&format!("--plan {stale}"));
    assert_eq!(ran(1), 1, "a preview executes nothing");

    // One of them is mended; a retry of it alone makes the plan another one.
    fs::remove_file(home.work().join("bad-1")).unwrap();
    home.run(["retry", "--kind", "invalid_data", "--max-retries", "1"])
        .exits(3)
        .says("Retrying 3 documents");
    home.run(["retry", "--plan", &stale])
        .exits(5)
        .says("no longer holds")
        .says("no longer failed: 1\n")
        .says("--dry-run --mode all --max-retry-count 3");
    assert_eq!((ran(1), ran(2)), (2, 2), "a stale plan executes nothing");

    let fresh = plan(&home, &["--mode", "all"]);
    fs::remove_file(home.work().join("bad-2")).unwrap();
    home.run(["retry", "--plan", &fresh])
        .exits(3)
        .says("Retrying 2 documents")
        .says("5 of 6 documents completed, 1 failed, 2 retries");
    assert_eq!([1, 2, 3, 4].map(ran), [2, 3, 3, 1]);

    // Nonsense, and a plan that is given something beside it.
    home.run(["retry", "--plan", "plan-nonsense"]).exits(2);
    home.run(["retry", "--plan", &fresh, "--tier", "0"])
        .exits(2);
}

#[test]
fn the_past_is_told_as_it_was() {
    let home = three_failed();
    let _keeper = home.keep();
    let status = |args: &[&str]| -> Value {
        let args = [&["status", "-o", "json"], args].concat();
        home.run(args).exits(0).json()
    };
    let before = status(&[]);
    let seq = before["last_seq"].to_string();
    fs::remove_file(home.work().join("bad-2")).unwrap();
    home.run(["retry", "--mode", "all"]).exits(3);
    assert_eq!(failed(&home, &[]), ["1", "3"]);
    assert_eq!(failed(&home, &["--at", &seq]), ["1", "2", "3"]);

    let mut then = status(&["--at", &seq]);
    then["as_of"] = before["as_of"].clone();
    assert_eq!(then, before);
    let ended = before["ended_at"].as_str().unwrap();
    let mut then = status(&["--at", ended]);
    then["as_of"] = before["as_of"].clone();
    assert_eq!(then, before);

    assert_eq!(status(&["--at", "1"])["documents"], 0);
    home.run(["status", "--at", "2020-01-01T00:00:00Z"])
        .exits(4)
        .says("it was made later");
    home.run(["status", "--at", "100000"])
        .exits(2)
        .says("the log ends at");
    home.run(["status", "--at", "yesterday"]).exits(2);
}

#[test]
fn a_handler_that_is_misconfigured_holds_its_batch_up_until_it_is_put_right() {
    let home = Home::new();
    let _keeper = home.keep();
    let inputs: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let run = ["run", "-j", "2", "--exec", "./later.sh {}"].map(str::to_owned);
    let paused = |ended: Ended| {
        ended
            .exits(8)
            .says("Paused: exec in tier 0")
            .says("cannot run \"./later.sh\"")
            .says("retry")
            .says("--kind misconfigured")
    };
    paused(home.run(run.iter().chain(&inputs)));
    let status = home.run(["status", "-o", "json"]).exits(0).json();
    assert_eq!(status["status"], "running");
    let open = status["counts"]["open"].as_u64().unwrap();
    assert!(open >= 490, "{open} of 500 are still to be done");
    // Whoever goes on too early learns it again, and little is lost.
    paused(home.run(["resume"]));
    home.script("later.sh", "#!/bin/sh\ntrue\n");
    home.run(["retry", "--kind", "misconfigured"])
        .exits(0)
        .says("500 of 500 documents completed");
}

#[test]
fn a_batch_is_paused_and_resumed_by_hand() {
    let home = Home::new();
    home.script(
        "slow.sh",
        "#!/bin/sh\necho x >> ran\nwhile [ ! -e go ]; do sleep 0.05; done\n",
    );
    let mut run = home.start(
        "run",
        [
            "run",
            "-j",
            "1",
            "--exec",
            "./slow.sh {}",
            "1",
            "2",
            "3",
            "4",
            "5",
            "6",
            "7",
            "8",
        ],
    );
    support::until("the first one runs", support::SOON, || {
        (count_lines(&home.work().join("ran")) == 1).then_some(())
    });
    home.run(["pause", "--job", "nothing"])
        .exits(2)
        .says("the batch has no such job");
    home.run(["pause", "--reason", "the disk is full"])
        .exits(0)
        .says("Paused: exec in tier 0");
    home.run(["pause"]).exits(0).says("It is paused already.");
    let status = home.run(["status"]).exits(0);
    assert!(
        status.stdout.contains("the disk is full"),
        "{}",
        status.stdout
    );
    home.file("go", "");
    run.end().exits(8).says("the disk is full");
    let ran = count_lines(&home.work().join("ran"));
    assert!(ran < 8, "{ran}");
    home.run(["resume"])
        .exits(0)
        .says("8 of 8 documents completed");
    assert_eq!(count_lines(&home.work().join("ran")), 8);
}
