//! `keys`: who may use the HTTP interface, and for what.

use redrive_broker::{Until, fold};
use redrive_domain::{
    command::{Accepted, Command, CreateKey, RevokeKey},
    credits::NO_BATCH,
    decide::ANY_BUCKET,
    ids::{Bucket, KeyId},
    keys::{KeyView, Scope, Token},
    subject,
    time::Timestamp,
};
use serde::Serialize;

use super::history::SHARD;
use crate::{
    app::App,
    args::{CreateKeyArgs, Format, KeysAction, ListKeysArgs, RevokeKeyArgs},
    exit::Exit,
    identity, output, say,
};

pub(crate) async fn keys(app: &App, action: KeysAction) -> anyhow::Result<Exit> {
    match action {
        KeysAction::Create(args) => create(app, args).await,
        KeysAction::List(args) => list(app, args).await,
        KeysAction::Revoke(args) => revoke(app, args).await,
    }
}

async fn ask(app: &App, command: &Command) -> anyhow::Result<Accepted> {
    let bucket = Bucket::new(ANY_BUCKET)?;
    let id = identity::command();
    Ok(app.client.command(&bucket, NO_BATCH, id, command).await?)
}

/// A key that was just made, with its secret.
#[derive(Serialize)]
struct Made {
    id: KeyId,
    key: String,
    name: String,
    namespace: String,
    scopes: Vec<Scope>,
    expires_at: Option<Timestamp>,
}

async fn create(app: &App, args: CreateKeyArgs) -> anyhow::Result<Exit> {
    let namespace = app.client.namespace().clone();
    // Of a generator that is meant for secrets, seeded by the operating system.
    let token = Token::new(namespace, KeyId(identity::uuid()), rand::random());
    let expires_at = args.expires.map(|span| identity::now().plus(span));
    let command = Command::CreateKey(CreateKey {
        key: token.key,
        name: args.name.clone(),
        scopes: args.scope.clone(),
        hash: token.hash(),
        expires_at,
    });
    ask(app, &command).await?;
    let made = Made {
        id: token.key,
        key: token.reveal(),
        name: args.name.to_string(),
        namespace: token.namespace.to_string(),
        scopes: args.scope.iter().collect(),
        expires_at,
    };
    if app.output == Format::Table {
        let end = expires_at.map_or_else(
            || "and does not expire".to_owned(),
            |at| format!("until {at}"),
        );
        say!(
            "Key {} ({}) of namespace {} is good for {} {end}.",
            made.id,
            made.name,
            made.namespace,
            args.scope
        );
        say!(
            "This is the only time that it is shown. To end it:  {}",
            app.hint(&format!("keys revoke {}", made.id))
        );
    }
    // Only the key itself, so that it can go into a file.
    output::one(app.output, &made, |made| made.key.clone())?;
    Ok(Exit::Done)
}

async fn list(app: &App, args: ListKeysArgs) -> anyhow::Result<Exit> {
    let namespace = app.client.namespace();
    let filter = subject::events_about_keys(SHARD, Some(namespace));
    let folded = fold(app.client.broker(), Some(filter), Until::End).await?;
    let ring = folded.keys.of(namespace).cloned().unwrap_or_default();
    let keys = ring.view(identity::now(), args.all);
    let header = ["id", "name", "scopes", "status", "made", "expires", "by"];
    let rows = futures::stream::iter(keys.into_iter().map(anyhow::Ok));
    let count = output::list(app.output, rows, None, &header, row).await?;
    if count == 0 && app.output == Format::Table {
        say!("Namespace {namespace} has no keys.");
    }
    Ok(Exit::Done)
}

fn row(key: &KeyView) -> Vec<String> {
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    vec![
        key.id.to_string(),
        key.name.to_string(),
        key.scopes.to_string(),
        key.status.to_string(),
        key.created_at.to_string(),
        time(key.expires_at),
        output::brief(key.created_by.as_deref().unwrap_or("-"), 40),
    ]
}

async fn revoke(app: &App, args: RevokeKeyArgs) -> anyhow::Result<Exit> {
    let accepted = ask(app, &Command::RevokeKey(RevokeKey { key: args.id })).await?;
    match accepted.repeated {
        true => say!("Key {} was revoked before.", args.id),
        false => say!(
            "Key {} is revoked: gateways refuse it within seconds.",
            args.id
        ),
    }
    Ok(Exit::Done)
}
