//! `http`: each document is posted to an endpoint, which answers with what became of it.

mod answer;
mod settings;

use std::time::Duration;

use redrive_domain::{
    failure::{Failure, FailureKind},
    ids::HandlerName,
};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};

use self::settings::{Keys, Settings};
use super::{
    envelope::Envelope,
    web::{Web, failed, late},
};
use crate::handler::{Context, Done, Handler, Processing, Unit};

/// Posts documents to an endpoint.
#[derive(Debug)]
pub struct Http {
    name: HandlerName,
    web: Web,
}

impl Http {
    /// The name under which it usually serves.
    pub const NAME: &'static str = "http";

    /// One that serves under that name. Its connections are its own and live as long as it does.
    #[must_use]
    pub fn new(name: HandlerName) -> Self {
        Self {
            name,
            web: Web::default(),
        }
    }

    async fn run(&self, unit: &Unit, ctx: &Context) -> Result<Done, Failure> {
        let settings = Settings::read(&ctx.params)?;
        if ctx.cancelled.is_cancelled() {
            return Err(super::cancelled());
        }
        tokio::select! {
            biased;
            () = ctx.cancelled.cancelled() => Err(match tokio::time::Instant::now() >= ctx.deadline {
                true => late(),
                false => super::cancelled(),
            }),
            () = tokio::time::sleep_until(ctx.deadline) => Err(late()),
            done = self.post(unit, ctx, &settings) => done,
        }
    }

    async fn post(&self, unit: &Unit, ctx: &Context, settings: &Settings) -> Result<Done, Failure> {
        let body = serde_json::to_vec(&Envelope::new(unit, ctx, &settings.params));
        let body = body.map_err(|error| {
            let message = format!("the document has no JSON form: {error}");
            Failure::new(FailureKind::INVALID_DATA, message)
        })?;
        let (left, _) = ctx.left();
        let request = self
            .web
            .client()?
            .post(settings.url.clone())
            .timeout(left.max(Duration::from_millis(1)))
            .headers(headers(unit, ctx, settings))
            .body(body);
        let response = request.send().await.map_err(failed)?;
        answer::read(response, ctx.max_output_bytes).await
    }
}

impl Handler for Http {
    fn name(&self) -> HandlerName {
        self.name.clone()
    }

    fn process<'a>(&'a self, unit: &'a Unit, ctx: &'a Context) -> Processing<'a> {
        Box::pin(self.run(unit, ctx))
    }
}

/// The job's own headers go before those that Redrive sends of itself, but for the content's.
fn headers(unit: &Unit, ctx: &Context, settings: &Settings) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("redrive/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(
        ACCEPT,
        HeaderValue::from_static("application/json, application/problem+json"),
    );
    let own = [
        ("idempotency-key", Some(key(unit, ctx, settings.keys))),
        ("redrive-attempt", Some(ctx.attempt.to_string())),
        ("traceparent", ctx.trace.clone()),
    ];
    for (name, value) in own {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.extend(settings.headers.clone());
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// What the endpoint knows a repetition by: a string of structured fields (RFC 9651), as
/// draft-ietf-httpapi-idempotency-key-header asks. Names and numbers need no escape in it.
fn key(unit: &Unit, ctx: &Context, keys: Keys) -> String {
    let Context {
        namespace,
        batch,
        tier,
        job,
        attempt,
        ..
    } = ctx;
    let unit = format!("{namespace}/{batch}/{tier}/{job}/{}", unit.ordinal);
    match keys {
        Keys::Unit => format!("\"{unit}\""),
        Keys::Attempt => format!("\"{unit}/{attempt}\""),
    }
}
