//! The inbox and work.

use std::time::Duration;

use futures::FutureExt;
use redrive_domain::ids::{HandlerName, ResourceClass};
use tokio::time::{self, Instant};

use super::*;
use crate::BrokerError;

fn outcome(number: usize) -> Message {
    message("rd.out.0.ns.batch", number.to_string())
}

fn chunk(handler: &str, class: &str, batch: &str, number: usize) -> Message {
    let subject = format!("rd.work.0.{handler}.{class}.ns.{batch}.{number}");
    message(&subject, number.to_string())
}

fn chunks(batch: &str, numbers: std::ops::Range<usize>) -> Vec<Message> {
    numbers
        .map(|number| chunk("noop", "cpu", batch, number))
        .collect()
}

async fn taker<B: Broker>(broker: &B, handler: &str, class: &str) -> Box<dyn Deliveries> {
    let handler: HandlerName = handler.parse().unwrap();
    let class: ResourceClass = class.parse().unwrap();
    broker.take(&handler, &class).await.unwrap()
}

async fn nothing(from: &mut dyn Deliveries) {
    let some = from.next(10, QUIET).await.unwrap();
    assert!(some.is_empty(), "{:?} came", payloads(&some));
}

fn numbers(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

pub async fn a_message_with_a_known_id_is_stored_once<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    broker
        .submit(outcome(1), Some("one".to_owned()))
        .await
        .unwrap();
    other
        .submit(outcome(1), Some("one".to_owned()))
        .await
        .unwrap();
    broker
        .submit(outcome(2), Some("two".to_owned()))
        .await
        .unwrap();
    broker.submit(outcome(3), None).await.unwrap();
    broker.submit(outcome(3), None).await.unwrap();
    let mut inbox = broker.inbox().await.unwrap();
    let got = gather(&mut *inbox, 4).await;
    assert_eq!(payloads(&got), ["1", "2", "3", "3"]);
    ack(got).await;
    // Also after it was dealt with.
    broker
        .submit(outcome(1), Some("one".to_owned()))
        .await
        .unwrap();
    nothing(&mut *inbox).await;
}

pub async fn the_inbox_is_in_order<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    let mut inbox = broker.inbox().await.unwrap();
    let submit = async {
        for number in 0..300 {
            let command = message("rd.cmd.ns.bucket.batch.submit", number.to_string());
            let message = if number % 2 == 0 {
                outcome(number)
            } else {
                command
            };
            broker.submit(message, None).await.unwrap();
        }
    };
    let take = async {
        let got = gather(&mut *inbox, 300).await;
        assert_eq!(payloads(&got), numbers(0..300));
        assert!(got.iter().all(|one| one.delivered == 1));
        assert_eq!(got[1].subject, "rd.cmd.ns.bucket.batch.submit");
        ack(got).await;
    };
    futures::future::join(submit, take).await;
    nothing(&mut *inbox).await;
}

pub async fn the_trace_comes_along<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let with = |message: Message| Message {
        trace: trace.clone(),
        ..message
    };
    broker.submit(with(outcome(1)), None).await.unwrap();
    broker
        .offer(vec![with(chunk("noop", "cpu", "a", 1))])
        .await
        .unwrap();
    let mut inbox = broker.inbox().await.unwrap();
    assert_eq!(gather(&mut *inbox, 1).await[0].trace, trace);
    let mut work = taker(&broker, "noop", "cpu").await;
    assert_eq!(gather(&mut *work, 1).await[0].trace, trace);
}

pub async fn the_inbox_is_drained_with_what_is_there<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    for number in 0..10 {
        broker.submit(outcome(number), None).await.unwrap();
    }
    let mut inbox = broker.inbox().await.unwrap();
    let few = inbox.next(4, BOUND).await.unwrap();
    assert!(!few.is_empty() && few.len() <= 4, "{}", few.len());
    let began = Instant::now();
    let rest = gather(&mut *inbox, 10 - few.len()).await;
    assert!(
        began.elapsed() < BOUND / 4,
        "it waited for more than there is"
    );
    assert_eq!([payloads(&few), payloads(&rest)].concat(), numbers(0..10));
}

