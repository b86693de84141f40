//! What holds for all routes, or for all of one surface, and so is said once: tags, credentials, headers, errors.

use serde_json::{Map, Value, json};

use crate::surface::Surface;

/// What an operation's key in a path item is.
const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// What the document is about.
const DESCRIPTION: &str = "\
See what failed in a batch, where and why, and redrive only that.

Commands are decided by a coordinator and stand in a log; reads are answered from that log. Answers say with `as_of` which \
log sequence they include, and a read after a command sees what it did. Lists come in pages: give the `next` of one as the \
`after` of the next.

Besides Redrive's own interface, four dialects serve clients that were written for other services: their paths, fields, \
statuses and errors, over the same batches.";

/// Adds to a document what holds for its routes.
pub(super) fn complete(document: &mut Value) {
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document["info"]["description"] = DESCRIPTION.into();
    document["servers"] = json!([{ "url": "/", "description": "This gateway" }]);
    document["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A key of `redrive keys create`.",
        },
        "x-api-key": {
            "type": "apiKey", "in": "header", "name": "x-api-key",
            "description": "The same key, as clients of Feather and Spidra send it.",
        },
        "anchor-api-key": {
            "type": "apiKey", "in": "header", "name": "anchor-api-key",
            "description": "The same key, as clients of Anchor send it.",
        },
    });
    document["components"]["parameters"] = json!({
        "Namespace": {
            "name": "X-Namespace", "in": "header", "required": false,
            "description": "The namespace. Without it, that of the key. A key is good for its own namespace only.",
            "schema": { "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" },
        },
        "IdempotencyKey": {
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The same request with the same key is done once, and answered as it was then.",
            "schema": { "type": "string", "pattern": "^[!-~]{1,255}$" },
        },
    });
    let mut used = Vec::new();
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    let Some(paths) = paths else { return };
    for (path, item) in paths.iter_mut() {
        let surface = Surface::of(path);
        if !used.contains(&surface) {
            used.push(surface);
        }
        for method in METHODS {
            if let Some(Value::Object(operation)) = item.get_mut(method) {
                complete_operation(surface, method, path, operation);
            }
        }
    }
    let tags = Surface::ALL.into_iter().filter(|it| used.contains(it));
    document["tags"] = tags
        .map(|surface| json!({ "name": surface.name(), "description": about(surface) }))
        .collect();
}

fn complete_operation(
    surface: Surface,
    method: &str,
    path: &str,
    operation: &mut Map<String, Value>,
) {
    operation.insert("tags".into(), json!([surface.name()]));
    // An id has to be the only one of its name, but handlers of several surfaces are called alike.
    let prefix = format!("{}_", surface.name().to_lowercase());
    if let Some(Value::String(id)) = operation.get_mut("operationId")
        && surface != Surface::Native
        && !id.starts_with(&prefix)
    {
        *id = format!("{prefix}{id}");
    }
    texts_are_not_null(operation);
    let scheme = match surface {
        Surface::Native | Surface::Mixpeek => "bearer",
        Surface::Feather | Surface::Spidra => "x-api-key",
        Surface::Anchor => "anchor-api-key",
    };
    operation.insert("security".into(), json!([{ scheme: [] }]));
    if matches!(surface, Surface::Native | Surface::Mixpeek) {
        add_parameter(operation, "x-namespace", "Namespace");
    }
    if method == "post" {
        add_parameter(operation, "idempotency-key", "IdempotencyKey");
    }
    let responses = operation
        .entry("responses")
        .or_insert_with(|| Map::new().into());
    if let Value::Object(responses) = responses {
        let schema = error_of(responses);
        if matches!(
            surface,
            Surface::Native | Surface::Mixpeek | Surface::Feather
        ) {
            let invalid = json!({ "$ref": "#/components/schemas/HTTPValidationError" });
            // An idempotency key that came with another request is told of like any other error.
            let invalid = match (surface, method) {
                (Surface::Native, "post") => json!({ "anyOf": [invalid, schema.clone()] }),
                _ => invalid,
            };
            responses.entry("422").or_insert_with(|| {
                response("The request is not valid; `loc` says where.", &invalid)
            });
        }
        if surface == Surface::Native && path.contains('{') {
            responses
                .entry("404")
                .or_insert_with(|| response("There is no such thing here.", &schema));
        }
        for (status, what) in ERRORS {
            responses
                .entry(status)
                .or_insert_with(|| response(what, &schema));
        }
    }
}

/// What any request may be answered with, whatever it asks: see [`crate::problem::Problem`].
const ERRORS: [(&str, &str); 7] = [
    ("401", "There is no valid key with the request."),
    ("403", "The key does not allow it."),
    ("413", "The body is too large; the message names the limit."),
    ("415", "The body is of a type that is not taken here."),
    (
        "429",
        "Too much was asked in too short a time. `Retry-After` says how long to wait.",
    ),
    (
        "500",
        "It is our fault. The log has more under the id in the message.",
    ),
    (
        "503",
        "What it takes is away just now. `Retry-After` says how long to wait.",
    ),
];

/// How the errors of an operation look: as the first one that it tells of itself, but for validation errors, which have a
/// shape of their own.
fn error_of(responses: &Map<String, Value>) -> Value {
    let own = responses.iter().find_map(|(status, response)| {
        let is_error = status.starts_with(['4', '5']) && status != "422";
        let content = response.get("content")?.get("application/json")?;
        content.get("schema").filter(|_| is_error)
    });
    own.cloned()
        .unwrap_or_else(|| json!({ "$ref": "#/components/schemas/ErrorResponse" }))
}

fn response(what: &str, schema: &Value) -> Value {
    json!({ "description": what, "content": { "application/json": { "schema": schema } } })
}

/// What may be left out of an address or a header is a type that may be null in the code. Written down, it never is.
fn texts_are_not_null(operation: &mut Map<String, Value>) {
    let parameters = operation.get_mut("parameters");
    for parameter in parameters
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let Some(Value::Object(schema)) = parameter.get_mut("schema") else {
            continue;
        };
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|of| of != "null");
            if let [of] = types.as_slice() {
                let of = of.clone();
                schema.insert("type".into(), of);
            }
        }
        if let Some(Value::Array(choices)) = schema.get_mut("oneOf") {
            choices.retain(|of| of["type"] != "null");
            if let [Value::Object(of)] = choices.as_mut_slice() {
                let of = std::mem::take(of);
                schema.remove("oneOf");
                schema.extend(of);
            }
        }
    }
}

/// Adds a header that all operations of a kind take, unless the operation tells of it.
fn add_parameter(operation: &mut Map<String, Value>, header: &str, name: &str) {
    let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
    if let Value::Array(parameters) = parameters {
        let told = parameters.iter().any(|parameter| {
            let name = parameter.get("name").and_then(Value::as_str);
            name.is_some_and(|name| name.eq_ignore_ascii_case(header))
        });
        if !told {
            parameters.push(json!({ "$ref": format!("#/components/parameters/{name}") }));
        }
    }
}

/// What a surface is for.
fn about(surface: Surface) -> &'static str {
    match surface {
        Surface::Native => "Redrive's own interface.",
        Surface::Mixpeek => "Buckets and batches, as clients of Mixpeek know them.",
        Surface::Feather => "Ingestion jobs with segments, as clients of Feather know them.",
        Surface::Anchor => "Batches of browser sessions, as clients of Anchor know them.",
        Surface::Spidra => "Batches of scrapes, as clients of Spidra know them.",
    }
}
