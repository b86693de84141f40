//! Keys: made once, ended once, so many and no more.

use uuid::Uuid;

use super::story::key;
use crate::{
    command::{Command, CreateKey, Refusal, RevokeKey, Verb},
    credits::NO_BATCH,
    decide::{self, Decision, Tenant},
    event::{Cause, Envelope, Event, VERSION},
    ids::{BatchKey, Bucket, CommandId, EventId, KeyId, KeyName},
    keys::{Keyrings, SecretHash},
    limits::KEYS_PER_NAMESPACE,
    time::Timestamp,
};

/// The keys of a namespace, and what is decided about them.
#[derive(Default)]
struct Keys {
    rings: Keyrings,
    seq: u64,
    now: i64,
}

fn nobody() -> BatchKey {
    BatchKey {
        batch: NO_BATCH,
        ..key()
    }
}

fn create(key: u128) -> CreateKey {
    CreateKey {
        key: KeyId(Uuid::from_u128(key)),
        name: KeyName::new("ci").unwrap(),
        scopes: "read,operate".parse().unwrap(),
        hash: SecretHash([1; 32]),
        expires_at: None,
    }
}

fn revoke(key: u128) -> Command {
    Command::RevokeKey(RevokeKey {
        key: KeyId(Uuid::from_u128(key)),
    })
}

impl Keys {
    fn ask(&mut self, place: &BatchKey, command: &Command) -> Result<Decision, Refusal> {
        let tenant = Tenant {
            ledger: None,
            keys: self.rings.of(&place.namespace),
        };
        let bucket = Bucket::new("_").unwrap();
        let (at, id) = (Timestamp(self.now), CommandId(Uuid::nil()));
        let decided = decide::command_within(tenant, at, None, place, &bucket, id, command)?;
        for event in &decided.events {
            self.seq += 1;
            let envelope = Envelope {
                v: VERSION,
                id: EventId(Uuid::nil()),
                at,
                namespace: place.namespace.clone(),
                batch: place.batch,
                cause: Cause::Command(id),
                actor: None,
                trace: None,
                event: event.clone(),
            };
            self.rings.take(self.seq, &envelope);
        }
        Ok(decided)
    }

    fn create(&mut self, create: CreateKey) -> Result<Decision, Refusal> {
        self.ask(&nobody(), &Command::CreateKey(create))
    }
}

#[test]
fn a_key_is_made_once_and_ended_once() {
    let mut keys = Keys::default();
    let made = keys.create(create(1)).unwrap();
    assert_eq!(made.events, [Event::KeyCreated(create(1).into())]);
    assert!(!made.accepted.repeated);
    // Again, even with another secret: what counts is the first one.
    let hash = SecretHash([2; 32]);
    let again = keys.create(CreateKey { hash, ..create(1) }).unwrap();
    assert_eq!((again.events.len(), again.accepted.repeated), (0, true));
    assert_eq!(again.accepted.seq, 1);
    let scopes = "admin".parse().unwrap();
    let other = keys.create(CreateKey {
        scopes,
        ..create(1)
    });
    assert!(matches!(other, Err(Refusal::Conflict { .. })), "{other:?}");

    let ended = keys.ask(&nobody(), &revoke(1)).unwrap();
    assert_eq!(ended.events.len(), 1);
    let again = keys.ask(&nobody(), &revoke(1)).unwrap();
    assert_eq!((again.events.len(), again.accepted.seq), (0, 2));
    // A command that comes late does not bring it back.
    assert!(keys.create(create(1)).unwrap().accepted.repeated);
    let unknown = keys.ask(&nobody(), &revoke(2));
    assert!(
        matches!(unknown, Err(Refusal::NotFound { .. })),
        "{unknown:?}"
    );
    // Nor is a namespace's key another one's.
    let elsewhere = BatchKey {
        namespace: "else".parse().unwrap(),
        ..nobody()
    };
    let theirs = keys.ask(&elsewhere, &revoke(1));
    assert!(
        matches!(theirs, Err(Refusal::NotFound { .. })),
        "{theirs:?}"
    );
}

#[test]
fn a_key_ends_later_than_it_is_made_and_is_no_batchs() {
    let mut keys = Keys {
        now: 100,
        ..Keys::default()
    };
    let expiring = |at| CreateKey {
        expires_at: Some(Timestamp(at)),
        ..create(1)
    };
    let past = keys.create(expiring(100)).unwrap_err();
    assert!(past.to_string().contains("expires_at"), "{past}");
    assert!(keys.create(expiring(101)).is_ok());
    for command in [Command::CreateKey(create(2)), revoke(1)] {
        let refused = keys.ask(&key(), &command).unwrap_err();
        assert!(refused.to_string().contains("batch"), "{refused}");
    }
}

#[test]
fn a_namespace_has_so_many_good_keys_and_no_more() {
    let mut keys = Keys::default();
    for key in 0..KEYS_PER_NAMESPACE {
        let expires_at = (key == 0).then_some(Timestamp(50));
        let create = CreateKey {
            expires_at,
            ..create(key as u128)
        };
        keys.create(create).unwrap();
    }
    let one_more = u128::MAX;
    assert!(matches!(
        keys.create(create(one_more)),
        Err(Refusal::Conflict { .. })
    ));
    keys.ask(&nobody(), &revoke(9)).unwrap();
    assert!(keys.create(create(one_more)).is_ok());
    assert!(keys.create(create(one_more - 1)).is_err());
    // One that is over makes room by itself.
    keys.now = 50;
    assert!(keys.create(create(one_more - 1)).is_ok());
}

#[test]
fn a_secret_that_is_given_by_mistake_is_not_repeated() {
    let secret = format!("rdk_a_{}_{}", "0".repeat(32), "c".repeat(64));
    for body in [
        format!(
            r#"{{"key":"{}","name":"ci","scopes":["read"],"hash":"{secret}"}}"#,
            Uuid::nil()
        ),
        format!(r#"{{"key":"{secret}","name":"ci","scopes":["read"]}}"#),
    ] {
        let refused = Command::read_body(Verb::CreateKey, body.as_bytes()).unwrap_err();
        assert!(!refused.to_string().contains("cccc"), "{refused}");
    }
}
