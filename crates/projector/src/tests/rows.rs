use std::collections::BTreeMap;

use redrive_broker::Broker;
use redrive_domain::{
    command::{Excluded, RetryMode},
    document::Output,
    event::{Event, Selected},
    failure::FailureKind,
    query::{DocumentRow, FailureRow, Page, ResultRow},
    units::UnitSet,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::log::{attempt, completed, failed, key, memory, of, ok, start};
use crate::Config;

/// All pages, one after the other.
pub(super) async fn pages<T: DeserializeOwned, B: Broker>(
    broker: &B,
    query: &str,
    mut ask: Value,
    limit: usize,
) -> Vec<T> {
    let mut all = Vec::new();
    ask["limit"] = json!(limit);
    loop {
        let page: Page<T> = ok(broker, "a", query, ask.clone()).await;
        assert!(page.items.len() <= limit);
        assert!(page.next.is_none() || !page.items.is_empty());
        all.extend(page.items);
        match page.next {
            Some(next) => ask["after"] = json!(next),
            None => return all,
        }
    }
}

#[tokio::test]
async fn failures_are_listed_each_once_with_their_reasons() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let batch = key("a", 1);
    log.batch(&batch, &[&["one", "two"], &["three"]], 2_500)
        .await;
    let every = |step: usize| -> UnitSet { (0..2_500).step_by(step).collect() };
    let (lost, bad) = (FailureKind::NETWORK, FailureKind::INVALID_DATA);
    let odd = every(5).minus(&every(10));
    let events = vec![
        failed(0, "one", &lost, &[(every(10), "connection reset")]),
        failed(
            0,
            "two",
            &bad,
            &[(every(20), "no title"), (odd.clone(), "no date")],
        ),
        // What fails a second time after a retry shows the second reason.
        Event::RetryScheduled {
            mode: RetryMode::All,
            tier_nums: vec![],
            max_retry_count: 3,
            max_retries: None,
            selected: vec![Selected {
                tier: 0,
                job: "one".parse().unwrap(),
                units: [0, 10, 20].into(),
            }],
            excluded: Excluded::default(),
            last: true,
            kinds: Vec::new(),
            fingerprints: Vec::new(),
            plan_seq: None,
            not_before: None,
            canary: None,
            jobs: Vec::new(),
        },
        failed(
            0,
            "one",
            &FailureKind::TIMEOUT,
            &[([0, 10].into(), "too slow")],
        ),
        completed(0, "one", [20].into(), &[]),
        completed(0, "one", UnitSet::run(0, 2_500).minus(&every(10)), &[]),
        completed(0, "two", UnitSet::run(0, 2_500).minus(&every(5)), &[]),
        failed(1, "three", &bad, &[([1, 2].into(), "no")]),
    ];
    log.all(of(&batch, events)).await;

    let whole: Vec<FailureRow> =
        pages(&log.broker, "failures", json!({"batch": "last"}), 1_000).await;
    for limit in [1_000, 97, 13] {
        let rows: Vec<FailureRow> =
            pages(&log.broker, "failures", json!({"batch": "last"}), limit).await;
        assert_eq!(rows, whole, "in pages of {limit}");
    }
    assert!(whole.is_sorted_by_key(|row| (row.tier, row.job.clone(), row.ordinal)));
    let mut counts: BTreeMap<(u16, &str, &str), usize> = BTreeMap::new();
    for row in &whole {
        assert_eq!(row.document, format!("doc-{}", row.ordinal));
        assert_eq!(row.uri.is_some(), row.ordinal % 2 == 1);
        assert_eq!(row.worker.as_ref().unwrap().as_str(), "w1");
        let retried = [0, 10, 20].contains(&row.ordinal);
        assert_eq!(row.retry_count, u32::from(retried), "{row:?}");
        let twice = row.job.as_str() == "one" && retried;
        assert_eq!(row.attempts, 1 + u32::from(twice), "{row:?}");
        *counts
            .entry((row.tier, row.job.as_str(), &row.failure.message))
            .or_default() += 1;
    }
    let expected = BTreeMap::from([
        ((0, "one", "connection reset"), 247),
        ((0, "one", "too slow"), 2),
        ((0, "two", "no date"), 250),
        ((0, "two", "no title"), 125),
        ((1, "three", "no"), 2),
    ]);
    assert_eq!(counts, expected);

    for (ask, count) in [
        (json!({"tier": 1}), 2),
        (json!({"class": "transient"}), 249),
        (json!({"kind": "timeout"}), 2),
        (json!({"kind": "timeout", "tier": 1}), 0),
        (json!({"class": "permanent", "tier": 0}), 375),
    ] {
        let mut ask = ask;
        ask["batch"] = json!("last");
        let rows: Vec<FailureRow> = pages(&log.broker, "failures", ask.clone(), 50).await;
        assert_eq!(rows.len(), count, "{ask}");
    }
    projector.stop().await;
}

