use std::collections::BTreeSet;

use super::*;
use crate::surface::Surface;

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

/// A route that is added to a router without a word about it would not be seen by anyone who reads the document. A router
/// tells of its routes only when it is printed.
#[test]
fn no_route_is_hidden() {
    let document = document();
    let mut routes = 0;
    for (surface, router) in crate::routers() {
        let shown = format!("{:?}", axum::Router::from(router));
        for (id, path) in paths(&shown) {
            let item = &document["paths"][path];
            assert!(item.is_object(), "{path} is in no document");
            assert_eq!(Surface::of(path), surface, "{path}");
            for method in ["get", "post", "put", "patch", "delete"] {
                let served = handlers(&shown, id).contains(&format!("{method}: BoxedHandler"));
                let told = item.get(method).is_some();
                assert_eq!(served, told, "{method} {path}: served, and in the document");
                routes += usize::from(served);
            }
        }
    }
    assert_eq!(routes, operations(&document).len());
}

/// `RouteId(1): "/v1/batches"` in a printed router.
fn paths(shown: &str) -> Vec<(&str, &str)> {
    let own = shown.split("fallback_router").next().unwrap_or_default();
    let (_, own) = own.split_once("paths: {").unwrap_or_default();
    own.split("RouteId(")
        .filter_map(|entry| {
            let (id, path) = entry.split_once("): \"")?;
            Some((id, path.split_once('"')?.0))
        })
        .collect()
}

/// What a printed router says of a route's handlers.
fn handlers<'a>(shown: &'a str, id: &str) -> &'a str {
    let (_, rest) = shown
        .split_once(&format!("RouteId({id}): MethodRouter("))
        .unwrap_or_default();
    rest.split("fallback:").next().unwrap_or_default()
}

#[test]
fn the_page_loads_nothing_from_elsewhere() {
    for file in [
        include_str!("page/page.html"),
        include_str!("page/page.js"),
        include_str!("page/page.css"),
    ] {
        // An icon names the language that it is written in.
        let file = file.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http://", "https://", "src=\"//", " url("] {
            assert!(!file.contains(foreign), "{foreign}");
        }
    }
}
