use proptest::{collection::vec, prelude::*};

use super::*;
use crate::arbitrary;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_events_come_a_ledger_balances_and_stops_anywhere(
        log in vec((any::<u64>(), arbitrary::envelope()), 0..80),
    ) {
        let (mut straight, mut stopped) = (Ledgers::default(), Ledgers::default());
        for (seq, envelope) in &log {
            straight.take(*seq, envelope);
            stopped.take(*seq, envelope);
            let bytes = rmp_serde::to_vec_named(&stopped).unwrap();
            stopped = rmp_serde::from_slice(&bytes).unwrap();
            prop_assert_eq!(&straight, &stopped);
            prop_assert_eq!(rmp_serde::to_vec_named(&straight).unwrap(), bytes);
            for account in straight.iter().flat_map(|(_, ledger)| ledger.months.values()) {
                let ended = u128::from(account.settled) + u128::from(account.released);
                prop_assert_eq!(u128::from(account.reserved), ended + u128::from(account.held()));
            }
        }
    }
}

#[test]
fn months_are_those_of_utc() {
    for (time, month) in [
        ("2026-11-30T23:59:59.999Z", "2026-11"),
        ("2026-12-01T00:00:00Z", "2026-12"),
        ("2026-12-01T00:30:00+02:00", "2026-11"),
        ("0000-01-01T00:00:00Z", "0000-01"),
    ] {
        assert_eq!(Month::of(time.parse().unwrap()).to_string(), month);
    }
    assert_eq!(Month::of(Timestamp(i64::MIN)).to_string(), "1970-01");
    let month: Month = "2026-12".parse().unwrap();
    assert_eq!(month.next().to_string(), "2027-01");
    for bad in [
        "",
        "2026",
        "2026-13",
        "2026-1",
        "26-11",
        "2026-11-01",
        "+026-11",
    ] {
        assert!(bad.parse::<Month>().is_err(), "{bad}");
    }
}

#[test]
fn a_ledger_keeps_a_bounded_number_of_months_and_all_that_is_held() {
    let mut ledgers = Ledgers::default();
    let mut month: Month = "2000-01".parse().unwrap();
    let first = month;
    let story = &mut crate::decide::tests::story::nothing();
    let mut take = |seq, event| ledgers.take(seq, &story.envelope(event, Cause::State));
    for seq in 1..500 {
        let documents = UnitSet::run(0, 1);
        let amount = 1;
        take(
            seq,
            Event::CreditsReserved {
                month,
                amount,
                documents: documents.clone(),
            },
        );
        if seq > 1 {
            take(
                seq,
                Event::CreditsReleased {
                    month,
                    amount,
                    documents,
                },
            );
        }
        month = month.next();
    }
    let (_, ledger) = ledgers.iter().next().unwrap();
    assert_eq!(ledger.months.len(), CREDIT_MONTHS);
    assert_eq!(ledger.account(first).held(), 1);
}