#[tokio::test]
async fn results_show_each_output_as_what_it_is() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let batch = key("a", 1);
    log.batch(&batch, &[&["one"]], 8).await;
    let binary = Output {
        media_type: "application/octet-stream".into(),
        body: vec![0, 255, 16],
    };
    let broken = Output {
        media_type: "application/json".into(),
        body: b"{broken".to_vec(),
    };
    let huge = Output::text("\u{1}".repeat(300_000));
    let outputs = [
        (0, Output::text("plain")),
        (1, Output::json(&json!({"a": [1]}))),
        (2, binary),
        (3, broken),
        (4, huge),
    ];
    let events = vec![
        completed(0, "one", UnitSet::run(0, 6), &outputs),
        Event::DocumentsCompleted {
            attempt: attempt(0, "one"),
            units: UnitSet::new(),
            skipped: [6].into(),
            outputs: None,
            segments: None,
        },
        failed(0, "one", &FailureKind::NETWORK, &[([7].into(), "x")]),
    ];
    log.all(of(&batch, events)).await;
    let rows: Vec<ResultRow> = pages(&log.broker, "results", json!({"batch": "last"}), 3).await;
    type Shown<'a> = (u32, Option<Value>, Option<&'a str>, bool, bool);
    let shown: Vec<Shown<'_>> = rows
        .iter()
        .map(|row| {
            let (hex, typed) = (row.hex.as_deref(), row.media_type.is_some());
            (row.ordinal, row.output.clone(), hex, typed, row.skipped)
        })
        .collect();
    let expected = vec![
        (0, Some(json!("plain")), None, true, false),
        (1, Some(json!({"a": [1]})), None, true, false),
        (2, None, Some("00ff10"), true, false),
        (3, Some(json!("{broken")), None, true, false),
        (4, None, None, true, false),
        (5, None, None, false, false),
        (6, None, None, false, true),
    ];
    assert_eq!(shown, expected);
    projector.stop().await;
}

#[tokio::test]
async fn a_page_of_large_results_ends_early_and_loses_nothing() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let batch = key("a", 1);
    log.batch(&batch, &[&["zero"], &["one", "two"]], 300).await;
    let mut events = vec![completed(0, "zero", UnitSet::run(0, 300), &[])];
    for job in ["one", "two"] {
        for first in (0..300).step_by(10) {
            let text = |unit| {
                (
                    unit,
                    Output::text(format!("{job} {unit} {}", "x".repeat(30_000))),
                )
            };
            let outputs: Vec<_> = (first..first + 10).map(text).collect();
            events.push(completed(1, job, UnitSet::run(first, 10), &outputs));
        }
    }
    log.all(of(&batch, events)).await;
    let rows: Vec<ResultRow> = pages(&log.broker, "results", json!({"batch": "last"}), 1_000).await;
    assert_eq!(rows.len(), 600);
    for (row, place) in rows.iter().zip(0u32..) {
        let (job, unit) = (["one", "two"][place as usize / 300], place % 300);
        assert_eq!((row.tier, row.job.as_str(), row.ordinal), (1, job, unit));
        let text = row.output.as_ref().unwrap().as_str().unwrap();
        assert!(text.starts_with(&format!("{job} {unit} ")));
    }
    let ask = json!({"batch": "last", "tier": 0});
    let of_tier_0: Vec<ResultRow> = pages(&log.broker, "results", ask, 70).await;
    assert_eq!(of_tier_0.len(), 300);
    let ask = json!({"batch": "last", "job": "two"});
    let of_job: Vec<ResultRow> = pages(&log.broker, "results", ask, 1_000).await;
    assert!(of_job.len() == 300 && of_job.iter().all(|row| row.job.as_str() == "two"));
    projector.stop().await;
}

#[tokio::test]
async fn documents_are_found_by_their_ordinals() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    log.batch(&key("a", 1), &[&["one"]], 3_500).await;
    let ask = json!({"batch": "last", "units": [[7, 7], [998, 1001], [3499, 9999]]});
    let page: Page<DocumentRow> = ok(&log.broker, "a", "documents", ask).await;
    let rows: Vec<(u32, &str)> = page
        .items
        .iter()
        .map(|row| (row.ordinal, row.id.as_str()))
        .collect();
    let expected = [
        (7, "doc-7"),
        (998, "doc-998"),
        (999, "doc-999"),
        (1000, "doc-1000"),
        (1001, "doc-1001"),
        (3499, "doc-3499"),
    ];
    assert_eq!(rows, expected);
    assert_eq!(page.next, None);
    let ask = json!({"batch": "last", "units": [[5, 3000]], "limit": 10});
    let page: Page<DocumentRow> = ok(&log.broker, "a", "documents", ask).await;
    assert_eq!((page.items.len(), page.next.as_deref()), (10, Some("14")));
    let ask = json!({"batch": "last", "units": [[5, 3000]], "limit": 10, "after": page.next});
    let page: Page<DocumentRow> = ok(&log.broker, "a", "documents", ask).await;
    assert_eq!(page.items[0].ordinal, 15);
    projector.stop().await;
}