pub async fn next_waits_for_the_first<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    let mut inbox = broker.inbox().await.unwrap();
    let mut work = taker(&broker, "noop", "cpu").await;
    for takes in [&mut inbox, &mut work] {
        let began = Instant::now();
        nothing(&mut **takes).await;
        assert!(began.elapsed() >= QUIET * 9 / 10, "it gave up early");
        assert!(
            began.elapsed() < QUIET + Duration::from_secs(5),
            "it gave up late"
        );
        // None is a call that asks only for what is there.
        assert!(takes.next(5, Duration::ZERO).await.unwrap().is_empty());
    }
    let later = async {
        time::sleep(QUIET).await;
        other.submit(outcome(1), None).await.unwrap();
        other.offer(chunks("a", 1..2)).await.unwrap();
    };
    let began = Instant::now();
    let waits = futures::future::join3(later, inbox.next(5, BOUND), work.next(5, BOUND));
    let ((), from_inbox, from_work) = waits.await;
    assert_eq!(payloads(&from_inbox.unwrap()), ["1"]);
    assert_eq!(payloads(&from_work.unwrap()), ["1"]);
    assert!(
        began.elapsed() < BOUND / 2,
        "it waited for more than the first"
    );
}

pub async fn a_new_reader_gets_what_was_not_acknowledged<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    for number in 0..6 {
        broker.submit(outcome(number), None).await.unwrap();
    }
    let mut earlier = broker.inbox().await.unwrap();
    let mut got = gather(&mut *earlier, 6).await;
    let first = got.remove(0);
    first.receipt.ack().await.unwrap();
    got.remove(2).receipt.ack().await.unwrap();
    // An acknowledgement is fire and forget: let this connection's be there before the other one asks.
    broker.last_seq().await.unwrap();
    let began = Instant::now();
    let mut later = other.inbox().await.unwrap();
    let again = gather(&mut *later, 4).await;
    assert_eq!(payloads(&again), ["1", "2", "4", "5"]);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "it was not at once"
    );
    ack(again).await;
    nothing(&mut *later).await;
}

pub async fn an_earlier_reader_gets_nothing<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    let mut earlier = broker.inbox().await.unwrap();
    nothing(&mut *earlier).await;
    let mut later = other.inbox().await.unwrap();
    broker.submit(outcome(1), None).await.unwrap();
    for _ in 0..3 {
        let none = earlier.next(10, QUIET).await;
        assert!(
            matches!(&none, Err(BrokerError::Missing(_))),
            "{:?}",
            none.map(|some| payloads(&some))
        );
    }
    assert_eq!(payloads(&gather(&mut *later, 1).await), ["1"]);
}

pub async fn an_earlier_readers_acknowledgement_counts_for_nothing<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    broker.submit(outcome(1), None).await.unwrap();
    let mut earlier = broker.inbox().await.unwrap();
    let held = gather(&mut *earlier, 1).await;
    let mut second = other.inbox().await.unwrap();
    let again = gather(&mut *second, 1).await;
    ack(held).await;
    broker.last_seq().await.unwrap();
    drop(again);
    let mut third = other.inbox().await.unwrap();
    let third = gather(&mut *third, 1).await;
    assert_eq!(payloads(&third), ["1"]);
}

pub async fn what_is_acknowledged_does_not_come_again<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.offer(chunks("a", 0..5)).await.unwrap();
    let mut work = taker(&broker, "noop", "cpu").await;
    ack(gather(&mut *work, 5).await).await;
    eventually("all is done", || async {
        broker.offered().await.unwrap().is_empty()
    })
    .await;
    let mut again = taker(&broker, "noop", "cpu").await;
    nothing(&mut *again).await;
}

pub async fn a_chunk_goes_to_one_of_two<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    let mut one = taker(&broker, "noop", "cpu").await;
    let mut two = taker(&other, "noop", "cpu").await;
    broker.offer(chunks("a", 0..40)).await.unwrap();
    let mut got = Vec::new();
    let end = Instant::now() + BOUND;
    while got.len() < 40 {
        assert!(Instant::now() < end, "{} of 40 came", got.len());
        let both = futures::future::join(one.next(3, QUIET), two.next(3, QUIET)).await;
        got.extend(both.0.unwrap());
        got.extend(both.1.unwrap());
    }
    let mut seen: Vec<usize> = payloads(&got)
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    assert!(got.iter().all(|chunk| chunk.delivered == 1));
    nothing(&mut *one).await;
    nothing(&mut *two).await;
}

