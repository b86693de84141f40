//! Puts right what deriving leaves in schemas. It works on JSON, so that it does for any document that holds schemas.

use serde_json::{Map, Value, json};

/// Where schemas stand in a document.
pub(crate) const SCHEMAS: &str = "#/components/schemas/";

/// Puts right what deriving leaves in the schemas of a document.
pub(crate) fn tidy(document: &mut Value) {
    inline_numbers(document);
    each_object(document, &mut |object| {
        if let Some(Value::String(text)) = object.get_mut("description") {
            *text = prose(text);
        }
        unsigned(object);
        text_keys(object);
    });
}

/// Calls for each object, the outer ones first.
pub(crate) fn each_object(value: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object
                .values_mut()
                .for_each(|value| each_object(value, visit));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| each_object(value, visit)),
        _ => {}
    }
}

/// The keys of a map are texts in JSON, also where they are numbers in the code.
fn text_keys(object: &mut Map<String, Value>) {
    if let Some(keys) = object.get_mut("propertyNames")
        && keys["type"] == "integer"
    {
        *keys = json!({ "type": "string", "pattern": "^[0-9]+$" });
    }
}

/// What is never below zero is derived with the format of a number that may be, and is half as large then.
fn unsigned(object: &mut Map<String, Value>) {
    if object.get("minimum").and_then(Value::as_u64).is_none() {
        return;
    }
    if let Some(Value::String(format)) = object.get_mut("format")
        && matches!(format.as_str(), "int32" | "int64")
    {
        format.insert(0, 'u');
    }
}

/// What a number of the code is in a schema.
fn number(name: &str) -> Option<Value> {
    let whole = |format: &str| json!({ "type": "integer", "format": format, "minimum": 0 });
    match name {
        "u8" => Some(whole("uint8")),
        "u16" => Some(whole("uint16")),
        "u32" => Some(whole("uint32")),
        "u64" => Some(whole("uint64")),
        "f64" => Some(json!({ "type": "number", "format": "double" })),
        _ => None,
    }
}

/// Aliases of numbers (a tier, an ordinal) are derived as references to `u16` or `u32`, which say nothing to a reader.
fn inline_numbers(document: &mut Value) {
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        schemas.retain(|name, _| number(name).is_none());
    }
    each_object(document, &mut |object| {
        let reference = object.get("$ref").and_then(Value::as_str);
        let name = reference.and_then(|reference| reference.strip_prefix(SCHEMAS));
        if let Some(Value::Object(number)) = name.and_then(number) {
            object.remove("$ref");
            for (key, value) in number {
                object.entry(key).or_insert(value);
            }
        }
    });
}

/// A comment of the code as prose: lines that were broken to fit are joined, and what links to code names it.
fn prose(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for line in text.trim().lines() {
        if line.trim().is_empty() {
            joined.push_str(if joined.ends_with("\n\n") { "" } else { "\n\n" });
            continue;
        }
        let begins = line.starts_with(['-', '*', '|', '#', '`']);
        if !joined.is_empty() && !joined.ends_with('\n') {
            joined.push(if begins { '\n' } else { ' ' });
        }
        joined.push_str(line);
    }
    unlinked(&joined)
}

/// Without links to code: ``[`Name`]`` and ``[`Name`](path)`` become `` `Name` ``. Links to pages stay.
fn unlinked(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[`") {
        plain.push_str(before);
        let Some((name, after)) = after.split_once("`]") else {
            plain.push_str("[`");
            rest = after;
            continue;
        };
        let name = name.rsplit("::").next().unwrap_or(name);
        plain.push('`');
        plain.push_str(name);
        plain.push('`');
        rest = match after
            .strip_prefix('(')
            .and_then(|target| target.split_once(')'))
        {
            Some((_, after)) => after,
            None => after,
        };
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_prose() {
        let text = "See [`super::OfBatch::min_seq`] and\n[`Plan`](crate::plan::Plan), or [docs](docs/http.md).\n\n- one\n- two";
        let want = "See `min_seq` and `Plan`, or [docs](docs/http.md).\n\n- one\n- two";
        assert_eq!(prose(text), want);
        assert_eq!(prose("an open [`end"), "an open [`end");
    }

    #[test]
    fn numbers_stand_where_they_are_used() {
        let mut document = json!({
            "components": { "schemas": {
                "u16": { "type": "integer", "minimum": 0 },
                "Job": { "properties": { "tier": {
                    "$ref": "#/components/schemas/u16", "description": "The tier."
                }, "by_tier": {
                    "propertyNames": { "$ref": "#/components/schemas/u16" }
                } } },
            } }
        });
        tidy(&mut document);
        let tier = json!({
            "type": "integer", "format": "uint16", "minimum": 0, "description": "The tier."
        });
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Job"]["properties"]["tier"], tier);
        assert!(schemas.get("u16").is_none());
        let keys = &schemas["Job"]["properties"]["by_tier"]["propertyNames"];
        assert_eq!(keys["type"], "string");
    }
}
