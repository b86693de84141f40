//! Questions about the past, and files that hold it.

use std::{fs, path::Path};

use futures::StreamExt;
use redrive_broker::{Broker, Range};
use redrive_domain::{
    command::{Excluded, Refusal, RetryMode},
    document::Output,
    event::{Event, Selected},
    export::{Broken, Header, Writer},
    failure::FailureKind,
    ids::BatchKey,
    query::{
        At, BatchRef, BatchSummary, BatchView, Change, Diff, DocumentStatus, FailureRow,
        ListFailures, Page, TimelineRow, Transition,
    },
    subject,
    time::Timestamp,
    units::UnitSet,
};
use serde_json::{Value, json};

use super::log::{Log, completed, failed, key, memory, of, ok, refused, start};
use crate::{Archive, ArchiveError, Config};

fn retried(units: UnitSet) -> Event {
    Event::RetryScheduled {
        mode: RetryMode::All,
        tier_nums: vec![],
        kinds: Vec::new(),
        fingerprints: Vec::new(),
        max_retry_count: 3,
        max_retries: None,
        selected: vec![Selected {
            tier: 0,
            job: "one".parse().unwrap(),
            units,
        }],
        excluded: Excluded::default(),
        last: true,
        plan_seq: None,
        not_before: None,
        canary: None,
        jobs: Vec::new(),
    }
}

/// Ten documents: all but two get through tier 0, one of these two after a retry. The sequence before the retry.
async fn story<B: Broker>(log: &mut Log<B>, batch: &BatchKey) -> u64 {
    let part = log.batch(batch, &[&["one"], &["two"]], 10).await;
    let bad = [([3, 7].into(), "connection reset")];
    let events = vec![
        Event::TierStarted { tier: 0 },
        completed(0, "one", [0, 1, 2].into(), &[(0, Output::text("x"))]),
        failed(0, "one", &FailureKind::NETWORK, &bad),
        completed(0, "one", [4, 5, 6, 8, 9].into(), &[]),
    ];
    let before = log.all(of(batch, events)).await;
    assert_eq!(before, part + 4);
    let again = [([7].into(), "too slow")];
    let events = vec![
        retried([3, 7].into()),
        completed(0, "one", [3].into(), &[]),
        failed(0, "one", &FailureKind::TIMEOUT, &again),
        completed(1, "two", [0, 1].into(), &[]),
    ];
    log.all(of(batch, events)).await;
    before
}

fn told(change: &Change) -> (u32, String, String) {
    let before = change.before.as_ref().map(ToString::to_string);
    let after = change.after.to_string();
    (change.ordinal, before.unwrap_or_default(), after)
}

#[tokio::test]
async fn a_difference_is_told_by_documents_and_its_pages_keep_to_their_moments() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let batch = key("a", 1);
    let before = story(&mut log, &batch).await;
    let ask = json!({"batch": "last", "from": before.to_string()});
    let whole: Diff = ok(&log.broker, "a", "diff", ask.clone()).await;
    assert_eq!((whole.from, whole.to, whole.changed), (before, log.last, 4));
    let rows: Vec<_> = whole.page.items.iter().map(told).collect();
    let line = |ordinal, before: &str, after: &str| (ordinal, before.into(), after.into());
    let failed_before = "failed in tier 0: one (transient network)";
    assert_eq!(
        rows,
        [
            line(0, "open in tier 1: two", "completed"),
            line(1, "open in tier 1: two", "completed"),
            line(3, failed_before, "open in tier 1: two"),
            line(
                7,
                failed_before,
                "failed in tier 0: one (transient timeout)"
            ),
        ]
    );
    let first = &whole.page.items[2];
    assert_eq!(
        (first.document.as_str(), first.uri.as_deref()),
        ("doc-3", Some("file:///3"))
    );
    assert_eq!(first.before.as_ref().unwrap().retry_count, 0);
    assert_eq!(first.after.retry_count, 1);
    let transition = |before, after, documents| Transition {
        before: Some(before),
        after,
        documents,
    };
    let (open, done, bad) = (
        DocumentStatus::Open,
        DocumentStatus::Completed,
        DocumentStatus::Failed,
    );
    let expected = [
        transition(open, done, 2),
        transition(bad, open, 1),
        transition(bad, bad, 1),
    ];
    assert_eq!(whole.transitions, expected);

    // What happens between two pages is not in them.
    let mut ask = ask;
    ask["limit"] = json!(1);
    let mut seen = Vec::new();
    loop {
        let page: Diff = ok(&log.broker, "a", "diff", ask.clone()).await;
        assert_eq!((page.from, page.to), (whole.from, whole.to));
        seen.extend(page.page.items);
        let unit = 2 + u32::try_from(seen.len()).unwrap();
        log.put(&batch, completed(1, "two", [unit].into(), &[]))
            .await;
        match page.page.next {
            Some(next) => ask["after"] = json!(next),
            None => break,
        }
    }
    assert_eq!(seen, whole.page.items);

    // By times, and from before there was anything.
    let ask = json!({"batch": "last", "from": "2000-01-01T00:00:00Z", "to": before.to_string()});
    let new: Diff = ok(&log.broker, "a", "diff", ask).await;
    assert_eq!((new.from, new.to, new.changed), (0, before, 10));
    assert!(new.page.items.iter().all(|change| change.before.is_none()));
    let counts: Vec<_> = new
        .transitions
        .iter()
        .map(|t| (t.before, t.after, t.documents))
        .collect();
    assert_eq!(counts, [(None, open, 8), (None, bad, 2)]);
    let ask = json!({"batch": "last", "from": before.to_string(), "to": before.to_string()});
    let none: Diff = ok(&log.broker, "a", "diff", ask).await;
    assert_eq!(
        (none.changed, none.page.items.len(), none.page.next),
        (0, 0, None)
    );
    projector.stop().await;
}

