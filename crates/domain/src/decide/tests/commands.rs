use super::story::*;
use crate::{
    command::{Command, Refusal, Start, Verb},
    decide::{ANY_BUCKET, command},
    event::Cause,
    ids::{Bucket, CommandId},
    limits::REMEMBERED_COMMANDS,
    status::BatchStatus,
};

#[test]
fn a_batch_is_created_once_and_the_same_again_is_no_conflict() {
    nothing()
        .command(create("a | b", Start::OnSubmit))
        .accepted()
        .events(&["batch.created"])
        .status(BatchStatus::Pending)
        .command(create("a | b", Start::OnSubmit))
        .repeated();
}

#[test]
fn another_pipeline_or_start_or_bucket_under_the_same_id_is_a_conflict() {
    given("a | b")
        .command(create("a | c", Start::OnSubmit))
        .refused("conflict", "exists already, with another pipeline or start")
        .command(create("a | b", Start::AtOnce))
        .refused("conflict", "exists already, with another pipeline or start")
        .in_bucket("elsewhere")
        .command(create("a | b", Start::OnSubmit))
        .refused("conflict", "exists already, in another bucket");
}

#[test]
fn a_batch_needs_a_bucket_but_commands_on_it_may_leave_it_open() {
    nothing()
        .in_bucket(ANY_BUCKET)
        .command(create("a", Start::OnSubmit))
        .refused("invalid", "bucket: ");
    given("a")
        .in_bucket(ANY_BUCKET)
        .command(page(0, 1))
        .accepted()
        .in_bucket("elsewhere")
        .command(submit())
        .refused("not_found", "in bucket elsewhere");
}

#[test]
fn a_wrong_pipeline_is_refused_with_the_places_of_all_errors() {
    let pipeline =
        serde_json::json!({ "tiers": [{ "jobs": [{ "handler": "a.b" }] }], "colour": 1 });
    let create = Command::Create(crate::command::Create {
        pipeline,
        start: Start::OnSubmit,
    });
    nothing()
        .command(create.clone())
        .refused("invalid", "pipeline.tiers[0].jobs[0].handler: ")
        .command(create)
        .refused("invalid", "pipeline.colour: ");
}

#[test]
fn there_is_nothing_to_do_with_a_batch_that_is_not_there() {
    for command in [page(0, 1), submit(), cancel(), Command::Retry(retry())] {
        nothing()
            .command(command)
            .refused("not_found", "in namespace tests");
    }
}

#[test]
fn the_same_command_id_is_done_once() {
    let two = page(None, 2);
    let story = given("a")
        .command_with_id(9, &two)
        .accepted()
        .events(&["batch.documents_added"]);
    let seq = story.state().last_seq;
    let story = story.command_with_id(9, &two).repeated();
    assert_eq!(story.answer().seq, seq);
    assert_eq!(story.state().documents, 2);
    let story = story.command(two);
    assert_eq!(story.state().documents, 4);
}

#[test]
fn a_refused_command_was_not_carried_out_and_may_be_sent_again() {
    let mut story = given("a")
        .command_with_id(9, &page(5, 1))
        .refused("conflict", "begins at 0");
    let refused = crate::event::Event::CommandRefused {
        verb: None,
        refusal: crate::command::Refusal::conflict("no"),
        message: "no".to_owned(),
    };
    story.fold(refused, Cause::Command(CommandId(uuid::Uuid::from_u128(9))));
    story
        .command_with_id(9, &page(0, 1))
        .accepted()
        .events(&["batch.documents_added"]);
}

#[test]
fn the_memory_of_commands_is_bounded_and_keeps_the_last() {
    let mut story = given("a");
    let most = u128::try_from(REMEMBERED_COMMANDS).unwrap();
    for id in 0..most + 50 {
        story = story.command_with_id(1_000 + id, &page(None, 1)).accepted();
    }
    assert_eq!(story.state().commands.len(), REMEMBERED_COMMANDS);
    let last = 1_000 + most + 49;
    story.command_with_id(last, &page(None, 1)).repeated();
}

#[test]
fn deciding_changes_nothing() {
    let story = given("a").documents(3);
    let before = story.state().clone();
    let bucket = Bucket::new("inbox").unwrap();
    let id = CommandId(uuid::Uuid::from_u128(5));
    for what in [cancel(), Command::Retry(retry()), page(3, 1)] {
        let _ = command(Some(story.state()), &key(), &bucket, id, &what);
    }
    assert_eq!(*story.state(), before);
}

#[test]
fn a_page_that_is_wrong_is_refused_as_anything_else_is() {
    let read = |body: &str| Command::read_body(Verb::AddDocuments, body.as_bytes());
    assert!(read(r#"{"documents": [{"id": "a"}], "actor": "ann"}"#).is_ok());
    for (body, named) in [
        (r#"{"documents": [{"id": "a"}], "more": 1}"#, "more"),
        (r#"{"documents": [{"id": 1}]}"#, "expected a string"),
        (r#"{"first": 0}"#, "documents"),
        ("", "documents"),
        ("[]", "expected"),
    ] {
        let Err(Refusal::Invalid { errors }) = read(body) else {
            panic!("{body} was read");
        };
        assert!(errors[0].message.contains(named), "{body}: {errors:?}");
    }
}

#[test]
fn a_key_that_comes_again_with_another_request_is_refused() {
    let id = |key: u8, asked: u8| CommandId::of_key([key; 10], [asked; 4]);
    let mut story = given("a").documents(3);
    let batch = story.state().clone();
    let asked = |id| {
        let bucket = Bucket::new(ANY_BUCKET).unwrap();
        command(Some(&batch), &key(), &bucket, id, &Command::Retry(retry()))
    };
    assert!(asked(id(1, 1)).is_ok());
    let events = asked(id(1, 1)).unwrap().events;
    story.append(events, Cause::Command(id(1, 1)));
    let batch = story.state().clone();
    let asked = |id| {
        let bucket = Bucket::new(ANY_BUCKET).unwrap();
        command(Some(&batch), &key(), &bucket, id, &Command::Retry(retry()))
    };
    assert!(asked(id(1, 1)).unwrap().accepted.repeated);
    assert_eq!(asked(id(1, 2)), Err(Refusal::KeyReused));
    assert!(!asked(id(2, 2)).unwrap().accepted.repeated);
}
