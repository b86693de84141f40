//! What a shard consists of, and who tries to lead it.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::{self, Instant};

use super::*;
use crate::{BrokerError, Lease};

fn chunk() -> Message {
    message("rd.work.0.noop.cpu.ns.batch.1", "1")
}

pub async fn ensuring_again_changes_nothing<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    broker.append(events("a", 0..2), 0).await.unwrap();
    broker.offer(vec![chunk()]).await.unwrap();
    broker
        .submit(message("rd.out.0.ns.a", "1"), None)
        .await
        .unwrap();
    let mut inbox = broker.inbox().await.unwrap();
    let held = gather(&mut *inbox, 1).await;
    let (one, two) = futures::future::join(broker.ensure(), other.ensure()).await;
    assert_eq!((one, two), (Ok(()), Ok(())));
    assert_eq!(broker.last_seq().await, Ok(2));
    assert_eq!(broker.offered().await.unwrap().len(), 1);
    ack(held).await;
    broker
        .submit(message("rd.out.0.ns.a", "2"), None)
        .await
        .unwrap();
    assert_eq!(payloads(&gather(&mut *inbox, 1).await), ["2"]);
}

pub async fn nothing_works_before_it_is_ensured<P: Provider>(provider: &P) {
    let broker = provider.connect().await;
    let missing = |what: &str, error: Option<BrokerError>| {
        assert!(
            matches!(error, Some(BrokerError::Missing(_))),
            "{what}: {error:?}"
        );
    };
    missing("append", broker.append(events("a", 0..2), 0).await.err());
    missing("last_seq", broker.last_seq().await.err());
    missing("offer", broker.offer(vec![chunk()]).await.err());
    missing("offered", broker.offered().await.err());
    missing("withdraw", broker.withdraw("rd.work.0.>").await.err());
    missing("inbox", broker.inbox().await.err());
    missing("get", broker.get(1).await.err());
    let submitted = broker.submit(message("rd.out.0.ns.a", "1"), None).await;
    missing("submit", submitted.err());
    let (handler, class) = ("noop".parse().unwrap(), "cpu".parse().unwrap());
    missing("take", broker.take(&handler, &class).await.err());
    let mut reading = broker.read(all());
    missing("read", item(&mut reading).await.err());
    assert_eq!(time::timeout(BOUND, reading.next()).await, Ok(None));
    // Until it is.
    let later = async {
        time::sleep(Duration::from_millis(50)).await;
        broker.ensure().await.unwrap();
    };
    let submit = broker.submit(message("rd.out.0.ns.a", "1"), None);
    assert_eq!(futures::future::join(submit, later).await.0, Ok(()));
}

pub async fn lost_work_is_missing_until_ensured<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    let (handler, class) = ("noop".parse().unwrap(), "cpu".parse().unwrap());
    let mut work = broker.take(&handler, &class).await.unwrap();
    broker.offer(vec![chunk()]).await.unwrap();
    let held = gather(&mut *work, 1).await;
    provider.lose(Lost::Work).await;
    let lost = broker.offer(vec![chunk()]).await;
    assert!(matches!(lost, Err(BrokerError::Missing(_))), "{lost:?}");
    let end = Instant::now() + BOUND;
    loop {
        assert!(Instant::now() < end, "its taker never hears of it");
        match work.next(1, QUIET).await {
            Ok(some) => assert!(some.is_empty()),
            Err(error) => {
                assert!(matches!(error, BrokerError::Missing(_)), "{error:?}");
                break;
            }
        }
    }
    held[0].receipt.ack().await.unwrap();
    broker.ensure().await.unwrap();
    assert_eq!(broker.offered().await, Ok(Vec::new()));
    broker.offer(vec![chunk()]).await.unwrap();
    let mut work = broker.take(&handler, &class).await.unwrap();
    assert_eq!(gather(&mut *work, 1).await[0].delivered, 1);
}

pub async fn a_lost_inbox_is_missing_until_ensured<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    let outcome = || message("rd.out.0.ns.a", "1");
    broker.submit(outcome(), None).await.unwrap();
    let mut inbox = broker.inbox().await.unwrap();
    let before = gather(&mut *inbox, 1).await;
    provider.lose(Lost::Inbox).await;
    let end = Instant::now() + BOUND;
    while let Ok(some) = inbox.next(1, QUIET).await {
        assert!(some.is_empty());
        assert!(Instant::now() < end, "its reader never hears of it");
    }
    broker.ensure().await.unwrap();
    broker.submit(outcome(), None).await.unwrap();
    let mut inbox = broker.inbox().await.unwrap();
    let after = gather(&mut *inbox, 1).await;
    assert_eq!(after.len(), 1);
    assert_ne!(after[0].id, before[0].id, "two messages share an id");
}

