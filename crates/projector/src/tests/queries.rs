use std::{collections::BTreeSet, time::Instant};

use redrive_domain::{
    command::Refusal,
    failure::FailureKind,
    query::{BatchSummary, BatchView, Page},
    status::BatchStatus,
    units::UnitSet,
};
use serde_json::{Value, json};

use super::log::{
    added, completed, created, failed, key, memory, of, ok, refused, start, state_bytes,
};
use crate::Config;

#[tokio::test]
async fn a_read_after_a_write_sees_it() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let batch = key("a", 1);
    log.batch(&batch, &[&["one"]], 500).await;
    for unit in 0..200 {
        log.put(&batch, completed(0, "one", [unit].into(), &[]))
            .await;
        let view: BatchView = ok(&log.broker, "a", "status", json!({"batch": "last"})).await;
        assert_eq!((view.last_seq, view.as_of), (log.last, log.last));
        assert_eq!(view.tiers[0].completed, u64::from(unit) + 1);
    }
    projector.stop().await;
}

#[tokio::test]
async fn a_query_waits_for_the_sequence_it_names_but_not_for_ever() {
    let mut log = memory().await;
    let config = Config {
        wait: std::time::Duration::from_millis(50),
        ..Config::default()
    };
    let projector = start(&log.broker, config).await;
    log.batch(&key("a", 1), &[&["one"]], 1).await;
    let _: BatchView = ok(&log.broker, "a", "status", json!({"batch": "last"})).await;
    let refusal = refused(
        &log.broker,
        "a",
        "status",
        json!({"batch": "last", "min_seq": 150}),
    )
    .await;
    let said = "the projector has read the log up to 3 of 150: ask again";
    let message = said.to_owned();
    assert_eq!(refusal, Refusal::Unavailable { message });
    let _: BatchView = ok(
        &log.broker,
        "a",
        "status",
        json!({"batch": "last", "min_seq": 0}),
    )
    .await;
    projector.stop().await;
}

#[tokio::test]
async fn batches_are_listed_newest_first_each_once_from_memory_and_store_alike() {
    let mut log = memory().await;
    let config = Config {
        memory_batches: 5,
        checkpoint_every: std::time::Duration::from_millis(5),
        ..Config::default()
    };
    let projector = start(&log.broker, config).await;
    for n in 1..=120u128 {
        // Ids are in another order than the batches.
        let batch = key(
            "a",
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15_9e37_79b9_7f4a_7c15),
        );
        log.batch(&batch, &[&["one"]], 2).await;
        if n % 3 == 0 {
            log.put(&batch, completed(0, "one", [0].into(), &[])).await;
            log.put(
                &batch,
                failed(0, "one", &FailureKind::NETWORK, &[([1].into(), "x")]),
            )
            .await;
        }
        log.batch(&key("b", n), &[&["one"]], 1).await;
    }
    let mut seen: Vec<BatchSummary> = Vec::new();
    let mut after: Option<String> = None;
    let mut pages = 0;
    loop {
        let ask = json!({"limit": 7, "after": after});
        let page: Page<BatchSummary> = ok(&log.broker, "a", "batches", ask).await;
        assert!(page.items.len() <= 7);
        seen.extend(page.items);
        pages += 1;
        // What comes meanwhile is newer than the pages to come, and moves nothing.
        log.batch(&key("a", 10_000 + pages), &[&["one"]], 1).await;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 120);
    assert!(seen.is_sorted_by(|a, b| a.created_at > b.created_at));
    let ids: BTreeSet<_> = seen.iter().map(|summary| summary.batch).collect();
    assert_eq!(ids.len(), 120);
    let failing = seen
        .iter()
        .filter(|summary| summary.counts.failed == 1)
        .count();
    assert_eq!(failing, 40);
    let none: Page<BatchSummary> =
        ok(&log.broker, "a", "batches", json!({"status": "failed"})).await;
    assert_eq!((none.items.len(), none.next), (0, None));
    let ask = json!({"bucket": "inbox", "status": "running", "limit": 1000});
    let running: Page<BatchSummary> = ok(&log.broker, "a", "batches", ask).await;
    assert_eq!(running.items.len() as u128, 120 + pages);
    projector.stop().await;
}

