use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::{
    command::{
        Accepted, AddDocuments, Cancel, Create, CreateKey, Heal, Pause, Refusal, Resume, Retry,
        RevokeKey, SetCredits, Submit,
    },
    diagnosis::Diagnosis,
    event::Envelope,
    keys::KeyView,
    presence::Presence,
    query::{
        BatchSummary, BatchView, CreditsView, Diff, DocumentRow, FailureRow, ListBatches,
        ListChanges, ListDocuments, ListFailures, ListResults, OfBatch, OfNamespace, Page,
        ReadState, ReadTimeline, ResultRow, StatePiece, TimelineRow,
    },
    work::{Chunk, Heartbeat, Outcome, Signal},
};

type Schemas = Vec<(String, RefOr<Schema>)>;

fn add<T: ToSchema>(all: &mut Schemas) {
    all.push((T::name().into_owned(), T::schema()));
    T::schemas(all);
}

macro_rules! schemas {
    ($($type:ty),* $(,)?) => {{
        let mut all = Schemas::new();
        $(add::<$type>(&mut all);)*
        all
    }};
}

/// Whatever crosses an interface.
fn all() -> Schemas {
    let pages = schemas![
        Page<BatchSummary>,
        Page<FailureRow>,
        Page<ResultRow>,
        Page<DocumentRow>,
        Page<TimelineRow>,
    ];
    let mut all = schemas![
        Accepted,
        AddDocuments,
        BatchView,
        Cancel,
        Chunk,
        Create,
        CreateKey,
        CreditsView,
        Diagnosis,
        Diff,
        Envelope,
        Heal,
        Heartbeat,
        KeyView,
        ListBatches,
        ListChanges,
        ListDocuments,
        ListFailures,
        ListResults,
        OfBatch,
        OfNamespace,
        Outcome,
        Pause,
        Presence,
        ReadState,
        ReadTimeline,
        Refusal,
        Resume,
        Retry,
        RevokeKey,
        SetCredits,
        Signal,
        StatePiece,
        Submit,
    ];
    // Who puts a page in a document gives it a name of its own.
    all.extend(pages.into_iter().filter(|(name, _)| name != "Page"));
    all
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Two types of one name would stand for one another in a document, and nothing would say so.
#[test]
fn each_name_stands_for_one_schema_and_each_reference_for_a_name() {
    let mut named = BTreeMap::<String, Value>::new();
    for (name, schema) in all() {
        let schema = serde_json::to_value(schema).unwrap();
        if let Some(other) = named.insert(name.clone(), schema.clone()) {
            assert_eq!(other, schema, "two schemas of the name {name}");
        }
    }
    let mut found = BTreeSet::new();
    for schema in named.values() {
        references(schema, &mut found);
    }
    for reference in found {
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        assert!(named.contains_key(name), "{reference} leads nowhere");
    }
}

/// The examples of a schema are values of its type.
fn examples_of<T: ToSchema + DeserializeOwned>() {
    let schema = serde_json::to_value(T::schema()).unwrap();
    let examples = schema["examples"].as_array().unwrap();
    assert!(!examples.is_empty());
    for example in examples {
        let read = serde_json::from_value::<T>(example.clone());
        assert!(read.is_ok(), "{}: {example}", T::name());
    }
}

#[test]
fn what_a_schema_shows_as_an_example_is_one() {
    examples_of::<Namespace>();
    examples_of::<BatchId>();
    examples_of::<Timestamp>();
    examples_of::<Month>();
    examples_of::<Share>();
    examples_of::<FailureKind>();
    examples_of::<Fingerprint>();
    examples_of::<BatchRef>();
    examples_of::<At>();
    examples_of::<Millis>();
    examples_of::<UnitSet>();
    examples_of::<KeyId>();
    examples_of::<KeyName>();
    examples_of::<SecretHash>();
    examples_of::<Scopes>();
}
