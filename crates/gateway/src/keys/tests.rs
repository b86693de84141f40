#![allow(clippy::unwrap_used, clippy::panic)]

use redrive_broker::{Message, nats::ConnectOptions};
use redrive_domain::{
    credits::NO_BATCH,
    event::{Cause, Event, VERSION},
    ids::{BatchKey, EventId},
    keys::NewKey,
};
use redrive_nats_server::testing::TestServer;
use uuid::Uuid;

use super::*;

const PACE: Pace = Pace {
    check: Duration::from_millis(100),
    rest: Duration::from_millis(20),
    stale: Duration::from_secs(5),
};
const SOON: Duration = Duration::from_secs(60);

/// A log, and a gateway's keys.
struct World {
    server: TestServer,
    broker: NatsBroker,
    keys: Keyring,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    async fn new() -> Self {
        let server = tokio::task::spawn_blocking(|| TestServer::start().unwrap());
        let server = server.await.unwrap();
        let options = ConnectOptions::new(server.client_url());
        let broker = NatsBroker::connect(options).await.unwrap();
        broker.ensure().await.unwrap();
        let stop = CancellationToken::new();
        let filter = subject::events_about_keys(0, None);
        let keys = Keyring::begin(broker.clone(), filter, PACE, true, stop.clone());
        Self {
            server,
            broker,
            keys,
            stop,
        }
    }

    async fn append(&self, namespace: &Namespace, event: Event) {
        let last = self.broker.last_seq().await.unwrap();
        let envelope = Envelope {
            v: VERSION,
            id: EventId(Uuid::from_u128(u128::from(last))),
            at: Timestamp(0),
            namespace: namespace.clone(),
            batch: NO_BATCH,
            cause: Cause::State,
            actor: None,
            trace: None,
            event,
        };
        let key = BatchKey {
            namespace: namespace.clone(),
            batch: NO_BATCH,
        };
        let message = Message {
            subject: subject::event(0, &key, envelope.event.name()),
            payload: envelope.encode().unwrap().into(),
            trace: None,
        };
        self.broker.append(vec![message], last).await.unwrap();
    }

    async fn make(&self, key: u128, expires_at: Option<Timestamp>) -> Token {
        let namespace = Namespace::new("team").unwrap();
        let token = Token::new(namespace.clone(), KeyId(Uuid::from_u128(key)), [9; 32]);
        let new = NewKey {
            key: token.key,
            name: "ci".parse().unwrap(),
            scopes: "read".parse().unwrap(),
            hash: token.hash(),
            expires_at,
        };
        self.append(&namespace, Event::KeyCreated(new)).await;
        token
    }

    async fn revoke(&self, token: &Token) {
        let revoked = Event::KeyRevoked { key: token.key };
        self.append(&token.namespace, revoked).await;
    }

    /// Looks until somebody who shows this is treated so.
    async fn until(&self, token: &Token, wished: impl Fn(&Result<Holder, Shut>) -> bool) {
        let end = Instant::now() + SOON;
        loop {
            let got = self.keys.admit(token).await;
            if wished(&got) {
                return;
            }
            assert!(Instant::now() < end, "{got:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn is_out_of_touch(got: &Result<Holder, Shut>) -> bool {
    *got == Err(Shut::OutOfTouch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_good_as_soon_as_it_stands_in_the_log_and_until_its_end_does() {
    let world = World::new().await;
    // Others write to the log as well: to find a key, nobody reads all of that.
    let other = Namespace::new("other").unwrap();
    let limit = || Event::CreditsLimitSet { limit: None };
    for key in 1..=3 {
        world.append(&other, limit()).await;
        let token = world.make(key, None).await;
        let holder = world.keys.admit(&token).await.unwrap();
        assert_eq!(
            (&holder.namespace, holder.key),
            (&token.namespace, token.key)
        );
        world.append(&other, limit()).await;
        world.revoke(&token).await;
        world.keys.refresh().await.unwrap();
        let refused = world.keys.admit(&token).await.unwrap_err();
        assert_eq!(refused, Shut::Key(NotAdmitted::Revoked));
    }
    let unknown = Token::new(other.clone(), KeyId(Uuid::from_u128(1)), [9; 32]);
    let refused = world.keys.admit(&unknown).await.unwrap_err();
    assert_eq!(refused, Shut::Key(NotAdmitted::Unknown));
    let (keys, as_of) = world.keys.all(&Namespace::new("team").unwrap(), true);
    assert_eq!(
        (keys.len(), as_of),
        (3, world.broker.last_seq().await.unwrap())
    );
    assert!(world.keys.all(&other, true).0.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_let_in_on_what_was_known_once() {
    let mut world = World::new().await;
    let (one, revoked) = (world.make(1, None).await, world.make(2, None).await);
    assert!(world.keys.admit(&one).await.is_ok() && world.keys.is_read());
    let is_good = |token: &Token| world.keys.is_good(&token.namespace, token.key);
    assert!(is_good(&one));
    world.server.pause().unwrap();
    world.until(&one, is_out_of_touch).await;
    assert!(!world.keys.is_read() && !is_good(&one));
    world.server.resume().unwrap();
    world.until(&one, Result::is_ok).await;

    world.server.kill().unwrap();
    world.until(&one, is_out_of_touch).await;
    world.server.restart().unwrap();
    // What was written meanwhile, and nobody told the gateway, counts when it lets somebody in again.
    let end = Instant::now() + SOON;
    while world.broker.last_seq().await.is_err() {
        assert!(Instant::now() < end, "the broker does not come back");
    }
    world.revoke(&revoked).await;
    world
        .until(&revoked, |got| *got == Err(Shut::Key(NotAdmitted::Revoked)))
        .await;
    assert!(world.keys.admit(&one).await.is_ok());
}
