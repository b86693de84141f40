//! Outages, too many failures, and retries that are tried on a sample first: on the command line, with everything real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use support::{Home, count_lines, until};

fn status(home: &Home) -> Value {
    home.run(["status", "last", "-o", "json"]).exits(0).json()
}

fn events(home: &Home, kind: &str) -> Vec<Value> {
    home.run(["events", "last", "--type", kind])
        .exits(0)
        .lines()
}

/// Runs the pipeline over so many documents.
fn run(count: u32) -> Vec<String> {
    let run = ["run", "-f", "outages.toml", "-j", "2"].map(str::to_owned);
    run.into_iter()
        .chain((0..count).map(|n| n.to_string()))
        .collect()
}

const PIPELINE: &str = r#"
name = "outages"
[[tiers]]
[[tiers.jobs]]
handler = "exec"
params = { command = "./ask.sh {}" }
max_attempts = 3
backoff = { base = "200ms", max = "200ms" }
breaker = { window = "30s", min_attempts = 20, failure_rate = "90%", pause = "1s" }
"#;

#[test]
fn an_outage_opens_the_breaker_and_it_closes_when_the_other_side_is_back() {
    let home = Home::new();
    let _keeper = home.keep();
    home.script(
        "ask.sh",
        "#!/bin/sh\necho \"$1\" >> asked\n[ -e back ] || { echo 'nobody there' >&2; exit 75; }\n",
    );
    home.file("outages.toml", PIPELINE);
    let mut run = home.start("run", run(2_000));
    // It says why it waits, and goes on waiting.
    let paused = until("a probe has failed", support::COMMAND, || {
        let view = home.run(["status", "last", "-o", "json"]);
        let view: Value = serde_json::from_str(&view.stdout).ok()?;
        let paused = view["tiers"][0]["jobs"][0]["paused"].clone();
        (paused["reason"]["breaker"]["probes"].as_u64()? > 0).then_some(paused)
    });
    let outage = &paused["reason"]["breaker"];
    assert_eq!(
        (&outage["kind"], &outage["message"]),
        (&"unavailable".into(), &"nobody there".into())
    );
    let shown = home.run(["status", "last"]).exits(0).stdout;
    assert!(
        shown.contains("outage: ") && shown.contains("nobody there"),
        "{shown}"
    );
    assert!(run.is_running(), "{}", run.log());
    home.file("back", "");
    run.end().exits(0).says("2000 of 2000 documents completed");
    let asked = count_lines(&home.work().join("asked"));
    // However fast they are, only what was out when the breaker opened failed in vain.
    assert!(
        asked < 2_000 + 1_000,
        "{asked} attempts, of 6,000 that there could have been"
    );
    assert_eq!(events(&home, "dispatch.resumed").len(), 1);
    assert!(events(&home, "documents.failed").is_empty());
    home.run(["replay", "last", "--verify"]).exits(0);
}

#[test]
fn a_batch_of_which_too_much_fails_is_given_up_and_can_go_on() {
    let home = Home::new();
    let _keeper = home.keep();
    home.script(
        "ask.sh",
        "#!/bin/sh\necho \"$1\" >> asked\n[ -e mended ] || exit 65\n",
    );
    let pipeline = PIPELINE.replace("name = ", "max_failed = \"5%\"\nname = ");
    home.file("outages.toml", &pipeline);
    home.run(run(200))
        .exits(3)
        .says("given up: ")
        .says("more than max_failed = 5% allows")
        .says("resume last");
    let view = status(&home);
    assert_eq!(view["status"], "failed");
    let (failed, open) = (&view["counts"]["failed"], &view["counts"]["open"]);
    assert!(failed.as_u64().unwrap() > 10, "{view}");
    assert!(open.as_u64().unwrap() > 100, "{view}");
    assert_eq!(events(&home, "batch.aborted").len(), 1);
    // Those that failed are new failures when they are retried, and all the others are still to be done.
    home.file("mended", "");
    home.run(["retry", "last", "--mode", "all"])
        .exits(0)
        .says("200 of 200 documents completed");
    assert_eq!(status(&home)["aborted"], Value::Null);
    home.run(["replay", "last", "--verify"]).exits(0);
}

#[test]
fn a_batch_that_was_given_up_is_resumed_without_what_failed() {
    let home = Home::new();
    let _keeper = home.keep();
    home.script("ask.sh", "#!/bin/sh\n[ -e mended ] || exit 65\n");
    let pipeline = PIPELINE.replace("name = ", "max_failed = 3\nname = ");
    home.file("outages.toml", &pipeline);
    home.run(run(100)).exits(3).says("given up: ");
    let failed = status(&home)["counts"]["failed"].as_u64().unwrap();
    home.file("mended", "");
    let left = 100 - failed;
    home.run(["resume", "last"]).exits(3).says(&format!(
        "{left} of 100 documents completed, {failed} failed"
    ));
}

#[test]
fn the_rest_of_a_retry_follows_its_sample_only_if_that_succeeds() {
    let home = Home::new();
    let _keeper = home.keep();
    home.script(
        "ask.sh",
        "#!/bin/sh\necho \"$1\" >> asked\n[ -e mended ] || exit 65\n",
    );
    home.file("outages.toml", PIPELINE);
    home.run(run(100)).exits(3);
    let retry = ["retry", "last", "--mode", "all", "--canary", "10%"];
    let asked = || count_lines(&home.work().join("asked"));
    assert_eq!(asked(), 100);
    home.run(retry)
        .exits(3)
        .says("first a sample: 10 documents with 10 failures; the rest follows if 90% of these succeed")
        .says("0 of 10 succeeded, less than 90%: the rest was left as it is");
    assert_eq!(asked(), 110, "the rest was not touched");
    let judged = events(&home, "retry.canary_judged");
    assert_eq!(judged.len(), 1);

    home.file("mended", "");
    let plan = home
        .run(retry.iter().chain(&["--dry-run", "-o", "json"]))
        .exits(0)
        .json();
    assert_eq!(plan["retry"]["canary"]["documents"], 10);
    let plan = plan["plan"].as_str().unwrap().to_owned();
    home.run(["retry", "last", "--plan", &plan])
        .exits(0)
        .says("100 of 100 documents completed");
    assert_eq!(asked(), 210);
    let shown = home.run(["status", "last"]).exits(0).stdout;
    assert!(
        shown.contains("10 of 10 succeeded, so the rest followed"),
        "{shown}"
    );
    home.run(["replay", "last", "--verify"]).exits(0);
}
