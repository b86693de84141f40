use std::collections::BTreeSet;

use redrive_domain::{
    command::Verb,
    ids::{BatchId, BatchKey, Bucket, ChunkId, HandlerName, Namespace, ResourceClass, WorkerId},
    query::Query,
    subject,
};
use uuid::Uuid;

use super::*;

/// Where the document is kept.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/asyncapi.yaml");

#[test]
fn the_document_in_docs_is_that_of_the_types() {
    let made = document().unwrap();
    if std::env::var_os("REDRIVE_BLESS").is_some() {
        std::fs::write(PATH, &made).unwrap();
    }
    let kept = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        kept == made,
        "docs/asyncapi.yaml is not that of the types: write it with `redrive asyncapi > docs/asyncapi.yaml`"
    );
}

#[test]
fn what_the_document_refers_to_is_there() {
    fn look(whole: &Value, value: &Value) {
        match value {
            Value::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                    let there = whole.pointer(reference.strip_prefix('#').unwrap());
                    assert!(there.is_some(), "{reference} leads nowhere");
                }
                object.values().for_each(|value| look(whole, value));
            }
            Value::Array(list) => list.iter().for_each(|value| look(whole, value)),
            _ => {}
        }
    }
    let document = value();
    look(&document, &document);
}

/// The addresses are written by hand; what builds subjects is the judge of them.
#[test]
fn the_addresses_are_those_of_the_subjects() {
    let document = value();
    let channels = document["channels"].as_object().unwrap();
    let addresses: BTreeSet<&str> = channels
        .values()
        .filter_map(|channel| channel["address"].as_str())
        .collect();
    let key = BatchKey {
        namespace: Namespace::new("NAMESPACE").unwrap(),
        batch: BatchId(Uuid::from_u128(1)),
    };
    let (handler, class) = (
        HandlerName::new("HANDLER").unwrap(),
        ResourceClass::new("CLASS").unwrap(),
    );
    let bucket = Bucket::new("BUCKET").unwrap();
    let worker = WorkerId::new("WORKER").unwrap();
    let chunk = ChunkId(Uuid::from_u128(2));
    let shard = 65_535;
    let mut built = vec![
        subject::chunk(shard, &handler, &class, &key, chunk),
        subject::outcome(shard, &key),
        subject::heartbeat(shard, &worker),
        subject::signals(shard),
        subject::presence(shard),
        subject::event(shard, &key, "batch.created"),
        subject::event(shard, &key, "documents.failed.FAILURE_CLASS.FAILURE_KIND"),
    ];
    for verb in Verb::ALL {
        built.push(subject::command(&key.namespace, &bucket, key.batch, verb));
        built.push(subject::request(&key.namespace, &bucket, key.batch, verb));
    }
    for name in Query::NAMES {
        built.push(subject::query(&key.namespace, name));
    }
    for address in built {
        let address = address
            .replace("65535", "{shard}")
            .replace("NAMESPACE", "{namespace}")
            .replace("BUCKET", "{bucket}")
            .replace("HANDLER", "{handler}")
            .replace("FAILURE_CLASS", "{failure_class}")
            .replace("FAILURE_KIND", "{failure_kind}")
            .replace("CLASS", "{class}")
            .replace("WORKER", "{worker}")
            .replace(&key.batch.to_string(), "{batch}")
            .replace(&chunk.to_string(), "{chunk}");
        assert!(addresses.contains(address.as_str()), "{address}");
    }
    let queries = addresses.iter().filter(|it| it.starts_with("rd.qry."));
    assert_eq!(queries.count(), Query::NAMES.len());
    let failures = addresses.iter().filter(|it| it.contains("failure_kind"));
    assert_eq!(failures.count(), 2);
}
