//! Requests of dialects whose servers are written with FastAPI, read field by field: all that is wrong with one is told at
//! once, in that framework's words and types, and fields that nobody knows are passed over, as there.
//!
//! Where the framework takes what its own schema forbids (the text `"3"` as a number, `true` as 1), this does not.

use std::ops::RangeInclusive;

use axum::extract::{FromRequest, Request};
use serde_json::{Map, Number, Value, json};
use uuid::Uuid;

use crate::{
    Shared,
    extract::{is_json, media_type, whole_body},
    problem::{Fault, Problem, Step},
};

/// Longest text that an error repeats, in characters.
const REPEATED: usize = 200;

/// A body of a JSON object that has to be there.
pub(super) struct Body(pub(super) Fields);

/// A body of a JSON object. None at all is an object without fields.
pub(super) struct OptionalBody(pub(super) Fields);

impl FromRequest<Shared> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Problem> {
        let body = object(request).await?;
        let missing = || Problem::Invalid(vec![Fault::at("body", "", "Field required", "missing")]);
        body.ok_or_else(missing).map(Fields::of_body).map(Self)
    }
}

impl FromRequest<Shared> for OptionalBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Problem> {
        let body = object(request).await?;
        Ok(Self(Fields::of_body(body.unwrap_or_default())))
    }
}

/// The object in a request's body; none where there is no body.
async fn object(request: Request) -> Result<Option<Map<String, Value>>, Problem> {
    let is_json = media_type(request.headers()).is_none_or(is_json);
    let body = whole_body(request.into_body()).await?;
    if body.is_empty() {
        return Ok(None);
    }
    let not_an_object = || {
        let msg = "Input should be a valid dictionary or object to extract fields from";
        Problem::Invalid(vec![Fault::at("body", "", msg, "model_attributes_type")])
    };
    if !is_json {
        return Err(not_an_object());
    }
    match serde_json::from_slice(&body) {
        Ok(Value::Object(fields)) => Ok(Some(fields)),
        Ok(_) => Err(not_an_object()),
        Err(error) => {
            let mut fault = Fault::at("body", "", "JSON decode error", "json_invalid");
            fault.loc.push(Step::Index(place(&body, &error)));
            fault.ctx = Some(json!({ "error": error.to_string() }));
            Err(Problem::Invalid(vec![fault]))
        }
    }
}

/// Where in a body an error is, in bytes.
fn place(body: &[u8], error: &serde_json::Error) -> usize {
    let lines = body.split(|byte| *byte == b'\n');
    let before = lines.take(error.line().saturating_sub(1));
    before.map(|line| line.len() + 1).sum::<usize>() + error.column().saturating_sub(1)
}

/// What is wrong with a value.
struct Wrong {
    msg: String,
    kind: &'static str,
    ctx: Option<Value>,
}

fn wrong(kind: &'static str, msg: &str) -> Wrong {
    Wrong {
        msg: msg.to_owned(),
        kind,
        ctx: None,
    }
}

/// The fields of a body or of a query, and what is wrong with those that were read.
pub(super) struct Fields {
    root: &'static str,
    fields: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Fields {
    fn of_body(fields: Map<String, Value>) -> Self {
        Self {
            root: "body",
            fields,
            faults: Vec::new(),
        }
    }

    /// Those behind the question mark. Of a name that stands there twice the last counts.
    pub(super) fn of_query(query: Vec<(String, String)>) -> Self {
        let fields = query.into_iter();
        Self {
            root: "query",
            fields: fields.map(|(name, value)| (name, value.into())).collect(),
            faults: Vec::new(),
        }
    }

    /// Takes a field as it stands; none where it is absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name)
    }

    /// Whether a field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Whether a field is there and says nothing.
    pub(super) fn is_null(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(Value::is_null)
    }

    /// Says that something is wrong at a path such as `tier_nums[0]`.
    pub(super) fn refuse(&mut self, path: &str, msg: impl Into<String>, kind: &'static str) {
        self.faults.push(Fault::at(self.root, path, msg, kind));
    }

