use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::*;
use crate::{
    arbitrary,
    document::{Document, Output},
    event::Event,
    packed::Packed,
    pause::PauseReason,
};

fn header(redacted: bool) -> Header {
    let key = BatchKey {
        namespace: Namespace::new("tests").unwrap(),
        batch: BatchId(uuid::Uuid::from_u128(1)),
    };
    Header::new(key, "0.1.0 (\u{fc})".into(), Timestamp(7), redacted)
}

fn write(log: &[Envelope], redacted: bool) -> String {
    let (mut writer, mut file) = Writer::begin(&header(redacted)).unwrap();
    for (seq, envelope) in (1u64..).zip(log) {
        let payload = envelope.encode().unwrap();
        let subject = format!("rd.evt.0.tests.{}.x", envelope.batch);
        let line = writer.event(seq * 3, &subject, &payload).unwrap();
        file.extend(line);
    }
    file.push_str(&writer.end().unwrap().0);
    file
}

fn read(file: &[u8]) -> Result<(Vec<StoredEvent>, Trailer), Broken> {
    let mut reader = Reader::default();
    let mut events = Vec::new();
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        let whole = line.strip_suffix(b"\n");
        if let Item::Event(event) = reader.line(whole.unwrap_or(line), whole.is_some())? {
            events.push(*event);
        }
    }
    let (_, trailer) = reader.end()?;
    Ok((events, trailer))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_file_gives_back_what_went_in_and_every_other_file_is_refused(
        log in vec(arbitrary::envelope(), 0..12),
        place in any::<proptest::sample::Index>(),
        bit in 0u8..7,
    ) {
        let file = write(&log, false);
        prop_assert!(file.is_ascii());
        let (events, trailer) = read(file.as_bytes()).unwrap();
        prop_assert_eq!(trailer.events, log.len() as u64);
        let mut state = None;
        for ((seq, envelope), event) in (1u64..).zip(&log).zip(&events) {
            prop_assert_eq!((event.seq, event.envelope()), (seq * 3, Ok(envelope.clone())));
            evolve(&mut state, event.seq, envelope);
        }
        prop_assert_eq!(trailer.folded, state.as_ref().map(Folded::of));

        // Cut anywhere but before its last line feed it is truncated, or nothing at all.
        let end = place.index(file.len() - 1);
        let cut = read(&file.as_bytes()[..end]);
        let truncated = matches!(cut, Err(Broken::Truncated { .. } | Broken::NotAnExport));
        prop_assert!(truncated, "cut at {end}: {cut:?}");

        // Changed anywhere it is not taken; what changes one line end alone may be.
        let mut changed = file.clone().into_bytes();
        let before = changed[end];
        changed[end] ^= 1 << bit;
        let line_ends = b"\r\n".contains(&before) || b"\r\n".contains(&changed[end]);
        let of_the_end = end > file.trim_end().rfind('\n').unwrap_or(0);
        prop_assert!(line_ends || of_the_end || read(&changed).is_err(), "changed at {end}");
    }

    #[test]
    fn what_is_redacted_folds_to_the_same(log in vec(arbitrary::envelope(), 0..30)) {
        let (mut whole, mut redacted) = (None, None);
        for (seq, envelope) in (1..).zip(&log) {
            evolve(&mut whole, seq, envelope);
            // What arbitrary events hold as documents or outputs may be unreadable.
            let Ok(event) = super::redacted(envelope.clone()) else { return Ok(()) };
            evolve(&mut redacted, seq, &event);
        }
        if let (Some(whole), Some(redacted)) = (&mut whole, &mut redacted) {
            redacted.pipeline = whole.pipeline.clone();
            for job in whole.tiers.iter_mut().flat_map(|tier| &mut tier.jobs) {
                if let Some(PauseReason::Misconfigured(failure)) =
                    job.paused.as_mut().map(|paused| &mut paused.reason)
                {
                    failure.detail = None;
                }
            }
        }
        prop_assert_eq!(whole, redacted);
    }
}

fn envelope(event: Event) -> Envelope {
    let json = json!({
        "v": 1, "id": uuid::Uuid::nil(), "at": "2026-01-31T12:00:00Z", "namespace": "tests",
        "batch": uuid::Uuid::from_u128(1), "cause": "state",
        "event": { "tier.started": { "tier": 0 } },
    });
    let envelope: Envelope = serde_json::from_value(json).unwrap();
    Envelope { event, ..envelope }
}

