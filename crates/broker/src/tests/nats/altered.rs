//! What somebody changed by hand at the broker.

use async_nats::jetstream::{
    self,
    stream::{Config, RetentionPolicy},
};

use super::{NatsProvider, new_provider, old_provider};
use crate::{Broker, BrokerError, Inspection, StreamRole, Taker, contract::ready};

/// The settings that differ, as `setting: found`.
fn differing(seen: &Inspection, role: StreamRole) -> Vec<String> {
    let stream = seen.stream(role).unwrap();
    let differences = &stream.found.as_ref().unwrap().differences;
    differences
        .iter()
        .map(|one| format!("{}: {}", one.setting, one.found))
        .collect()
}

async fn is_seen_and_repaired(provider: Option<NatsProvider>) {
    let Some(provider) = provider else { return };
    let broker = ready(&provider).await;
    let client = async_nats::connect(provider.0.client_url()).await.unwrap();
    let context = jetstream::new(client);
    let mut log = context.get_stream("RD_EVENTS_0").await.unwrap();
    let mut config = log.info().await.unwrap().config.clone();
    config.max_messages = 1_000;
    config.max_age = std::time::Duration::from_secs(3_600);
    context.update_stream(config).await.unwrap();
    let seen = broker.inspect().await.unwrap();
    let found = differing(&seen, StreamRole::Log);
    assert_eq!(found, ["max_age: 3600000000000", "max_msgs: 1000"]);
    assert!(differing(&seen, StreamRole::Inbox).is_empty());
    broker.repair().await.unwrap();
    let seen = broker.inspect().await.unwrap();
    assert!(differing(&seen, StreamRole::Log).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_the_log_are_seen_and_repaired() {
    is_seen_and_repaired(new_provider().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_the_log_are_seen_and_repaired_on_an_old_server() {
    is_seen_and_repaired(old_provider().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_changed_in_place_is_an_error() {
    let provider = new_provider().await.unwrap();
    let client = async_nats::connect(provider.0.client_url()).await.unwrap();
    let context = jetstream::new(client);
    let config = Config {
        name: "RD_WORK_0".to_owned(),
        subjects: vec!["rd.work.0.>".to_owned()],
        retention: RetentionPolicy::Limits,
        ..Config::default()
    };
    context.create_stream(config).await.unwrap();
    let broker = ready(&provider).await;
    let seen = broker.inspect().await.unwrap();
    let found = differing(&seen, StreamRole::Work);
    assert_eq!(found, ["retention: \"limits\""]);
    let refused = broker.repair().await.unwrap_err();
    assert!(
        matches!(&refused, BrokerError::Other(text) if text.contains("RD_WORK_0")),
        "{refused}"
    );
    // Made anew it is as it should be.
    context.delete_stream("RD_WORK_0").await.unwrap();
    broker.repair().await.unwrap();
    let seen = broker.inspect().await.unwrap();
    assert!(differing(&seen, StreamRole::Work).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_of_workers_are_seen() {
    let provider = new_provider().await.unwrap();
    let broker = ready(&provider).await;
    let (handler, class) = ("noop".parse().unwrap(), "cpu".parse().unwrap());
    let _taking = broker.take(&handler, &class).await.unwrap();
    let chunk = crate::contract::message("rd.work.0.noop.cpu.ns.a.1", "1");
    broker.offer(vec![chunk]).await.unwrap();
    let seen = broker.inspect().await.unwrap();
    let [pool] = &seen.consumers[..] else {
        panic!("{:?}", seen.consumers);
    };
    assert_eq!(pool.of, Taker::Pool(handler, class));
    assert_eq!((pool.pending, pool.unacknowledged), (1, 0));
    assert_eq!(pool.differences, []);
}
