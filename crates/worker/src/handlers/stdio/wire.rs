//! The lines: what a process is told, and what it says. docs/pipelines.md describes them.

use std::time::Duration;

use redrive_domain::{
    failure::{Failure, FailureClass, FailureKind},
    time::Millis,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    handler::Done,
    handlers::envelope::{self, Envelope, is_media_type},
};

/// The version of the protocol.
pub(super) const PROTOCOL: u32 = 1;
/// The longest line that a process may write, in bytes: room for the largest output, with each byte of it escaped.
pub(super) const LINE_BYTES: usize = 4 << 20;
/// The most documents that one process can ask for at once.
const CONCURRENCY: u32 = 1_024;
/// What is shown of a line that is none.
const SHOWN: usize = 80;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told<'a> {
    Document {
        id: u64,
        #[serde(flatten)]
        unit: &'a Envelope<'a>,
    },
    Cancel {
        id: u64,
    },
    Heartbeat,
}

fn line(told: &Told<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    Ok(line)
}

/// A document to process.
pub(super) fn document(id: u64, unit: &Envelope<'_>) -> Result<Vec<u8>, Failure> {
    line(&Told::Document { id, unit }).map_err(|error| {
        let message = format!("the document has no JSON form: {error}");
        Failure::new(FailureKind::INVALID_DATA, message)
    })
}

/// A document that nobody waits for any more.
pub(super) fn cancel(id: u64) -> Vec<u8> {
    line(&Told::Cancel { id }).unwrap_or_default()
}

/// A sign of life.
pub(super) fn heartbeat() -> Vec<u8> {
    line(&Told::Heartbeat).unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Hello {
        protocol: u32,
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        concurrency: Option<u32>,
        #[serde(default)]
        heartbeat_seconds: Option<f64>,
    },
    Heartbeat,
    Bye,
    Ok {
        id: u64,
        #[serde(default)]
        output: Value,
        #[serde(default)]
        base64: Option<String>,
        #[serde(default)]
        media_type: Option<String>,
    },
    Skipped {
        id: u64,
    },
    Failed {
        id: u64,
        #[serde(default)]
        class: Option<FailureClass>,
        #[serde(default)]
        kind: Option<FailureKind>,
        #[serde(default)]
        message: String,
        #[serde(default)]
        code: Value,
        #[serde(default)]
        detail: Option<String>,
        #[serde(default)]
        retry_after: Value,
    },
}

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hello {
    pub(super) name: Option<String>,
    /// Documents that it takes at once.
    pub(super) concurrency: usize,
    /// How often it says something while it holds documents, at least.
    pub(super) heartbeat: Option<Duration>,
}

/// What a process says.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    Hello(Hello),
    Heartbeat,
    /// It wants no more documents, and ends when it has answered for those that it has.
    Bye,
    Answer(u64, Result<Done, Failure>),
}

