use std::{fs, path::Path, time::Duration};

use redrive_broker::Broker;
use redrive_domain::{command::Answer, failure::FailureKind, ids::BatchKey, query::BatchView};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::log::{Log, PATIENCE, answer, completed, failed, key, memory, ok, start, state_bytes};
use crate::{Config, ProjectorError, StoreError, run, store::Place, view::Mark};

fn config(data_dir: &Path) -> Config {
    Config {
        data_dir: Some(data_dir.to_owned()),
        checkpoint_every: Duration::from_millis(10),
        look_every: Duration::from_millis(20),
        ..Config::default()
    }
}

fn place(data_dir: &Path) -> Place {
    Place {
        data_dir: Some(data_dir.to_owned()),
        shard: 0,
    }
}

/// How far the stored view goes.
async fn stored(data_dir: &Path) -> u64 {
    let place = place(data_dir);
    let (_, mark) = tokio::task::spawn_blocking(move || place.open())
        .await
        .unwrap()
        .unwrap();
    mark.seq
}

fn keys() -> Vec<BatchKey> {
    (1..=20)
        .map(|n| key(if n % 2 == 0 { "a" } else { "b" }, n))
        .collect()
}

/// Turns over all batches, so that each is touched again and again.
async fn work<B: Broker>(log: &mut Log<B>, units: std::ops::Range<u32>) {
    for unit in units {
        for batch in keys() {
            if unit == 0 {
                log.batch(&batch, &[&["one"], &["two"]], 50).await;
            }
            let event = match unit % 3 {
                0 => failed(0, "one", &FailureKind::NETWORK, &[([unit].into(), "x")]),
                _ => completed(0, "one", [unit].into(), &[]),
            };
            log.put(&batch, event).await;
        }
    }
}

/// Every state that the projector gives is that of a fold of the whole log.
async fn assert_same<B: Broker>(log: &Log<B>) {
    for batch in keys() {
        let folded = log.folded(&batch).await.encode().unwrap();
        assert!(state_bytes(&log.broker, &batch).await == folded, "{batch}");
    }
}

#[tokio::test]
async fn a_killed_projector_goes_on_from_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = memory().await;
    for round in 0..4 {
        let config = Config {
            memory_batches: 3,
            ..config(dir.path())
        };
        let projector = start(&log.broker, config).await;
        work(&mut log, round * 10..(round + 1) * 10).await;
        assert_same(&log).await;
        projector.kill().await;
        let from = stored(dir.path()).await;
        assert!(from > 0 && from <= log.last, "{from} of {}", log.last);
    }
    let projector = start(&log.broker, config(dir.path())).await;
    assert_same(&log).await;
    projector.stop().await;
    assert_eq!(stored(dir.path()).await, log.last);
}

#[tokio::test]
async fn another_log_under_the_same_name_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = memory().await;
    work(&mut log, 0..5).await;
    let projector = start(&log.broker, config(dir.path())).await;
    assert_same(&log).await;
    projector.stop().await;
    for (salt, units) in [(1, 0..3), (2, 0..5), (3, 0..8)] {
        // Shorter, of the same length, and longer than the one before.
        let mut other = memory().await.salted(salt);
        work(&mut other, units).await;
        let projector = start(&other.broker, config(dir.path())).await;
        assert_same(&other).await;
        projector.stop().await;
        assert_eq!(stored(dir.path()).await, other.last);
    }
}

#[tokio::test]
async fn a_deleted_folder_heals_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut log = memory().await;
    let projector = start(&log.broker, config(&data)).await;
    for round in 0..3 {
        work(&mut log, round * 5..(round + 1) * 5).await;
        assert_same(&log).await;
        fs::remove_dir_all(&data).unwrap();
        timeout(PATIENCE, async {
            while !data.join("shard-0/view-1/db").exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the folder was not made again");
        assert_same(&log).await;
    }
    projector.stop().await;
    assert_eq!(stored(&data).await, log.last);
}

#[tokio::test]
async fn a_damaged_store_is_built_anew() {
    let mut log = memory().await;
    work(&mut log, 0..5).await;
    for damage in ["noise", "half", "empty", "folder", "blank"] {
        let dir = tempfile::tempdir().unwrap();
        let projector = start(&log.broker, config(dir.path())).await;
        assert_same(&log).await;
        projector.stop().await;
        let shard = dir.path().join("shard-0");
        let file = shard.join("view-1/db");
        let mut bytes = fs::read(&file).unwrap();
        match damage {
            "noise" => {
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte ^= (i % 251) as u8;
                }
                fs::write(&file, bytes).unwrap();
            }
            "half" => fs::write(&file, &bytes[..bytes.len() / 2]).unwrap(),
            "empty" => fs::write(&file, b"").unwrap(),
            "blank" => fs::write(&file, vec![0; bytes.len()]).unwrap(),
            _ => {
                fs::remove_dir_all(&shard).unwrap();
                fs::create_dir_all(shard.join("view-7/db")).unwrap();
            }
        }
        let projector = start(&log.broker, config(dir.path())).await;
        assert_same(&log).await;
        projector.stop().await;
        assert_eq!(stored(dir.path()).await, log.last, "{damage}");
    }
}

#[tokio::test]
async fn two_projectors_cannot_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let log = memory().await;
    let first = start(&log.broker, config(dir.path())).await;
    let second = run(
        log.broker.clone(),
        config(dir.path()),
        CancellationToken::new(),
    );
    match timeout(PATIENCE, second).await.unwrap() {
        Err(ProjectorError::Store(StoreError::InUse(_))) => {}
        other => panic!("{other:?}"),
    }
    first.stop().await;
}

#[tokio::test]
async fn a_message_that_is_no_event_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = memory().await;
    let projector = start(&log.broker, config(dir.path())).await;
    let batch = key("a", 1);
    log.batch(&batch, &[&["one"]], 3).await;
    log.raw(&batch, b"\xc1 no event").await;
    log.put(&batch, completed(0, "one", [0].into(), &[])).await;
    log.raw(&batch, b"").await;
    let view: BatchView = ok(&log.broker, "a", "status", json!({"batch": "last"})).await;
    assert_eq!((view.last_seq, view.as_of), (log.last - 1, log.last));
    projector.stop().await;
    assert_eq!(stored(dir.path()).await, log.last);
    let projector = start(&log.broker, config(dir.path())).await;
    assert!(state_bytes(&log.broker, &batch).await == log.folded(&batch).await.encode().unwrap());
    projector.stop().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let log = memory().await;
    match run(log.broker.clone(), config(&file), CancellationToken::new()).await {
        Err(ProjectorError::Store(StoreError::Folder { path, .. })) => {
            assert!(path.starts_with(&file));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn queries_are_refused_rather_than_wrong_before_the_log_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = memory().await;
    work(&mut log, 0..2).await;
    let projector = start(&log.broker, config(dir.path())).await;
    let answers = async {
        for _ in 0..200 {
            match answer::<BatchView, _>(&log.broker, "a", "status", json!({"batch": "last"})).await
            {
                Answer::Ok(view) => assert_eq!(view.as_of, log.last),
                Answer::Error { message, .. } => {
                    assert!(message.ends_with("ask again"), "{message}")
                }
            }
        }
    };
    let deleting = async {
        for _ in 0..5 {
            fs::remove_dir_all(dir.path().join("shard-0")).unwrap();
            timeout(PATIENCE, async {
                while !dir.path().join("shard-0/view-1/db").exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
            .unwrap();
        }
    };
    tokio::join!(answers, deleting);
    projector.stop().await;
    assert_ne!(Mark::default().seq, log.last);
}
