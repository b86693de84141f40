//! The log.

use std::time::Duration;

use futures::StreamExt;
use tokio::time;

use super::*;
use crate::BrokerError;

pub async fn appends_in_order<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    assert_eq!(broker.last_seq().await, Ok(0));
    assert_eq!(broker.append(events("a", 0..3), 0).await, Ok(3));
    assert_eq!(broker.append(events("b", 3..4), 3).await, Ok(4));
    assert_eq!(broker.last_seq().await, Ok(4));
    let range = Range {
        until: Some(4),
        ..all()
    };
    let entries = read(&broker, range).await;
    assert_eq!(texts(&entries), ["0", "1", "2", "3"]);
    let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
    assert_eq!(entries[3].subject, "rd.evt.0.ns.b.test");
}

pub async fn append_of_nothing_is_the_last_sequence<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    assert_eq!(broker.append(Vec::new(), 0).await, Ok(0));
    assert_eq!(broker.append(events("a", 0..2), 0).await, Ok(2));
    assert_eq!(broker.append(Vec::new(), 2).await, Ok(2));
}

pub async fn a_conflict_leaves_nothing<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.append(events("a", 0..3), 0).await.unwrap();
    let conflict = broker.append(events("b", 10..13), 1).await;
    assert_eq!(conflict, Err(BrokerError::Conflict { expected: 1 }));
    assert_eq!(broker.last_seq().await, Ok(3));
    assert_eq!(broker.append(events("b", 10..11), 3).await, Ok(4));
}

pub async fn a_log_shorter_than_believed_is_a_conflict<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.append(events("a", 0..1), 0).await.unwrap();
    let conflict = broker.append(events("a", 1..2), 5).await;
    assert_eq!(conflict, Err(BrokerError::Conflict { expected: 5 }));
    assert_eq!(broker.last_seq().await, Ok(1));
}

pub async fn a_long_append_is_pipelined<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    assert_eq!(broker.append(events("a", 0..3000), 0).await, Ok(3000));
    let range = Range {
        until: Some(3000),
        ..all()
    };
    let expected: Vec<String> = (0..3000).map(|number| number.to_string()).collect();
    assert_eq!(texts(&read(&broker, range).await), expected);
}

pub async fn a_repeated_append_is_no_conflict<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    assert_eq!(broker.append(events("a", 0..1500), 0).await, Ok(1500));
    // As a writer does that never heard of its success.
    assert_eq!(broker.append(events("a", 0..1500), 0).await, Ok(1500));
    assert_eq!(broker.last_seq().await, Ok(1500));
    // The same texts for another batch are somebody else's.
    let conflict = broker.append(events("b", 0..2), 0).await;
    assert_eq!(conflict, Err(BrokerError::Conflict { expected: 0 }));
}

pub async fn a_half_repeated_append_goes_on<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.append(events("a", 0..5), 0).await.unwrap();
    assert_eq!(broker.append(events("a", 2..8), 2).await, Ok(8));
    let range = Range {
        until: Some(8),
        ..all()
    };
    let entries = read(&broker, range).await;
    assert_eq!(texts(&entries), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    // And a prefix that is ours does not hide a rest that is not.
    let mut mixed = events("a", 6..8);
    mixed.extend(events("b", 8..9));
    broker.append(events("c", 0..1), 8).await.unwrap();
    let conflict = broker.append(mixed, 6).await;
    assert_eq!(conflict, Err(BrokerError::Conflict { expected: 8 }));
}

pub async fn what_is_too_large_is_refused_whole<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    let limit = broker.info().max_payload;
    assert_eq!(limit, MAX_PAYLOAD);
    let mut messages = events("a", 0..3);
    messages.push(message("rd.evt.0.ns.a.large", vec![0; limit + 1]));
    let refused = broker.append(messages, 0).await;
    assert!(
        matches!(refused, Err(BrokerError::TooLarge { limit: l, .. }) if l == limit),
        "{refused:?}"
    );
    assert_eq!(broker.last_seq().await, Ok(0));
    let fits = message("rd.evt.0.ns.a.large", vec![1; limit - 1024]);
    assert_eq!(broker.append(vec![fits], 0).await, Ok(1));
    let range = Range {
        until: Some(1),
        ..all()
    };
    assert_eq!(read(&broker, range).await[0].payload.len(), limit - 1024);
    let large = |subject: &str| message(subject, vec![0; limit + 1]);
    let refusals = [
        broker.submit(large("rd.out.0.ns.a"), None).await,
        broker.offer(vec![large("rd.work.0.h.c.ns.a.1")]).await,
        broker.signal(large("rd.sig.0")).await,
        broker.request(large("rd.req.a"), QUIET).await.map(|_| ()),
    ];
    for refused in refusals {
        assert!(
            matches!(refused, Err(BrokerError::TooLarge { .. })),
            "{refused:?}"
        );
    }
}