pub async fn a_taker_holds_no_more_than_it_asked_for<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    let mut one = taker(&broker, "noop", "cpu").await;
    nothing(&mut *one).await;
    broker.offer(chunks("a", 0..3)).await.unwrap();
    let held = gather(&mut *one, 1).await;
    let mut two = taker(&other, "noop", "cpu").await;
    let rest = gather(&mut *two, 2).await;
    let mut seen = [payloads(&held), payloads(&rest)].concat();
    seen.sort();
    assert_eq!(seen, numbers(0..3));
    // Nor does it ask for more behind its caller's back, even with room left in the last call.
    let mut three = taker(&other, "noop", "gpu").await;
    let mut four = taker(&broker, "noop", "gpu").await;
    broker
        .offer(vec![chunk("noop", "gpu", "a", 1)])
        .await
        .unwrap();
    assert_eq!(three.next(10, BOUND).await.unwrap().len(), 1);
    broker
        .offer(vec![chunk("noop", "gpu", "a", 2)])
        .await
        .unwrap();
    assert_eq!(payloads(&four.next(10, BOUND / 4).await.unwrap()), ["2"]);
}

pub async fn what_is_given_back_comes_at_once<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    broker.offer(chunks("a", 0..1)).await.unwrap();
    let mut one = taker(&broker, "noop", "cpu").await;
    let mut two = taker(&other, "noop", "cpu").await;
    let held = gather(&mut *one, 1).await;
    assert_eq!(held[0].delivered, 1);
    held[0].receipt.extend().await.unwrap();
    nothing(&mut *two).await;
    held[0].receipt.give_back().await.unwrap();
    let again = two.next(1, Duration::from_secs(10)).await.unwrap();
    assert_eq!((again.len(), again[0].delivered), (1, 2));
    ack(again).await;
    eventually("it is done", || async {
        broker.offered().await.unwrap().is_empty()
    })
    .await;
}

pub async fn withdrawn_chunks_do_not_come<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.offer(chunks("a", 0..5)).await.unwrap();
    broker.offer(chunks("b", 5..8)).await.unwrap();
    broker
        .offer(vec![chunk("other", "gpu", "a", 9)])
        .await
        .unwrap();
    broker.withdraw("rd.work.0.*.*.ns.a.>").await.unwrap();
    let left = broker.offered().await.unwrap();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(
        left.iter().all(|subject| subject.contains(".ns.b.")),
        "{left:?}"
    );
    let mut work = taker(&broker, "noop", "cpu").await;
    assert_eq!(payloads(&gather(&mut *work, 3).await), ["5", "6", "7"]);
    nothing(&mut *work).await;
    broker.withdraw("rd.work.0.*.*.ns.none.>").await.unwrap();
}

pub async fn a_chunk_in_work_is_withdrawn<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.offer(chunks("a", 0..4)).await.unwrap();
    let mut work = taker(&broker, "noop", "cpu").await;
    let held = gather(&mut *work, 2).await;
    broker.withdraw("rd.work.0.*.*.ns.a.>").await.unwrap();
    assert_eq!(broker.offered().await, Ok(Vec::new()));
    held[0].receipt.give_back().await.unwrap();
    nothing(&mut *work).await;
    held[1].receipt.extend().await.unwrap();
    held[1].receipt.ack().await.unwrap();
    broker.offer(chunks("b", 7..8)).await.unwrap();
    assert_eq!(payloads(&gather(&mut *work, 1).await), ["7"]);
}

pub async fn offered_lists_what_is_up_and_what_is_taken<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    assert_eq!(broker.offered().await, Ok(Vec::new()));
    broker.offer(chunks("a", 0..3)).await.unwrap();
    let mut work = taker(&broker, "noop", "cpu").await;
    let held = gather(&mut *work, 1).await;
    let subjects: Vec<String> = chunks("a", 0..3)
        .into_iter()
        .map(|chunk| chunk.subject)
        .collect();
    assert_eq!(broker.offered().await, Ok(subjects.clone()));
    ack(held).await;
    let rest = Ok(subjects[1..].to_vec());
    eventually("one is done", || async { broker.offered().await == rest }).await;
}

pub async fn many_chunks_are_offered_at_once<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    broker.offer(Vec::new()).await.unwrap();
    broker.offer(chunks("a", 0..2000)).await.unwrap();
    assert_eq!(broker.offered().await.unwrap().len(), 2000);
    let mut work = taker(&broker, "noop", "cpu").await;
    assert_eq!(payloads(&gather(&mut *work, 2000).await), numbers(0..2000));
}

