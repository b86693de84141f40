use proptest::{collection::vec, prelude::*};
use uuid::Uuid;

use super::*;
use crate::{
    arbitrary,
    event::{Cause, VERSION},
    ids::EventId,
};

fn namespace() -> Namespace {
    Namespace::new("team_a").unwrap()
}

fn token(key: u128) -> Token {
    Token::new(namespace(), KeyId(Uuid::from_u128(key)), [0xab; 32])
}

fn envelope(at: i64, event: Event) -> Envelope {
    Envelope {
        v: VERSION,
        id: EventId(Uuid::nil()),
        at: Timestamp(at),
        namespace: namespace(),
        batch: NO_BATCH,
        cause: Cause::State,
        actor: Some("ann".to_owned()),
        trace: None,
        event,
    }
}

fn new(token: &Token, expires_at: Option<i64>) -> Event {
    Event::KeyCreated(NewKey {
        key: token.key,
        name: KeyName::new("ci").unwrap(),
        scopes: "read".parse().unwrap(),
        hash: token.hash(),
        expires_at: expires_at.map(Timestamp),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_events_come_keys_are_folded_and_stop_anywhere(
        log in vec((any::<u64>(), arbitrary::envelope(), any::<bool>()), 0..60),
    ) {
        let (mut straight, mut stopped) = (Keyrings::default(), Keyrings::default());
        for (seq, envelope, of_the_namespace) in log {
            let batch = if of_the_namespace { NO_BATCH } else { envelope.batch };
            let envelope = Envelope { batch, ..envelope };
            let before = straight.clone();
            straight.take(seq, &envelope);
            stopped.take(seq, &envelope);
            prop_assert!(of_the_namespace || before == straight, "nobody else makes a key");
            let bytes = rmp_serde::to_vec_named(&stopped).unwrap();
            stopped = rmp_serde::from_slice(&bytes).unwrap();
            prop_assert_eq!(&straight, &stopped);
            prop_assert_eq!(rmp_serde::to_vec_named(&straight).unwrap(), bytes);
        }
    }

    #[test]
    fn any_text_is_a_token_or_an_error_that_does_not_repeat_it(text in "(rdk_)?[a-f0-9_]{0,120}") {
        match text.parse::<Token>() {
            Ok(token) => prop_assert_eq!(token.reveal(), text),
            Err(error) => prop_assert!(!error.to_string().contains(&text) || text.len() < 5),
        }
    }
}

#[test]
fn a_token_is_read_as_it_was_shown_and_never_printed_by_accident() {
    let token = token(0x0198);
    let text = token.reveal();
    let secret = "ab".repeat(32);
    assert_eq!(
        text,
        format!("rdk_team_a_00000000000000000000000000000198_{secret}")
    );
    let read: Token = text.parse().unwrap();
    assert_eq!((&read.namespace, read.key), (&token.namespace, token.key));
    assert_eq!(read.hash(), token.hash());
    assert!(!format!("{token:?}").contains("abab"));
    // As `printf %s KEY | sha256sum` says it.
    let hash = String::from(token.hash());
    let there = SecretHash::try_from(hash.clone()).unwrap();
    assert_eq!((there == token.hash(), hash.len()), (true, 7 + 64));

    let upper = text.replace("ab", "AB");
    let longer = format!("{text}0");
    for bad in [
        "",
        "rdk_",
        &upper,
        &longer,
        &text[1..],
        &text[..40],
        "rdk_a_b_c",
    ] {
        assert!(bad.parse::<Token>().is_err(), "{bad}");
    }
    // Who gives the secret in place of its hash does not find it in an error, nor in the log.
    let error = SecretHash::try_from(text).unwrap_err().to_string();
    assert!(!error.contains(&secret), "{error}");
}

#[test]
fn scopes_are_some_of_three() {
    let both: Scopes = "operate, read".parse().unwrap();
    assert_eq!(both.to_string(), "read,operate");
    assert!(both.has(Scope::Operate) && !both.has(Scope::Admin));
    assert_eq!(
        serde_json::to_string(&both).unwrap(),
        r#"["read","operate"]"#
    );
    let admin: Scopes = "admin".parse().unwrap();
    assert!(!admin.has(Scope::Read), "no scope includes another");
    for bad in ["", ",", "write", "read,write", "READ"] {
        assert!(bad.parse::<Scopes>().is_err(), "{bad}");
    }
    assert!(serde_json::from_str::<Scopes>("[]").is_err());
}

#[test]
fn who_shows_a_key_is_admitted_until_it_ends() {
    let mut rings = Keyrings::default();
    let (one, other) = (token(1), token(2));
    rings.take(1, &envelope(0, new(&one, Some(100))));
    rings.take(2, &envelope(0, new(&other, None)));
    let admitted = |rings: &Keyrings, token: &Token, at| {
        rings.admit(token, Timestamp(at)).map(|key| key.created_seq)
    };
    assert_eq!(admitted(&rings, &one, 99), Ok(1));
    let expired = NotAdmitted::Expired(Timestamp(100));
    assert_eq!(admitted(&rings, &one, 100), Err(expired));
    // The secret of one key is none of another, nor of another namespace.
    let mixed = Token::new(namespace(), other.key, [0; 32]);
    let elsewhere = Token::new(Namespace::new("b").unwrap(), one.key, [0xab; 32]);
    for unknown in [&token(3), &mixed, &elsewhere] {
        assert_eq!(admitted(&rings, unknown, 0), Err(NotAdmitted::Unknown));
    }
    let revoked = Event::KeyRevoked { key: other.key };
    rings.take(3, &envelope(7, revoked.clone()));
    rings.take(4, &envelope(8, revoked));
    assert_eq!(admitted(&rings, &other, 0), Err(NotAdmitted::Revoked));
    // A second secret for a key changes nothing, neither does it bring it back.
    rings.take(5, &envelope(9, new(&other, None)));
    assert_eq!(admitted(&rings, &other, 0), Err(NotAdmitted::Revoked));
    let key = rings.of(&namespace()).unwrap().get(other.key).unwrap();
    let (by, seq) = (Some("ann".to_owned()), 3);
    let at = Timestamp(7);
    assert_eq!(key.revoked, Some(Revoked { at, by, seq }));
}

#[test]
fn a_bounded_number_of_keys_is_kept_and_all_that_are_good() {
    let mut rings = Keyrings::default();
    let mut seq = 0;
    let mut take = |rings: &mut Keyrings, event| {
        seq += 1;
        rings.take(seq, &envelope(i64::try_from(seq).unwrap(), event));
    };
    let kept = KEYS_KEPT as u128;
    for key in 0..kept {
        take(&mut rings, new(&token(key), None));
    }
    let has = |rings: &Keyrings, key| {
        rings
            .of(&namespace())
            .unwrap()
            .get(token(key).key)
            .is_some()
    };
    for key in [7, 5] {
        let key = token(key).key;
        take(&mut rings, Event::KeyRevoked { key });
    }
    take(&mut rings, new(&token(kept), None));
    assert!(
        !has(&rings, 7) && has(&rings, 5),
        "the first that ended goes first"
    );
    take(&mut rings, new(&token(kept + 1), None));
    take(&mut rings, new(&token(kept + 2), None));
    assert!(!has(&rings, 5) && has(&rings, 0), "what is good stays");
    let ring = rings.of(&namespace()).unwrap();
    assert_eq!(ring.iter().count(), KEYS_KEPT + 1);
    assert_eq!(ring.live(Timestamp(0)), KEYS_KEPT + 1);
}
