//! What goes wrong around the broker: restarts, halts, refusals.

use std::time::Duration;

use futures::StreamExt;
use redrive_nats_server::testing::TestServer;
use tokio::time::{self, Instant};

use super::{NatsProvider, newest_binary};
use crate::{
    Broker, BrokerError, Deliveries, Lease, Range,
    contract::{BOUND, all, events, eventually, gather, item, message, payloads, read, ready},
    nats::{ConnectOptions, NatsBroker},
};

async fn newest(extra: &'static str) -> NatsProvider {
    let server = tokio::task::spawn_blocking(move || {
        TestServer::start_configured(&newest_binary().unwrap(), |config| {
            config.extra_config = Some(extra.to_owned());
        })
    });
    NatsProvider(server.await.unwrap().unwrap())
}

fn with_login(provider: &NatsProvider, login: &str) -> ConnectOptions {
    let url = provider
        .0
        .client_url()
        .replace("://", &format!("://{login}@"));
    ConnectOptions {
        answer_timeout: Duration::from_secs(2),
        ..ConnectOptions::new(url)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_on_after_a_restart() {
    let mut provider = newest("").await;
    let broker = ready(&provider).await;
    broker.append(events("a", 0..10), 0).await.unwrap();
    let mut reading = broker.read(all());
    for seq in 1..=10 {
        assert_eq!(item(&mut reading).await.unwrap().seq, seq);
    }
    let mut inbox = broker.inbox().await.unwrap();
    let (handler, class) = ("noop".parse().unwrap(), "cpu".parse().unwrap());
    let mut work = broker.take(&handler, &class).await.unwrap();
    assert!(inbox.next(1, Duration::ZERO).await.unwrap().is_empty());
    assert!(work.next(1, Duration::ZERO).await.unwrap().is_empty());
    let mut signals = broker.listen("rd.sig.0".to_owned()).await.unwrap();
    let provider = tokio::task::spawn_blocking(move || {
        provider.0.kill().unwrap();
        provider.0.restart().unwrap();
        provider
    })
    .await
    .unwrap();
    let other = provider.connect_once().await;
    other.append(events("a", 10..20), 10).await.unwrap();
    for seq in 11..=20 {
        assert_eq!(item(&mut reading).await.unwrap().seq, seq);
    }
    other
        .submit(message("rd.out.0.ns.a", "1"), None)
        .await
        .unwrap();
    other
        .offer(vec![message("rd.work.0.noop.cpu.ns.a.1", "2")])
        .await
        .unwrap();
    let began = Instant::now();
    assert_eq!(payloads(&gather(&mut *inbox, 1).await), ["1"]);
    assert_eq!(payloads(&gather(&mut *work, 1).await), ["2"]);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "it waited for the silence to end"
    );
    other.signal(message("rd.sig.0", "3")).await.unwrap();
    assert_eq!(item(&mut signals).await.payload, "3");
    assert_eq!(broker.lease("coordinator", "a").await, Ok(Lease::Held));
    assert_eq!(broker.append(events("a", 20..30), 20).await, Ok(30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_over_kills_is_whole_and_in_order() {
    let mut provider = newest("").await;
    let broker = ready(&provider).await;
    let writer = tokio::spawn(async move {
        let (mut last, mut round) = (0, 0);
        let mut failures = 0;
        while round < 60 {
            let batch = events("a", round * 500..(round + 1) * 500);
            match broker.append(batch, last).await {
                Ok(seq) => {
                    assert_eq!(seq, last + 500);
                    (last, round) = (seq, round + 1);
                }
                // The same again is settled by what is in the log.
                Err(BrokerError::Timeout(_) | BrokerError::Unreachable(_)) => failures += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        (broker, failures)
    });
    for _ in 0..4 {
        time::sleep(Duration::from_millis(150)).await;
        provider = tokio::task::spawn_blocking(move || {
            provider.0.kill().unwrap();
            provider.0.restart().unwrap();
            provider
        })
        .await
        .unwrap();
    }
    let (broker, _failures) = time::timeout(BOUND * 3, writer).await.unwrap().unwrap();
    let entries = read(
        &broker,
        Range {
            until: Some(30_000),
            ..all()
        },
    )
    .await;
    assert_eq!(entries.len(), 30_000);
    for (number, entry) in entries.iter().enumerate() {
        assert_eq!(entry.payload, number.to_string(), "at {}", entry.seq);
    }
    assert_eq!(broker.last_seq().await, Ok(30_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_acknowledgement_is_settled() {
    let provider = newest("").await;
    let options = ConnectOptions {
        answer_timeout: Duration::from_millis(700),
        ..provider.options()
    };
    let broker = NatsBroker::connect(options).await.unwrap();
    broker.ensure().await.unwrap();
    assert_eq!(broker.append(events("a", 0..2), 0).await, Ok(2));
    // The broker takes it in and is too late to say so.
    provider.0.pause().unwrap();
    let append = tokio::spawn({
        let broker = broker.clone();
        async move { broker.append(events("a", 2..50), 2).await }
    });
    time::sleep(Duration::from_millis(900)).await;
    provider.0.resume().unwrap();
    assert_eq!(time::timeout(BOUND, append).await.unwrap().unwrap(), Ok(50));
    assert_eq!(broker.last_seq().await, Ok(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hangs_while_the_broker_is_halted() {
    let provider = newest("").await;
    let options = ConnectOptions {
        answer_timeout: Duration::from_millis(500),
        ..provider.options()
    };
    let broker = NatsBroker::connect(options).await.unwrap();
    broker.ensure().await.unwrap();
    provider.0.pause().unwrap();
    let timed_out = |error: Option<BrokerError>| {
        assert!(
            matches!(
                error,
                Some(BrokerError::Timeout(_) | BrokerError::Unreachable(_))
            ),
            "{error:?}"
        );
    };
    timed_out(broker.append(events("a", 0..3), 0).await.err());
    timed_out(broker.last_seq().await.err());
    timed_out(broker.offered().await.err());
    timed_out(broker.lease("coordinator", "a").await.err());
    timed_out(broker.get(1).await.err());
    let asked = broker.request(message("rd.req.x", ""), Duration::from_millis(300));
    timed_out(asked.await.err());
    provider.0.resume().unwrap();
    eventually("it is back", || async { broker.last_seq().await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_in_the_url_work_and_are_not_shown() {
    let provider = newest("authorization { user: ann, password: \"p@ss:word\" }").await;
    let broker = NatsBroker::connect(with_login(&provider, "ann:p%40ss:word"))
        .await
        .unwrap();
    broker.ensure().await.unwrap();
    let refused = NatsBroker::connect(with_login(&provider, "ann:secret"))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, BrokerError::Denied(_)), "{refused:?}");
    assert!(!refused.to_string().contains("secret"), "{refused}");
    let provider = newest("authorization { token: \"t0ken\" }").await;
    let broker = NatsBroker::connect(with_login(&provider, "t0ken"))
        .await
        .unwrap();
    broker.ensure().await.unwrap();
}

#[tokio::test]
async fn an_absent_broker_is_unreachable_in_time() {
    let options = ConnectOptions {
        connect_timeout: Duration::from_millis(600),
        ..ConnectOptions::new("nats://ann:secret@127.0.0.1:1")
    };
    let began = Instant::now();
    let error = NatsBroker::connect(options).await.err().unwrap();
    assert_eq!(
        error,
        BrokerError::Unreachable("nats://127.0.0.1:1".to_owned())
    );
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_allowed_is_denied_at_once() {
    let provider = newest(
        r#"authorization { users: [
            { user: admin, password: a }
            { user: guest, password: g, permissions: {
                publish: ["$JS.API.INFO", "$JS.API.STREAM.INFO.>", "rd.req.>"],
                subscribe: ["_INBOX.>"] } }
            { user: deaf, password: d, permissions: { publish: ">", subscribe: ["rd.sig.*"] } }
            { user: other, password: o, permissions: { publish: ">", subscribe: ["_MINE.>"] } }
        ] }"#,
    )
    .await;
    let admin = NatsBroker::connect(with_login(&provider, "admin:a"))
        .await
        .unwrap();
    admin.ensure().await.unwrap();
    let guest = NatsBroker::connect(with_login(&provider, "guest:g"))
        .await
        .unwrap();
    let deaf = NatsBroker::connect(with_login(&provider, "deaf:d"))
        .await
        .unwrap();
    let denied = |what: &str, error: Option<BrokerError>| {
        assert!(
            matches!(error, Some(BrokerError::Denied(_))),
            "{what}: {error:?}"
        );
    };
    let began = Instant::now();
    denied("append", guest.append(events("a", 0..3), 0).await.err());
    denied(
        "submit",
        guest.submit(message("rd.out.0.ns.a", ""), None).await.err(),
    );
    denied(
        "offer",
        guest
            .offer(vec![message("rd.work.0.h.c.ns.a.1", "")])
            .await
            .err(),
    );
    denied("inbox", guest.inbox().await.err());
    // Here the denial and the answer come on two ways, so that the first try may miss it.
    eventually("listening is denied", || async {
        let listening = guest.listen("rd.sig.0".to_owned()).await;
        matches!(listening.err(), Some(BrokerError::Denied(_)))
    })
    .await;
    denied("read", guest.read(all()).next().await.unwrap().err());
    assert_eq!(guest.last_seq().await, Ok(0));
    denied("deaf", deaf.last_seq().await.err());
    denied("deaf again", deaf.append(events("a", 0..1), 0).await.err());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "it waited for answers"
    );
    let options = ConnectOptions {
        inbox_prefix: Some("_MINE".parse().unwrap()),
        ..with_login(&provider, "other:o")
    };
    let other = NatsBroker::connect(options).await.unwrap();
    let last = admin.last_seq().await.unwrap();
    assert!(other.append(events("b", 0..3), last).await.is_ok());
    let mut reading = other.read(all());
    assert!(item(&mut reading).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_for_work_may_go_and_its_chunks_stay() {
    for binary in [super::old(), newest_binary().ok()].into_iter().flatten() {
        let provider = NatsProvider::start(binary).await;
        let broker = ready(&provider).await;
        let (handler, class) = ("noop".parse().unwrap(), "cpu".parse().unwrap());
        let mut work = broker.take(&handler, &class).await.unwrap();
        broker
            .offer(vec![message("rd.work.0.noop.cpu.ns.a.1", "1")])
            .await
            .unwrap();
        let client = async_nats::connect(provider.0.client_url()).await.unwrap();
        let stream = async_nats::jetstream::new(client)
            .get_stream("RD_WORK_0")
            .await
            .unwrap();
        let config = stream.consumer_info("noop+cpu").await.unwrap().config;
        assert_eq!(config.inactive_threshold, Duration::from_secs(3600));
        stream.delete_consumer("noop+cpu").await.unwrap();
        let gone = work.next(1, Duration::from_secs(1)).await;
        assert!(matches!(gone.err(), Some(BrokerError::Missing(_))));
        let mut work: Box<dyn Deliveries> = broker.take(&handler, &class).await.unwrap();
        assert_eq!(payloads(&gather(&mut *work, 1).await), ["1"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_listed() {
    let provider = newest("").await;
    let broker = ready(&provider).await;
    let spec = crate::ServiceSpec {
        name: "redrive-query".to_owned(),
        description: "answers queries".to_owned(),
        subject: "rd.qry.>".to_owned(),
        queue: "projectors".to_owned(),
    };
    let mut requests = broker.serve(spec).await.unwrap();
    let client = async_nats::connect(provider.0.client_url()).await.unwrap();
    let info = client
        .request("$SRV.INFO.redrive-query", "".into())
        .await
        .unwrap();
    let info = String::from_utf8(info.payload.to_vec()).unwrap();
    for part in ["rd.qry.>", "projectors", "answers queries"] {
        assert!(info.contains(part), "{info}");
    }
    let ask = client.request("rd.qry.ns.batch", "".into());
    let serve = async {
        let error = Some((404, "no such batch".to_owned()));
        item(&mut requests)
            .await
            .reply
            .send("{}".into(), error)
            .await
            .unwrap();
    };
    let (answer, ()) = futures::future::join(ask, serve).await;
    let answer = answer.unwrap();
    let headers = answer.headers.unwrap();
    assert_eq!(
        headers.get("Nats-Service-Error-Code").unwrap().as_str(),
        "404"
    );
    assert_eq!(
        headers.get("Nats-Service-Error").unwrap().as_str(),
        "no such batch"
    );
    assert_eq!(answer.payload, "{}");
}
