//! Documents, by where they stand.

use redrive_domain::{
    document::Output,
    failure::{FailureKind, Fingerprint},
    query::{DocumentRow, DocumentStatus, Page},
    units::UnitSet,
};
use serde_json::{Value, json};

use super::{
    log::{Log, completed, failed, key, memory, of, ok, refused, start},
    rows::pages,
};
use crate::Config;

/// 2,500 documents: of each ten the first failed in tier 0, the second in tier 1, the third is through, the rest is on
/// its way in tier 1.
async fn mixed<B: redrive_broker::Broker>(log: &mut Log<B>) -> u64 {
    let batch = key("a", 1);
    let nth = |n: usize| -> UnitSet { (0..2_500).skip(n).step_by(10).collect() };
    log.batch(&batch, &[&["one"], &["two", "three"]], 2_500)
        .await;
    let outputs: Vec<_> = nth(2)
        .iter()
        .map(|unit| (unit, Output::text(format!("made of {unit}"))))
        .collect();
    let first = nth(0);
    let before = log
        .all(of(
            &batch,
            vec![
                failed(0, "one", &FailureKind::NETWORK, &[(first.clone(), "reset")]),
                completed(0, "one", UnitSet::run(0, 2_500).minus(&first), &[]),
            ],
        ))
        .await;
    let events = vec![
        failed(
            1,
            "two",
            &FailureKind::INVALID_DATA,
            &[(nth(1), "no title")],
        ),
        failed(1, "three", &FailureKind::TIMEOUT, &[(nth(1), "too slow")]),
        completed(1, "two", nth(2), &outputs),
        completed(1, "three", nth(2), &[]),
    ];
    log.all(of(&batch, events)).await;
    before
}

#[tokio::test]
async fn documents_are_listed_by_where_they_stand() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let before = mixed(&mut log).await;
    let listed = async |ask: Value, limit: usize| {
        let mut ask = ask;
        ask["batch"] = json!("last");
        let rows: Vec<DocumentRow> = pages(&log.broker, "documents", ask, limit).await;
        assert!(rows.is_sorted_by_key(|row| row.ordinal));
        rows
    };
    let all = listed(json!({}), 1_000).await;
    assert_eq!(all.len(), 2_500);
    assert_eq!(listed(json!({}), 333).await, all);
    for (ordinal, row) in (0u32..).zip(&all) {
        assert_eq!((row.ordinal, &row.id), (ordinal, &format!("doc-{ordinal}")));
        assert_eq!(row.uri.is_some(), ordinal % 2 == 1);
        assert_eq!(row.outputs, None);
        let failures: Vec<(u16, &str, &str, &str)> = row
            .failures
            .iter()
            .map(|f| (f.tier, f.job.as_str(), f.kind.as_str(), &*f.message))
            .collect();
        let (status, tier, expected) = match ordinal % 10 {
            0 => (
                DocumentStatus::Failed,
                0,
                vec![(0, "one", "network", "reset")],
            ),
            1 => {
                let two = (1, "two", "invalid_data", "no title");
                (
                    DocumentStatus::Failed,
                    1,
                    vec![two, (1, "three", "timeout", "too slow")],
                )
            }
            2 => (DocumentStatus::Completed, 1, vec![]),
            _ => (DocumentStatus::Open, 1, vec![]),
        };
        assert_eq!((row.status, row.tier, failures), (status, tier, expected));
        assert_eq!(row.failed_units, row.failures.len() as u64);
        assert_eq!(
            row.open.len(),
            if status == DocumentStatus::Open { 2 } else { 0 }
        );
    }
    let bad = FailureKind::INVALID_DATA;
    let no_title = Fingerprint::of(bad.usual_class(), &bad, None, "no title");
    for (ask, count) in [
        (json!({"status": "failed"}), 500),
        (json!({"status": "completed"}), 250),
        (json!({"status": "cancelled"}), 0),
        (json!({"tier": 0}), 250),
        (json!({"tier": 1}), 2_250),
        (json!({"class": "transient"}), 500),
        (json!({"class": "transient", "tier": 1}), 250),
        (json!({"kind": "invalid_data"}), 250),
        (json!({"kind": "network", "status": "open"}), 0),
        (json!({"fingerprint": no_title}), 250),
        (json!({"fingerprint": no_title, "tier": 0}), 0),
        (json!({"status": "open", "units": [[0, 99]]}), 70),
        (json!({"at": before.to_string(), "status": "failed"}), 250),
        (json!({"at": before.to_string(), "status": "completed"}), 0),
    ] {
        assert_eq!(listed(ask.clone(), 100).await.len(), count, "{ask}");
    }
    for ask in [
        json!({"batch": "last", "tier": 2}),
        json!({"batch": "last", "after": "x"}),
        json!({"batch": "last", "status": "odd"}),
        json!({"batch": "last", "limit": 1_001}),
    ] {
        refused(&log.broker, "a", "documents", ask).await;
    }
    projector.stop().await;
}

#[tokio::test]
async fn documents_come_with_what_the_last_tier_made_of_them_where_that_is_asked_for() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    mixed(&mut log).await;
    let ask = json!({"batch": "last", "outputs": true});
    let rows: Vec<DocumentRow> = pages(&log.broker, "documents", ask, 1_000).await;
    assert_eq!(rows.len(), 2_500);
    for row in &rows {
        let outputs = row.outputs.as_ref().unwrap();
        if row.status == DocumentStatus::Completed {
            let [two, three] = &outputs[..] else {
                panic!("{row:?}");
            };
            let made = json!(format!("made of {}", row.ordinal));
            assert_eq!(
                (two.job.as_str(), two.output.as_ref()),
                ("two", Some(&made))
            );
            assert_eq!((three.job.as_str(), &three.output), ("three", &None));
        } else {
            assert_eq!(outputs.len(), 0, "{row:?}");
        }
    }
    projector.stop().await;
}

#[tokio::test]
async fn a_page_of_documents_with_large_outputs_ends_early_and_loses_nothing() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let batch = key("a", 1);
    log.batch(&batch, &[&["one"]], 100).await;
    let events = (0..100)
        .map(|unit| {
            // Those that are larger than an answer may be go without.
            let size = if unit == 50 { 450_000 } else { 60_000 };
            let output = Output::text("x".repeat(size));
            completed(0, "one", [unit].into(), &[(unit, output)])
        })
        .collect();
    log.all(of(&batch, events)).await;
    let ask = json!({"batch": "last", "outputs": true});
    let first: Page<DocumentRow> = ok(&log.broker, "a", "documents", ask.clone()).await;
    assert!((1..10).contains(&first.items.len()) && first.next.is_some());
    let rows: Vec<DocumentRow> = pages(&log.broker, "documents", ask, 1_000).await;
    let shown: Vec<u32> = rows.iter().map(|row| row.ordinal).collect();
    assert_eq!(shown, (0..100).collect::<Vec<_>>());
    for row in &rows {
        let [made] = &row.outputs.as_ref().unwrap()[..] else {
            panic!("{row:?}");
        };
        assert!(made.media_type.is_some());
        assert_eq!(made.output.is_some(), row.ordinal != 50);
    }
    projector.stop().await;
}
