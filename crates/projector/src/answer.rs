//! Questions as they come in and answers as they go out.

use bytes::Bytes;
use redrive_domain::{
    command::{Answer, Refusal},
    ids::Namespace,
    query::{PAGE, PAGE_MAX, Query},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::shared::Unavailable;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// There never will be one to this question.
    Refused(Refusal),
    /// There may be one soon.
    Unavailable(String),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unavailable> for Failed {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable.0)
    }
}

/// An answer, as the broker takes it.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) body: Bytes,
    pub(crate) error: Option<(u16, String)>,
}

impl Encoded {
    /// The code that metrics count by.
    pub(crate) fn code(&self) -> u16 {
        self.error.as_ref().map_or(200, |(code, _)| *code)
    }
}

/// Where it was asked: the tenant, and the name of the query.
pub(crate) fn address(subject: &str) -> Result<(Namespace, &'static str), Refusal> {
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["rd", "qry", namespace, query] = tokens[..] else {
        let message = "a query's subject is rd.qry.<namespace>.<query>";
        return Err(Refusal::invalid("subject", message));
    };
    let namespace = Namespace::new(namespace)
        .map_err(|invalid| Refusal::invalid("namespace", invalid.to_string()))?;
    let known = Query::NAMES.iter().find(|name| **name == query).copied();
    let name = known.ok_or_else(|| {
        let query: String = query.chars().take(80).collect();
        let message = format!(
            "{query:?} is no query: use one of {}",
            Query::NAMES.join(", ")
        );
        Refusal::invalid("query", message)
    })?;
    Ok((namespace, name))
}

/// Reads a question. Nothing at all means no fields.
pub(crate) fn question(name: &str, payload: &[u8]) -> Result<Query, Refusal> {
    let payload = if payload.is_empty() { b"{}" } else { payload };
    match name {
        "batches" => fields(payload).map(Query::Batches),
        "status" => fields(payload).map(Query::Status),
        "failures" => fields(payload).map(Query::Failures),
        "results" => fields(payload).map(Query::Results),
        "documents" => fields(payload).map(Query::Documents),
        "diff" => fields(payload).map(Query::Diff),
        "timeline" => fields(payload).map(Query::Timeline),
        "credits" => fields(payload).map(Query::Credits),
        "diagnose" => fields(payload).map(Query::Diagnose),
        _ => fields(payload).map(Query::State),
    }
}

fn fields<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(payload);
    let read = serde_path_to_error::deserialize(&mut json);
    let value = read.map_err(|error| {
        let path = match error.path().to_string() {
            whole if whole == "." => String::new(),
            path => path,
        };
        Refusal::invalid(path, error.inner().to_string())
    })?;
    json.end()
        .map_err(|error| Refusal::invalid("", error.to_string()))?;
    Ok(value)
}

/// How many entries a page has at most.
pub(crate) fn limit(asked: Option<u32>) -> Result<u32, Refusal> {
    match asked {
        None => Ok(PAGE),
        Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        Some(limit) => {
            let message = format!("is {limit}: it takes 1 to {PAGE_MAX}");
            Err(Refusal::invalid("limit", message))
        }
    }
}

/// Makes an answer.
pub(crate) fn encode<T: Serialize>(answer: Result<T, Failed>) -> Encoded {
    let (refusal, message, code) = match answer {
        Ok(value) => match serde_json::to_vec(&Answer::Ok(value)) {
            Ok(body) => {
                let body = Bytes::from(body);
                return Encoded { body, error: None };
            }
            Err(error) => {
                let message = format!("the answer cannot be written as JSON: {error}");
                (Refusal::conflict(message.clone()), message, 500)
            }
        },
        Err(Failed::Unavailable(message)) => {
            let refusal = Refusal::Unavailable {
                message: message.clone(),
            };
            (refusal, message, 503)
        }
        Err(Failed::Refused(refusal)) => {
            let message = match &refusal {
                Refusal::Invalid { errors } => {
                    let errors: String = errors.iter().map(|e| format!("\n  {e}")).collect();
                    format!("the query is not valid{errors}")
                }
                other => other.to_string(),
            };
            let code = match &refusal {
                Refusal::Invalid { .. } => 400,
                Refusal::NotAllowed { .. } | Refusal::Credits(_) => 403,
                Refusal::NotFound { .. } => 404,
                Refusal::Conflict { .. } | Refusal::Stale(_) | Refusal::KeyReused => 409,
                Refusal::Unavailable { .. } => 503,
            };
            (refusal, message, code)
        }
    };
    // A header is one line of printable ASCII.
    let header = message
        .chars()
        .map(|c| match c {
            ' '..='~' => c,
            c if c.is_whitespace() => ' ',
            _ => '?',
        })
        .take(200)
        .collect();
    let answer: Answer<()> = Answer::Error { refusal, message };
    Encoded {
        body: serde_json::to_vec(&answer).unwrap_or_default().into(),
        error: Some((code, header)),
    }
}

#[cfg(test)]
mod tests {
    use redrive_domain::pipeline::SpecError;

    use super::*;

    fn path_of(refusal: Refusal) -> String {
        match refusal {
            Refusal::Invalid { errors } => match &errors[..] {
                [SpecError { path, message }] if !message.is_empty() => path.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wrong_question_is_told_which_field_is_wrong() {
        for (subject, path) in [
            ("rd.qry.a", "subject"),
            ("rd.qry.a.status.more", "subject"),
            ("rd.qry.ä.status", "namespace"),
            ("rd.qry.a.everything", "query"),
        ] {
            assert_eq!(path_of(address(subject).unwrap_err()), path, "{subject}");
        }
        for (name, payload, path) in [
            ("status", "{\"batch\": \"first\"}", "batch"),
            ("status", "", ""),
            ("status", "not json", ""),
            ("status", "{\"batch\": \"last\"} more", ""),
            ("batches", "{\"limit\": \"ten\"}", "limit"),
            ("batches", "{\"bucket\": \"a.b\"}", "bucket"),
            ("batches", "{\"status\": \"odd\"}", "status"),
            ("batches", "{\"surplus\": 1}", "surplus"),
            (
                "failures",
                "{\"batch\": \"last\", \"class\": \"odd\"}",
                "class",
            ),
            ("failures", "{\"batch\": \"last\", \"tier\": -1}", "tier"),
            (
                "documents",
                "{\"batch\": \"last\", \"units\": [[2, 1]]}",
                "units",
            ),
        ] {
            assert_eq!(
                path_of(question(name, payload.as_bytes()).unwrap_err()),
                path,
                "{payload}"
            );
        }
        assert_eq!(path_of(limit(Some(0)).unwrap_err()), "limit");
        assert_eq!(path_of(limit(Some(1_001)).unwrap_err()), "limit");
        assert!(question("batches", b"").is_ok());
        assert_eq!(limit(None), Ok(PAGE));
    }

    #[test]
    fn a_header_is_one_plain_line() {
        let refusal = Refusal::invalid("limit", "ist 0:\r\nzu wenig für «alles»");
        let encoded = encode::<()>(Err(refusal.into()));
        let (code, text) = encoded.error.unwrap();
        assert_eq!(code, 400);
        assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
    }
}