fn created() -> Envelope {
    let pipeline = json!({ "name": "curl -u SECRET {}", "tiers": [
        { "jobs": [{ "handler": "exec", "params": { "env": { "KEY": "SECRET" } } }] },
    ] });
    envelope(Event::BatchCreated {
        bucket: crate::ids::Bucket::new("inbox").unwrap(),
        pipeline: crate::pipeline::Pipeline::from_value(&pipeline).unwrap(),
        start: crate::command::Start::OnSubmit,
    })
}

#[test]
fn what_is_redacted_has_none_of_the_data() {
    let document = Document {
        id: "the-id".into(),
        uri: Some("https://x/?token=SECRET".into()),
        data: Some(json!({ "name": "SECRET" })),
    };
    let failed = json!({ "documents.failed": {
        "attempt": { "tier": 0, "job": "exec", "number": 1, "chunk": uuid::Uuid::nil() },
        "class": "permanent", "kind": "rejected",
        "units": [{ "units": [[1, 1]], "failure": {
            "kind": "rejected", "message": "the-message", "detail": "SECRET" } }],
    }});
    let completed = json!({ "documents.completed": {
        "attempt": { "tier": 0, "job": "exec", "number": 1, "chunk": uuid::Uuid::nil() },
        "units": [[0, 0]], "skipped": [],
    }});
    let mut completed: Event = serde_json::from_value(completed).unwrap();
    if let Event::DocumentsCompleted { outputs, .. } = &mut completed {
        *outputs = Some(Packed::new(&vec![(0, Output::text("SECRET"))]).unwrap());
    }
    let log = [
        created(),
        envelope(Event::DocumentsAdded {
            first: 0,
            count: 2,
            documents: Packed::new(&vec![document, Document::new("other")]).unwrap(),
        }),
        envelope(Event::BatchSubmitted { documents: 2 }),
        envelope(completed),
        envelope(serde_json::from_value(failed).unwrap()),
    ];
    let contains = |file: &str, word: &str| {
        let (events, _) = read(file.as_bytes()).unwrap();
        let holds = |event: &StoredEvent| {
            let bytes = &event.payload;
            bytes
                .windows(word.len())
                .any(|part| part == word.as_bytes())
        };
        events.iter().any(holds)
    };
    let (open, redacted) = (write(&log, false), write(&log, true));
    for word in ["the-id", "the-message"] {
        assert!(contains(&open, word) && contains(&redacted, word), "{word}");
    }
    assert!(contains(&open, "SECRET") && !contains(&redacted, "SECRET"));
    let folded = |file: &str| read(file.as_bytes()).unwrap().1.folded.unwrap();
    assert_eq!(folded(&open), folded(&redacted));
    assert_eq!(
        (folded(&open).counts.completed, folded(&open).counts.failed),
        (1, 1)
    );
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    let file = write(
        &[created(), envelope(Event::TierStarted { tier: 0 })],
        false,
    );
    let lines: Vec<&str> = file.lines().collect();
    let joined = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let told = |file: String| read(file.as_bytes()).map(|_| ()).unwrap_err().to_string();

    assert!(told("name = \"x\"\n".into()).contains("no file that `redrive export` wrote"));
    assert!(told(String::new()).contains("no file that `redrive export` wrote"));
    let later = file.replace("\"redrive_export\":1", "\"redrive_export\":2");
    assert!(told(later).contains("format 2, this version reads up to 1"));
    assert!(told(joined(&lines[..2])).contains("cut short after 1 events"));
    assert!(told(file[..file.len() - 9].to_owned()).contains("cut short after 2 events"));
    let swapped = joined(&[lines[0], lines[2], lines[1], lines[3]]);
    assert!(told(swapped).contains("line 3: it is not in order"));
    let missing = joined(&[lines[0], lines[2], lines[3]]);
    assert!(told(missing).contains("2 events were written, 1 are here"));
    let edited = file.replacen("\"seq\":3", "\"seq\":2", 1);
    assert!(told(edited).contains("not those that were written"));
    assert!(told(format!("{file}{}\n", lines[1])).contains("after the last line"));

    // What mail does to line ends does no harm.
    assert!(read(file.replace('\n', "\r\n").as_bytes()).is_ok());
    assert!(read(format!("{}\n\n", file).as_bytes()).is_ok());
    assert!(read(file.trim_end().as_bytes()).is_ok());
}

#[test]
fn an_event_of_a_later_version_is_kept_or_left_out_and_never_shown_as_redacted() {
    let (mut writer, _) = Writer::begin(&header(false)).unwrap();
    assert!(writer.event(1, "s", b"later").unwrap().is_some());
    let (mut writer, _) = Writer::begin(&header(true)).unwrap();
    assert!(writer.event(1, "s", b"later").unwrap().is_none());
    assert_eq!(writer.end().unwrap().1.left_out, 1);
}