pub async fn one_of_two_writers_is_deposed<P: Provider>(provider: &P) {
    let (one, two) = (ready(provider).await, provider.connect().await);
    let first = async { one.append(events("one", 0..2000), 0).await };
    let second = async { two.append(events("two", 0..2000), 0).await };
    let (first, second) = futures::future::join(first, second).await;
    let last = one.last_seq().await.unwrap();
    let range = Range {
        until: Some(last),
        ..all()
    };
    let entries = read(&one, range).await;
    let winner = entries[0].subject.clone();
    assert!(
        entries.iter().all(|entry| entry.subject == winner),
        "they are mixed"
    );
    let (won, lost) = if winner.contains("one") {
        (first, second)
    } else {
        (second, first)
    };
    assert_eq!(won, Ok(2000));
    assert_eq!(last, 2000);
    assert!(
        matches!(lost, Err(BrokerError::Conflict { .. })),
        "{lost:?}"
    );
}

pub async fn reads_a_range<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.append(events("a", 0..10), 0).await.unwrap();
    let range = Range {
        from: 4,
        until: Some(6),
        filter: None,
    };
    assert_eq!(texts(&read(&broker, range).await), ["3", "4", "5"]);
    let range = Range {
        from: 0,
        until: Some(1),
        filter: None,
    };
    assert_eq!(texts(&read(&broker, range).await), ["0"]);
}

pub async fn reads_what_matches<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    let mut mixed = Vec::new();
    for number in 0..30 {
        let batch = ["a", "b", "c"][number as usize % 3];
        mixed.extend(events(batch, number..number + 1));
    }
    broker.append(mixed, 0).await.unwrap();
    let filter = Some("rd.evt.0.ns.b.>".to_owned());
    let range = Range {
        from: 1,
        until: Some(30),
        filter: filter.clone(),
    };
    let expected: Vec<String> = (0..10).map(|number| (number * 3 + 1).to_string()).collect();
    assert_eq!(texts(&read(&broker, range).await), expected);
    let range = Range {
        from: 3,
        until: Some(9),
        filter,
    };
    assert_eq!(texts(&read(&broker, range).await), ["4", "7"]);
    let filter = Some("rd.evt.0.*.*.test".to_owned());
    let range = Range {
        from: 28,
        until: Some(30),
        filter,
    };
    assert_eq!(texts(&read(&broker, range).await), ["27", "28", "29"]);
}

pub async fn reads_nothing_where_there_is_nothing<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    let until = |from, until| Range {
        from,
        until: Some(until),
        filter: None,
    };
    assert_eq!(read(&broker, until(1, 0)).await, []);
    // Beyond the end of the log, reading ends where the log does.
    assert_eq!(read(&broker, until(1, 5)).await, []);
    broker.append(events("a", 0..3), 0).await.unwrap();
    assert_eq!(read(&broker, until(1, 9)).await.len(), 3);
    assert_eq!(read(&broker, until(4, 9)).await, []);
    assert_eq!(read(&broker, until(3, 2)).await, []);
    let filter = Some("rd.evt.0.ns.none.>".to_owned());
    let range = Range {
        from: 1,
        until: Some(3),
        filter,
    };
    assert_eq!(read(&broker, range).await, []);
}

