use super::story::*;
use crate::{
    command::{AddDocuments, Command, Start, Submit},
    document::Document,
    limits::{
        DOCUMENT_DATA_BYTES, DOCUMENT_ID_BYTES, DOCUMENT_URI_BYTES, DOCUMENTS_PER_BATCH,
        DOCUMENTS_PER_PAGE,
    },
    status::BatchStatus,
};

fn only(document: Document) -> Command {
    Command::AddDocuments(AddDocuments {
        first: None,
        documents: vec![Document::new("fine"), document],
    })
}

#[test]
fn pages_follow_each_other_and_a_page_that_is_there_is_not_added_again() {
    let story = given("a")
        .command(page(0, 10))
        .accepted()
        .events(&["batch.documents_added"])
        .command(page(10, 5))
        .accepted()
        .command(page(0, 10))
        .repeated()
        .command(page(10, 5))
        .repeated();
    assert_eq!(story.state().documents, 15);
    assert_eq!(story.answer().documents, 15);
}

#[test]
fn a_page_beyond_the_end_is_a_conflict_that_says_where_to_go_on() {
    given("a")
        .command(page(0, 10))
        .command(page(11, 5))
        .refused("conflict", "the next page begins at 10");
}

#[test]
fn of_a_page_that_is_there_in_part_the_rest_is_added() {
    let story = given("a")
        .command(page(0, 10))
        .command(page(5, 10))
        .accepted();
    assert_eq!(story.answer().added, Some(5));
    let story = story.command(page(0, 15)).repeated();
    assert_eq!(story.answer().added, Some(0));
    let state = story.state();
    assert_eq!(state.documents, 15);
    let runs: Vec<_> = state.pages.between(0, 14).map(|(a, b, _)| (a, b)).collect();
    assert_eq!(runs, [(0, 9), (10, 14)]);
}

#[test]
fn after_submission_only_what_is_there_may_come_again() {
    given("a")
        .documents(10)
        .command(page(10, 1))
        .refused("conflict", "it takes no more")
        .command(page(None, 1))
        .refused("conflict", "it takes no more")
        .command(page(0, 10))
        .repeated();
}

#[test]
fn a_page_has_bounds() {
    let over = u32::try_from(DOCUMENTS_PER_PAGE).unwrap() + 1;
    given("a")
        .command(page(0, 0))
        .refused("invalid", "documents: has 0 entries")
        .command(page(0, over))
        .refused("invalid", "documents: has 10001 entries")
        .command(page(DOCUMENTS_PER_BATCH, 1))
        .refused("invalid", "documents: would make 16777217")
        .command(page(u32::MAX - 1, 2))
        .refused("invalid", "documents: would make 4294967296");
}

#[test]
fn a_document_has_bounds_and_the_error_names_it() {
    let uri = Document {
        uri: Some("x".repeat(DOCUMENT_URI_BYTES + 1)),
        ..Document::new("long")
    };
    let data = Document {
        data: Some("x".repeat(DOCUMENT_DATA_BYTES).into()),
        ..Document::new("large")
    };
    given("a")
        .command(only(Document::new("")))
        .refused("invalid", "documents[1]: id has 0 bytes")
        .command(only(Document::new("x".repeat(DOCUMENT_ID_BYTES + 1))))
        .refused("invalid", "documents[1]: id has 513 bytes")
        .command(only(uri))
        .refused("invalid", "documents[1]: uri has 4097 bytes")
        .command(only(data))
        .refused("invalid", "documents[1]: data has 65538 bytes");
}

#[test]
fn a_page_too_large_for_a_message_is_refused() {
    let documents = (0..20)
        .map(|i| Document {
            data: Some("x".repeat(DOCUMENT_DATA_BYTES - 2).into()),
            ..Document::new(format!("{i}"))
        })
        .collect();
    let first = Some(0);
    given("a")
        .command(Command::AddDocuments(AddDocuments { first, documents }))
        .refused("invalid", "bytes together: a page takes at most 786432");
}

#[test]
fn only_the_first_errors_of_a_page_are_told() {
    let documents = (0..100).map(|_| Document::new("")).collect();
    let first = None;
    let story = given("a").command(Command::AddDocuments(AddDocuments { first, documents }));
    story.refused("invalid", "documents[19]: ");
}

#[test]
fn nothing_begins_before_submission_unless_it_is_asked_for() {
    given("a")
        .command(page(0, 3))
        .events(&["batch.documents_added"])
        .status(BatchStatus::Pending)
        .submit()
        .events(&["batch.submitted", "tier.started"])
        .status(BatchStatus::Running);
    nothing()
        .command(create("a", Start::AtOnce))
        .command(page(0, 3))
        .events(&["batch.documents_added", "tier.started"])
        .status(BatchStatus::Running);
}

#[test]
fn a_batch_that_began_at_once_is_not_over_before_it_is_submitted() {
    nothing()
        .command(create("a", Start::AtOnce))
        .command(page(0, 3))
        .done(0, "a", 0..3)
        .events(&["documents.completed"])
        .status(BatchStatus::Running)
        .command(page(3, 2))
        .events(&["batch.documents_added"])
        .done(0, "a", 3..5)
        .submit()
        .events(&["batch.submitted", "tier.completed", "batch.completed"])
        .counts(5, 0, 0, 0);
}

#[test]
fn a_submission_may_say_how_many_there_must_be_and_may_come_again() {
    let expecting = |n| Command::Submit(Submit { documents: Some(n) });
    given("a")
        .command(page(0, 3))
        .command(expecting(4))
        .refused("conflict", "has 3 documents, not 4")
        .command(expecting(3))
        .accepted()
        .command(expecting(3))
        .repeated()
        .command(submit())
        .repeated();
}

#[test]
fn an_empty_batch_is_completed_at_once() {
    given("a | b")
        .submit()
        .events(&["batch.submitted", "batch.completed"])
        .status(BatchStatus::Completed)
        .counts(0, 0, 0, 0);
}
