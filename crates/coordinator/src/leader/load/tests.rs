#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use redrive_broker::{
    Message,
    memory::{MemoryBroker, Part},
};
use redrive_domain::{
    command::Start,
    credits::Month,
    event::{Cause, Event, VERSION},
    ids::{BatchId, Bucket, EventId, KeyId},
    keys::{NewKey, SecretHash},
    pipeline::Pipeline,
    status::BatchStatus,
    time::Timestamp,
    units::UnitSet,
};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::leader::snapshot::Shot;

const OVER_KEPT: usize = 128;

fn key(batch: u128) -> BatchKey {
    BatchKey {
        namespace: "tests".parse().unwrap(),
        batch: BatchId(Uuid::from_u128(batch)),
    }
}

async fn append(broker: &MemoryBroker, batch: u128, event: Event) {
    let key = key(batch);
    let last = broker.last_seq().await.unwrap();
    let envelope = Envelope {
        v: VERSION,
        id: EventId(Uuid::from_u128(u128::from(last) + 1)),
        at: Timestamp(1_000_000),
        namespace: key.namespace.clone(),
        batch: key.batch,
        cause: Cause::State,
        actor: None,
        trace: None,
        event,
    };
    let message = Message {
        subject: subject::event(0, &key, &envelope.event.subject_type()),
        payload: envelope.encode().unwrap().into(),
        trace: None,
    };
    broker.append(vec![message], last).await.unwrap();
}

async fn create(broker: &MemoryBroker, batch: u128) {
    let pipeline = json!({ "tiers": [{ "jobs": [{ "handler": "work" }] }] });
    let created = Event::BatchCreated {
        bucket: Bucket::new("inbox").unwrap(),
        pipeline: Pipeline::from_value(&pipeline).unwrap(),
        start: Start::OnSubmit,
    };
    append(broker, batch, created).await;
}

/// A batch without documents is over as soon as it has been submitted.
async fn finish(broker: &MemoryBroker, batch: u128) {
    append(broker, batch, Event::BatchSubmitted { documents: 0 }).await;
    let completed = Event::BatchCompleted {
        status: BatchStatus::Completed,
        completed: 0,
        failed: 0,
        cancelled: 0,
    };
    append(broker, batch, completed).await;
}

async fn keep(broker: &MemoryBroker) -> Loaded {
    let loaded = Loaded::from(broker, 0, OVER_KEPT).await.unwrap();
    let end = (loaded.last_seq, loaded.mark);
    let shot = Shot::of(
        0,
        end,
        &loaded.batches,
        &loaded.known,
        (&loaded.ledgers, &loaded.keys),
    );
    broker.keep_snapshot(shot.encode().unwrap()).await.unwrap();
    loaded
}

/// 300 batches that are over, ten that are not.
async fn some_log() -> MemoryBroker {
    let broker = MemoryBroker::default();
    broker.ensure().await.unwrap();
    for batch in 1..=300 {
        create(&broker, batch).await;
        finish(&broker, batch).await;
    }
    for batch in 301..=310 {
        create(&broker, batch).await;
    }
    broker
}

#[track_caller]
fn assert_same(one: &Loaded, other: &Loaded) {
    assert_eq!(one.last_seq, other.last_seq);
    assert_eq!(one.mark, other.mark);
    assert_eq!(one.known, other.known);
    assert_eq!(one.over, other.over);
    assert_eq!(one.batches, other.batches);
    assert_eq!(one.ledgers, other.ledgers);
    assert_eq!(one.keys, other.keys);
}

#[tokio::test]
async fn what_is_over_does_not_stay_while_a_long_log_is_folded() {
    let loaded = Loaded::from(&some_log().await, 0, OVER_KEPT).await.unwrap();
    assert_eq!(loaded.known.len(), 310);
    assert_eq!(loaded.over.len(), OVER_KEPT);
    assert_eq!(loaded.batches.len(), OVER_KEPT + 10);
    assert!(loaded.batches.contains_key(&key(300)) && !loaded.batches.contains_key(&key(1)));
}

