use std::{fs, path::Path, sync::Arc};

use redrive_domain::{
    credits::Ledger, event::Event, evolve::evolve, state::BatchState, units::UnitSet,
};

use redrive_broker::{Until, fold};

use super::log::{attempt, failed, key, memory};
use crate::{
    differences,
    store::{Place, Store, StoreError},
    view::{Mark, Snapshot, View},
};

fn place(data_dir: &Path) -> Place {
    Place {
        data_dir: Some(data_dir.to_owned()),
        shard: 0,
    }
}

/// A state of several pieces, larger or smaller, whose last event is at `seq`.
async fn state_at(seq: u64, runs: u32) -> Arc<BatchState> {
    let batch = key("a", 1);
    let mut log = memory().await;
    log.batch(&batch, &[&["one"]], 20_000).await;
    let units: UnitSet = (0..runs).map(|unit| unit * 2).collect();
    let kind = redrive_domain::failure::FailureKind::NETWORK;
    log.put(&batch, failed(0, "one", &kind, &[(units, "x")]))
        .await;
    let mut state = log.folded(&batch).await;
    state.last_seq = seq;
    state.into()
}

fn snapshot(state: &Arc<BatchState>) -> Snapshot {
    let (seq, print) = (state.last_seq, state.last_seq * 7);
    Snapshot {
        mark: Mark { seq, print },
        states: vec![Arc::clone(state)],
        ledgers: [("a".parse().unwrap(), ledger(seq))].into_iter().collect(),
    }
}

fn ledger(seq: u64) -> Ledger {
    Ledger {
        limit: Some(seq),
        last_seq: seq,
        ..Ledger::default()
    }
}

fn commit(store: &Store, state: &Arc<BatchState>) {
    let prepared = store.prepare(&snapshot(state)).unwrap();
    store.write(prepared).unwrap();
}

/// The sequence of the checkpoint, after checking that the data are of the same one.
fn consistent(store: &Store, states: &[&Arc<BatchState>]) -> u64 {
    let seq = store.mark().unwrap().seq;
    let found = store.load(&key("a", 1)).unwrap();
    let listed: Vec<_> = store.list(&"a".parse().unwrap(), u64::MAX).collect();
    match states.iter().find(|state| state.last_seq == seq) {
        Some(state) => {
            assert_eq!(&found.unwrap().state, *state);
            assert_eq!(listed.len(), 1);
        }
        None => {
            assert_eq!(seq, 0);
            assert!(found.is_none() && listed.is_empty());
        }
    }
    seq
}

#[tokio::test]
async fn a_checkpoint_and_its_data_are_one() {
    let (small, large) = (state_at(101, 100).await, state_at(102, 9_000).await);
    let last = state_at(103, 10).await;
    let all = [&small, &large, &last];
    let dir = tempfile::tempdir().unwrap();
    let (store, mark) = place(dir.path()).open().unwrap();
    assert_eq!(mark, Mark::default());
    commit(&store, &small);
    // A crash before the write: nothing of it is there.
    drop(store.prepare(&snapshot(&large)).unwrap());
    assert_eq!(consistent(&store, &all), 101);
    commit(&store, &large);
    assert_eq!(consistent(&store, &all), 102);
    // A state that has become smaller leaves no pieces behind.
    commit(&store, &last);
    assert_eq!(consistent(&store, &all), 103);
    let pieces = last.encode().unwrap().len().div_ceil(4 * 1024);
    assert_eq!(store.keys(), pieces + 4);
    let file = store.file().to_owned();
    drop(store);
    // A crash in the middle of a write: the file ends anywhere.
    let bytes = fs::read(&file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut found = std::collections::BTreeSet::new();
    for cut in (0..24).map(|n| end * n / 24) {
        let torn = tempfile::tempdir().unwrap();
        let folder = torn.path().join("shard-0/view-1");
        fs::create_dir_all(&folder).unwrap();
        let from = file.parent().unwrap();
        fs::copy(from.join("conf"), folder.join("conf")).unwrap();
        let mut part = bytes.clone();
        part[cut..].fill(0);
        fs::write(folder.join("db"), part).unwrap();
        let (store, mark) = place(torn.path()).open().unwrap();
        let seq = consistent(&store, &all);
        assert_eq!(mark.seq, seq);
        found.insert(seq);
    }
    assert!(found.len() > 1, "no cut was of use: {found:?}");
}

#[tokio::test]
async fn a_store_of_another_format_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_at(101, 10).await;
    let (store, _) = place(dir.path()).open().unwrap();
    commit(&store, &state);
    drop(store);
    let (store, mark) = place(dir.path()).open().unwrap();
    assert_eq!(mark, snapshot(&state).mark);
    assert_eq!(*store.ledgers(), snapshot(&state).ledgers);
    store.pretend_another_format();
    drop(store);
    let (store, mark) = place(dir.path()).open().unwrap();
    assert_eq!(mark, Mark::default());
    assert_eq!(consistent(&store, &[]), 0);
}