#[tokio::test]
async fn a_list_of_a_moment_has_the_batches_of_then_as_they_were() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    for n in 1..=45u128 {
        log.batch(&key("a", n), &[&["one"]], 1).await;
        log.batch(&key("b", n), &[&["one"]], 1).await;
    }
    let at = log.broker.last_seq().await.unwrap();
    for n in 1..=50u128 {
        if n > 45 {
            log.batch(&key("a", n), &[&["one"]], 1).await;
        }
        log.put(&key("a", n), completed(0, "one", [0].into(), &[]))
            .await;
    }
    let mut seen: Vec<BatchSummary> = Vec::new();
    let mut ask = json!({"at": at.to_string(), "limit": 1_000});
    loop {
        let page: Page<BatchSummary> = ok(&log.broker, "a", "batches", ask.clone()).await;
        assert!(page.items.len() <= 20);
        assert_eq!(page.as_of, at);
        seen.extend(page.items);
        match page.next {
            Some(next) => ask["after"] = json!(next),
            None => break,
        }
    }
    let ids: Vec<u128> = seen.iter().map(|it| it.batch.0.as_u128()).collect();
    assert_eq!(ids, (1..=45).rev().collect::<Vec<_>>());
    assert!(seen.iter().all(|it| it.counts.completed == 0), "{seen:?}");
    // By a time: that at which the last of them was made.
    let time = seen[0].created_at.to_string();
    let page: Page<BatchSummary> = ok(&log.broker, "a", "batches", json!({"at": time})).await;
    assert_eq!(page.items[0].batch, seen[0].batch);
    assert_eq!(page.items.len(), 20);
    let ask = json!({"at": at.to_string(), "status": "completed"});
    let page: Page<BatchSummary> = ok(&log.broker, "a", "batches", ask).await;
    assert_eq!(page.items, []);
    projector.stop().await;
}

#[tokio::test]
async fn moments_that_make_no_sense_are_refused_with_the_field_named() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    log.batch(&key("a", 1), &[&["one"]], 3).await;
    log.batch(&key("a", 2), &[&["one"]], 3).await;
    for (query, ask, path) in [
        ("diff", json!({}), ""),
        ("diff", json!({"from": "soon"}), "from"),
        ("diff", json!({"from": "999"}), "from"),
        ("diff", json!({"from": "5", "to": "999"}), "to"),
        ("diff", json!({"from": "6", "to": "5"}), "from"),
        ("diff", json!({"from": "0", "to": "2"}), "to"),
        ("diff", json!({"from": "0", "after": "1.2"}), "after"),
        ("timeline", json!({"at": "999"}), "at"),
        ("timeline", json!({"after": "1.x.2"}), "after"),
        ("timeline", json!({"limit": 0}), "limit"),
    ] {
        let mut ask = ask;
        ask["batch"] = json!("last");
        match refused(&log.broker, "a", query, ask.clone()).await {
            Refusal::Invalid { errors } => assert_eq!(errors[0].path, path, "{query} {ask}"),
            other => panic!("{query} {ask}: {other:?}"),
        }
    }
    projector.stop().await;
}

