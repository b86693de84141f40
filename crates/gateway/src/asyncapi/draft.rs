//! The parts of an AsyncAPI document: channels, operations and messages.

use redrive_domain::{
    command::{Refusal, Verb},
    ids::CommandId,
};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::schemas::{self, Schemas};

pub(super) const JSON: &str = "application/json";
const MESSAGE_PACK: &str = "application/vnd.msgpack";

/// Where answers go: the asker says.
const REPLIES: &str = "replies";

/// Whether a question is answered with one thing, or with a list of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    One,
    Pages,
}

/// A document in the making.
pub(super) struct Draft {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    /// What is JSON.
    json: Schemas,
    /// What is MessagePack.
    packed: Schemas,
    /// The verbs, each with the name of its fields' schema.
    commands: Vec<(Verb, String)>,
    /// Where events are, without their types.
    events: Option<String>,
}

impl Default for Draft {
    fn default() -> Self {
        let mut json = Schemas::new("");
        json.add::<Refusal>();
        json.add::<CommandId>();
        Self {
            channels: Map::new(),
            operations: Map::new(),
            messages: Map::new(),
            json,
            packed: Schemas::new("packed."),
            commands: Vec::new(),
            events: None,
        }
    }
}

/// The parts, when all was told.
pub(super) struct Told {
    pub(super) channels: Map<String, Value>,
    pub(super) operations: Map<String, Value>,
    pub(super) messages: Map<String, Value>,
    pub(super) schemas: Map<String, Value>,
    pub(super) parameters: Map<String, Value>,
}

fn reference(part: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/{part}/{name}") })
}

/// What stands in the braces of addresses.
const PARAMETERS: [(&str, &str); 10] = [
    ("shard", "The shard. There is one, 0."),
    ("namespace", "The tenant."),
    ("bucket", "The bucket, or `_` for whichever the batch has."),
    (
        "batch",
        "The batch, or `_` where a command is about the namespace.",
    ),
    ("handler", "The handler that can do it."),
    ("class", "What a worker must have."),
    ("chunk", "The chunk."),
    ("worker", "The worker."),
    (
        "failure_class",
        "The class of the failure: transient, permanent or unknown.",
    ),
    ("failure_kind", "The kind of the failure."),
];

fn channel(address: &str, message: &str, about: &str) -> Value {
    let names = address.split('{').skip(1);
    let parameters: Map<String, Value> = names
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| (name.to_owned(), reference("components/parameters", name)))
        .collect();
    json!({
        "address": address,
        "description": about,
        "parameters": parameters,
        "messages": { message: reference("components/messages", message) },
    })
}

impl Draft {
    fn message(&mut self, name: &str, content: &str, about: &str, payload: Value) {
        let message = json!({
            "name": name, "title": name, "summary": about, "contentType": content, "payload": payload,
        });
        self.messages.insert(name.to_owned(), message);
    }

    /// Adds a channel of one message, and that it is sent or received.
    fn carries(&mut self, name: &str, address: &str, message: &str, action: &str, about: &str) {
        let on = channel(address, message, about);
        self.channels.insert(name.to_owned(), on);
        let operation = json!({
            "action": action,
            "summary": about,
            "channel": reference("channels", name),
            "messages": [reference(&format!("channels/{name}/messages"), message)],
        });
        self.operations.insert(name.to_owned(), operation);
    }

    /// Says what an operation is answered with.
    fn is_answered(&mut self, operation: &str, answer: &str) {
        if let Some(operation) = self.operations.get_mut(operation) {
            operation["reply"] = json!({
                "channel": reference("channels", REPLIES),
                "messages": [reference(&format!("channels/{REPLIES}/messages"), answer)],
            });
        }
    }

    /// Something that Redrive sends as MessagePack.
    pub(super) fn sends<T: ToSchema>(&mut self, name: &str, address: &str, about: &str) {
        let payload = self.packed.add::<T>();
        self.message(name, MESSAGE_PACK, about, payload);
        self.carries(name, address, name, "send", about);
    }

    /// Something that Redrive receives as MessagePack.
    pub(super) fn receives<T: ToSchema>(&mut self, name: &str, address: &str, about: &str) {
        let payload = self.packed.add::<T>();
        self.message(name, MESSAGE_PACK, about, payload);
        self.carries(name, address, name, "receive", about);
    }