/// Reads a line; the error says what is wrong with it.
pub(super) fn read(text: &str) -> Result<Said, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| {
        let shown: String = text.chars().take(SHOWN).collect();
        format!(
            "{error}: {shown:?}. Its standard output is for messages only; anything else goes to standard error"
        )
    })?;
    match line {
        Line::Hello {
            protocol,
            name,
            concurrency,
            heartbeat_seconds,
        } => {
            if protocol != PROTOCOL {
                return Err(format!(
                    "it speaks protocol {protocol}, and this worker speaks {PROTOCOL}"
                ));
            }
            let concurrency = concurrency.unwrap_or(1);
            if !(1..=CONCURRENCY).contains(&concurrency) {
                return Err(format!(
                    "its concurrency is {concurrency}: it takes 1 to {CONCURRENCY}"
                ));
            }
            let heartbeat = heartbeat_seconds.map(|seconds| {
                Duration::try_from_secs_f64(seconds)
                    .ok()
                    .filter(|span| (Duration::from_millis(10)..=HOUR).contains(span))
                    .ok_or_else(|| {
                        format!("its heartbeat_seconds are {seconds}: they take 0.01 to 3600")
                    })
            });
            Ok(Said::Hello(Hello {
                name: name.map(|name| name.chars().take(SHOWN).collect()),
                concurrency: concurrency as usize,
                heartbeat: heartbeat.transpose()?,
            }))
        }
        Line::Heartbeat => Ok(Said::Heartbeat),
        Line::Bye => Ok(Said::Bye),
        Line::Skipped { id } => Ok(Said::Answer(id, Ok(Done::Skipped))),
        Line::Ok {
            id,
            output,
            base64,
            media_type,
        } => {
            if let Some(media_type) = media_type.as_ref().filter(|text| !is_media_type(text)) {
                return Err(format!("{media_type:?} is no media type"));
            }
            let output = match base64 {
                Some(text) => Some(
                    envelope::output_of_bytes(&text, media_type)
                        .ok_or("the field \"base64\" is no base64")?,
                ),
                None => envelope::output(output, media_type),
            };
            Ok(Said::Answer(id, Ok(Done::Completed(output))))
        }
        Line::Failed {
            id,
            class,
            kind,
            message,
            code,
            detail,
            retry_after,
        } => {
            let message = match message.trim() {
                "" => "the process gave no reason",
                message => message,
            };
            let mut failure = Failure::new(kind.unwrap_or(FailureKind::FAILED), message);
            failure.class = class.unwrap_or(failure.class);
            failure.retry_after = match retry_after {
                Value::Null => None,
                value => Some(wait(&value)?),
            };
            failure = match code {
                Value::Null => failure,
                Value::String(code) => failure.with_code(code),
                code => failure.with_code(code),
            };
            failure = match detail {
                Some(detail) => failure.with_detail(detail),
                None => failure,
            };
            Ok(Said::Answer(id, Err(failure)))
        }
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

fn wait(value: &Value) -> Result<Millis, String> {
    envelope::wait(value).ok_or_else(|| {
        format!("its retry_after is {value}: it takes seconds, or a text such as \"30s\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_says_is_read_strictly_where_it_matters() {
        let hello = read(r#"{"type":"hello","protocol":1,"more":true}"#);
        let said = Hello {
            name: None,
            concurrency: 1,
            heartbeat: None,
        };
        assert_eq!(hello, Ok(Said::Hello(said)));
        for bad in [
            "",
            "hello",
            "[]",
            r#"{"type":"hi"}"#,
            r#"{"type":"hello","protocol":2}"#,
            r#"{"type":"hello","protocol":1,"concurrency":0}"#,
            r#"{"type":"hello","protocol":1,"heartbeat_seconds":-1}"#,
            r#"{"type":"ok"}"#,
            r#"{"type":"ok","id":1,"base64":"?"}"#,
            r#"{"type":"ok","id":1,"output":"x","media_type":"x"}"#,
            r#"{"type":"failed","id":1,"kind":"a.b"}"#,
            r#"{"type":"failed","id":1,"class":"bad"}"#,
            r#"{"type":"failed","id":1,"retry_after":-1}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_failure_may_say_much_or_nothing() {
        let read = |text| match read(text) {
            Ok(Said::Answer(3, Err(failure))) => failure,
            other => panic!("{other:?}"),
        };
        let least = read(r#"{"type":"failed","id":3}"#);
        assert_eq!(least.kind, FailureKind::FAILED);
        let most = read(
            r#"{"type":"failed","id":3,"kind":"rate_limited","class":"permanent","message":"no",
                "code":429,"detail":"why","retry_after":"1m"}"#,
        );
        let want = Failure::new(FailureKind::RATE_LIMITED, "no")
            .with_class(FailureClass::Permanent)
            .with_code("429")
            .with_detail("why")
            .with_retry_after(Millis::seconds(60));
        assert_eq!(most, want);
    }
}