#[tokio::test]
async fn a_timeline_is_the_same_in_pages_of_any_size_while_the_batch_goes_on() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let batch = key("a", 1);
    let before = story(&mut log, &batch).await;
    log.put(&key("a", 2), super::log::created(&[&["one"]]))
        .await;
    let mut ask = json!({"batch": batch.batch, "limit": 1000});
    let whole: Page<TimelineRow> = ok(&log.broker, "a", "timeline", ask.clone()).await;
    let lines: Vec<String> = whole.items.iter().map(TimelineRow::sentence).collect();
    assert_eq!(
        lines,
        [
            "batch created in bucket inbox: pipeline test, 2 tiers",
            "10 documents added",
            "10 documents submitted",
            "tier 0 started",
            "tier 0 one: 8 completed",
            "tier 0 one: 2 failed: transient network: connection reset",
            "2 to be executed again by a retry: tier 0 one",
            "tier 0 one: 1 completed",
            "tier 0 one: 1 failed: transient timeout: too slow",
            "tier 1 two: 2 completed",
        ]
    );
    let done = &whole.items[4];
    assert_eq!(
        (done.events, done.seq, done.last_seq),
        (2, before - 2, before)
    );
    assert_eq!(done.until.since(done.at).0, 2);
    for limit in [1, 2, 3] {
        ask["limit"] = json!(limit);
        ask["after"] = Value::Null;
        let mut rows = Vec::new();
        loop {
            let page: Page<TimelineRow> = ok(&log.broker, "a", "timeline", ask.clone()).await;
            assert!(page.items.len() <= limit && !page.items.is_empty());
            rows.extend(page.items);
            let Some(next) = page.next else { break };
            ask["after"] = json!(next);
            if rows.len() == 2 {
                log.put(&batch, completed(1, "two", [4].into(), &[])).await;
            }
        }
        assert_eq!(
            rows[..whole.items.len() - 1],
            whole.items[..whole.items.len() - 1]
        );
    }
    let ask = json!({"batch": batch.batch, "at": before.to_string()});
    let early: Page<TimelineRow> = ok(&log.broker, "a", "timeline", ask).await;
    assert_eq!(early.items, whole.items[..6]);
    assert_eq!(early.next, None);
    projector.stop().await;
}

/// Writes a batch's part of a log into a file.
async fn write<B: Broker>(log: &Log<B>, batch: &BatchKey, path: &Path) {
    let header = Header::new(batch.clone(), "0".into(), Timestamp(0), false);
    let (mut writer, mut file) = Writer::begin(&header).unwrap();
    let mut entries = log.broker.read(Range {
        from: 1,
        until: Some(log.last),
        filter: Some(subject::events_of_batch(0, batch)),
    });
    while let Some(entry) = entries.next().await {
        let entry = entry.unwrap();
        let line = writer.event(entry.seq, &entry.subject, &entry.payload);
        file.extend(line.unwrap());
    }
    file.push_str(&writer.end().unwrap().0);
    fs::write(path, file).unwrap();
}

#[tokio::test]
async fn a_file_answers_as_the_projector_does() {
    let mut log = memory().await;
    let projector = start(&log.broker, Config::default()).await;
    let batch = key("a", 1);
    log.batch(&key("b", 1), &[&["one"]], 3).await;
    let before = story(&mut log, &batch).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("incident.jsonl");
    write(&log, &batch, &path).await;
    for at in [None, Some(At::Seq(before))] {
        let archive = Archive::open(&path, at).unwrap();
        let ask = json!({"batch": "last", "at": at.unwrap_or(At::Seq(log.last))});
        let theirs: BatchView = ok(&log.broker, "a", "status", ask.clone()).await;
        let mut here = archive.status();
        here.as_of = theirs.as_of;
        assert_eq!(here, theirs);
        let theirs: Page<FailureRow> = ok(&log.broker, "a", "failures", ask.clone()).await;
        let all = ListFailures {
            batch: BatchRef::Last,
            tier: None,
            class: None,
            kind: None,
            fingerprint: None,
            limit: None,
            after: None,
            min_seq: None,
            at: None,
        };
        assert_eq!(archive.failures(&all).await.unwrap().items, theirs.items);
        let theirs: Page<TimelineRow> = ok(&log.broker, "a", "timeline", ask).await;
        let rows: Result<Vec<_>, _> = archive.timeline().collect();
        assert_eq!(rows.unwrap(), theirs.items);
        let checked = archive.verify().unwrap();
        assert_eq!((checked.events, checked.problems), (11, Vec::new()));
    }
    let early = Archive::open(&path, Some(At::Time(Timestamp(0)))).map(|_| ());
    assert!(
        matches!(early, Err(ArchiveError::Nothing { .. })),
        "{early:?}"
    );
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    let cut = Archive::open(&path, None).map(|_| ());
    let broken = match cut {
        Err(ArchiveError::Broken { broken, .. }) => broken,
        other => panic!("{other:?}"),
    };
    assert!(matches!(broken, Broken::Truncated { .. }), "{broken:?}");

    // A file that says that it came to something else.
    let counts = "\"completed\":2,\"failed\":1";
    assert!(text.contains(counts), "{text}");
    fs::write(&path, text.replace(counts, "\"completed\":1,\"failed\":2")).unwrap();
    let checked = Archive::open(&path, None).unwrap().verify().unwrap();
    assert_eq!(checked.problems.len(), 1, "{checked:?}");
    projector.stop().await;
}
