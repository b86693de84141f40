//! Invariants of ARCHITECTURE.md that show in the domain alone, by their names. Others are beside what they are about:
//! `docs/reliability.md` says where.

use super::story::*;
use crate::{
    decide::settle,
    evolve::{Batches, evolve, evolve_among},
    failure::FailureKind,
    state::BatchState,
    status::BatchStatus,
};

/// A batch with a bit of everything, to its end.
fn eventful() -> Story {
    given("a b | c | !d")
        .documents(40)
        .done(0, "a", 0..40)
        .fails(0, "b", 0..4, FailureKind::NETWORK)
        .fails(0, "b", 4..6, FailureKind::REJECTED)
        .worker_lost(0, "b", 6..20)
        .done(0, "b", 0..4)
        .done(0, "b", 6..20)
        .done(0, "b", 20..40)
        .done(1, "c", 0..4)
        .done(1, "c", 6..40)
        .done(2, "d", 0..4)
        .done(2, "d", 6..40)
        .status(BatchStatus::CompletedWithFailures)
        .retry(crate::command::Retry {
            retry_mode: crate::command::RetryMode::All,
            ..retry()
        })
        .done(0, "b", 4..6)
        .done(1, "c", 4..6)
        .done(2, "d", 4..6)
        .status(BatchStatus::Completed)
}

#[test]
fn one_message_is_one_event_and_what_follows_is_recomputed_from_state_after_a_crash() {
    let story = eventful();
    for crash in 1..=story.log.len() {
        // Whoever comes after the crash has read the log so far, from bytes or from a snapshot.
        let mut state = None;
        for (seq, envelope) in &story.log[..crash] {
            evolve(&mut state, *seq, envelope);
        }
        let bytes = state
            .as_ref()
            .map(|batch: &BatchState| batch.encode().unwrap());
        let restored = bytes.map(|bytes| BatchState::decode(&bytes).unwrap());
        let follows = restored.as_ref().and_then(settle);
        assert_eq!(follows, state.as_ref().and_then(settle));
        // What had followed by itself follows again, and nothing that had not.
        let next = story.log.get(crash).map(|(_, envelope)| envelope);
        let followed = next.filter(|envelope| envelope.cause == crate::event::Cause::State);
        assert_eq!(follows, followed.map(|envelope| envelope.event.clone()));
    }
}

#[test]
fn the_same_log_gives_the_same_state_byte_for_byte() {
    let story = eventful();
    let expected = story.state().encode().unwrap();
    let mut alone = None;
    let mut among = Batches::new();
    for (seq, envelope) in &story.log {
        let read = crate::event::Envelope::decode(&envelope.encode().unwrap()).unwrap();
        evolve(&mut alone, *seq, &read);
        evolve_among(&mut among, *seq, &read);
        // Going through a store at any point changes nothing.
        alone = alone.map(|batch| BatchState::decode(&batch.encode().unwrap()).unwrap());
    }
    assert_eq!(alone.unwrap().encode().unwrap(), expected);
    assert_eq!(among[&key()].encode().unwrap(), expected);
}

#[test]
fn nothing_is_unbounded_a_document_in_flight_costs_a_few_bytes() {
    let documents = 200_000;
    let mut story = given("a | b");
    for first in (0..documents).step_by(10_000) {
        story = story.command(page(first, 10_000));
    }
    let mut story = story.submit();
    // Outcomes as they come of chunks: every hundredth document fails, some wait, some are through.
    for first in (0..documents).step_by(1_000) {
        story = story.outcome(0, "a", |report| {
            let one = first / 1_000 % 7;
            report
                .failed(first..first + 10, FailureKind::NETWORK)
                .done(first + 10..first + 900 + one)
        });
    }
    let bytes = story.state().encode().unwrap().len();
    assert!(
        bytes < documents as usize / 2,
        "{bytes} bytes for {documents} documents"
    );
    assert!(story.state().counts().open > 0);
}