pub async fn a_lost_bucket_of_leases_comes_back<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    assert_eq!(broker.lease("coordinator", "a").await, Ok(Lease::Held));
    provider.lose(Lost::Leases).await;
    broker.release("coordinator", "a").await.unwrap();
    assert_eq!(other.lease("coordinator", "b").await, Ok(Lease::Held));
    assert_eq!(
        broker.lease("coordinator", "a").await,
        Ok(Lease::HeldBy("b".to_owned()))
    );
}

pub async fn a_lease_is_held_by_one<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    assert_eq!(broker.lease_ttl(), LEASE_TTL);
    let both = (
        broker.lease("coordinator", "a"),
        other.lease("coordinator", "b"),
    );
    let (one, two) = futures::future::join(both.0, both.1).await;
    match (one.unwrap(), two.unwrap()) {
        (Lease::Held, Lease::HeldBy(holder)) => assert_eq!(holder, "a"),
        (Lease::HeldBy(holder), Lease::Held) => assert_eq!(holder, "b"),
        both => panic!("{both:?}"),
    }
}

pub async fn a_lease_that_is_not_renewed_is_lost<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    let began = Instant::now();
    assert_eq!(broker.lease("coordinator", "a").await, Ok(Lease::Held));
    eventually("it is free", || async {
        other.lease("coordinator", "b").await.unwrap() == Lease::Held
    })
    .await;
    assert!(began.elapsed() >= LEASE_TTL * 9 / 10, "it was lost early");
    assert!(
        began.elapsed() < LEASE_TTL * 4,
        "it was lost late: {:?}",
        began.elapsed()
    );
    assert_eq!(
        broker.lease("coordinator", "a").await,
        Ok(Lease::HeldBy("b".to_owned()))
    );
}

pub async fn a_renewed_lease_stays<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    let end = Instant::now() + LEASE_TTL * 3;
    while Instant::now() < end {
        assert_eq!(broker.lease("coordinator", "a").await, Ok(Lease::Held));
        time::sleep(LEASE_TTL / 4).await;
        let held = other.lease("coordinator", "b").await;
        assert_eq!(held, Ok(Lease::HeldBy("a".to_owned())));
    }
}

pub async fn a_released_lease_is_free<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    broker.release("coordinator", "a").await.unwrap();
    assert_eq!(broker.lease("coordinator", "a").await, Ok(Lease::Held));
    // Only the holder can release.
    other.release("coordinator", "b").await.unwrap();
    assert_eq!(
        other.lease("coordinator", "b").await,
        Ok(Lease::HeldBy("a".to_owned()))
    );
    let began = Instant::now();
    broker.release("coordinator", "a").await.unwrap();
    assert_eq!(other.lease("coordinator", "b").await, Ok(Lease::Held));
    assert!(began.elapsed() < LEASE_TTL / 2, "it expired");
    other.release("coordinator", "b").await.unwrap();
    assert_eq!(broker.lease("coordinator", "a").await, Ok(Lease::Held));
}

pub async fn leases_have_names<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    assert_eq!(broker.lease("coordinator", "a").await, Ok(Lease::Held));
    assert_eq!(broker.lease("projector", "b").await, Ok(Lease::Held));
    assert_eq!(
        broker.lease("coordinator", "b").await,
        Ok(Lease::HeldBy("a".to_owned()))
    );
}

pub async fn the_snapshot_is_the_one_kept_last<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    assert_eq!(broker.snapshot().await, Ok(None));
    // In several pieces, in one, and in none.
    let large: Bytes = (0..3 * MAX_PAYLOAD + 7)
        .map(|i| u8::try_from(i % 251).unwrap())
        .collect::<Vec<u8>>()
        .into();
    for snapshot in [large, Bytes::from_static(b"small"), Bytes::new()] {
        broker.keep_snapshot(snapshot.clone()).await.unwrap();
        assert!(other.snapshot().await == Ok(Some(snapshot)));
    }
}

pub async fn a_lost_snapshot_is_none_and_another_can_be_kept<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.keep_snapshot("one".into()).await.unwrap();
    provider.lose(Lost::Snapshots).await;
    assert_eq!(broker.snapshot().await, Ok(None));
    broker.keep_snapshot("two".into()).await.unwrap();
    assert_eq!(broker.snapshot().await, Ok(Some("two".into())));
}
