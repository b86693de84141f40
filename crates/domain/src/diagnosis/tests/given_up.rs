//! What a diagnosis says of a batch that was given up.

use serde_json::json;

use super::*;
use crate::{
    command::{Create, Resume, Start},
    decide::tests::story::{nothing, pipeline},
};

#[test]
fn a_batch_that_was_given_up_goes_on_once_what_failed_is_put_right() {
    let mut few = pipeline("a");
    few["max_failed"] = json!(1);
    let create = Command::Create(Create {
        pipeline: few,
        start: Start::OnSubmit,
    });
    let story = nothing()
        .command(create)
        .accepted()
        .documents(10)
        .done(0, "a", 0..3)
        .fails(0, "a", 3..5, FailureKind::REJECTED)
        .status(BatchStatus::Failed);
    let diagnosis = of(&story);
    let [first, then] = &diagnosis.recommendations[..] else {
        panic!("{diagnosis:#?}");
    };
    assert_eq!((first.cause, first.units), (Cause::Aborted, 5));
    let said = "more than max_failed = 1 allows";
    assert!(first.reason.contains(said), "{first:?}");
    assert_eq!(first.command, Some(format!("redrive resume {BATCH}")));
    assert_eq!(then.cause, Cause::Permanent);

    let story = story.command(Command::Resume(Resume::default())).accepted();
    assert_eq!(only(&of(&story)).cause, Cause::Permanent);
}
