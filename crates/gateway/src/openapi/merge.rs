//! One document of several. Surfaces call different things by one name (each has its `ErrorResponse`), and of two schemas of
//! one name the libraries keep the first.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::tidy::{SCHEMAS, each_object};
use crate::surface::Surface;

/// Adds the routes and schemas of a surface to a document. A schema whose name means something else there gets the surface's
/// name in front.
pub(super) fn merge(document: &mut Value, mut own: Value, surface: Surface) {
    rename(document, &mut own, surface.name());
    for part in ["/paths", "/components/schemas"] {
        let Some(Value::Object(added)) = own.pointer_mut(part).map(Value::take) else {
            continue;
        };
        let mut at = &mut *document;
        for step in part.split('/').skip(1) {
            at = &mut at[step];
        }
        if at.is_null() {
            *at = Map::new().into();
        }
        if let Value::Object(there) = at {
            there.extend(added);
        }
    }
}

fn rename(document: &Value, own: &mut Value, prefix: &str) {
    let there = document.pointer("/components/schemas");
    let Some(Value::Object(schemas)) = own.pointer("/components/schemas") else {
        return;
    };
    let mut changed: BTreeSet<String> = BTreeSet::new();
    // What refers to a schema that is renamed is another one than its namesake, so this goes on until nothing follows.
    loop {
        let more = schemas.iter().filter(|(name, schema)| {
            let namesake = there.and_then(|there| there.get(name.as_str()));
            let differs = namesake.is_some_and(|it| it != *schema || refers(schema, &changed));
            differs && !changed.contains(*name)
        });
        let more: Vec<String> = more.map(|(name, _)| name.clone()).collect();
        if more.is_empty() {
            break;
        }
        changed.extend(more);
    }
    if let Some(Value::Object(schemas)) = own.pointer_mut("/components/schemas") {
        for name in &changed {
            if let Some(schema) = schemas.remove(name) {
                schemas.insert(format!("{prefix}{name}"), schema);
            }
        }
    }
    each_object(own, &mut |object| {
        if let Some(Value::String(reference)) = object.get_mut("$ref")
            && let Some(name) = reference.strip_prefix(SCHEMAS)
            && changed.contains(name)
        {
            *reference = format!("{SCHEMAS}{prefix}{name}");
        }
    });
}

/// Whether a schema refers to one of these.
fn refers(schema: &Value, names: &BTreeSet<String>) -> bool {
    match schema {
        Value::Object(object) => {
            let reference = object.get("$ref").and_then(Value::as_str);
            let name = reference.and_then(|reference| reference.strip_prefix(SCHEMAS));
            name.is_some_and(|name| names.contains(name))
                || object.values().any(|value| refers(value, names))
        }
        Value::Array(list) => list.iter().any(|value| refers(value, names)),
        _ => false,
    }
}

/// Leaves out schemas that nothing refers to.
pub(super) fn prune(document: &mut Value) {
    loop {
        let mut used = BTreeSet::new();
        each_object(document, &mut |object| {
            let reference = object.get("$ref").and_then(Value::as_str);
            let name = reference.and_then(|reference| reference.strip_prefix(SCHEMAS));
            used.extend(name.map(str::to_owned));
        });
        let schemas = document.pointer_mut("/components/schemas");
        let Some(Value::Object(schemas)) = schemas else {
            return;
        };
        let before = schemas.len();
        schemas.retain(|name, _| used.contains(name));
        // What only an unused one referred to is unused in turn.
        if schemas.len() == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_name_stands_for_one_thing() {
        let reference = |name: &str| json!({ "$ref": format!("{SCHEMAS}{name}") });
        let document = |error: &str| {
            json!({ "paths": { error: reference("Errors") }, "components": { "schemas": {
                "Error": { "type": error }, "Errors": { "items": reference("Error") }, "Same": {},
            } } })
        };
        let mut all = json!({});
        merge(&mut all, document("object"), Surface::Native);
        merge(&mut all, document("string"), Surface::Feather);
        merge(&mut all, document("object"), Surface::Spidra);
        let want = json!({
            "paths": {
                "object": reference("Errors"),
                "string": reference("FeatherErrors"),
            },
            "components": { "schemas": {
                "Error": { "type": "object" },
                "Errors": { "items": reference("Error") },
                "FeatherError": { "type": "string" },
                "FeatherErrors": { "items": reference("FeatherError") },
                "Same": {},
            } }
        });
        assert_eq!(all, want);
        prune(&mut all);
        assert!(all["components"]["schemas"].get("Same").is_none());
        assert!(all["components"]["schemas"]["FeatherError"].is_object());
    }
}