pub async fn reading_ends_before_later_matches<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.append(events("a", 0..2), 0).await.unwrap();
    broker.append(events("b", 2..5), 2).await.unwrap();
    broker.append(events("a", 5..7), 5).await.unwrap();
    let filter = Some("rd.evt.0.ns.a.>".to_owned());
    let range = Range {
        from: 1,
        until: Some(4),
        filter: filter.clone(),
    };
    assert_eq!(texts(&read(&broker, range).await), ["0", "1"]);
    let range = Range {
        from: 3,
        until: Some(5),
        filter,
    };
    assert_eq!(read(&broker, range).await, []);
}

pub async fn reads_on_with_what_is_appended<P: Provider>(provider: &P) {
    let (broker, writer) = (ready(provider).await, provider.connect().await);
    let mut reading = broker.read(all());
    let nothing = time::timeout(QUIET, reading.next()).await;
    assert!(nothing.is_err(), "an empty log has {nothing:?}");
    writer.append(events("a", 0..1), 0).await.unwrap();
    assert_eq!(item(&mut reading).await.unwrap().seq, 1);
    writer.append(events("a", 1..3), 1).await.unwrap();
    assert_eq!(item(&mut reading).await.unwrap().seq, 2);
    assert_eq!(item(&mut reading).await.unwrap().seq, 3);
    let range = Range {
        from: 5,
        filter: Some("rd.evt.0.ns.b.>".to_owned()),
        until: None,
    };
    let mut later = broker.read(range);
    assert!(time::timeout(QUIET, later.next()).await.is_err());
    writer.append(events("b", 3..4), 3).await.unwrap();
    writer.append(events("a", 4..5), 4).await.unwrap();
    writer.append(events("b", 5..6), 5).await.unwrap();
    assert_eq!(item(&mut later).await.unwrap().seq, 6);
}

pub async fn a_reader_loses_nothing_while_the_log_grows<P: Provider>(provider: &P) {
    let (broker, writer) = (ready(provider).await, provider.connect().await);
    let write = async {
        let mut last = 0;
        for round in 0..60 {
            last = writer
                .append(events("a", round * 100..(round + 1) * 100), last)
                .await
                .unwrap();
        }
    };
    let check = async {
        let mut reading = broker.read(all());
        for number in 0..6000_u64 {
            let entry = item(&mut reading).await.unwrap();
            assert_eq!(
                (entry.seq, entry.payload),
                (number + 1, Bytes::from(number.to_string()))
            );
        }
    };
    futures::future::join(write, check).await;
}

pub async fn a_slow_reader_gets_everything<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    // More than is fetched ahead at a time, by number and by size.
    let large = vec![7; 100 * 1024];
    let mut messages: Vec<Message> = (0..200)
        .map(|number| message(&format!("rd.evt.0.ns.a.large{number}"), large.clone()))
        .collect();
    messages.extend(events("b", 0..9000));
    let last = broker.append(messages, 0).await.unwrap();
    let mut reading = broker.read(Range {
        until: Some(last),
        ..all()
    });
    for seq in 1..=last {
        if seq % 1000 == 1 {
            time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(item(&mut reading).await.unwrap().seq, seq);
    }
    assert_eq!(time::timeout(BOUND, reading.next()).await, Ok(None));
}

pub async fn gets_what_is_there<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.append(events("a", 0..3), 0).await.unwrap();
    let entry = broker.get(2).await.unwrap().unwrap();
    assert_eq!(
        (entry.seq, entry.subject.as_str()),
        (2, "rd.evt.0.ns.a.test")
    );
    assert_eq!(entry.payload, Bytes::from("1"));
    let empty = message("rd.evt.0.ns.a.empty", "");
    broker.append(vec![empty], 3).await.unwrap();
    assert_eq!(broker.get(4).await.unwrap().unwrap().payload, Bytes::new());
    assert_eq!(broker.get(5).await, Ok(None));
    assert_eq!(broker.get(0).await, Ok(None));
}

pub async fn waits_for_what_is_not_there_yet<P: Provider>(provider: &P) {
    let (broker, writer) = (ready(provider).await, provider.connect().await);
    let append = async {
        time::sleep(Duration::from_millis(100)).await;
        writer.append(events("a", 0..1), 0).await.unwrap();
    };
    let (entry, ()) = futures::future::join(broker.get(1), append).await;
    assert_eq!(entry.unwrap().unwrap().payload, Bytes::from("0"));
}
