//! Who asks.

use axum::{extract::FromRequestParts, http::request::Parts};
use redrive_broker::nats::NatsBroker;
use redrive_client::Client;
use redrive_domain::ids::Namespace;

use crate::{Auth, Shared, problem::Problem};

/// What a key may allow. None implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To look.
    Read,
    /// To make batches, retry, cancel, heal, pause and resume.
    Operate,
    /// To set the namespace's credits, and to make and revoke its keys.
    Admin,
}

/// Who asks, once that is known: what they may do, and where.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Gives commands and asks questions in their namespace, in their name.
    pub(crate) client: Client<NatsBroker>,
}

impl Caller {
    /// Their namespace.
    pub(crate) fn namespace(&self) -> &Namespace {
        self.client.namespace()
    }

    /// Goes on only if they may do this.
    pub(crate) fn needs(&self, _scope: Scope) -> Result<(), Problem> {
        Ok(())
    }
}

/// The header that names a namespace.
const NAMESPACE: &str = "x-namespace";

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, Problem> {
        let named = parts.headers.get(NAMESPACE);
        let named = named
            .map(|name| {
                let name = name.to_str().unwrap_or_default();
                let name = Namespace::new(name);
                name.map_err(|error| Problem::invalid("header", NAMESPACE, error.to_string()))
            })
            .transpose()?;
        match &gateway.config.auth {
            Auth::Open { namespace } => {
                let namespace = named.unwrap_or_else(|| namespace.clone());
                gateway.rates.admit(namespace.as_str())?;
                let client = Client::new(gateway.broker.clone(), namespace, None);
                Ok(Self { client })
            }
            Auth::Keys => Err(Problem::Unauthenticated {
                message: "there is no valid key with the request".to_owned(),
            }),
        }
    }
}
