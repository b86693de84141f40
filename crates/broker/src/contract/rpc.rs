//! Requests and signals.

use std::time::Duration;

use futures::{FutureExt, StreamExt, stream::BoxStream};
use tokio::time::{self, Instant};

use super::*;
use crate::{BrokerError, Request, ServiceSpec};

fn spec(subject: &str, queue: &str) -> ServiceSpec {
    ServiceSpec {
        name: "test-service".to_owned(),
        description: "answers in tests".to_owned(),
        subject: subject.to_owned(),
        queue: queue.to_owned(),
    }
}

/// Answers with a name and what was asked.
async fn answer(name: &str, requests: &mut BoxStream<'static, Request>) -> String {
    let request = item(requests).await;
    let body = format!("{name} {}", String::from_utf8_lossy(&request.payload));
    request.reply.send(body.clone().into(), None).await.unwrap();
    body
}

pub async fn a_request_is_answered<P: Provider>(provider: &P) {
    let (server, client) = (provider.connect().await, provider.connect().await);
    let mut requests = server.serve(spec("rd.req.>", "all")).await.unwrap();
    let ask = client.request(message("rd.req.ns.bucket.batch.submit", "1"), BOUND);
    let serve = async {
        let request = item(&mut requests).await;
        assert_eq!(request.subject, "rd.req.ns.bucket.batch.submit");
        assert_eq!(request.trace, None);
        request.reply.send("one".into(), None).await.unwrap();
    };
    let (body, ()) = futures::future::join(ask, serve).await;
    assert_eq!(body, Ok(Bytes::from("one")));
}

pub async fn an_error_comes_with_its_body<P: Provider>(provider: &P) {
    let broker = provider.connect().await;
    let mut requests = broker.serve(spec("rd.req.>", "all")).await.unwrap();
    let ask = broker.request(message("rd.req.x", ""), BOUND);
    let serve = async {
        let request = item(&mut requests).await;
        let error = Some((409, "not\r\nnow".to_owned()));
        request.reply.send("why not".into(), error).await.unwrap();
    };
    let (body, ()) = futures::future::join(ask, serve).await;
    assert_eq!(body, Ok(Bytes::from("why not")));
}

pub async fn nobody_answers<P: Provider>(provider: &P) {
    let broker = provider.connect().await;
    let _requests = broker.serve(spec("rd.req.a.*", "all")).await.unwrap();
    let began = Instant::now();
    for subject in ["rd.req.b.x", "rd.req.a", "rd.req.a.x.y"] {
        let none = broker.request(message(subject, ""), BOUND).await;
        assert_eq!(none, Err(BrokerError::NoResponders(subject.to_owned())));
    }
    assert!(began.elapsed() < BOUND / 2, "it waited for nobody");
}

pub async fn no_answer_in_time<P: Provider>(provider: &P) {
    let broker = provider.connect().await;
    let mut requests = broker.serve(spec("rd.req.>", "all")).await.unwrap();
    let began = Instant::now();
    let ask = broker.request(message("rd.req.x", ""), QUIET);
    let (none, ()) = futures::future::join(ask, async { drop(item(&mut requests).await) }).await;
    assert_eq!(none, Err(BrokerError::Timeout(QUIET)));
    assert!(began.elapsed() >= QUIET * 9 / 10);
}

pub async fn servers_of_a_queue_share<P: Provider>(provider: &P) {
    let client = provider.connect().await;
    let mut servers = Vec::new();
    for _ in 0..2 {
        let server = provider.connect().await;
        servers.push(server.serve(spec("rd.req.>", "all")).await.unwrap());
    }
    let (mut one, mut two) = (servers.remove(0), servers.remove(0));
    let (mut by_one, mut by_two) = (0, 0);
    let end = Instant::now() + BOUND;
    while by_one < 3 || by_two < 3 {
        assert!(
            Instant::now() < end,
            "one answers {by_one}, two answers {by_two}"
        );
        let ask = client.request(message("rd.req.x", "?"), BOUND);
        let serve = async {
            tokio::select! {
                body = answer("one", &mut one) => body,
                body = answer("two", &mut two) => body,
            }
        };
        let (asked, served) = futures::future::join(ask, serve).await;
        assert_eq!(asked, Ok(Bytes::from(served.clone())));
        if served == "one ?" {
            by_one += 1
        } else {
            by_two += 1
        }
        // Nobody else was asked the same.
        assert!(one.next().now_or_never().is_none() && two.next().now_or_never().is_none());
    }
}

pub async fn a_server_that_went_is_not_asked<P: Provider>(provider: &P) {
    let (server, client) = (provider.connect().await, provider.connect().await);
    let requests = server.serve(spec("rd.req.>", "all")).await.unwrap();
    drop(requests);
    let refused = Err(BrokerError::NoResponders("rd.req.x".to_owned()));
    eventually("it is gone", || async {
        client.request(message("rd.req.x", ""), QUIET).await == refused
    })
    .await;
}

pub async fn signals_reach_who_listens<P: Provider>(provider: &P) {
    let (one, two) = (provider.connect().await, provider.connect().await);
    // To nobody is fine.
    one.signal(message("rd.sig.0", "lost")).await.unwrap();
    let mut all = one.listen("rd.*.0".to_owned()).await.unwrap();
    let mut some = two.listen("rd.sig.0".to_owned()).await.unwrap();
    let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let traced = Message {
        trace,
        ..message("rd.sig.0", "1")
    };
    two.signal(message("rd.hb.0", "0")).await.unwrap();
    two.signal(traced.clone()).await.unwrap();
    assert_eq!(item(&mut all).await, message("rd.hb.0", "0"));
    assert_eq!(item(&mut all).await, traced);
    assert_eq!(item(&mut some).await, traced);
    let more = time::timeout(Duration::from_millis(50), some.next()).await;
    assert!(more.is_err(), "{more:?}");
}

pub async fn the_trace_of_a_request_comes_along<P: Provider>(provider: &P) {
    let broker = provider.connect().await;
    let mut requests = broker.serve(spec("rd.req.>", "all")).await.unwrap();
    let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let traced = Message {
        trace: trace.clone(),
        ..message("rd.req.x", "1")
    };
    let serve = async {
        let request = item(&mut requests).await;
        assert_eq!(request.trace, trace);
        request.reply.send(request.payload, None).await.unwrap();
    };
    let (body, ()) = futures::future::join(broker.request(traced, BOUND), serve).await;
    assert_eq!(body, Ok(Bytes::from("1")));
}
