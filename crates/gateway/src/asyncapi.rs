//! What is said of Redrive's own subjects, for those who speak NATS: an AsyncAPI document that comes from the types.
//!
//! docs/protocol.md tells the same in words. This is for programs; a test holds docs/asyncapi.yaml to it.

mod draft;
mod schemas;

use redrive_domain::{
    command::{
        Accepted, AddDocuments, Cancel, Create, CreateKey, Heal, Pause, Resume, Retry, RevokeKey,
        SetCredits, Submit, Verb,
    },
    diagnosis::Diagnosis,
    event::Envelope,
    presence::Presence,
    query::{
        BatchSummary, BatchView, CreditsView, Diff, DocumentRow, FailureRow, ListBatches,
        ListChanges, ListDocuments, ListFailures, ListResults, OfBatch, OfNamespace, ReadState,
        ReadTimeline, ResultRow, StatePiece, TimelineRow,
    },
    work::{Chunk, Heartbeat, Outcome, Signal},
};
use serde_json::{Value, json};

use draft::{Answers, Draft};

/// What the document is about.
const DESCRIPTION: &str = "\
Redrive's subjects on NATS, seen from Redrive: it receives commands and questions, and sends events. Commands and questions \
are JSON. All else is MessagePack: maps with the names of fields as texts, times as milliseconds since 1970, ids as 16 bytes; \
its schemas begin with `packed.`. docs/protocol.md says the same in words, and how workers pull chunks.";

/// The AsyncAPI document of all subjects, as YAML.
///
/// # Errors
/// Where it has no such form, which ours does not lack.
pub fn document() -> Result<String, yaml_serde::Error> {
    let mut document = value();
    // The order does not depend on how a library was built.
    document.sort_all_objects();
    yaml_serde::to_string(&document)
}

fn value() -> Value {
    let mut draft = Draft::default();
    for verb in Verb::ALL {
        command(&mut draft, verb);
    }
    questions(&mut draft);
    draft.sends::<Chunk>(
        "chunk",
        "rd.work.{shard}.{handler}.{class}.{namespace}.{batch}.{chunk}",
        "Units of one job for a worker. They wait in a work queue.",
    );
    draft.receives::<Outcome>(
        "outcome",
        "rd.out.{shard}.{namespace}.{batch}",
        "What became of units, from a worker. It is kept until it is decided upon.",
    );
    draft.receives::<Heartbeat>(
        "heartbeat",
        "rd.hb.{shard}.{worker}",
        "What a worker is and holds, every second.",
    );
    draft.sends::<Signal>(
        "signal",
        "rd.sig.{shard}",
        "Tells workers to stop something.",
    );
    draft.sends::<Presence>(
        "presence",
        "rd.who.{shard}",
        "How a coordinator or a projector stands, every second.",
    );
    draft.events::<Envelope>("rd.evt.{shard}.{namespace}.{batch}");
    let told = draft.finish();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Redrive",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0" },
        },
        "servers": {
            "nats": {
                "host": "localhost:4222",
                "protocol": "nats",
                "description": "The broker that the roles of Redrive are connected to.",
            },
        },
        "defaultContentType": draft::JSON,
        "channels": told.channels,
        "operations": told.operations,
        "components": {
            "messages": told.messages,
            "parameters": told.parameters,
            "schemas": told.schemas,
        },
    })
}

fn command(draft: &mut Draft, verb: Verb) {
    match verb {
        Verb::Create => draft.command::<Create>(verb, "Make a batch."),
        Verb::AddDocuments => draft.command::<AddDocuments>(verb, "Add documents to a batch."),
        Verb::Submit => draft.command::<Submit>(verb, "Say that a batch has all its documents."),
        Verb::Retry => draft.command::<Retry>(verb, "Execute failed units again."),
        Verb::Cancel => draft.command::<Cancel>(verb, "Stop a batch, a tier or a job."),
        Verb::Pause => draft.command::<Pause>(verb, "Hand nothing more out for a while."),
        Verb::Resume => draft.command::<Resume>(verb, "Hand out again."),
        Verb::Heal => {
            draft.command::<Heal>(verb, "Look for what is stuck or executed twice.");
        }
        Verb::SetCredits => {
            draft.command::<SetCredits>(verb, "Set what the namespace may spend a month.");
        }
        Verb::CreateKey => draft.command::<CreateKey>(verb, "Make a key to the HTTP interface."),
        Verb::RevokeKey => draft.command::<RevokeKey>(verb, "End a key."),
    }
    draft.answer::<Accepted>("accepted", Answers::One);
}

/// The questions, as [`redrive_domain::query::Query`] tells of them.
fn questions(draft: &mut Draft) {
    use Answers::{One, Pages};
    draft.question::<ListBatches, BatchSummary>("batches", Pages, "The namespace's batches.");
    draft.question::<OfBatch, BatchView>("status", One, "How a batch is doing.");
    draft.question::<ListFailures, FailureRow>("failures", Pages, "The units that are failed now.");
    draft.question::<ListResults, ResultRow>("results", Pages, "What jobs made of documents.");
    draft.question::<ListDocuments, DocumentRow>("documents", Pages, "Documents of a batch.");
    draft.question::<ReadState, StatePiece>("state", One, "The bytes of a batch's state.");
    draft.question::<ListChanges, Diff>("diff", One, "What changed between two moments.");
    draft.question::<ReadTimeline, TimelineRow>("timeline", Pages, "What happened, in few lines.");
    draft.question::<OfNamespace, CreditsView>("credits", One, "What may be spent, and was.");
    draft.question::<OfBatch, Diagnosis>("diagnose", One, "What is wrong, and what to do.");
}

#[cfg(test)]
mod tests;
