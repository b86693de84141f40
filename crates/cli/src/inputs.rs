//! Reading documents from arguments, lines and NDJSON, one at a time.

use std::path::Path;

use anyhow::Context;
use redrive_broker::nats::NatsBroker;
use redrive_client::Upload;
use redrive_domain::{document::Document, ids::CommandId};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use crate::{args::Inputs, exit::usage};

/// The longest line that is read, in bytes.
const LINE: u64 = 1 << 20;

/// What an input that is a file's path becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paths {
    /// Itself: it is used where it was given.
    AsGiven,
    /// A document with an absolute URI: it is used elsewhere.
    Absolute,
}

/// Whether the inputs are to be read from standard input.
pub(crate) fn from_stdin(inputs: &Inputs) -> bool {
    match &inputs.ndjson {
        Some(file) => file.as_os_str() == "-",
        None => inputs.inputs.is_empty() || inputs.inputs == ["-"],
    }
}

/// Finds out before a batch is made whether its documents can be read at all.
pub(crate) fn check(inputs: &Inputs) -> anyhow::Result<()> {
    match &inputs.ndjson {
        Some(file) if file.as_os_str() != "-" => match std::fs::File::open(file) {
            Ok(_) => Ok(()),
            Err(error) => Err(usage(format!("cannot read {}: {error}", file.display()))),
        },
        _ => Ok(()),
    }
}

/// Hands all inputs to the upload.
pub(crate) async fn hand_over<I: FnMut() -> CommandId>(
    inputs: &Inputs,
    paths: Paths,
    upload: &mut Upload<'_, NatsBroker, I>,
) -> anyhow::Result<()> {
    match &inputs.ndjson {
        Some(file) if file.as_os_str() != "-" => {
            let name = file.display().to_string();
            let file = tokio::fs::File::open(file)
                .await
                .map_err(|error| usage(format!("cannot read {name}: {error}")))?;
            records(BufReader::new(file), &name, upload).await
        }
        Some(_) => records(BufReader::new(tokio::io::stdin()), "standard input", upload).await,
        None if from_stdin(inputs) => {
            let mut lines = Lines::new(BufReader::new(tokio::io::stdin()));
            loop {
                // While nothing more comes, what has come is to be worked on.
                let line = tokio::select! {
                    biased;
                    line = lines.next() => line?,
                    () = tokio::time::sleep(std::time::Duration::from_millis(300)), if upload.has_unsent() => {
                        upload.flush().await?;
                        continue;
                    }
                };
                match line {
                    None => return Ok(()),
                    Some((_, line)) if line.is_empty() => {}
                    Some((_, line)) => upload.add(document(line, paths)).await?,
                }
            }
        }
        None => {
            for input in &inputs.inputs {
                upload.add(document(input.clone(), paths)).await?;
            }
            Ok(())
        }
    }
}

fn document(input: String, paths: Paths) -> Document {
    let mut document = Document::new(input);
    if paths == Paths::Absolute && !document.id.contains("://") {
        let absolute = Path::new(&document.id).canonicalize().ok();
        document.uri = absolute.map(|path| path.to_string_lossy().into_owned());
    }
    document
}

async fn records<R: AsyncBufRead + Unpin, I: FnMut() -> CommandId>(
    reader: R,
    name: &str,
    upload: &mut Upload<'_, NatsBroker, I>,
) -> anyhow::Result<()> {
    let mut lines = Lines::new(reader);
    while let Some((number, line)) = lines
        .next()
        .await
        .with_context(|| format!("cannot read {name}"))?
    {
        if line.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(&line)
            .map_err(|error| usage(format!("{name} line {number}: {}", not_json(&error))))?;
        let document = record(value, number)
            .map_err(|error| usage(format!("{name} line {number}: {error}")))?;
        upload.add(document).await?;
    }
    Ok(())
}

/// What is wrong with a line. The parser's own line number would be another one.
fn not_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("not JSON: {what} (column {})", error.column())
}

/// `{"id", "uri", "data"}` is a document; any other object is the data of one, whose id is its `id` or the line.
fn record(value: Value, number: u64) -> Result<Document, String> {
    let Value::Object(fields) = &value else {
        let shown = crate::output::brief(&value.to_string(), 40);
        return Err(format!(
            "{shown} is no JSON object: each line takes one, such as {{\"id\": \"a\"}}"
        ));
    };
    let id = match fields.get("id") {
        None => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(Value::Number(id)) => Some(id.to_string()),
        Some(_) => return Err("id is neither a text nor a number".to_owned()),
    };
    let is_document = fields
        .keys()
        .all(|key| ["id", "uri", "data"].contains(&key.as_str()));
    let uri = match fields.get("uri") {
        Some(Value::String(uri)) if is_document => Some(uri.clone()),
        Some(_) if is_document => return Err("uri is not a text".to_owned()),
        _ => None,
    };
    let id = id
        .or_else(|| uri.clone())
        .unwrap_or_else(|| format!("line-{number}"));
    let data = if is_document {
        fields.get("data").cloned()
    } else {
        Some(value)
    };
    Ok(Document { id, uri, data })
}

/// Lines of bounded length, with their numbers from 1.
struct Lines<R> {
    reader: R,
    number: u64,
    /// What of a line has come, so that waiting for the rest can be given up and taken up.
    part: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            number: 0,
            part: Vec::new(),
        }
    }

    async fn next(&mut self) -> anyhow::Result<Option<(u64, String)>> {
        loop {
            let buffer = self.reader.fill_buf().await?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(buffer.len());
            self.part.extend_from_slice(&buffer[..taken]);
            let ended = buffer.is_empty();
            self.reader.consume(end.map_or(taken, |end| end + 1));
            if self.part.len() as u64 > LINE {
                let number = self.number + 1;
                return Err(usage(format!("line {number} has more than {LINE} bytes")));
            }
            if ended && self.part.is_empty() {
                return Ok(None);
            }
            if ended || end.is_some() {
                self.number += 1;
                let mut line = std::mem::take(&mut self.part);
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                let number = self.number;
                let line = String::from_utf8(line)
                    .map_err(|_| usage(format!("line {number} is not UTF-8")))?;
                return Ok(Some((number, line)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_a_document_or_the_data_of_one() {
        let read = |value| record(value, 7).unwrap();
        assert_eq!(
            read(json!({"id": "a", "uri": "b"})).uri.as_deref(),
            Some("b")
        );
        assert_eq!(read(json!({"uri": "b"})).id, "b");
        assert_eq!(read(json!({"id": 5, "data": [1]})).id, "5");
        let whole = read(json!({"name": "x", "id": "n"}));
        assert_eq!(
            (whole.id.as_str(), whole.data),
            ("n", Some(json!({"name": "x", "id": "n"})))
        );
        assert_eq!(read(json!({"name": "x"})).id, "line-7");
        assert!(record(json!([1]), 1).is_err());
        assert!(record(json!({"id": null, "uri": 1}), 1).is_err());
    }

    #[tokio::test]
    async fn lines_are_read_as_they_are() {
        let mut lines = Lines::new(&b"one\r\n\ntwo"[..]);
        assert_eq!(lines.next().await.unwrap(), Some((1, "one".to_owned())));
        assert_eq!(lines.next().await.unwrap(), Some((2, String::new())));
        assert_eq!(lines.next().await.unwrap(), Some((3, "two".to_owned())));
        assert_eq!(lines.next().await.unwrap(), None);
    }
}
