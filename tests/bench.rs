//! `redrive bench`: what it counts and how it tells it, on little; never how fast it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use redrive_nats_server::testing::TestServer;
use serde_json::{Value, json};
use support::{Home, SOON, until};

const LITTLE: [&str; 15] = [
    "bench",
    "--documents",
    "2000",
    "--batches",
    "3",
    "--tiers",
    "2",
    "--jobs",
    "2",
    "--failing",
    "1%",
    "--latency-samples",
    "3",
    "--reads",
    "50",
];

fn median(report: &Value, figure: &str) -> f64 {
    let median = &report["figures"][figure]["median"];
    median
        .as_f64()
        .unwrap_or_else(|| panic!("no {figure} in {report:#}"))
}

#[test]
fn it_measures_all_it_names_and_compares_itself() {
    let home = Home::new();
    let args = LITTLE.into_iter().chain(["--runs", "2", "-o", "json"]);
    let ended = home.run(args).exits(0).says("run 2 of 2");
    home.quiet();
    let report = ended.json();
    assert_eq!(
        report["counts"],
        json!({ "documents": 2_000, "units": 8_000, "failed": 18, "latency_samples": 3 })
    );
    assert_eq!(report["runs"], 2);
    assert_eq!(report["options"]["failing"], "1%");
    let figures = report["figures"].as_object().unwrap();
    assert_eq!(figures.len(), 29, "{figures:#?}");
    for (name, figure) in figures {
        let [low, median, high] = ["lowest", "median", "highest"].map(|it| figure[it].as_f64());
        assert!(
            low.is_some() && low <= median && median <= high,
            "{name}: {figure}"
        );
    }
    for name in [
        "raw_publish_per_s",
        "documents_per_s",
        "replay_transitions_per_s",
        "store_bytes",
    ] {
        assert!(median(&report, name) > 0.0, "{name}");
    }
    // Failing documents are retried after the rest is over.
    assert!(median(&report, "over_s") < median(&report, "retried_s"));

    let before = home.file("before.json", &ended.stdout);
    let args = LITTLE.into_iter().chain(["-o", "json", "--compare"]);
    let compared = home.run(args.chain([before.to_str().unwrap()])).exits(0);
    assert!(
        !compared.stderr.contains("something else"),
        "{}",
        compared.stderr
    );
    let change = &compared.json()["compared"]["raw_read_per_s"];
    assert_eq!(
        change["before"].as_f64(),
        Some(median(&report, "raw_read_per_s"))
    );
    assert!(
        change["change"].as_f64().is_some_and(|it| it > -100.0),
        "{change}"
    );
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    let home = Home::new();
    let mut bench = home.start("bench", ["bench"]);
    until("the roles run", SOON, || {
        let roles = home.processes();
        let role = |name: &str| roles.iter().any(|(_, line)| line.contains(name));
        (role("--role coordinator") && role("--role projector")).then_some(())
    });
    bench.interrupt();
    bench.end().exits(130);
    home.quiet();
    let left = std::fs::read_dir(home.root()).unwrap().flatten();
    let left: Vec<_> = left
        .map(|it| it.file_name().to_string_lossy().into_owned())
        .filter(|it| it.starts_with("redrive-bench"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_killed_one_takes_its_processes_along() {
    let home = Home::new();
    let mut bench = home.start("bench", ["bench"]);
    until("the roles run", SOON, || {
        let roles = home.processes();
        let role = |name: &str| roles.iter().any(|(_, line)| line.contains(name));
        (role("--role coordinator") && role("--role projector")).then_some(())
    });
    bench.kill();
    home.quiet();
}

#[test]
fn a_broker_in_use_and_batches_without_documents_are_refused() {
    let server = TestServer::start().unwrap();
    let home = Home::new();
    let url = server.client_url();
    let little = [
        "bench",
        "--documents",
        "10",
        "--latency-samples",
        "0",
        "--nats-url",
        &url,
    ];
    home.run(little).exits(0);
    home.run(little).exits(5).says("is not empty");
    home.run(["bench", "--documents", "3", "--batches", "4"])
        .exits(2)
        .says("there are only 3 documents");
    home.run(["bench", "--failing", "2"])
        .exits(2)
        .says("from 0% to 100%");
    let other = home.file("other.json", "{}");
    home.run(["bench", "--compare", other.to_str().unwrap()])
        .exits(2)
        .says("no report of `bench -o json`");
}
