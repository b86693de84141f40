//! The namespace's keys, for those whose key has the scope `admin`.

use axum::{
    Json as Answer,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use redrive_domain::{
    command::{Accepted, Command, CreateKey, RevokeKey},
    credits::NO_BATCH,
    decide::ANY_BUCKET,
    ids::{Bucket, CommandId, KeyId, KeyName},
    keys::{KeyView, Scope, Scopes, Token},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Shared,
    caller::{Admin, Caller},
    extract::{Json, Params, Path},
    ids::Ids,
    keys::Holder,
    native::error::ErrorResponse,
    problem::Problem,
};

/// Its routes.
pub(super) fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_keys, create_key))
        .routes(routes!(get_key, revoke_key))
}

/// A key to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    /// What to call it, for instance who will use it: 1 to 64 of `A-Z a-z 0-9 _ -`.
    name: KeyName,
    /// What it is good for; at most what the key that makes it is good for.
    scopes: Scopes,
    /// From when on it is good for nothing; at the latest when the key that makes it is. Never, where that one has no end
    /// and none is given.
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

/// A key that was made.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct MadeKey {
    /// The key itself. It is shown this once, and kept nowhere; `null` where the same request was answered before.
    key: Option<String>,
    /// What it is.
    #[serde(flatten)]
    about: KeyView,
}

/// Which keys to list.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// With those that are expired or revoked, as far as they are remembered.
    #[serde(default)]
    all: bool,
}

/// The namespace's keys.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct KeyList {
    /// In the order in which they were made: at most 2,000.
    items: Vec<KeyView>,
    /// The log sequence of which this is.
    as_of: u64,
}

/// What a caller may do with a key, they may give to another one, for as long.
fn within(holder: Option<&Holder>, new: &mut NewKey) -> Result<(), Problem> {
    let Some(holder) = holder else {
        return Ok(());
    };
    let missing: Vec<&str> = new
        .scopes
        .iter()
        .filter(|scope| !holder.scopes.has(*scope))
        .map(Scope::as_str)
        .collect();
    if !missing.is_empty() {
        let (missing, has) = (missing.join(" and "), &holder.scopes);
        return Err(Problem::NotAllowed {
            message: format!(
                "a key gives what it has: this one has {has}, not {missing}; `redrive keys create` makes any"
            ),
        });
    }
    let own = holder.expires_at;
    match (new.expires_at, own) {
        (Some(wanted), Some(own)) if wanted > own => {
            let message = format!("is after {own}, when the key that makes it expires");
            return Err(Problem::invalid("body", "expires_at", message));
        }
        (None, Some(_)) => new.expires_at = own,
        _ => {}
    }
    Ok(())
}

async fn give(caller: &Caller, id: CommandId, command: &Command) -> Result<Accepted, Problem> {
    let any = Bucket::new(ANY_BUCKET).map_err(Problem::internal)?;
    Ok(caller.client.command(&any, NO_BATCH, id, command).await?)
}

fn found(gateway: &Shared, caller: &Caller, key: KeyId) -> Result<KeyView, Problem> {
    let namespace = caller.namespace();
    let found = gateway.keys.one(namespace, key);
    found.ok_or_else(|| Problem::NotFound {
        what: format!("key {key} in namespace {namespace}"),
    })
}

/// Makes a key.
///
/// With an `Idempotency-Key` it is made once, and its secret shown once: to whoever asked first.
#[utoipa::path(
    post, path = "/v1/keys", tag = "Redrive", request_body = NewKey,
    responses(
        (status = 201, description = "It is made, and good at once", body = MadeKey),
        (status = 403, description = "The key lacks the scope `admin`, or a scope that it is to give", body = ErrorResponse),
        (status = 409, description = "The namespace has as many keys as it may", body = ErrorResponse),
    ),
)]
async fn create_key(
    State(gateway): State<Shared>,
    Admin(caller): Admin,
    ids: Ids,
    Json(mut new): Json<NewKey>,
) -> Result<impl IntoResponse, Problem> {
    within(caller.holder(), &mut new)?;
    let namespace = caller.namespace();
    // The same for the same Idempotency-Key, whatever else is asked: so a second request for it is known as one.
    let key = KeyId(ids.command(namespace, 0, b"key").0);
    let token = Token::new(namespace.clone(), key, rand::random());
    let command = Command::CreateKey(CreateKey {
        key,
        name: new.name,
        scopes: new.scopes,
        hash: token.hash(),
        expires_at: new.expires_at,
    });
    let asked = give(&caller, ids.command(namespace, 1, b""), &command).await;
    // Whoever reads this answer may use the key at once.
    let known = gateway.keys.refresh().await;
    let accepted = asked.map_err(|problem| match problem {
        Problem::Conflict { .. } if gateway.keys.one(namespace, key).is_some() => {
            Problem::KeyReused
        }
        problem => problem,
    })?;
    known?;
    // Where it was this gateway that asked twice, the log has this very secret.
    let is_ours = !accepted.repeated || gateway.keys.admit(&token).await.is_ok();
    let made = MadeKey {
        key: is_ours.then(|| token.reveal()),
        about: found(&gateway, &caller, key)?,
    };
    let secret = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, secret, Answer(made)))
}

/// Lists the namespace's keys.
#[utoipa::path(
    get, path = "/v1/keys", tag = "Redrive", params(Which),
    responses(
        (status = 200, description = "They, without their secrets, which nobody has", body = KeyList),
    ),
)]
async fn list_keys(
    State(gateway): State<Shared>,
    Admin(caller): Admin,
    Params(which): Params<Which>,
) -> Result<Answer<KeyList>, Problem> {
    gateway.keys.refresh().await?;
    let (items, as_of) = gateway.keys.all(caller.namespace(), which.all);
    Ok(Answer(KeyList { items, as_of }))
}

/// Looks at a key.
#[utoipa::path(
    get, path = "/v1/keys/{key}", tag = "Redrive",
    params(("key" = KeyId, Path, description = "Its id")),
    responses(
        (status = 200, description = "What it is", body = KeyView),
        (status = 404, description = "There is none, or it is of another namespace", body = ErrorResponse),
    ),
)]
async fn get_key(
    State(gateway): State<Shared>,
    Admin(caller): Admin,
    Path(key): Path<KeyId>,
) -> Result<Answer<KeyView>, Problem> {
    gateway.keys.refresh().await?;
    Ok(Answer(found(&gateway, &caller, key)?))
}

/// Ends a key for good. Again, it is as it was.
#[utoipa::path(
    delete, path = "/v1/keys/{key}", tag = "Redrive",
    params(("key" = KeyId, Path, description = "Its id")),
    responses(
        (status = 200, description = "It is revoked: here at once, by other gateways within seconds", body = KeyView),
        (status = 404, description = "There is none, or it is of another namespace", body = ErrorResponse),
    ),
)]
async fn revoke_key(
    State(gateway): State<Shared>,
    Admin(caller): Admin,
    Path(key): Path<KeyId>,
) -> Result<Answer<KeyView>, Problem> {
    let command = Command::RevokeKey(RevokeKey { key });
    give(&caller, CommandId(crate::ids::fresh_uuid()), &command).await?;
    gateway.keys.refresh().await?;
    Ok(Answer(found(&gateway, &caller, key)?))
}