#[tokio::test]
async fn a_store_whose_file_is_gone_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_at(101, 10).await;
    let (store, _) = place(dir.path()).open().unwrap();
    fs::remove_dir_all(dir.path()).unwrap();
    let prepared = store.prepare(&snapshot(&state)).unwrap();
    assert!(matches!(store.write(prepared), Err(StoreError::Broken(_))));
}

#[tokio::test]
async fn memory_keeps_what_is_not_stored_and_little_else() {
    let mut log = memory().await;
    for n in 1..=10 {
        log.batch(&key("a", n), &[&["one"]], 1).await;
    }
    let batches = fold(&log.broker, None, Until::End).await.unwrap().batches;
    let mut view = View::default();
    for state in batches.values() {
        view.insert(crate::view::Loaded {
            state: state.clone().into(),
            weight: 100,
        });
    }
    // Touched: dirty, so it stays whatever the bounds are.
    let dirty = key("a", 3);
    let envelope = redrive_domain::event::Envelope {
        v: 1,
        id: redrive_domain::event::Envelope::decode(&log.broker_entry(1).await)
            .unwrap()
            .id,
        at: redrive_domain::time::Timestamp(5),
        namespace: dirty.namespace.clone(),
        batch: dirty.batch,
        cause: redrive_domain::event::Cause::State,
        actor: None,
        trace: None,
        event: Event::WorkerLost {
            attempt: attempt(0, "one"),
            units: [0].into(),
        },
    };
    view.apply(99, &envelope);
    for n in (1..=10).filter(|n| *n != 3) {
        view.get(&key("a", n));
    }
    view.evict(4, 1_000);
    assert_eq!((1..=10).filter(|n| view.has(&key("a", *n))).count(), 5);
    view.get(&key("a", 8));
    view.evict(100, 150);
    assert!(view.has(&key("a", 8)) && view.has(&dirty));
    assert_eq!((1..=10).filter(|n| view.has(&key("a", *n))).count(), 2);
    let snapshot = view.snapshot();
    assert_eq!(snapshot.states.len(), 1);
    let mut folded = batches.get(&dirty).cloned();
    evolve(&mut folded, 99, &envelope);
    assert_eq!(Some(&*snapshot.states[0]), folded.as_ref());
    // What changed again while it was written is still to be written.
    view.apply(100, &envelope);
    let saved = crate::view::Saved {
        key: dirty.clone(),
        last_seq: 99,
        weight: 10,
    };
    view.saved(101, std::slice::from_ref(&saved));
    view.evict(0, 0);
    assert!(view.has(&dirty));
    view.saved(
        101,
        &[crate::view::Saved {
            last_seq: 100,
            ..saved
        }],
    );
    view.evict(0, 0);
    assert!(!view.has(&dirty));
}

#[tokio::test]
async fn differences_are_told_field_by_field() {
    let a = state_at(101, 10).await;
    assert_eq!(differences(&a, &a), []);
    let mut b = BatchState::clone(&a);
    b.last_seq = 102;
    b.tiers[0].jobs[0].open.insert(0);
    b.tiers[0].jobs[0].busy.0 += 1;
    b.submitted_at = None;
    let found = differences(&a, &b);
    let paths: Vec<&str> = found
        .iter()
        .map(|difference| difference.path.as_str())
        .collect();
    let expected = [
        "last_seq",
        "submitted_at",
        "tiers[0].jobs[0].busy",
        "tiers[0].jobs[0].open",
    ];
    assert_eq!(paths, expected);
    assert_eq!(
        (found[0].left.as_str(), found[0].right.as_str()),
        ("101", "102")
    );
    assert!(
        found
            .iter()
            .all(|difference| difference.left.chars().count() <= 121)
    );
}