#[tokio::test]
async fn nothing_of_a_namespace_is_visible_from_another() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let batch = key("a", 1);
    log.batch(&batch, &[&["one"]], 3).await;
    // The same id in another namespace is another batch.
    log.batch(&key("c", 1), &[&["one"]], 5).await;
    for (query, more) in [
        ("status", json!({})),
        ("failures", json!({})),
        ("results", json!({})),
        ("documents", json!({"units": [[0, 2]]})),
        ("state", json!({})),
        ("diff", json!({"from": "0"})),
        ("timeline", json!({})),
    ] {
        let mut ask = more;
        ask["batch"] = json!(batch.batch);
        let refusal = refused(&log.broker, "b", query, ask.clone()).await;
        assert_eq!(refusal, Refusal::no_batch(&key("b", 1)), "{query}");
        let _: Value = ok(&log.broker, "a", query, ask.clone()).await;
        ask["batch"] = json!("last");
        let refusal = refused(&log.broker, "b", query, ask).await;
        let what = "batch in namespace b yet".to_owned();
        assert_eq!(refusal, Refusal::NotFound { what }, "{query}");
    }
    let page: Page<BatchSummary> = ok(&log.broker, "b", "batches", json!({})).await;
    assert!(page.items.is_empty());
    let view: BatchView = ok(&log.broker, "c", "status", json!({"batch": batch.batch})).await;
    assert_eq!(view.summary.documents, 5);
    projector.stop().await;
}

#[tokio::test]
async fn a_wrong_question_is_refused_with_the_field_named() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    log.batch(&key("a", 1), &[&["one"]], 3).await;
    for (query, ask, path) in [
        ("everything", json!({}), "query"),
        ("batches", json!({"limit": 0}), "limit"),
        ("batches", json!({"limit": 1001}), "limit"),
        ("batches", json!({"after": "x"}), "after"),
        (
            "failures",
            json!({"batch": "last", "after": "1.2"}),
            "after",
        ),
        (
            "results",
            json!({"batch": "last", "after": "-1.0.0"}),
            "after",
        ),
        ("failures", json!({"batch": "last", "tier": 1}), "tier"),
        ("results", json!({"batch": "last", "job": "two"}), "job"),
        (
            "state",
            json!({"batch": "last", "offset": 1_000_000}),
            "offset",
        ),
        ("status", json!({"batch": "x"}), "batch"),
    ] {
        match refused(&log.broker, "a", query, ask).await {
            Refusal::Invalid { errors } => assert_eq!(errors[0].path, path, "{query}"),
            other => panic!("{query}: {other:?}"),
        }
    }
    projector.stop().await;
}

#[tokio::test]
async fn the_pieces_of_a_state_are_its_bytes() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let batch = key("a", 1);
    log.batch(&batch, &[&["one"], &["two"]], 120_000).await;
    // Every second unit fails: as many places as there are units, the worst that there is.
    for part in 0..4u32 {
        let units: UnitSet = (part * 30_000..(part + 1) * 30_000).step_by(2).collect();
        log.put(
            &batch,
            failed(0, "one", &FailureKind::NETWORK, &[(units, "x")]),
        )
        .await;
    }
    let bytes = state_bytes(&log.broker, &batch).await;
    assert!(
        bytes.len() > 512 * 1024,
        "{} bytes are few pieces",
        bytes.len()
    );
    assert!(bytes == log.folded(&batch).await.encode().unwrap());
    projector.stop().await;
}

#[tokio::test]
async fn a_large_batch_is_small_and_quick() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let batch = key("a", 1);
    let documents = 200_000;
    let mut events = vec![created(&[&["one"], &["two"]])];
    events.extend(added(documents));
    events.push(redrive_domain::event::Event::BatchSubmitted { documents });
    for first in (0..documents).step_by(500) {
        events.push(completed(0, "one", UnitSet::run(first, 500), &[]));
    }
    log.all(of(&batch, events)).await;
    let view: BatchView = ok(&log.broker, "a", "status", json!({"batch": "last"})).await;
    assert_eq!(view.tiers[0].completed, u64::from(documents));
    assert_eq!(view.tiers[1].entered, u64::from(documents));
    assert_eq!(view.summary.status, BatchStatus::Running);
    let bytes = log.folded(&batch).await.encode().unwrap();
    assert!(bytes.len() < 16 * 1024, "{} bytes", bytes.len());
    let begun = Instant::now();
    for _ in 0..100 {
        let _: BatchView = ok(&log.broker, "a", "status", json!({"batch": "last"})).await;
    }
    let each = begun.elapsed() / 100;
    assert!(each < std::time::Duration::from_millis(100), "{each:?}");
    projector.stop().await;
}
