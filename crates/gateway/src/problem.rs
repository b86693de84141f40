//! What can go wrong with a request. Handlers return it; a surface says it in its own way.

use std::{sync::Arc, time::Duration};

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use redrive_broker::BrokerError;
use redrive_client::{ClientError, UploadError};
use redrive_domain::{
    command::{Refusal, Shortage, Stale},
    pipeline::SpecError,
};
use serde::Serialize;

use crate::{ids::fresh_uuid, surface::Surface};

/// How long to wait before asking again, where nothing better is known.
const AGAIN: Duration = Duration::from_secs(1);

/// Longest text about one thing that is wrong, in characters.
const TEXT_CHARS: usize = 1_000;
/// Steps of a place at most.
const STEPS: usize = 64;

/// Why a request is not answered as it hoped. Its texts may be shown to whoever asked: what only an operator should see is
/// logged where it happens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Problem {
    /// The request itself is wrong.
    Invalid(Vec<Fault>),
    /// There is no valid key with it.
    Unauthenticated {
        /// What is missing or wrong, without repeating it.
        message: String,
    },
    /// The key does not allow it.
    Forbidden {
        /// What it would take.
        message: String,
    },
    /// There is no such thing, or it is of another namespace.
    NotFound {
        /// What was asked for, for instance `batch 0198… in namespace default`.
        what: String,
    },
    /// There is nothing at this path.
    NoSuchRoute {
        /// The path, cut to a printable length.
        path: String,
    },
    /// There is something at this path, but not for this method.
    NoSuchMethod,
    /// The batch is not in a state for it.
    Conflict {
        /// Why.
        message: String,
    },
    /// What was planned no longer holds.
    Stale(Stale),
    /// This idempotency key came with another request before.
    KeyReused,
    /// A retry found nothing to retry, on a surface where that is an error.
    NothingToRetry,
    /// The system does not allow it, whoever asks.
    NotAllowed {
        /// Why.
        message: String,
    },
    /// It takes more than what is left of the namespace's credits.
    Credits(Shortage),
    /// The body, or a part of it, is too large.
    TooLarge {
        /// What, with the limit.
        message: String,
    },
    /// The body is of a type that is not taken here.
    UnsupportedType {
        /// What is taken.
        expected: &'static str,
    },
    /// Too much was asked in too short a time.
    TooMany {
        /// Ask again after so long.
        after: Duration,
        /// What the limit is.
        message: String,
    },
    /// What it takes is away just now.
    Unavailable {
        /// What is away.
        message: String,
    },
    /// It is our fault. The log has more under this id.
    Internal {
        /// The id.
        id: String,
    },
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = ValidationError)]
pub(crate) struct Fault {
    /// Where: `body`, `query`, `path` or `header`, then names of fields and places in lists.
    pub(crate) loc: Vec<Step>,
    /// What, for people; it names the limit.
    pub(crate) msg: String,
    /// What, for programs, in the words of the validation errors of FastAPI.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// What was sent there, where that is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<serde_json::Value>,
    /// What the message speaks of, for programs: a limit, the words that may stand there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ctx: Option<serde_json::Value>,
}

/// A step on the way to a place in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = ValidationStep)]
#[serde(untagged)]
pub(crate) enum Step {
    /// A field.
    Name(String),
    /// A place in a list, from 0.
    Index(usize),
}

impl From<&str> for Step {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl Fault {
    /// Something wrong at a path such as `tiers[1].jobs[0].timeout`, below `root` (`body`, `query`, …).
    pub(crate) fn at(root: &str, path: &str, msg: impl Into<String>, kind: &'static str) -> Self {
        // A caller's own text may stand in both.
        let mut loc = vec![Step::from(root)];
        loc.extend(steps(path).take(STEPS));
        Self {
            loc,
            msg: cut(msg.into()),
            kind,
            input: None,
            ctx: None,
        }
    }
}

/// The text, cut to what fits on a screen.
fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The steps of a path such as `tiers[1].jobs[0]`.
fn steps(path: &str) -> impl Iterator<Item = Step> + '_ {
    path.split(['.', '[', ']'])
        .filter(|step| !step.is_empty() && *step != "?")
        .map(|step| match step.parse() {
            Ok(index) => Step::Index(index),
            Err(_) => Step::Name(cut(step.to_owned())),
        })
}

