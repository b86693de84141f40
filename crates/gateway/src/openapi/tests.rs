use std::collections::BTreeSet;

use super::*;

/// All that a document refers to, and all ids of its operations.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            found.extend(
                object
                    .get("$ref")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let each = paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    each.collect()
}

#[test]
fn what_the_document_refers_to_is_there() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in found {
        let there = document.pointer(reference.strip_prefix('#').unwrap());
        assert!(there.is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn each_operation_has_an_id_of_its_own_and_says_what_it_does() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (operation, about) in operations(&document) {
        let id = about["operationId"].as_str().unwrap_or_default();
        assert!(ids.insert(id), "{operation} is called {id}, as another one");
        let summary = about["summary"].as_str().unwrap_or_default();
        assert!(!summary.is_empty(), "{operation} does not say what it does");
        assert_eq!(about["tags"].as_array().unwrap().len(), 1, "{operation}");
        assert!(about["responses"]["500"].is_object(), "{operation}");
    }
    assert!(ids.len() > 1);
}

/// A route that is added to the router without a word about it would not be seen by anyone who reads the document.
#[test]
fn no_route_is_hidden() {
    let (router, _) = crate::routes().split_for_parts();
    let shown = format!("{router:?}");
    println!("{shown}");
}
