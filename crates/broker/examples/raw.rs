//! Measures what the broker does on a running server: `raw [url] [messages]`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use redrive_broker::{
    Broker, Message, Range,
    nats::{ConnectOptions, NatsBroker},
};

fn message(subject: String, size: usize) -> Message {
    Message {
        subject,
        payload: Bytes::from(vec![b'x'; size]),
        trace: None,
    }
}

fn report(what: &str, count: usize, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    println!(
        "{what:<44} {:>10.0} /s   ({count} in {seconds:.2} s)",
        count as f64 / seconds
    );
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let count: usize = arguments
        .next()
        .map_or(100_000, |text| text.parse().unwrap());
    let broker = NatsBroker::connect(ConnectOptions::new(url)).await.unwrap();
    broker.ensure().await.unwrap();
    println!("server {}", broker.info().version);

    let mut seq = broker.last_seq().await.unwrap();
    let first = seq + 1;
    let event = || message("rd.evt.0.n.b.documents.completed".to_owned(), 1024);
    let since = Instant::now();
    for _ in 0..count / 20 {
        seq = broker.append(vec![event()], seq).await.unwrap();
    }
    report("append, one 1 KiB message a call", count / 20, since);
    let since = Instant::now();
    for _ in 0..count / 1000 {
        seq = broker
            .append((0..1000).map(|_| event()).collect(), seq)
            .await
            .unwrap();
    }
    report("append, 1000 messages of 1 KiB a call", count, since);
    for size in [1024, 128] {
        let from = seq + 1;
        let small = || message("rd.evt.0.n.b.documents.completed".to_owned(), size);
        seq = broker
            .append((0..count).map(|_| small()).collect(), seq)
            .await
            .unwrap();
        let since = Instant::now();
        let range = Range {
            from,
            until: Some(seq),
            filter: None,
        };
        let read = broker
            .read(range)
            .filter(|entry| futures::future::ready(entry.is_ok()))
            .count()
            .await;
        report(&format!("read, {size} bytes"), read, since);
    }
    let since = Instant::now();
    for at in 0..count / 20 {
        broker.get(first + at as u64 % 1000).await.unwrap().unwrap();
    }
    report("get", count / 20, since);

    let outcome = |at: usize| message(format!("rd.out.0.n.{}", at % 10), 1024);
    let since = Instant::now();
    for at in 0..count / 20 {
        broker.submit(outcome(at), None).await.unwrap();
    }
    report("submit, one at a time", count / 20, since);
    let since = Instant::now();
    futures::stream::iter(0..count)
        .for_each_concurrent(256, |at| {
            let broker = &broker;
            async move { broker.submit(outcome(at), None).await.unwrap() }
        })
        .await;
    report("submit, 256 at a time", count, since);
    let total = count + count / 20;
    let mut inbox = broker.inbox().await.unwrap();
    let since = Instant::now();
    let mut got = 0;
    while got < total {
        let batch = inbox.next(500, Duration::from_secs(5)).await.unwrap();
        assert!(!batch.is_empty(), "{got} of {total}");
        for one in &batch {
            one.receipt.ack().await.unwrap();
        }
        got += batch.len();
    }
    report("inbox, next(500) + ack", got, since);

    let chunk = |at: usize| message(format!("rd.work.0.noop.cpu.n.b.{at}"), 256);
    let since = Instant::now();
    for batch in 0..count / 1000 {
        broker
            .offer((0..1000).map(|at| chunk(batch * 1000 + at)).collect())
            .await
            .unwrap();
    }
    report("offer, 1000 of 256 bytes a call", count, since);
    let since = Instant::now();
    let offered = broker.offered().await.unwrap();
    report("offered, subjects", offered.len(), since);
    for max in [1, 8] {
        take(&broker, max, count / 10, "behind a long backlog").await;
    }
    broker.withdraw("rd.work.0.>").await.unwrap();
    for max in [1, 8] {
        for round in 0..10 {
            broker.offer((0..1000).map(chunk).collect()).await.unwrap();
            let label = if round == 9 { "of 1000" } else { "" };
            take(&broker, max, 1000, label).await;
        }
    }
}

async fn take(broker: &NatsBroker, max: usize, count: usize, label: &str) {
    let (handler, class) = ("noop".parse().unwrap(), "cpu".parse().unwrap());
    let mut work = broker.take(&handler, &class).await.unwrap();
    let since = Instant::now();
    let mut got = 0;
    while got < count {
        let batch = work.next(max, Duration::from_secs(2)).await.unwrap();
        assert!(!batch.is_empty(), "{got} of {count}");
        for one in &batch {
            one.receipt.ack().await.unwrap();
        }
        got += batch.len();
    }
    if !label.is_empty() {
        report(&format!("take, next({max}) + ack, {label}"), got, since);
    }
}