impl Problem {
    /// One thing that is wrong with the request.
    pub(crate) fn invalid(root: &str, path: &str, msg: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault::at(root, path, msg, "value_error")])
    }

    /// Our fault: the error goes to the log, an id for it to whoever asked.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        let id = fresh_uuid().to_string();
        tracing::error!(%id, %error, "a request could not be answered");
        Self::Internal { id }
    }

    /// The system, or a part of it, is away: the error goes to the log.
    pub(crate) fn unavailable(message: &str, error: impl std::fmt::Display) -> Self {
        tracing::warn!(%error, "a request had to be put off: {message}");
        Self::Unavailable {
            message: message.to_owned(),
        }
    }

    /// What was refused, where the fields that it names stand in `root` (`body` or `query`).
    pub(crate) fn refused(refusal: Refusal, root: &str) -> Self {
        match refusal {
            Refusal::Invalid { errors } => Self::Invalid(
                errors
                    .into_iter()
                    .map(|SpecError { path, message }| {
                        Fault::at(root, &path, message, "value_error")
                    })
                    .collect(),
            ),
            Refusal::NotFound { what } => Self::NotFound { what },
            Refusal::Conflict { message } => Self::Conflict { message },
            Refusal::Stale(stale) => Self::Stale(stale),
            Refusal::NotAllowed { message } => Self::NotAllowed { message },
            Refusal::Credits(shortage) => Self::Credits(shortage),
            Refusal::Unavailable { message } => Self::Unavailable { message },
            Refusal::KeyReused => Self::KeyReused,
        }
    }

    /// Why a command or a query was not answered, where its fields stand in `root` (`body` or `query`).
    pub(crate) fn of(error: ClientError, root: &str) -> Self {
        match error {
            ClientError::Refused(refusal) => Self::refused(refusal, root),
            ClientError::NobodyServes(role) => {
                let message = format!("no {role} answers just now: ask again");
                Self::unavailable(&message, format!("no {role} runs"))
            }
            ClientError::Broker(BrokerError::TooLarge { size, limit }) => Self::TooLarge {
                message: format!("the request comes to {size} bytes: {limit} are taken at once"),
            },
            ClientError::Broker(error) => match error {
                BrokerError::Unreachable(_) | BrokerError::Timeout(_) => {
                    Self::unavailable("the system does not answer just now: ask again", error)
                }
                error => Self::internal(error),
            },
            ClientError::Unreadable(error) => Self::internal(error),
        }
    }

    /// Headers that belong to it on every surface.
    pub(crate) fn set_headers(&self, surface: Surface, headers: &mut HeaderMap) {
        match self {
            Self::TooMany { after, .. } => retry_after(headers, *after),
            Self::Unavailable { .. } => retry_after(headers, AGAIN),
            Self::Unauthenticated { .. }
                if matches!(surface, Surface::Native | Surface::Mixpeek) =>
            {
                let bearer = HeaderValue::from_static("Bearer");
                headers.insert(header::WWW_AUTHENTICATE, bearer);
            }
            _ => {}
        }
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        Self::of(error, "body")
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Document { number, error } => {
                let place = number.saturating_sub(1);
                Self::invalid("body", &format!("documents[{place}]"), error.to_string())
            }
            UploadError::Client(error) => error.into(),
        }
    }
}

fn retry_after(headers: &mut HeaderMap, after: Duration) {
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
}

impl IntoResponse for Problem {
    /// An empty response that carries the problem to [`crate::surface::speak`], which renders it.
    fn into_response(self) -> Response {
        let mut response = axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_steps() {
        let fault = Fault::at("body", "tiers[1].jobs[0].timeout", "", "value_error");
        let loc = serde_json::to_string(&fault.loc).unwrap_or_default();
        assert_eq!(loc, r#"["body","tiers",1,"jobs",0,"timeout"]"#);
        assert_eq!(Fault::at("query", "", "", "x").loc, [Step::from("query")]);
    }
}