    /// Whether nothing is wrong so far.
    pub(super) fn are_fine(&self) -> bool {
        self.faults.is_empty()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// All that is wrong.
    pub(super) fn done(self) -> Result<(), Problem> {
        match self.faults.is_empty() {
            true => Ok(()),
            false => Err(Problem::Invalid(self.faults)),
        }
    }

    fn read<T>(
        &mut self,
        name: &str,
        value: Option<Value>,
        read: impl FnOnce(&Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        let value = value?;
        match read(&value) {
            Ok(value) => Some(value),
            Err(Wrong { msg, kind, ctx }) => {
                let mut fault = Fault::at(self.root, name, msg, kind);
                fault.input = repeated(value);
                fault.ctx = ctx;
                self.faults.push(fault);
                None
            }
        }
    }

    /// Takes a field of which null says as little as its absence.
    fn take_some(&mut self, name: &str) -> Option<Value> {
        self.take(name).filter(|value| !value.is_null())
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.take(name);
        self.read(name, value, |value| {
            let found = words.iter().find(|(word, _)| value.as_str() == Some(*word));
            found.map(|(_, meaning)| *meaning).ok_or_else(|| {
                let quoted: Vec<String> =
                    words.iter().map(|(word, _)| format!("'{word}'")).collect();
                let expected = match quoted.split_last() {
                    Some((last, [])) => last.clone(),
                    Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
                    None => String::new(),
                };
                Wrong {
                    msg: format!("Input should be {expected}"),
                    kind: "enum",
                    ctx: Some(json!({ "expected": expected })),
                }
            })
        })
    }

    /// A whole number.
    pub(super) fn int(&mut self, name: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(name);
        let textual = self.root == "query";
        self.read(name, value, |value| within(whole(value, textual)?, &bounds))
    }

    /// A whole number, or null for none.
    pub(super) fn optional_int(&mut self, name: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take_some(name);
        let textual = self.root == "query";
        self.read(name, value, |value| within(whole(value, textual)?, &bounds))
    }

    /// A number, or null for none.
    pub(super) fn optional_number(&mut self, name: &str) -> Option<f64> {
        let value = self.take_some(name);
        self.read(name, value, |value| {
            let msg = "Input should be a valid number";
            value.as_f64().ok_or_else(|| wrong("float_type", msg))
        })
    }

    /// A truth value, or null for none.
    pub(super) fn optional_bool(&mut self, name: &str) -> Option<bool> {
        let value = self.take_some(name);
        self.read(name, value, |value| {
            let msg = "Input should be a valid boolean";
            value.as_bool().ok_or_else(|| wrong("bool_type", msg))
        })
    }

    /// A text of so many bytes, or null for none.
    pub(super) fn optional_text(
        &mut self,
        name: &str,
        bytes: RangeInclusive<usize>,
    ) -> Option<String> {
        let value = self.take_some(name);
        self.read(name, value, |value| text(value, &bytes))
    }

    /// A UUID, or null for none.
    pub(super) fn optional_uuid(&mut self, name: &str) -> Option<Uuid> {
        let value = self.take_some(name);
        self.read(name, value, |value| match value.as_str() {
            Some(text) => uuid(text),
            None => {
                let msg = "UUID input should be a string, bytes or UUID object";
                Err(wrong("uuid_type", msg))
            }
        })
    }

    /// A list of whole numbers of any size, or null for none; what is beyond 64 bits is the nearest that is not.
    pub(super) fn optional_ints(&mut self, name: &str) -> Option<Vec<i64>> {
        self.optional_list(name, |value| whole(value, false))
    }

    /// A list of texts of so many bytes each, or null for none.
    pub(super) fn optional_texts(
        &mut self,
        name: &str,
        bytes: RangeInclusive<usize>,
    ) -> Option<Vec<String>> {
        self.optional_list(name, |value| text(value, &bytes))
    }

    fn optional_list<T>(
        &mut self,
        name: &str,
        read: impl Fn(&Value) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let value = self.take_some(name);
        let list = self.read(name, value, |value| {
            let msg = "Input should be a valid list";
            let list = value.as_array().ok_or_else(|| wrong("list_type", msg))?;
            Ok(list.clone())
        })?;
        let mut items = Vec::with_capacity(list.len());
        for (place, value) in list.into_iter().enumerate() {
            // Whoever has a thousand things wrong learns enough from the first.
            if self.faults.len() >= FAULTS {
                return None;
            }
            items.extend(self.read(&format!("{name}[{place}]"), Some(value), &read));
        }
        Some(items)
    }
}

/// Things wrong with one request that its answer names, about.
const FAULTS: usize = 50;

/// What was sent, where that is short enough to be repeated.
fn repeated(value: Value) -> Option<Value> {
    match value {
        Value::String(text) => Some(text.chars().take(REPEATED).collect::<String>().into()),
        Value::Array(_) | Value::Object(_) => None,
        value => Some(value),
    }
}

/// A whole number, also one that is written `3.0`: to JSON Schema that is an integer as well.
#[allow(clippy::cast_possible_truncation)] // A cast from a float saturates.
pub(super) fn whole_number(number: &Number) -> Option<i64> {
    let whole = || number.as_f64().filter(|number| number.fract() == 0.0);
    number
        .as_i64()
        .or_else(|| whole().map(|number| number as i64))
}

fn whole(value: &Value, textual: bool) -> Result<i64, Wrong> {
    let plain = "Input should be a valid integer";
    let unreadable = "Input should be a valid integer, unable to parse string as an integer";
    match value {
        Value::Number(number) => whole_number(number).ok_or_else(|| {
            wrong(
                "int_from_float",
                "Input should be a valid integer, got a number with a fractional part",
            )
        }),
        Value::String(text) => match text.trim().parse() {
            Ok(number) if textual => Ok(number),
            Ok(_) => Err(wrong("int_type", plain)),
            Err(_) => Err(wrong("int_parsing", unreadable)),
        },
        _ => Err(wrong("int_type", plain)),
    }
}

fn within(number: i64, bounds: &RangeInclusive<u64>) -> Result<u64, Wrong> {
    let (least, most) = (*bounds.start(), *bounds.end());
    match u64::try_from(number) {
        Ok(number) if number > most => Err(Wrong {
            msg: format!("Input should be less than or equal to {most}"),
            kind: "less_than_equal",
            ctx: Some(json!({ "le": most })),
        }),
        Ok(number) if number >= least => Ok(number),
        _ => Err(Wrong {
            msg: format!("Input should be greater than or equal to {least}"),
            kind: "greater_than_equal",
            ctx: Some(json!({ "ge": least })),
        }),
    }
}

fn text(value: &Value, bytes: &RangeInclusive<usize>) -> Result<String, Wrong> {
    let msg = "Input should be a valid string";
    let text = value.as_str().ok_or_else(|| wrong("string_type", msg))?;
    let (least, most) = (*bytes.start(), *bytes.end());
    if text.len() < least {
        return Err(Wrong {
            msg: format!("String should have at least {least} character"),
            kind: "string_too_short",
            ctx: Some(json!({ "min_length": least })),
        });
    }
    if text.len() > most {
        return Err(Wrong {
            msg: format!("String should have at most {most} characters"),
            kind: "string_too_long",
            ctx: Some(json!({ "max_length": most })),
        });
    }
    Ok(text.to_owned())
}

fn uuid(text: &str) -> Result<Uuid, Wrong> {
    Uuid::try_parse(text).map_err(|error| Wrong {
        msg: format!("Input should be a valid UUID, {error}"),
        kind: "uuid_parsing",
        ctx: Some(json!({ "error": error.to_string() })),
    })
}

fn in_path<T>(name: &str, value: &str, read: Result<T, Wrong>) -> Result<T, Problem> {
    read.map_err(|Wrong { msg, kind, ctx }| {
        let mut fault = Fault::at("path", name, msg, kind);
        fault.input = repeated(value.into());
        fault.ctx = ctx;
        Problem::Invalid(vec![fault])
    })
}

/// A UUID that stands in the path.
pub(super) fn path_uuid(name: &str, value: &str) -> Result<Uuid, Problem> {
    in_path(name, value, uuid(value))
}

/// A whole number that stands in the path.
pub(super) fn path_int(name: &str, value: &str) -> Result<i64, Problem> {
    in_path(name, value, whole(&value.into(), true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(read: impl FnOnce(&mut Fields), body: Value) -> Value {
        let Value::Object(body) = body else {
            return Value::Null;
        };
        let mut fields = Fields::of_body(body);
        read(&mut fields);
        match fields.done() {
            Err(Problem::Invalid(faults)) => serde_json::to_value(faults).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let body =
            json!({ "mode": "some", "count": 11, "list": [0, "x", 1.5, null], "unknown": 1 });
        let told = faults(
            |fields| {
                fields.word("mode", &[("one", 1), ("two", 2)]);
                fields.int("count", 1..=10);
                fields.optional_ints("list");
            },
            body,
        );
        let expected = json!([
            { "loc": ["body", "mode"], "msg": "Input should be 'one' or 'two'", "type": "enum",
              "input": "some", "ctx": { "expected": "'one' or 'two'" } },
            { "loc": ["body", "count"], "msg": "Input should be less than or equal to 10",
              "type": "less_than_equal", "input": 11, "ctx": { "le": 10 } },
            { "loc": ["body", "list", 1], "type": "int_parsing", "input": "x",
              "msg": "Input should be a valid integer, unable to parse string as an integer" },
            { "loc": ["body", "list", 2], "type": "int_from_float", "input": 1.5,
              "msg": "Input should be a valid integer, got a number with a fractional part" },
            { "loc": ["body", "list", 3], "type": "int_type", "input": null,
              "msg": "Input should be a valid integer" },
        ]);
        assert_eq!(told, expected);
    }

    #[test]
    fn null_is_none_only_where_it_may_stand() {
        let body = || json!({ "count": null });
        let may = faults(
            |fields| assert!(fields.optional_int("count", 1..=3).is_none()),
            body(),
        );
        assert_eq!(may, Value::Null);
        let may_not = faults(
            |fields| assert!(fields.int("count", 1..=3).is_none()),
            body(),
        );
        assert_eq!(may_not[0]["type"], "int_type");
    }

    #[test]
    fn the_place_of_an_error_is_counted_in_bytes() {
        let body = b"{\n \"a\": }";
        let error = serde_json::from_slice::<Value>(body).unwrap_err();
        assert_eq!(place(body, &error), 8);
    }
}