pub async fn handlers_and_classes_are_apart<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    // Names that run together if nothing stands between them.
    let pairs = [
        ("a", "b_c"),
        ("a_b", "c"),
        ("a-b", "c"),
        ("a", "b-c"),
        ("a", "b"),
        ("b", "a"),
    ];
    for (number, (handler, class)) in pairs.iter().enumerate() {
        broker
            .offer(vec![chunk(handler, class, "x", number)])
            .await
            .unwrap();
    }
    let mut takers = Vec::new();
    for (handler, class) in pairs {
        takers.push(taker(&broker, handler, class).await);
    }
    for (number, work) in takers.iter_mut().enumerate() {
        assert_eq!(
            payloads(&gather(&mut **work, 1).await),
            [number.to_string()]
        );
        assert!(
            work.next(1, Duration::from_millis(50))
                .await
                .unwrap()
                .is_empty()
        );
    }
}

pub async fn a_withdrawn_chunk_can_be_offered_again<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    let mut work = taker(&broker, "noop", "cpu").await;
    for _ in 0..3 {
        broker.offer(chunks("a", 0..2)).await.unwrap();
        assert_eq!(payloads(&gather(&mut *work, 2).await), ["0", "1"]);
        broker.withdraw("rd.work.0.noop.cpu.ns.a.>").await.unwrap();
    }
}

pub async fn a_call_that_is_given_up_loses_nothing<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    let mut work = taker(&broker, "noop", "cpu").await;
    let mut inbox = broker.inbox().await.unwrap();
    for takes in [&mut work, &mut inbox] {
        assert!(time::timeout(QUIET, takes.next(3, BOUND)).await.is_err());
        assert!(takes.next(3, BOUND).now_or_never().is_none());
    }
    broker.offer(chunks("a", 0..5)).await.unwrap();
    for number in 0..5 {
        broker.submit(outcome(number), None).await.unwrap();
    }
    let began = Instant::now();
    for takes in [&mut work, &mut inbox] {
        let mut got = payloads(&gather(&mut **takes, 5).await);
        got.sort();
        assert_eq!(got, numbers(0..5));
    }
    assert!(began.elapsed() < BOUND / 2, "it had to be delivered again");
}

pub async fn an_unanswered_chunk_goes_to_somebody_else<P: Provider>(provider: &P) {
    let (broker, other) = (ready(provider).await, provider.connect().await);
    broker.offer(chunks("a", 0..2)).await.unwrap();
    let mut one = taker(&broker, "noop", "cpu").await;
    let mut two = taker(&other, "noop", "cpu").await;
    let mut held = gather(&mut *one, 2).await;
    let began = Instant::now();
    time::sleep(Duration::from_secs(15)).await;
    held.remove(0).receipt.extend().await.unwrap();
    // Only the one that nobody asked more time for.
    let again = two.next(2, Duration::from_secs(25)).await.unwrap();
    assert_eq!(payloads(&again), ["1"]);
    assert_eq!(again[0].delivered, 2);
    assert!(
        began.elapsed() >= Duration::from_secs(28),
        "{:?}",
        began.elapsed()
    );
    assert!(
        began.elapsed() <= Duration::from_secs(36),
        "{:?}",
        began.elapsed()
    );
}

pub async fn work_that_is_made_anew_is_empty_and_takes_chunks<P: Provider>(provider: &P) {
    let broker = ready(provider).await;
    let chunk = |id| message(&format!("rd.work.0.noop.cpu.ns.batch.{id}"), id);
    broker.offer(vec![chunk("1")]).await.unwrap();
    broker.remake_work().await.unwrap();
    assert_eq!(broker.offered().await.unwrap().len(), 0);
    broker.offer(vec![chunk("2")]).await.unwrap();
    let (handler, class) = ("noop".parse().unwrap(), "cpu".parse().unwrap());
    let mut taker = broker.take(&handler, &class).await.unwrap();
    assert_eq!(payloads(&gather(&mut *taker, 1).await), ["2"]);
    // Where there is none, too.
    provider.lose(Lost::Work).await;
    broker.remake_work().await.unwrap();
    assert_eq!(broker.offered().await.unwrap().len(), 0);
}
