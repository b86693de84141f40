//! The schemas of an AsyncAPI document, as JSON and as MessagePack writes them.

use redrive_domain::query::Page;
use serde_json::{Map, Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::openapi::tidy::{SCHEMAS, each_object, tidy};

/// Schemas of types, with those that they refer to.
pub(super) struct Schemas {
    /// What their names begin with. With one they are as MessagePack writes them.
    prefix: &'static str,
    all: Vec<(String, RefOr<Schema>)>,
}

impl Schemas {
    pub(super) fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            all: Vec::new(),
        }
    }

    /// Adds a type; gives a reference to it.
    pub(super) fn add<T: ToSchema>(&mut self) -> Value {
        self.all.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.all);
        json!({ "$ref": format!("{SCHEMAS}{}{}", self.prefix, T::name()) })
    }

    /// Adds a page of a list; gives a reference to it.
    pub(super) fn add_page<T: ToSchema>(&mut self) -> Value {
        self.add::<T>();
        let name = format!("Page_{}", T::name());
        self.all.push((name.clone(), Page::<T>::schema()));
        Page::<T>::schemas(&mut self.all);
        json!({ "$ref": format!("{SCHEMAS}{}{name}", self.prefix) })
    }

    /// All of them by name.
    pub(super) fn finish(self) -> Map<String, Value> {
        let prefix = self.prefix;
        let mut schemas = Map::new();
        for (name, schema) in self.all {
            let written = packed(&name).filter(|_| !prefix.is_empty());
            // It came from values, so it is one.
            let schema = written.or_else(|| serde_json::to_value(schema).ok());
            schemas.insert(name, schema.unwrap_or_default());
        }
        let mut document = json!({ "components": { "schemas": schemas } });
        tidy(&mut document);
        each_object(&mut document, &mut |object| {
            if let Some(Value::String(reference)) = object.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(SCHEMAS)
            {
                *reference = format!("{SCHEMAS}{prefix}{name}");
            }
        });
        match document["components"]["schemas"].take() {
            Value::Object(schemas) => schemas
                .into_iter()
                .map(|(name, schema)| (format!("{prefix}{name}"), schema))
                .collect(),
            _ => Map::new(),
        }
    }
}

fn bytes(about: &str) -> Value {
    json!({ "type": "string", "format": "binary", "description": about })
}

/// How MessagePack writes what it does not write as JSON does.
fn packed(name: &str) -> Option<Value> {
    Some(match name {
        "BatchId" | "ChunkId" | "CommandId" | "EventId" | "KeyId" => {
            bytes("The 16 bytes of a UUID.")
        }
        "Timestamp" => json!({
            "type": "integer", "format": "int64",
            "description": "A time: milliseconds since 1970, in UTC.",
        }),
        "Span" => json!({
            "type": "integer", "format": "int64", "minimum": 0,
            "description": "A span of time in milliseconds.",
        }),
        "UnitSet" => bytes("A set of ordinals: the portable format of Roaring bitmaps."),
        "PackedDocuments" => bytes("MessagePack in turn: an array of documents."),
        "PackedOutputs" => bytes(
            "MessagePack in turn: an array of `[ordinal, {\"media_type\": text, \"body\": bytes}]`.",
        ),
        _ => return None,
    })
}

/// The fields of a command, and those that every command may have.
pub(super) fn with_circumstances(fields: &Value) -> Value {
    let mut whole = fields.clone();
    whole["properties"]["id"] = json!({
        "$ref": format!("{SCHEMAS}CommandId"),
        "description": "The same id twice is done once. Without one every message is a new command.",
    });
    whole["properties"]["actor"] = json!({
        "type": "string",
        "description": "Who asks, for the history; at most 128 characters are kept.",
    });
    whole
}

/// A type of event.
pub(super) struct EventSchema {
    /// The type, for instance `batch.created`.
    pub(super) kind: String,
    /// The name of its schema.
    pub(super) schema: String,
    /// What it says.
    pub(super) about: String,
    /// Whether class and kind of a failure stand in its subject, after the type.
    pub(super) by_failure: bool,
}

/// Gives each type of event a schema of its own.
pub(super) fn events(packed: &mut Map<String, Value>) -> Vec<EventSchema> {
    let Some(Value::Array(variants)) = packed
        .get_mut("packed.Event")
        .and_then(|event| event.get_mut("oneOf"))
    else {
        return Vec::new();
    };
    let mut events = Vec::new();
    let mut own = Map::new();
    for variant in variants {
        let fields = variant.get("properties").and_then(Value::as_object);
        let Some((kind, fields)) = fields.and_then(|fields| fields.iter().next()) else {
            continue;
        };
        let has = |field: &str| fields.pointer(&format!("/properties/{field}")).is_some();
        let schema = format!("packed.Event.{kind}");
        events.push(EventSchema {
            kind: kind.clone(),
            about: variant["description"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            // They alone have both: what failed, and how.
            by_failure: has("class") && has("kind"),
            schema: schema.clone(),
        });
        let reference = json!({ "$ref": format!("{SCHEMAS}{schema}") });
        own.insert(schema, std::mem::replace(variant, reference));
    }
    packed.append(&mut own);
    events
}
