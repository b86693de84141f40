//! Bodies of Spidra.

use redrive_domain::{
    document::Document,
    ids::BatchId,
    limits::{DOCUMENT_ID_BYTES, DOCUMENT_URI_BYTES},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{dialects::items::Word, problem::Problem};

/// URLs in a batch at most.
pub(super) const URLS: usize = 50;

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpidraError)]
pub(super) struct Refused {
    /// Always `error`.
    pub(super) status: &'static str,
    /// For people.
    pub(super) message: String,
    /// For programs, where they may want to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<&'static str>,
    /// Ask again after so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after: Option<u32>,
}

/// What a batch of scrapes is to be. Fields that are not known here are passed over. Written, it is what each document
/// has as its data: how a URL is scraped. What a handler makes of that is the handler's.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SpidraSubmit)]
#[serde(rename_all = "camelCase")]
pub(super) struct Submit {
    /// 1 to 50 `http://` or `https://` URLs.
    #[serde(skip_serializing)]
    #[schema(min_items = 1, max_items = 50)]
    urls: Vec<String>,
    /// Not taken: what a batch is made of stays in its log.
    #[serde(default, skip_serializing)]
    #[schema(value_type = Option<String>)]
    cookies: Option<Value>,
    /// What to extract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    /// The format of what is extracted: `json` unless said, and wherever there is a schema.
    #[serde(default)]
    output: Format,
    /// A JSON Schema of what is extracted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    schema: Option<Map<String, Value>>,
    /// Whether to go by a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    use_proxy: Option<bool>,
    /// Where that proxy is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxy_country: Option<String>,
    /// Whether to leave out what is around the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extract_content_only: Option<bool>,
    /// Whether to take a picture of what is visible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    screenshot: Option<bool>,
    /// Whether to take a picture of all of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    full_page_screenshot: Option<bool>,
}

/// The format of what is extracted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SpidraFormat)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Markdown,
}

impl Submit {
    /// Its documents: the URL is the id, or where it is too long for one, the place in the list.
    pub(super) fn documents(mut self) -> Result<Vec<Document>, Problem> {
        if !(1..=URLS).contains(&self.urls.len()) {
            let message = format!("has {} entries: it takes 1 to {URLS}", self.urls.len());
            return Err(Problem::invalid("body", "urls", message));
        }
        if self.cookies.is_some() {
            let message = "are not taken: what a batch is made of stays in its log. Let the job of the pipeline have them";
            return Err(Problem::invalid("body", "cookies", message));
        }
        if self.schema.is_some() {
            self.output = Format::Json;
        }
        let data = serde_json::to_value(&self).map_err(Problem::internal)?;
        let document = |(place, url): (usize, String)| {
            if !is_web_url(&url) {
                let message = format!(
                    "is to be an http:// or https:// URL of at most {DOCUMENT_URI_BYTES} bytes"
                );
                return Err(Problem::invalid("body", &format!("urls[{place}]"), message));
            }
            let document = match url.len() > DOCUMENT_ID_BYTES {
                true => Document {
                    uri: Some(url),
                    ..Document::new(format!("item-{place}"))
                },
                false => Document::new(url),
            };
            let document = Document {
                data: Some(data.clone()),
                ..document
            };
            let valid = document.validate();
            valid.map_err(|error| Problem::invalid("body", "", error.to_string()))?;
            Ok(document)
        };
        self.urls.into_iter().enumerate().map(document).collect()
    }
}

/// Whether a text may be fetched by HTTP. Whether anything is there is found out by who fetches it.
fn is_web_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let has_host = !rest.is_empty() && !rest.starts_with(['/', '?', '#', ':']);
    let is_clean = !text.contains(|c: char| c.is_control() || c.is_whitespace());
    is_web && has_host && is_clean && text.len() <= DOCUMENT_URI_BYTES
}

/// That a batch was taken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpidraQueued)]
#[serde(rename_all = "camelCase")]
pub(super) struct Queued {
    /// Always `queued`.
    pub(super) status: &'static str,
    /// The batch.
    #[schema(value_type = Uuid)]
    pub(super) batch_id: BatchId,
    /// Its URLs.
    pub(super) total: u32,
}

/// That failed items were taken again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpidraRequeued)]
#[serde(rename_all = "camelCase")]
pub(super) struct Requeued {
    /// Always `queued`.
    pub(super) status: &'static str,
    /// How many.
    pub(super) retried_count: u64,
}

/// That a batch was stopped.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpidraCancelled)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cancelled {
    /// Always `cancelled`.
    pub(super) status: Status,
    /// Items that this stopped.
    pub(super) cancelled_items: u64,
    /// What was reserved for them.
    pub(super) credits_refunded: u64,
}

