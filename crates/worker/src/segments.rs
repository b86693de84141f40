//! Segments as they go in and come out: the answer of a handler that splits documents, a line of it, and the list of
//! what was made of all segments of a document.

use base64::{Engine, prelude::BASE64_STANDARD};
use redrive_domain::{
    document::Output,
    failure::{Failure, FailureKind},
    limits::JOIN_BYTES,
    segments::count,
};
use serde_json::{Value, json};

/// Takes what a handler made of a document for the document's segments: one JSON value a line, or one JSON list.
pub(crate) fn checked(output: Output) -> Result<Output, Failure> {
    let output = match output.is_json().then(|| output.to_value()).flatten() {
        Some(Value::Array(list)) => {
            let mut body = Vec::with_capacity(output.body.len());
            for value in &list {
                add_line(&mut body, value);
            }
            Output::ndjson(body)
        }
        _ => Output::ndjson(output.body),
    };
    count(&output.body).map_err(|invalid| {
        let message = format!(
            "the job has segments = true, and its output is not one JSON value a line: {invalid}"
        );
        Failure::new(FailureKind::INVALID_SEGMENTS, message)
    })?;
    Ok(output)
}

fn add_line(body: &mut Vec<u8>, value: &Value) {
    // Writing to memory cannot fail, and every value of JSON has a form.
    if serde_json::to_writer(&mut *body, value).is_err() {
        body.extend_from_slice(b"null");
    }
    body.push(b'\n');
}

/// Gathers what a job made of the segments of a document, in their order.
#[derive(Debug, Default)]
pub(crate) struct List {
    body: Vec<u8>,
}

impl List {
    /// Adds what was made of the next segment: JSON as itself, text as a string, other bytes as `{"base64": "…"}`, and
    /// null where nothing was made.
    pub(crate) fn add(&mut self, output: Option<&Output>) -> Result<(), Failure> {
        let value = match output {
            None => Value::Null,
            Some(output) => output
                .to_value()
                .unwrap_or_else(|| json!({ "base64": BASE64_STANDARD.encode(&output.body) })),
        };
        add_line(&mut self.body, &value);
        if self.body.len() <= JOIN_BYTES {
            return Ok(());
        }
        let message = format!(
            "the outputs of the document's segments are more than {JOIN_BYTES} bytes together: a join takes no more; let the tier before make less of each, or keep it elsewhere and pass its place on"
        );
        Err(Failure::new(FailureKind::INPUT_TOO_LARGE, message))
    }

    pub(crate) fn finish(self) -> Output {
        Output::ndjson(self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(output: Output) -> String {
        assert_eq!(output.media_type, "application/x-ndjson");
        String::from_utf8(output.body).unwrap()
    }

    #[test]
    fn an_answer_is_lines_or_a_list() {
        let lines = checked(Output::text("1\n\"two\"\n")).unwrap();
        assert_eq!(body(lines), "1\n\"two\"\n");
        let list = checked(Output::json(&json!([1, { "a": "\n" }]))).unwrap();
        assert_eq!(body(list), "1\n{\"a\":\"\\n\"}\n");
        let one = checked(Output::json(&json!({ "a": 1 }))).unwrap();
        assert_eq!(body(one), "{\"a\":1}");
        let failure = checked(Output::text("1\ntwo\n")).unwrap_err();
        assert_eq!(failure.kind, FailureKind::INVALID_SEGMENTS);
        assert!(failure.message.contains("line 2"), "{}", failure.message);
    }

    #[test]
    fn a_list_has_a_line_for_each_segment_whatever_was_made_of_it() {
        let mut list = List::default();
        let bytes = Output {
            media_type: "application/octet-stream".to_owned(),
            body: vec![0xff, 0],
        };
        for output in [
            Some(&Output::json(&json!({ "n": 1 }))),
            Some(&Output::text("two\nlines")),
            None,
            Some(&bytes),
        ] {
            list.add(output).unwrap();
        }
        let expected = "{\"n\":1}\n\"two\\nlines\"\nnull\n{\"base64\":\"/wA=\"}\n";
        assert_eq!(body(list.finish()), expected);
    }

    #[test]
    fn a_list_does_not_grow_without_bound() {
        let mut list = List::default();
        let large = Output::text("x".repeat(JOIN_BYTES / 4));
        let added = (0..5).map(|_| list.add(Some(&large)));
        let failure = added.collect::<Result<Vec<()>, _>>().unwrap_err();
        assert_eq!(failure.kind, FailureKind::INPUT_TOO_LARGE);
    }
}
