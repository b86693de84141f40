use proptest::{collection::vec, prelude::*};

use super::*;
use crate::arbitrary;

fn chapters(log: &[Envelope], from: usize) -> Vec<Vec<TimelineRow>> {
    let mut fold = Chapters::default();
    let mut found = Vec::new();
    for (seq, envelope) in (1..).zip(log).skip(from) {
        found.extend(fold.take(seq, envelope));
    }
    found.extend(fold.rest());
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn each_event_is_told_once_and_a_page_may_begin_with_any_chapter(
        log in vec(arbitrary::envelope(), 0..60),
    ) {
        let all = chapters(&log, 0);
        let events: u64 = all.iter().flatten().map(|row| row.events).sum();
        prop_assert_eq!(events, log.len() as u64);
        let mut next = 1;
        for (place, chapter) in all.iter().enumerate() {
            prop_assert_eq!(chapter[0].seq, next, "a chapter begins where the one before ended");
            prop_assert!(chapter.is_sorted_by_key(|row| row.seq));
            prop_assert!(chapter.iter().all(|row| row.text.chars().count() <= 301));
            let again = chapters(&log, usize::try_from(next).unwrap() - 1);
            prop_assert_eq!(&again[..], &all[place..]);
            next += chapter.iter().map(|row| row.events).sum::<u64>();
        }
    }
}

fn envelope(event: Event) -> Envelope {
    let json = serde_json::json!({
        "v": 1, "id": uuid::Uuid::nil(), "at": "2026-01-31T12:00:00Z", "namespace": "tests",
        "batch": uuid::Uuid::from_u128(1), "cause": "state", "actor": "ann",
        "event": { "tier.started": { "tier": 0 } },
    });
    let envelope: Envelope = serde_json::from_value(json).unwrap();
    Envelope { event, ..envelope }
}

fn completed(job: &str, units: u32) -> Envelope {
    let json = serde_json::json!({ "documents.completed": {
        "attempt": { "tier": 0, "job": job, "number": 1, "chunk": uuid::Uuid::nil() },
        "units": [[0, units - 1]], "skipped": [],
    }});
    envelope(serde_json::from_value(json).unwrap())
}

#[test]
fn what_goes_on_is_told_together_and_what_changes_alone() {
    let log = [
        envelope(Event::TierStarted { tier: 0 }),
        completed("a", 10),
        completed("b", 5),
        completed("a", 20),
        envelope(Event::BatchCancelled {
            reason: Some("enough".into()),
            documents: 7,
        }),
    ];
    let told = chapters(&log, 0);
    let rows = told.iter().flatten();
    let said: Vec<(u64, u64, u64, String)> = rows
        .map(|row| (row.seq, row.last_seq, row.events, row.sentence()))
        .collect();
    let text = |text: &str| text.to_owned();
    assert_eq!(
        said,
        [
            (1, 1, 1, text("tier 0 started")),
            (2, 4, 2, text("tier 0 a: 30 completed")),
            (3, 3, 1, text("tier 0 b: 5 completed")),
            (
                5,
                5,
                1,
                text("batch cancelled with 7 documents on the way: enough")
            ),
        ]
    );
}

#[test]
fn an_event_without_words_of_its_own_is_told_by_its_fields() {
    let event = serde_json::json!({ "dispatch.resumed": { "jobs": [
        { "tier": 0, "job": "a" }, { "tier": 2, "job": "b" },
    ]}});
    let log = [envelope(serde_json::from_value(event).unwrap())];
    let told = chapters(&log, 0);
    assert_eq!(
        told[0][0].sentence(),
        "dispatch resumed: jobs tier 0 a, tier 2 b"
    );
}