/// How a batch, or an item, is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SpidraStatus)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// It has not begun.
    Pending,
    /// It is going on.
    Running,
    /// An item that succeeded; a batch of which each item is at its end.
    Completed,
    /// An item that failed; a batch that was given up.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<Word> for Status {
    fn from(word: Word) -> Self {
        match word {
            Word::Pending => Self::Pending,
            Word::Running => Self::Running,
            Word::Completed => Self::Completed,
            Word::GivenUp => Self::Failed,
            Word::Cancelled => Self::Cancelled,
        }
    }
}

/// How a batch is doing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpidraBatch)]
#[serde(rename_all = "camelCase")]
pub(super) struct Batch {
    /// How it is doing.
    pub(super) status: Status,
    /// Its URLs.
    pub(super) total_urls: u32,
    /// Items that succeeded.
    pub(super) completed_count: u64,
    /// Items that are failed now.
    pub(super) failed_count: u64,
    /// Its items, in the order of its URLs.
    pub(super) items: Vec<Item>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
    /// When it was last over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) finished_at: Option<Timestamp>,
}

/// A URL of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpidraItem)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    /// Its id; it stays the same.
    pub(super) uuid: Uuid,
    /// The URL.
    pub(super) url: String,
    /// Always null: there is no job of its own.
    pub(super) job_id: Option<String>,
    /// How it is doing.
    pub(super) status: Status,
    /// What was made of it: a text, or any JSON. Null until it is completed.
    #[schema(value_type = Option<Object>)]
    pub(super) result: Value,
    /// Why it failed, where it is failed.
    pub(super) error: Option<String>,
    /// Credits that it took: none unless it is completed, and the namespace has a limit.
    pub(super) credits_used: u64,
    /// Always null: it is not kept of one item.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) started_at: Option<Timestamp>,
    /// When it failed, where it is failed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) finished_at: Option<Timestamp>,
    /// `screenshotUrl` of the result, where it has one.
    pub(super) screenshot_url: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct List {
    /// Its number, from 1; 1 unless said.
    #[param(minimum = 1)]
    pub(super) page: Option<u32>,
    /// Batches on a page, 1 to 50; 20 unless said.
    #[param(minimum = 1, maximum = 50)]
    pub(super) limit: Option<u32>,
}

/// A page of batches.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpidraJobs)]
pub(super) struct Jobs {
    /// The batches.
    pub(super) jobs: Vec<Entry>,
    /// Which page it is.
    pub(super) pagination: Pagination,
}

/// Which page it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpidraPagination)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pagination {
    /// Its number, from 1.
    pub(super) page: u32,
    /// Batches on a page.
    pub(super) limit: u32,
    /// Batches in all; of more than 10,000 the last ones are known here.
    pub(super) total: usize,
    /// Pages in all.
    pub(super) total_pages: usize,
}

/// A batch in a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpidraEntry)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub(super) uuid: BatchId,
    /// How it is doing.
    pub(super) status: Status,
    /// Its URLs.
    pub(super) total_urls: u32,
    /// Items that succeeded.
    pub(super) completed_count: u64,
    /// Items that are failed now.
    pub(super) failed_count: u64,
    /// Always null: it stands with each item's options.
    pub(super) output_format: Option<String>,
    /// Always `api`.
    pub(super) scraping_channel: &'static str,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
    /// When anything last happened in it, where it is over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) finished_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submit(body: &Value) -> Result<Vec<Document>, Problem> {
        let submit: Submit = serde_json::from_value(body.clone()).expect("a body");
        submit.documents()
    }

    #[test]
    fn a_url_is_one_of_the_web() {
        for good in ["http://a", "HTTPS://a.b/c?d=e#f", "https://[::1]:8080/"] {
            assert!(is_web_url(good), "{good}");
        }
        let long = format!("https://a/{}", "b".repeat(DOCUMENT_URI_BYTES));
        for bad in [
            "",
            "a",
            "ftp://a",
            "http://",
            "http:///a",
            "https://?",
            "http://a b",
            &long,
        ] {
            assert!(!is_web_url(bad), "{bad}");
        }
    }

    #[test]
    fn each_document_has_the_options() {
        let url = "https://a.example/1";
        let long = format!("https://a.example/{}", "b".repeat(DOCUMENT_ID_BYTES));
        let body = serde_json::json!({
            "urls": [url, long], "prompt": "p", "output": "markdown", "schema": {}, "new": 1,
        });
        let documents = submit(&body).expect("it is valid");
        assert_eq!(documents[0].id, url);
        assert_eq!(documents[1].id, "item-1");
        assert_eq!(documents[1].uri.as_ref(), Some(&long));
        // A schema makes it JSON.
        let data = serde_json::json!({ "prompt": "p", "output": "json", "schema": {} });
        assert_eq!(documents[0].data.as_ref(), Some(&data));
    }

    #[test]
    fn what_would_be_kept_for_ever_is_refused() {
        let mut body = serde_json::json!({ "urls": ["https://a"], "cookies": null });
        assert!(submit(&body).is_ok());
        body["cookies"] = "session=1".into();
        assert!(submit(&body).is_err());
    }
}
