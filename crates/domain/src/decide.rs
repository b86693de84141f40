//! The decisions: what an input leads to, given the state. They change nothing; the answer is events, which become true
//! when they stand in the log.
//!
//! What follows from events by itself (a tier is over, a batch is over) is not decided with the input but read off the
//! state by [`settle`], so that it comes out the same after a crash at any point.

mod breaker;
mod cancel;
mod credits;
mod documents;
mod heal;
mod keys;
mod lost;
mod outcome;
mod pause;
mod repeat;
mod resubmit;
mod retry;
mod segments;
mod serving;
mod settle;

#[cfg(test)]
pub(crate) mod tests;

use crate::{
    command::{Accepted, Command, Create, Refusal, Submit},
    credits::NO_BATCH,
    event::Event,
    ids::{BatchKey, Bucket, CommandId},
    pipeline::Pipeline,
    state::BatchState,
    status::BatchStatus,
    time::Timestamp,
};

pub use breaker::{Tally, open, probed_unit, tally};
pub use credits::{Tenant, command_within};
pub use heal::heal_by_itself;
pub use lost::{Lost, lost};
pub use outcome::{OutcomeDecision, outcome};
pub use repeat::{again_at, as_then};
pub use retry::difference;
pub(crate) use retry::preview;
pub use serving::{ORPHANED_AFTER, serving};
pub use settle::{STEPS, settle};

/// What a decision is told about the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time.
    pub at: Timestamp,
    /// A uniformly random number, for jitter.
    pub random: u64,
}

/// A command that is to be carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What is to be appended, in this order.
    pub events: Vec<Event>,
    /// The answer, once that is done. Its `status` and `seq` are those before; the caller fills in what is so after.
    pub accepted: Accepted,
}

/// A bucket name in commands that means: whichever bucket the batch has.
pub const ANY_BUCKET: &str = "_";

/// Decides on a command.
///
/// # Errors
/// Why it is not carried out. Nothing of it was done.
pub fn command(
    batch: Option<&BatchState>,
    key: &BatchKey,
    bucket: &Bucket,
    id: CommandId,
    command: &Command,
) -> Result<Decision, Refusal> {
    let Some(batch) = batch else {
        return match command {
            Command::Create(create) => create_batch(key, bucket, create),
            Command::SetCredits(_) => Err(credits::not_of_a_batch()),
            Command::CreateKey(_) | Command::RevokeKey(_) => Err(keys::not_of_a_batch()),
            _ => Err(Refusal::no_batch(key)),
        };
    };
    repeat::refuse_another(&batch.commands, id)?;
    if batch.bucket != *bucket && bucket.as_str() != ANY_BUCKET {
        if let Command::Create(_) = command {
            return Err(Refusal::conflict(format!(
                "batch {} exists already, in another bucket",
                key.batch
            )));
        }
        let what = format!("batch {} in bucket {bucket}", key.batch);
        return Err(Refusal::NotFound { what });
    }
    if let Some(seq) = batch.remembered(id) {
        return Ok(batch.repeated(seq));
    }
    match command {
        Command::Create(create) => again(batch, create),
        Command::AddDocuments(add) => documents::add(batch, add),
        Command::Submit(submit) => submit_batch(batch, submit),
        Command::Retry(retry) => retry::retry(batch, retry),
        Command::Cancel(cancel) => cancel::cancel(batch, cancel),
        Command::Pause(pause) => pause::pause(batch, pause),
        Command::Resume(resume) => pause::resume(batch, resume),
        Command::Heal(heal) => heal::heal(batch, heal),
        Command::SetCredits(_) => Err(credits::not_of_a_batch()),
        Command::CreateKey(_) | Command::RevokeKey(_) => Err(keys::not_of_a_batch()),
    }
}

impl BatchState {
    fn accepted(&self) -> Accepted {
        Accepted {
            status: self.status,
            seq: self.last_seq,
            documents: self.documents,
            ..Accepted::of_new(self.key.batch)
        }
    }

    fn repeated(&self, seq: u64) -> Decision {
        Decision {
            events: Vec::new(),
            accepted: Accepted {
                seq,
                repeated: true,
                ..self.accepted()
            },
        }
    }
}

fn create_batch(key: &BatchKey, bucket: &Bucket, create: &Create) -> Result<Decision, Refusal> {
    if bucket.as_str() == ANY_BUCKET {
        return Err(Refusal::invalid(
            "bucket",
            "\"_\" stands for any bucket: name one",
        ));
    }
    if key.batch == NO_BATCH {
        let message = "the nil UUID stands for the namespace: take another one";
        return Err(Refusal::invalid("batch", message));
    }
    let pipeline = read_pipeline(create)?;
    Ok(Decision {
        events: vec![Event::BatchCreated {
            bucket: bucket.clone(),
            pipeline,
            start: create.start,
        }],
        accepted: Accepted::of_new(key.batch),
    })
}

fn read_pipeline(create: &Create) -> Result<Pipeline, Refusal> {
    Pipeline::from_value(&create.pipeline).map_err(|invalid| Refusal::Invalid {
        errors: invalid
            .0
            .into_iter()
            .map(|mut error| {
                error.path = match error.path.as_str() {
                    "" => "pipeline".to_owned(),
                    path => format!("pipeline.{path}"),
                };
                error
            })
            .collect(),
    })
}

/// A submission that broke off may be started over: the same batch again is no conflict.
fn again(batch: &BatchState, create: &Create) -> Result<Decision, Refusal> {
    if read_pipeline(create)? == *batch.created_with() && create.start == batch.start {
        Ok(batch.repeated(batch.created_seq))
    } else {
        Err(Refusal::conflict(format!(
            "batch {} exists already, with another pipeline or start",
            batch.key.batch
        )))
    }
}

fn submit_batch(batch: &BatchState, submit: &Submit) -> Result<Decision, Refusal> {
    if let Some(expected) = submit.documents.filter(|n| *n != batch.documents) {
        return Err(Refusal::conflict(format!(
            "batch {} has {} documents, not {expected}",
            batch.key.batch, batch.documents
        )));
    }
    if batch.submitted {
        return Ok(batch.repeated(batch.last_seq));
    }
    refuse_if_cancelled(batch, "submitted")?;
    Ok(Decision {
        events: vec![Event::BatchSubmitted {
            documents: batch.documents,
        }],
        accepted: batch.accepted(),
    })
}

fn refuse_if_cancelled(batch: &BatchState, what: &str) -> Result<(), Refusal> {
    if batch.status == BatchStatus::Cancelled {
        Err(Refusal::conflict(format!(
            "batch {} was cancelled: it cannot be {what}",
            batch.key.batch
        )))
    } else {
        Ok(())
    }
}
