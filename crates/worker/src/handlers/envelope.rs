//! A unit as JSON, for programs that are no part of Redrive, and what they make of it.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use redrive_domain::{
    document::{Document, Output},
    ids::{BatchId, Bucket, JobName, Namespace},
    pipeline::TierNum,
    time::Millis,
    units::Ordinal,
};
use serde::Serialize;
use serde_json::Value;

use crate::handler::{Context, Unit};

/// A unit with the circumstances of its attempt.
#[derive(Debug, Serialize)]
pub(super) struct Envelope<'a> {
    namespace: &'a Namespace,
    bucket: &'a Bucket,
    batch: BatchId,
    tier: TierNum,
    job: &'a JobName,
    ordinal: Ordinal,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<u32>,
    attempt: u32,
    document: &'a Document,
    inputs: BTreeMap<&'a JobName, Content<'a>>,
    params: &'a Value,
    /// By the wall clock, in milliseconds since the Unix epoch.
    deadline_unix_ms: i64,
    max_output_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment_mode: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    plugin_archives: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
}

/// What a job of the tier before made.
#[derive(Debug, Serialize)]
struct Content<'a> {
    media_type: &'a str,
    #[serde(flatten)]
    body: Body,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Body {
    /// JSON as itself, text as a string.
    Value(Value),
    Base64(String),
}

impl<'a> Envelope<'a> {
    /// With the parameters that the job has for whom it is sent to.
    pub(super) fn new(unit: &'a Unit, ctx: &'a Context, params: &'a Value) -> Self {
        let content = |output: &'a Output| Content {
            media_type: &output.media_type,
            body: match output.to_value() {
                Some(value) => Body::Value(value),
                None => Body::Base64(BASE64_STANDARD.encode(&output.body)),
            },
        };
        let (_, deadline) = ctx.left();
        Self {
            namespace: &ctx.namespace,
            bucket: &ctx.bucket,
            batch: ctx.batch,
            tier: ctx.tier,
            job: &ctx.job,
            ordinal: unit.ordinal,
            segment: unit.segment,
            attempt: ctx.attempt,
            document: &unit.document,
            inputs: unit
                .inputs
                .iter()
                .map(|(job, output)| (job, content(output)))
                .collect(),
            params,
            deadline_unix_ms: deadline.0,
            max_output_bytes: ctx.max_output_bytes,
            entrypoint: ctx.deployment.entrypoint.as_deref(),
            deployment_mode: ctx.deployment.deployment_mode.as_deref(),
            plugin_archives: &ctx.deployment.plugin_archives,
            trace: ctx.trace.as_deref(),
        }
    }
}

/// An output from JSON: a text is itself, anything else is JSON, null is none.
pub(super) fn output(value: Value, media_type: Option<String>) -> Option<Output> {
    let mut output = match value {
        Value::Null => return None,
        Value::String(text) => Output::text(text),
        value => Output::json(&value),
    };
    output.media_type = media_type.unwrap_or(output.media_type);
    Some(output)
}

/// An output from base64.
pub(super) fn output_of_bytes(text: &str, media_type: Option<String>) -> Option<Output> {
    Some(Output {
        body: BASE64_STANDARD.decode(text).ok()?,
        media_type: media_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
    })
}

/// Whether a text can be a media type.
pub(super) fn is_media_type(text: &str) -> bool {
    let parts = text.split_once('/');
    parts.is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty())
        && text.len() <= 200
        && !text.chars().any(char::is_control)
}

/// A wait: seconds, or a text such as `"30s"`.
pub(super) fn wait(value: &Value) -> Option<Millis> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => std::time::Duration::try_from_secs_f64(value.as_f64()?)
            .ok()
            .map(Millis::from),
    }
}
