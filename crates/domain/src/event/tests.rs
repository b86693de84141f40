use proptest::prelude::*;

use super::*;
use crate::{arbitrary, command::Answer};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn an_event_comes_back_from_the_log_and_from_json_as_it_was(envelope in arbitrary::envelope()) {
        let bytes = envelope.encode().unwrap();
        let back = Envelope::decode(&bytes).unwrap();
        prop_assert_eq!(&back, &envelope);
        prop_assert_eq!(back.encode().unwrap(), bytes);
        let json = serde_json::to_string(&envelope).unwrap();
        let back: Envelope = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&back, &envelope, "{}", json);
    }

    #[test]
    fn any_bytes_are_an_event_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
        let _ = Envelope::decode(&bytes);
    }

    #[test]
    fn an_event_that_was_cut_or_changed_is_an_event_or_an_error(
        envelope in arbitrary::envelope(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = envelope.encode().unwrap();
        let at = at.index(bytes.len());
        prop_assert!(Envelope::decode(&bytes[..at]).is_err());
        bytes[at] = byte;
        let _ = Envelope::decode(&bytes);
    }
}

#[test]
fn every_answer_reads_back() {
    for refusal in [
        Refusal::invalid("a", "is wrong"),
        Refusal::conflict("not now"),
        Refusal::NotFound {
            what: "batch".into(),
        },
        Refusal::NotAllowed {
            message: "no".into(),
        },
        Refusal::Credits(crate::command::Shortage {
            month: "2026-11".parse().unwrap(),
            limit: 5,
            left: 1,
            takes: 3,
            missing: 2,
        }),
        Refusal::KeyReused,
    ] {
        let message = refusal.to_string();
        let answer: Answer<u32> = Answer::Error { refusal, message };
        let json = serde_json::to_string(&answer).unwrap();
        let back = serde_json::from_str::<Answer<u32>>(&json);
        assert_eq!(back.map_err(|e| e.to_string()), Ok(answer), "{json}");
    }
}
