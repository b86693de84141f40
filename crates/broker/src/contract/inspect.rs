//! Looking at the broker.

use super::*;
use crate::{Inspection, StreamRole, Taker};

const ROLES: [StreamRole; 5] = [
    StreamRole::Log,
    StreamRole::Inbox,
    StreamRole::Work,
    StreamRole::Snapshots,
    StreamRole::Leases,
];

fn missing(seen: &Inspection) -> Vec<StreamRole> {
    let missing = |role: &StreamRole| seen.stream(*role).unwrap().found.is_none();
    ROLES.into_iter().filter(missing).collect()
}

fn messages(seen: &Inspection, role: StreamRole) -> u64 {
    seen.stream(role).unwrap().found.as_ref().unwrap().messages
}

pub async fn what_is_not_ensured_is_missing<P: Provider>(provider: &P) {
    let broker = provider.connect().await;
    assert!(broker.is_connected());
    assert_eq!(missing(&broker.inspect().await.unwrap()), ROLES);
    broker.ensure().await.unwrap();
    let seen = broker.inspect().await.unwrap();
    assert_eq!(missing(&seen), []);
    for stream in &seen.streams {
        let found = stream.found.as_ref().unwrap();
        assert_eq!(found.differences, [], "{}", stream.name);
        assert_eq!((found.replicas, found.poor_replicas.len()), (1, 0));
    }
    assert_eq!(seen.usage.streams.used, 5);
    assert_eq!(seen.usage.streams.limit, None);
    assert_eq!(seen.consumers, []);
}

pub async fn what_is_lost_is_missing_until_repaired<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    provider.lose(Lost::Work).await;
    provider.lose(Lost::Leases).await;
    let seen = broker.inspect().await.unwrap();
    assert_eq!(missing(&seen), [StreamRole::Work, StreamRole::Leases]);
    broker.repair().await.unwrap();
    assert_eq!(missing(&broker.inspect().await.unwrap()), []);
}

pub async fn the_clock_is_seen<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    let clock = broker.inspect().await.unwrap().clock.unwrap();
    // It is this machine's own.
    assert!(
        clock.ahead_ms.unsigned_abs() <= clock.within_ms,
        "{clock:?}"
    );
}

pub async fn messages_are_counted<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.append(events("a", 0..3), 0).await.unwrap();
    for text in ["1", "2"] {
        let report = message("rd.out.0.ns.a", text);
        broker.submit(report, None).await.unwrap();
    }
    let chunk = message("rd.work.0.noop.cpu.ns.batch.1", "1");
    broker.offer(vec![chunk]).await.unwrap();
    let seen = broker.inspect().await.unwrap();
    let log = seen
        .stream(StreamRole::Log)
        .unwrap()
        .found
        .as_ref()
        .unwrap();
    assert_eq!((log.messages, log.last_seq), (3, 3));
    assert!(log.bytes > 0);
    assert_eq!(messages(&seen, StreamRole::Inbox), 2);
    assert_eq!(messages(&seen, StreamRole::Work), 1);
}

pub async fn the_leader_and_what_it_has_not_taken_are_seen<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    for text in ["1", "2"] {
        let report = message("rd.out.0.ns.a", text);
        broker.submit(report, None).await.unwrap();
    }
    let mut inbox = broker.inbox().await.unwrap();
    let held = gather(&mut *inbox, 2).await;
    let leader = async || {
        let seen = broker.inspect().await.unwrap();
        let [leader] = &seen.consumers[..] else {
            panic!("{:?}", seen.consumers);
        };
        assert_eq!((&leader.of, leader.differences.len()), (&Taker::Leader, 0));
        (leader.pending, leader.unacknowledged)
    };
    assert_eq!(leader().await, (0, 2));
    ack(held).await;
    eventually("they are dealt with", || async { leader().await == (0, 0) }).await;
}
