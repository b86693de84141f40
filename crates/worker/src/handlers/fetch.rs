//! `fetch`: a file or an HTTP resource, as text.

mod file;
mod http;
mod media;
mod text;

use std::path::PathBuf;

use redrive_domain::{
    document::Output,
    failure::{Failure, FailureKind},
    ids::HandlerName,
};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use self::media::MediaType;
use super::{
    params::Params,
    web::{Web, late},
};
use crate::handler::{Context, Done, Handler, Processing, Unit};

/// Reads the document that a locator names, from a file or by HTTP.
#[derive(Debug)]
pub struct Fetch {
    name: HandlerName,
    web: Web,
}

impl Fetch {
    /// The name under which it usually serves.
    pub const NAME: &'static str = "fetch";

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
        let work = async {
            match Place::of(unit.document.locator())? {
                Place::Http(url) => http::get(&self.web, url, &settings, ctx.deadline).await,
                Place::File(path) => file::read(path, &settings).await.map(Some),
            }
        };
        let found = tokio::select! {
            biased;
            () = ctx.cancelled.cancelled() => Err(match tokio::time::Instant::now() >= ctx.deadline {
                true => late(),
                false => super::cancelled(),
            }),
            () = tokio::time::sleep_until(ctx.deadline) => Err(late()),
            found = work => found,
        }?;
        let Some(found) = found else {
            return Ok(Done::Completed(None));
        };
        let output = match settings.bytes {
            true => found.into_bytes(),
            false => found.into_text()?,
        };
        let size = output.body.len() as u64;
        if size > ctx.max_output_bytes {
            let limit = ctx.max_output_bytes;
            let message = format!("has {size} bytes: the job's max_output_bytes is {limit}");
            return Err(Failure::new(FailureKind::OUTPUT_TOO_LARGE, message));
        }
        Ok(Done::Completed(Some(output)))
    }
}

impl Handler for Fetch {
    fn name(&self) -> HandlerName {
        self.name.clone()
    }

    fn process<'a>(&'a self, unit: &'a Unit, ctx: &'a Context) -> Processing<'a> {
        Box::pin(self.run(unit, ctx))
    }
}

fn too_large(limit: u64) -> Failure {
    let message = format!("is larger than {limit} bytes: the job's param max_bytes");
    Failure::new(FailureKind::REJECTED, message)
}

/// Where a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Http(Url),
    File(PathBuf),
}

impl Place {
    fn of(locator: &str) -> Result<Self, Failure> {
        let Some(scheme) = scheme(locator) else {
            return Ok(Self::File(locator.into()));
        };
        let unsupported = |why: &str| Err(Failure::new(FailureKind::UNSUPPORTED_FORMAT, why));
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Ok(Self::Http(url(locator)?)),
            "file" => match url(locator)?.to_file_path() {
                Ok(path) => Ok(Self::File(path)),
                Err(()) => unsupported("the file URL names another host or has no path"),
            },
            other => unsupported(&format!(
                "the scheme {other:?} is not supported: use http, https, file or a path"
            )),
        }
    }
}

fn url(text: &str) -> Result<Url, Failure> {
    Url::parse(text).map_err(|error| {
        Failure::new(
            FailureKind::INVALID_DATA,
            format!("the URL is not valid: {error}"),
        )
    })
}

/// What stands before `://`, where it could be a scheme.
fn scheme(locator: &str) -> Option<&str> {
    let (scheme, _) = locator.split_once("://")?;
    let fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    fits.then_some(scheme)
}

/// The parameters of one job, checked.
#[derive(Debug, Clone)]
struct Settings {
    max_bytes: u64,
    root: Option<PathBuf>,
    user_agent: HeaderValue,
    headers: HeaderMap,
    max_redirects: u64,
    bytes: bool,
}

impl Settings {
    fn read(params: &Value) -> Result<Self, Failure> {
        let mut params = Params::new(params);
        let max_bytes = params.integer("max_bytes", 1..=1 << 30).unwrap_or(8 << 20);
        let root = params.text("root", "a directory").map(PathBuf::from);
        let takes = "a text that can stand in an HTTP header";
        let user_agent = params
            .read("user_agent", takes, |value| value.as_str()?.parse().ok())
            .unwrap_or(HeaderValue::from_static(concat!(
                "redrive/",
                env!("CARGO_PKG_VERSION")
            )));
        let mut headers = HeaderMap::new();
        for (name, value) in params.texts("headers") {
            match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                (Ok(name), Ok(value)) => {
                    headers.insert(name, value);
                }
                _ => params.problem(&format!("headers.{name}"), "cannot be an HTTP header"),
            }
        }
        let max_redirects = params.integer("max_redirects", 0..=20).unwrap_or(5);
        let bytes = params
            .read("as", "text or bytes", |value| match value.as_str()? {
                "text" => Some(false),
                "bytes" => Some(true),
                _ => None,
            })
            .unwrap_or(false);
        params.finish()?;
        Ok(Self {
            max_bytes,
            root,
            user_agent,
            headers,
            max_redirects,
            bytes,
        })
    }
}

/// What was read, and what it is said to be.
#[derive(Debug)]
struct Found {
    media: Option<MediaType>,
    /// The end of its name, where it has one.
    extension: Option<String>,
    body: Vec<u8>,
}

impl Found {
    /// What it is, by what was said of it or else by its name.
    fn media(&self) -> Option<MediaType> {
        let said = self.media.clone().filter(|media| !media.says_nothing());
        said.or_else(|| media::by_extension(self.extension.as_deref()?))
    }

    fn into_bytes(self) -> Output {
        let media = self.media().map(|media| media.to_string());
        Output {
            media_type: media.unwrap_or_else(|| "application/octet-stream".to_owned()),
            body: self.body,
        }
    }

    fn into_text(self) -> Result<Output, Failure> {
        let media = match self.media() {
            Some(media) => media,
            None => media::by_content(&self.body).unwrap_or_else(MediaType::plain),
        };
        if media.is_binary() {
            let essence = media.essence;
            let message = format!("{essence} is not text: read it with as = \"bytes\"");
            return Err(Failure::new(FailureKind::UNSUPPORTED_FORMAT, message));
        }
        let text = text::decode(self.body, &media)?;
        Ok(Output {
            media_type: format!("{}; charset=utf-8", media.essence),
            body: text.into_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locator_is_a_url_only_with_a_scheme() {
        assert_eq!(scheme("HTTP://x"), Some("HTTP"));
        assert_eq!(scheme("a b://x"), None);
        assert_eq!(scheme("notes: 1.txt"), None);
        let file = Place::of("file:///a%20b/c%3F.txt").unwrap();
        assert_eq!(file, Place::File("/a b/c?.txt".into()));
        for (bad, kind) in [
            ("s3://bucket/key", FailureKind::UNSUPPORTED_FORMAT),
            (
                "file://elsewhere/etc/passwd",
                FailureKind::UNSUPPORTED_FORMAT,
            ),
            ("http://", FailureKind::INVALID_DATA),
        ] {
            assert_eq!(Place::of(bad).unwrap_err().kind, kind, "{bad}");
        }
    }
}
