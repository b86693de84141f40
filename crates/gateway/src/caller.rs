//! Who asks.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Uri, request::Parts},
};
use redrive_broker::nats::NatsBroker;
use redrive_client::Client;
use redrive_domain::{
    ids::{KeyId, Namespace},
    keys::{NotAdmitted, Token},
};

use crate::{
    Auth, Shared, dev,
    guard::Guarded,
    keys::{Holder, Shut, out_of_touch},
    metrics,
    problem::Problem,
    surface::Surface,
};

pub(crate) use redrive_domain::keys::Scope;

/// Who asks, once that is known: what they may do, and where.
///
/// A handler takes it before anything that reads the body, so that who may not ask is told just that.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Gives commands and asks questions in their namespace, in their name.
    pub(crate) client: Client<NatsBroker>,
    /// Whose key it is; nobody's where no key is needed.
    holder: Option<Holder>,
}

impl Caller {
    /// Their namespace.
    pub(crate) fn namespace(&self) -> &Namespace {
        self.client.namespace()
    }

    /// Goes on only if they may do this.
    ///
    /// # Errors
    /// [`Problem::Forbidden`].
    fn needs(&self, scope: Scope) -> Result<(), Problem> {
        match &self.holder {
            Some(holder) if !holder.scopes.has(scope) => {
                metrics::turned_away("scope");
                let has = &holder.scopes;
                Err(Problem::Forbidden {
                    message: format!("it takes a key with the scope {scope}; this one has {has}"),
                })
            }
            _ => Ok(()),
        }
    }

    /// The key with which they came, where keys are needed.
    pub(crate) fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }
}

/// The header that names a namespace.
const NAMESPACE: &str = "x-namespace";

/// What a surface takes a key in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credential {
    /// `Authorization: Bearer KEY` (RFC 6750).
    Bearer,
    /// A header with the key and nothing else.
    Header(&'static str),
}

impl Credential {
    fn of(surface: Surface) -> Self {
        match surface {
            Surface::Native | Surface::Mixpeek => Self::Bearer,
            Surface::Feather | Surface::Spidra => Self::Header("x-api-key"),
            Surface::Anchor => Self::Header("anchor-api-key"),
        }
    }

    const fn header(self) -> &'static str {
        match self {
            Self::Bearer => "authorization",
            Self::Header(name) => name,
        }
    }

    /// How to send it, for people.
    fn usage(self) -> String {
        match self {
            Self::Bearer => "the header \"Authorization: Bearer KEY\"".to_owned(),
            Self::Header(name) => format!("the header \"{name}: KEY\""),
        }
    }

    /// Takes the key out of the headers, so that nothing that sees the request later can write it anywhere. Nothing of it is
    /// ever repeated.
    fn take(self, headers: &mut HeaderMap, uri: &Uri) -> Result<Token, Problem> {
        let refused = |reason, message: String| {
            metrics::turned_away(reason);
            Problem::Unauthenticated { message }
        };
        let usage = self.usage();
        if is_in_url(uri) {
            let message = format!(
                "a key stands in the URL, where logs have it by now: revoke it, and send another one in {usage}"
            );
            return Err(refused("in_url", message));
        }
        let mut given = headers.get_all(self.header()).iter();
        let (first, second) = (given.next(), given.next());
        let text = match (first, second) {
            (None, _) => return Err(refused("missing", format!("it takes a key, in {usage}"))),
            (Some(_), Some(_)) => {
                return Err(refused(
                    "malformed",
                    format!("it takes one key, in {usage}"),
                ));
            }
            (Some(value), None) => value.to_str().unwrap_or_default(),
        };
        let key = match self {
            Self::Header(_) => Some(text.trim()),
            Self::Bearer => text
                .split_once(' ')
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                .map(|(_, key)| key.trim()),
        };
        let token = key.map(str::parse::<Token>);
        headers.remove(self.header());
        match token {
            None => Err(refused("malformed", format!("it takes a key, in {usage}"))),
            Some(Err(error)) => Err(refused("malformed", error.to_string())),
            Some(Ok(token)) => Ok(token),
        }
    }
}

/// Whether somebody put a key where proxies, browsers and logs keep it.
fn is_in_url(uri: &Uri) -> bool {
    let parts = uri.path().split('/');
    let query = uri.query().unwrap_or_default().split(['&', ';', '=']);
    let mut parts = parts.chain(query);
    parts.any(|part| part.parse::<Token>().is_ok())
}

fn namespace(headers: &HeaderMap) -> Result<Option<Namespace>, Problem> {
    let Some(name) = headers.get(NAMESPACE) else {
        return Ok(None);
    };
    let name = Namespace::new(name.to_str().unwrap_or_default());
    name.map(Some)
        .map_err(|error| Problem::invalid("header", NAMESPACE, error.to_string()))
}

/// How the history names who came with a key: by what cannot be made up, and by what people call it.
fn actor(name: &str, key: KeyId) -> String {
    format!("key {name} ({key})")
}

