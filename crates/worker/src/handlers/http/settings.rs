//! The parameters of `http`.

use redrive_domain::failure::Failure;
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use crate::handlers::params::{Params, short};

/// How the names of environment variables begin that a job may have sent. All others are none of its business: they may
/// hold what the worker itself signs in with.
const SECRETS: &str = "REDRIVE_SECRET_";

/// What an endpoint is to take for the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// All for a unit, in whichever attempt.
    Unit,
    /// Those of one attempt.
    Attempt,
}

/// The parameters of one job, checked.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) keys: Keys,
    /// What is passed on to the endpoint.
    pub(super) params: Value,
}

impl Settings {
    pub(super) fn read(params: &Value) -> Result<Self, Failure> {
        let mut params = Params::new(params);
        let takes = "an http or https URL";
        if params.get("url").is_none() {
            params.problem("url", format_args!("is missing: it takes {takes}"));
        }
        let url = params.read("url", takes, |value| {
            let url = Url::parse(value.as_str()?).ok()?;
            ["http", "https"].contains(&url.scheme()).then_some(url)
        });
        let headers = headers(&mut params);
        let keys = params.read("idempotency", "unit or attempt", |value| {
            Some(match value.as_str()? {
                "unit" => Keys::Unit,
                "attempt" => Keys::Attempt,
                _ => return None,
            })
        });
        let own = params.get("params").cloned();
        params.finish()?;
        Ok(Self {
            url: url.ok_or_else(|| {
                crate::handlers::params::misconfigured("param \"url\" is missing")
            })?,
            headers,
            keys: keys.unwrap_or(Keys::Unit),
            params: own.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        })
    }
}

/// Headers as texts, or as names of environment variables of the worker, so that no secret stands in a pipeline.
fn headers(params: &mut Params<'_>) -> HeaderMap {
    let takes = "a table of texts, and of tables such as { env = \"REDRIVE_SECRET_API\", prefix = \"Bearer \" }";
    let table = params.read("headers", takes, Value::as_object);
    let mut headers = HeaderMap::new();
    for (name, value) in table.into_iter().flatten() {
        let place = format!("headers.{name}");
        let (text, is_secret) = match value {
            Value::String(text) => (text.clone(), false),
            Value::Number(_) | Value::Bool(_) => (value.to_string(), false),
            value => match secret(value, |name| std::env::var(name).ok()) {
                Ok(text) => (text, true),
                Err(problem) => {
                    params.problem(&place, problem);
                    continue;
                }
            },
        };
        match (name.parse::<HeaderName>(), text.parse::<HeaderValue>()) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(is_secret);
                headers.insert(name, value);
            }
            _ => params.problem(&place, "cannot be an HTTP header"),
        }
    }
    headers
}

/// What an environment variable of the worker holds; it is never shown.
fn secret(value: &Value, look: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let takes = || {
        format!(
            "is {}: it takes a text, or a table of env and, where there is one, prefix",
            short(value)
        )
    };
    let table = value.as_object().ok_or_else(takes)?;
    let known = table.keys().all(|key| key == "env" || key == "prefix");
    let text = |key: &str| match table.get(key) {
        None => Some(""),
        Some(value) => value.as_str(),
    };
    let (env, prefix) = text("env").zip(text("prefix")).ok_or_else(takes)?;
    if !known || env.is_empty() {
        return Err(takes());
    }
    if !env.starts_with(SECRETS) {
        return Err(format!(
            "asks for the environment variable {env:?}: a job gets only those whose names begin with {SECRETS}"
        ));
    }
    match look(env) {
        Some(secret) => Ok(format!("{prefix}{secret}")),
        None => Err(format!(
            "asks for the environment variable {env:?}, which the worker does not have"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_gets_secrets_that_are_meant_for_jobs() {
        let look = |name: &str| (name != "REDRIVE_SECRET_NONE").then(|| format!("<{name}>"));
        let read = |value: Value| secret(&value, look);
        let plain = read(json!({ "env": "REDRIVE_SECRET_API" }));
        assert_eq!(plain, Ok("<REDRIVE_SECRET_API>".to_owned()));
        let token = read(json!({ "env": "REDRIVE_SECRET_API", "prefix": "Bearer " }));
        assert_eq!(token, Ok("Bearer <REDRIVE_SECRET_API>".to_owned()));
        for (bad, says) in [
            (json!({ "env": "REDRIVE_SECRET_NONE" }), "does not have"),
            (
                json!({ "env": "REDRIVE_NATS_URL" }),
                "begin with REDRIVE_SECRET_",
            ),
            (json!({ "env": "" }), "it takes"),
            (json!({ "prefix": "x" }), "it takes"),
            (
                json!({ "env": "REDRIVE_SECRET_A", "suffix": "x" }),
                "it takes",
            ),
            (json!([1]), "it takes"),
        ] {
            let problem = read(bad.clone()).unwrap_err();
            assert!(problem.contains(says), "{bad}: {problem}");
        }
    }
}