    /// A command with these fields.
    pub(super) fn command<T: ToSchema>(&mut self, verb: Verb, about: &str) {
        self.json.add::<T>();
        self.commands.push((verb, T::name().into_owned()));
        let message = format!("command.{verb}");
        let payload = reference("components/schemas", &message);
        self.message(&message, JSON, about, payload);
        let durable =
            format!("{about} Handed over durably; answered by what it leads to in the log.");
        let address = format!("rd.cmd.{{namespace}}.{{bucket}}.{{batch}}.{verb}");
        self.carries(&message, &address, &message, "receive", &durable);
        let request = format!("request.{verb}");
        let address = format!("rd.req.{{namespace}}.{{bucket}}.{{batch}}.{verb}");
        let answered = format!("{about} Answered with the decision.");
        self.carries(&request, &address, &message, "receive", &answered);
        self.is_answered(&request, "accepted");
    }

    /// What is answered: `{"ok": …}`, or an error.
    pub(super) fn answer<T: ToSchema>(&mut self, name: &str, answers: Answers) {
        let ok = match answers {
            Answers::One => self.json.add::<T>(),
            Answers::Pages => self.json.add_page::<T>(),
        };
        let payload = json!({ "oneOf": [
            { "type": "object", "required": ["ok"], "properties": { "ok": ok } },
            reference("components/schemas", "Refused"),
        ] });
        let about = "What was asked for, or why not.";
        self.message(name, JSON, about, payload);
    }

    /// A question, and what it is answered with.
    pub(super) fn question<Q: ToSchema, A: ToSchema>(
        &mut self,
        name: &str,
        answers: Answers,
        about: &str,
    ) {
        let (question, answer) = (format!("query.{name}"), format!("answer.{name}"));
        let payload = self.json.add::<Q>();
        self.message(&question, JSON, about, payload);
        let address = format!("rd.qry.{{namespace}}.{name}");
        self.carries(&question, &address, &question, "receive", about);
        self.answer::<A>(&answer, answers);
        self.is_answered(&question, &answer);
    }

    /// The log, event by event.
    pub(super) fn events<T: ToSchema>(&mut self, address: &str) {
        self.packed.add::<T>();
        self.events = Some(address.to_owned());
    }

    /// All parts, with what can only be told when the schemas are known.
    pub(super) fn finish(mut self) -> Told {
        let mut schemas = std::mem::replace(&mut self.json, Schemas::new("")).finish();
        for (verb, fields) in &self.commands {
            if let Some(fields) = schemas.get(fields) {
                let whole = schemas::with_circumstances(fields);
                schemas.insert(format!("command.{verb}"), whole);
            }
        }
        schemas.insert("Refused".to_owned(), refused());
        let mut packed = std::mem::replace(&mut self.packed, Schemas::new("")).finish();
        if let Some(address) = self.events.take() {
            for event in schemas::events(&mut packed) {
                self.event(&address, &event);
            }
        }
        schemas.append(&mut packed);
        let answers = self.messages.keys();
        let answers = answers.filter(|name| *name == "accepted" || name.starts_with("answer."));
        let answers: Map<String, Value> = answers
            .map(|name| (name.clone(), reference("components/messages", name)))
            .collect();
        let replies = json!({
            "address": null,
            "description": "The reply subject of the request.",
            "messages": answers,
        });
        self.channels.insert(REPLIES.to_owned(), replies);
        Told {
            channels: self.channels,
            operations: self.operations,
            messages: self.messages,
            schemas,
            parameters: PARAMETERS
                .into_iter()
                .map(|(name, about)| (name.to_owned(), json!({ "description": about })))
                .collect(),
        }
    }

    fn event(&mut self, address: &str, event: &schemas::EventSchema) {
        let name = format!("event.{}", event.kind);
        let payload = json!({ "allOf": [
            reference("components/schemas", "packed.Envelope"),
            { "type": "object", "properties": {
                "event": reference("components/schemas", &event.schema),
            } },
        ] });
        self.message(&name, MESSAGE_PACK, &event.about, payload);
        let by_failure = match event.by_failure {
            true => ".{failure_class}.{failure_kind}",
            false => "",
        };
        let address = format!("{address}.{}{by_failure}", event.kind);
        self.carries(&name, &address, &name, "send", &event.about);
    }
}

fn refused() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "allOf": [
                reference("components/schemas", "Refusal"),
                { "type": "object", "required": ["message"], "properties": {
                    "message": { "type": "string", "description": "Why, for people." },
                } },
            ],
        } },
    })
}