fn shut(why: Shut, token: &Token) -> Problem {
    let (reason, message) = match why {
        Shut::OutOfTouch => return out_of_touch(),
        Shut::Key(why) => {
            let reason = match why {
                NotAdmitted::Unknown => "unknown",
                NotAdmitted::Expired(_) => "expired",
                NotAdmitted::Revoked => "revoked",
            };
            (reason, why.to_string())
        }
    };
    metrics::turned_away(reason);
    // Only of a secret that is right it is known whose it was.
    if reason != "unknown" {
        tracing::info!(namespace = %token.namespace, key = %token.key, reason, "somebody came with a key that has ended");
    }
    Problem::Unauthenticated { message }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, Problem> {
        let (namespace, actor, holder) = match &gateway.config.auth {
            Auth::Open { namespace: usual } => {
                dev::check(&parts.headers, &parts.uri, &gateway.config.cors)?;
                let namespace = namespace(&parts.headers)?.unwrap_or_else(|| usual.clone());
                gateway.rates.admit(namespace.as_str())?;
                (namespace, "http".to_owned(), None)
            }
            Auth::Keys => {
                let surface = parts.extensions.get::<Surface>().copied();
                let credential = Credential::of(surface.unwrap_or(Surface::Native));
                let token = credential.take(&mut parts.headers, &parts.uri)?;
                let holder = gateway
                    .keys
                    .admit(&token)
                    .await
                    .map_err(|why| shut(why, &token))?;
                gateway
                    .rates
                    .admit(&format!("{}/{}", holder.namespace, holder.key))?;
                let named = namespace(&parts.headers)?;
                if let Some(other) = named.filter(|named| *named != holder.namespace) {
                    metrics::turned_away("namespace");
                    let own = &holder.namespace;
                    return Err(Problem::NotAllowed {
                        message: format!("the key is of namespace {own}, not of {other}"),
                    });
                }
                if let Some(guarded) = parts.extensions.get::<Guarded>() {
                    guarded.came_with(&holder);
                }
                let actor = actor(&holder.name, holder.key);
                (holder.namespace.clone(), actor, Some(holder))
            }
        };
        let client = Client::new(gateway.broker.clone(), namespace, Some(actor));
        let client = client.with_patience(gateway.config.patience);
        Ok(Self { client, holder })
    }
}

/// Who asks, and may look. Who may not is told so before anything of the request is read.
pub(crate) struct Reader(pub(crate) Caller);

/// Who asks, and may make and change batches. Who may not is told so before anything of the request is read.
pub(crate) struct Operator(pub(crate) Caller);

async fn allowed(parts: &mut Parts, gateway: &Shared, scope: Scope) -> Result<Caller, Problem> {
    let caller = Caller::from_request_parts(parts, gateway).await?;
    caller.needs(scope)?;
    Ok(caller)
}

impl FromRequestParts<Shared> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, Problem> {
        allowed(parts, gateway, Scope::Read).await.map(Self)
    }
}

/// Who asks, and may set credits and deal with keys. Who may not is told so before anything of the request is read.
pub(crate) struct Admin(pub(crate) Caller);

impl FromRequestParts<Shared> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, Problem> {
        allowed(parts, gateway, Scope::Admin).await.map(Self)
    }
}

impl FromRequestParts<Shared> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, Problem> {
        allowed(parts, gateway, Scope::Operate).await.map(Self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn text() -> String {
        format!("rdk_a_{}_{}", "0".repeat(32), "c".repeat(64))
    }

    fn take(
        credential: Credential,
        given: &[(&'static str, &str)],
        url: &str,
    ) -> Result<Token, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let taken = credential.take(&mut headers, &url.parse().unwrap());
        assert!(taken.is_err() || !headers.contains_key(credential.header()));
        taken
    }

    #[test]
    fn each_surface_takes_a_key_in_its_own_header_and_nowhere_else() {
        let (key, bearer) = (text(), format!("bEarer  {}", text()));
        let good = [
            (Surface::Native, "authorization", &bearer),
            (Surface::Mixpeek, "authorization", &bearer),
            (Surface::Feather, "x-api-key", &key),
            (Surface::Spidra, "x-api-key", &key),
            (Surface::Anchor, "anchor-api-key", &key),
        ];
        for (surface, header, value) in good {
            let credential = Credential::of(surface);
            let token = take(credential, &[(header, value)], "/v1/x").unwrap();
            assert_eq!(token.reveal(), key);
            for (_, other, value) in good {
                let taken = take(credential, &[(other, value)], "/v1/x");
                assert_eq!(taken.is_ok(), other == header, "{surface:?} {other}");
            }
            assert!(take(credential, &[(header, value), (header, value)], "/").is_err());
        }
        for bad in [&key, "Bearer", "Bearer ", "Basic YTpi", "Bearer nonsense"] {
            assert!(take(Credential::Bearer, &[("authorization", bad)], "/").is_err());
        }
    }

    #[test]
    fn a_key_in_the_url_is_refused_though_it_is_in_the_header_too_and_never_repeated() {
        let (key, bearer) = (text(), format!("Bearer {}", text()));
        for url in [
            format!("/v1/batches?api_key={key}"),
            format!("/v1/batches?limit=1&{key}"),
            format!("/v1/keys/{key}"),
        ] {
            let refused = take(Credential::Bearer, &[("authorization", &bearer)], &url);
            let refused = format!("{:?}", refused.unwrap_err());
            assert!(
                refused.contains("URL") && !refused.contains("cccc"),
                "{refused}"
            );
        }
    }
}
