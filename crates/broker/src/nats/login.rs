//! Who logs in at the broker, and where its answers go.

use std::{fmt, path::PathBuf, str::FromStr};

/// How to log in, where the URL does not say it. A login in the URL comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// With a credentials file: a user's JWT and key.
    Creds(PathBuf),
    /// As a user with a password.
    User {
        /// The user.
        name: String,
        /// Its password.
        password: Password,
    },
}

/// A password. It is not shown, not even to who debugs.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A password as it is sent to the broker.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> String {
        self.0.clone()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The longest inbox prefix. All of a reply's subject has to fit into what a server reads as one line (4 KiB).
const LONGEST: usize = 128;

/// What the subjects begin with to which answers are sent, such as `_INBOX.rd.worker`. Users who may subscribe to no
/// other keep their answers from each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxPrefix(String);

impl InboxPrefix {
    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InboxPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no prefix of subjects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot begin a subject: use up to {LONGEST} of A-Z a-z 0-9 _ - with dots between, as in _INBOX.rd.worker"
)]
pub struct InvalidInboxPrefix(String);

impl FromStr for InboxPrefix {
    type Err = InvalidInboxPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidInboxPrefix> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_token = |token: &str| !token.is_empty() && token.bytes().all(is_plain);
        if text.len() <= LONGEST && text.split('.').all(is_token) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidInboxPrefix(text.chars().take(LONGEST).collect()))
        }
    }
}

/// What a URL says, with the secrets apart from it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The URLs without secrets, to connect to and to print.
    pub(super) plain: Vec<String>,
    pub(super) login: InUrl,
}

/// A login that stands in a URL.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum InUrl {
    None,
    Token(String),
    User(String, String),
}

impl Address {
    pub(super) fn parse(text: &str) -> Self {
        let mut plain = Vec::new();
        let mut login = InUrl::None;
        for url in text.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
            // A password may hold an '@' of its own, a host cannot; it ends where a path begins.
            let end = rest.rfind('@').map_or(0, |at| at + 1);
            let (secret, host) = rest.split_at(end);
            plain.push(format!("{scheme}://{host}"));
            let secret = secret.strip_suffix('@').filter(|text| !text.is_empty());
            if let (Some(secret), InUrl::None) = (secret, &login) {
                login = match secret.split_once(':') {
                    Some((user, password)) => InUrl::User(decode(user), decode(password)),
                    None => InUrl::Token(decode(secret)),
                };
            }
        }
        Self { plain, login }
    }

    pub(super) fn printable(&self) -> String {
        self.plain.join(",")
    }
}

/// The URL, or several with commas between, as it may be shown: the secrets in it are replaced by `***`.
#[must_use]
pub fn masked(urls: &str) -> String {
    let mask = |url: &str| {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://***@{host}"),
            None => url.to_owned(),
        }
    };
    let all: Vec<String> = urls.split(',').map(|url| mask(url.trim())).collect();
    all.join(",")
}

/// Resolves `%41` and the like; what is not such an escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_the_url() {
        let user = Address::parse("nats://ann:p%40ss@w:rd@host:4222, nats://other");
        assert_eq!(user.printable(), "nats://host:4222,nats://other");
        assert!(user.login == InUrl::User("ann".to_owned(), "p@ss@w:rd".to_owned()));
        let token = Address::parse("tls://s%e9cret%2@host");
        assert_eq!(token.printable(), "tls://host");
        assert!(token.login == InUrl::Token("s\u{fffd}cret%2".to_owned()));
        let none = Address::parse("host:4222");
        assert_eq!(none.printable(), "nats://host:4222");
        let shown = masked("nats://ann:p%40ss@w:rd@host:4222, tls://s3cret@other,third:1");
        assert_eq!(shown, "nats://***@host:4222,tls://***@other,third:1");
        assert!(none.login == InUrl::None);
    }

    #[test]
    fn a_password_is_not_shown() {
        let login = Login::User {
            name: "ann".to_owned(),
            password: Password::new("s3cret"),
        };
        let shown = format!("{login:?}");
        assert!(
            shown.contains("ann") && !shown.contains("s3cret"),
            "{shown}"
        );
    }

    #[test]
    fn a_prefix_cannot_widen_what_is_subscribed_to() {
        for good in ["_INBOX", "_INBOX.rd.worker", "a-b._9"] {
            assert_eq!(good.parse::<InboxPrefix>().unwrap().as_str(), good);
        }
        let long = "a".repeat(LONGEST + 1);
        for bad in [
            "", ".", "a.", ".a", "a..b", "a.*", ">", "a b", "a\r\nb", "ä", "$SYS", &long,
        ] {
            assert!(bad.parse::<InboxPrefix>().is_err(), "{bad:?}");
        }
    }
}
