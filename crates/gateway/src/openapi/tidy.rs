//! Puts right what deriving leaves in schemas. It works on JSON, so that it does for any document that holds schemas.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Where schemas stand in a document.
const SCHEMAS: &str = "#/components/schemas/";

/// Puts right what deriving leaves in the schemas of a document.
pub(crate) fn tidy(document: &mut Value) {
    inline_numbers(document);
    each_object(document, &mut |object| {
        if let Some(Value::String(text)) = object.get_mut("description") {
            *text = prose(text);
        }
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

/// Aliases of numbers (a tier, an ordinal) are derived as references to `u16` or `u32`, which say nothing to a reader.
fn inline_numbers(document: &mut Value) {
    let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") else {
        return;
    };
    let is_number = |name: &String| {
        matches!(
            name.as_str(),
            "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64" | "f32" | "f64"
        )
    };
    let names: Vec<String> = schemas
        .keys()
        .filter(|name| is_number(name))
        .cloned()
        .collect();
    let numbers: BTreeMap<String, Value> = names
        .into_iter()
        .filter_map(|name| Some((format!("{SCHEMAS}{name}"), schemas.remove(&name)?)))
        .collect();
    each_object(document, &mut |object| {
        let number = object.get("$ref").and_then(Value::as_str);
        if let Some(Value::Object(number)) = number.and_then(|name| numbers.get(name)) {
            object.remove("$ref");
            for (key, value) in number {
                object.entry(key).or_insert_with(|| value.clone());
            }
        }
    });
}

/// A comment of the code as prose: lines that were broken to fit are joined, and what links to code names it.
fn prose(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for line in text.lines() {
        let begins = line.is_empty() || line.starts_with(['-', '*', '|', '#', '`']);
        match joined.chars().next_back() {
            None => {}
            Some('\n') => joined.push('\n'),
            Some(_) if begins => joined.push('\n'),
            Some(_) => joined.push(' '),
        }
        joined.push_str(line);
        if line.is_empty() {
            joined.push('\n');
        }
    }
    unlinked(joined.trim())
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
    use serde_json::json;

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
                } } },
            } }
        });
        tidy(&mut document);
        let tier = json!({ "type": "integer", "minimum": 0, "description": "The tier." });
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Job"]["properties"]["tier"], tier);
        assert!(schemas.get("u16").is_none());
    }
}