#[tokio::test]
async fn after_a_snapshot_only_the_end_of_the_log_is_read_and_the_state_is_the_same() {
    let broker = some_log().await;
    let before = keep(&broker).await;
    assert_same(&Loaded::from(&broker, 0, OVER_KEPT).await.unwrap(), &before);
    append(&broker, 0, Event::CreditsLimitSet { limit: Some(2) }).await;
    for batch in 305..=312 {
        if batch > 310 {
            create(&broker, batch).await;
        }
        finish(&broker, batch).await;
    }
    // Batch 1 has left memory; something of it comes nevertheless.
    append(&broker, 1, Event::BatchSubmitted { documents: 0 }).await;
    let mut quick = Loaded::from(&broker, 0, OVER_KEPT).await.unwrap();
    assert_eq!(quick.read, 1 + 2 + 8 * 2 + 1);
    assert_eq!(quick.take_stale(), [key(1)].into());
    broker.lose(Part::Snapshot);
    let slow = Loaded::from(&broker, 0, OVER_KEPT).await.unwrap();
    assert_eq!(slow.read, slow.last_seq);
    assert_same(&quick, &slow);
}

#[tokio::test]
async fn a_snapshot_that_is_none_or_of_another_log_is_passed_over() {
    let broker = some_log().await;
    let plain = Loaded::from(&broker, 0, OVER_KEPT).await.unwrap();
    let other = some_log().await;
    create(&other, 999).await;
    let loaded = Loaded::from(&other, 0, OVER_KEPT).await.unwrap();
    let foreign = |shard, seq, mark| {
        Shot::of(
            shard,
            (seq, mark),
            &loaded.batches,
            &loaded.known,
            (&loaded.ledgers, &loaded.keys),
        )
        .encode()
        .unwrap()
    };
    for wrong in [
        Bytes::from_static(b"nonsense"),
        Bytes::new(),
        foreign(0, loaded.last_seq, loaded.mark),
        foreign(0, 10, loaded.mark),
        foreign(1, plain.last_seq, plain.mark),
    ] {
        broker.keep_snapshot(wrong).await.unwrap();
        let found = Loaded::from(&broker, 0, OVER_KEPT).await.unwrap();
        assert_eq!(found.read, found.last_seq);
        assert_same(&found, &plain);
    }
}

#[tokio::test]
async fn what_still_holds_credits_stays_over_a_snapshot_and_the_ledger_outlives_it() {
    let broker = MemoryBroker::default();
    broker.ensure().await.unwrap();
    let (month, amount) = (Month::of(Timestamp(0)), 2);
    let documents: UnitSet = (0..2).collect();
    append(&broker, 0, Event::CreditsLimitSet { limit: Some(2) }).await;
    create(&broker, 1).await;
    let reserved = Event::CreditsReserved {
        month,
        amount,
        documents: documents.clone(),
    };
    append(&broker, 1, reserved).await;
    keep(&broker).await;
    // The leader went down before what follows from this.
    let cancelled = Event::BatchCancelled {
        reason: None,
        documents: 0,
    };
    append(&broker, 1, cancelled).await;
    for _ in 0..2 {
        let loaded = Loaded::from(&broker, 0, 0).await.unwrap();
        assert!(loaded.batches.contains_key(&key(1)));
        keep(&broker).await;
    }
    let released = Event::CreditsReleased {
        month,
        amount,
        documents,
    };
    append(&broker, 1, released).await;
    let loaded = Loaded::from(&broker, 0, 0).await.unwrap();
    assert!(loaded.batches.is_empty());
    let ledger = loaded.ledgers.of(&key(1).namespace).unwrap();
    assert_eq!((ledger.limit, ledger.left(month)), (Some(2), Some(2)));
    assert_eq!(ledger.account(month).released, 2);
}

#[tokio::test]
async fn keys_stay_over_a_snapshot() {
    let broker = MemoryBroker::default();
    broker.ensure().await.unwrap();
    let new = |key: u128| {
        Event::KeyCreated(NewKey {
            key: KeyId(Uuid::from_u128(key)),
            name: "ci".parse().unwrap(),
            scopes: "read".parse().unwrap(),
            hash: SecretHash([7; 32]),
            expires_at: None,
        })
    };
    append(&broker, 0, new(1)).await;
    append(&broker, 0, new(2)).await;
    keep(&broker).await;
    let revoked = Event::KeyRevoked {
        key: KeyId(Uuid::from_u128(1)),
    };
    append(&broker, 0, revoked).await;
    let quick = Loaded::from(&broker, 0, 0).await.unwrap();
    assert_eq!(quick.read, 1);
    broker.lose(Part::Snapshot);
    let slow = Loaded::from(&broker, 0, 0).await.unwrap();
    assert_same(&quick, &slow);
    let ring = quick.keys.of(&key(0).namespace).unwrap();
    assert_eq!((ring.iter().count(), ring.live(Timestamp(0))), (2, 1));
}
