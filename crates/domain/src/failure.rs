//! What can go wrong with a unit, in words that decide what may be done about it.

mod fingerprint;
mod normal;

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    ids::is_name,
    limits::{FAILURE_CODE_CHARS, FAILURE_DETAIL_BYTES, FAILURE_MESSAGE_CHARS},
    text::is_harmful,
    time::Millis,
};

pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use normal::normal;

/// Whether it is worth trying the same again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Passes by itself: the network, a timeout, a rate limit, a lost machine.
    Transient,
    /// Stays until somebody changes the document, the pipeline or the code.
    Permanent,
    /// Nobody said.
    Unknown,
}

impl FailureClass {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Transient, Self::Permanent, Self::Unknown];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is not one of `transient`, `permanent`, `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a failure class: use transient, permanent or unknown")]
pub struct InvalidClass(pub String);

impl FromStr for FailureClass {
    type Err = InvalidClass;
    fn from_str(value: &str) -> Result<Self, InvalidClass> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == value)
            .ok_or_else(|| InvalidClass(value.chars().take(80).collect()))
    }
}

/// What went wrong, as one word. The set is open: a handler may add its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FailureKind(Cow<'static, str>);

macro_rules! kinds {
    ($($(#[$doc:meta])* $const:ident = $word:literal, $class:ident;)*) => {
        impl FailureKind {
            $($(#[$doc])* pub const $const: Self = Self(Cow::Borrowed($word));)*

            /// The kinds that Redrive itself uses.
            pub const KNOWN: &'static [Self] = &[$(Self::$const),*];

            /// The class that a failure of this kind has unless its handler says otherwise.
            #[must_use]
            pub fn usual_class(&self) -> FailureClass {
                match &*self.0 {
                    $($word => FailureClass::$class,)*
                    _ => FailureClass::Unknown,
                }
            }
        }
    };
}

kinds! {
    /// A connection was refused, reset, or never came about (TLS and name resolution too).
    NETWORK = "network", Transient;
    /// It took longer than it may.
    TIMEOUT = "timeout", Transient;
    /// The other side asked for fewer requests.
    RATE_LIMITED = "rate_limited", Transient;
    /// The other side cannot answer now.
    UNAVAILABLE = "unavailable", Transient;
    /// The handler was stopped for using more memory than it may.
    OUT_OF_MEMORY = "out_of_memory", Transient;
    /// The machine was taken away.
    PREEMPTED = "preempted", Transient;
    /// The worker stopped answering.
    WORKER_LOST = "worker_lost", Transient;
    /// The handler ended in a way that it did not choose: a signal, a panic.
    CRASHED = "crashed", Unknown;
    /// The document is broken.
    INVALID_DATA = "invalid_data", Permanent;
    /// The document lacks something.
    MISSING_FIELD = "missing_field", Permanent;
    /// The document is of a kind that the handler cannot read.
    UNSUPPORTED_FORMAT = "unsupported_format", Permanent;
    /// There is no such document.
    NOT_FOUND = "not_found", Permanent;
    /// The other side refuses this document.
    REJECTED = "rejected", Permanent;
    /// The output is larger than the job allows.
    OUTPUT_TOO_LARGE = "output_too_large", Permanent;
    /// The handler is set up wrongly: every document would fail alike.
    MISCONFIGURED = "misconfigured", Permanent;
    /// It failed without saying how.
    FAILED = "failed", Unknown;
    /// It was set aside, since executing it took worker after worker down.
    POISON = "poison", Permanent;
    /// The answer of a handler that splits documents is not one JSON value a line.
    INVALID_SEGMENTS = "invalid_segments", Permanent;
    /// The document, or its batch, would have more segments than there may be.
    TOO_MANY_SEGMENTS = "too_many_segments", Permanent;
    /// What a document's segments came to is too much to be joined.
    INPUT_TOO_LARGE = "input_too_large", Permanent;
}

/// A word that cannot be a failure kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failure kind {0:?} is not a name: use 1 to 64 of the characters A-Z a-z 0-9 _ -")]
pub struct InvalidKind(pub String);

impl FailureKind {
    /// A kind of the handler's own.
    ///
    /// # Errors
    /// Where it could not stand in a subject.
    pub fn new(value: impl Into<String>) -> Result<Self, InvalidKind> {
        let value = value.into();
        if is_name(&value) {
            let known = Self::KNOWN.iter().find(|kind| kind.as_str() == value);
            Ok(known.cloned().unwrap_or(Self(Cow::Owned(value))))
        } else {
            Err(InvalidKind(value.chars().take(80).collect()))
        }
    }

    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for FailureKind {
    type Err = InvalidKind;
    fn from_str(value: &str) -> Result<Self, InvalidKind> {
        Self::new(value)
    }
}

impl TryFrom<String> for FailureKind {
    type Error = InvalidKind;
    fn try_from(value: String) -> Result<Self, InvalidKind> {
        Self::new(value)
    }
}

impl From<FailureKind> for String {
    fn from(value: FailureKind) -> String {
        value.0.into_owned()
    }
}

/// Why an attempt failed.
///
/// Its texts are bounded and free of what could do harm in a terminal ([`is_harmful`]) from the moment it is made or read: see
/// [`FAILURE_MESSAGE_CHARS`], [`FAILURE_DETAIL_BYTES`] and [`FAILURE_CODE_CHARS`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(from = "RawFailure")]
pub struct Failure {
    /// Whether it is worth trying again.
    pub class: FailureClass,
    /// What went wrong.
    pub kind: FailureKind,
    /// One sentence for a person.
    pub message: String,
    /// A code of the handler's, for instance an HTTP status or an exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// More of it, for instance the end of standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The other side asked not to be tried again before this much time has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Millis>,
}

#[derive(Deserialize)]
struct RawFailure {
    class: Option<FailureClass>,
    kind: FailureKind,
    #[serde(default)]
    message: String,
    code: Option<String>,
    detail: Option<String>,
    retry_after: Option<Millis>,
}

impl From<RawFailure> for Failure {
    fn from(raw: RawFailure) -> Self {
        let mut failure = Self::new(raw.kind, raw.message);
        failure.class = raw.class.unwrap_or(failure.class);
        failure.retry_after = raw.retry_after;
        if let Some(code) = raw.code {
            failure = failure.with_code(code);
        }
        match raw.detail {
            Some(detail) => failure.with_detail(detail),
            None => failure,
        }
    }
}

impl Failure {
    /// A failure of the class that its kind usually has.
    pub fn new(kind: FailureKind, message: impl AsRef<str>) -> Self {
        Self {
            class: kind.usual_class(),
            kind,
            message: clean(message.as_ref(), false, FAILURE_MESSAGE_CHARS),
            code: None,
            detail: None,
            retry_after: None,
        }
    }

    /// The same with another class.
    #[must_use]
    pub fn with_class(mut self, class: FailureClass) -> Self {
        self.class = class;
        self
    }

    /// The same with a code.
    #[must_use]
    pub fn with_code(mut self, code: impl fmt::Display) -> Self {
        self.code = Some(clean(&code.to_string(), false, FAILURE_CODE_CHARS));
        self
    }

    /// The same with more detail; of a long text the end is kept, since that is where tools say what hurt.
    #[must_use]
    pub fn with_detail(mut self, detail: impl AsRef<str>) -> Self {
        let detail = clean(detail.as_ref(), true, usize::MAX);
        let mut from = detail.len().saturating_sub(FAILURE_DETAIL_BYTES);
        while !detail.is_char_boundary(from) {
            from += 1;
        }
        self.detail = Some(detail[from..].trim_start().to_owned());
        self
    }

    /// The same with a wait that the other side asked for.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Millis) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

/// Control characters could move a cursor or forge a log line; only line ends and tabs of a detail stay. What is clean
/// stays as it is, so that a failure reads back from the log as it was written.
fn clean(text: &str, multiline: bool, chars: usize) -> String {
    let mut harmless: String = text
        .chars()
        .map(|c| match c {
            '\n' | '\t' if multiline => c,
            c if is_harmful(c) => ' ',
            c => c,
        })
        .skip_while(|c| c.is_whitespace())
        .take(chars)
        .collect();
    harmless.truncate(harmless.trim_end().len());
    harmless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_harmless_however_they_arrive() {
        let raw = serde_json::json!({
            "kind": "timeout",
            "message": format!("\u{1b}[31m{}", "é".repeat(5_000)),
            "detail": format!("{}end\nof it", "x".repeat(20_000)),
        });
        let failure: Failure = serde_json::from_value(raw).unwrap();
        assert_eq!(failure.class, FailureClass::Transient);
        assert_eq!(failure.message.chars().count(), FAILURE_MESSAGE_CHARS);
        assert!(!failure.message.contains('\u{1b}'));
        let detail = failure.detail.unwrap();
        assert_eq!(detail.len(), FAILURE_DETAIL_BYTES);
        assert!(detail.ends_with("end\nof it"));
    }

    #[test]
    fn a_kind_that_could_break_a_subject_is_refused() {
        assert!(serde_json::from_str::<FailureKind>("\"a.b\"").is_err());
        let own = FailureKind::new("paywall").unwrap();
        assert_eq!(own.usual_class(), FailureClass::Unknown);
    }
}
