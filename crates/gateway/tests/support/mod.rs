//! What tests of dialects share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub
)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
};

use redrive_client::Client;
use redrive_domain::{
    command::{Command, SetCredits},
    credits::NO_BATCH,
    document::Output as Made,
    ids::{Bucket, CommandId, HandlerName, Namespace, ResourceClass, WorkerId},
};
use redrive_gateway::Config;
use redrive_worker::handler::{Done, handler_fn};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::common::{SOON, World};

/// A gateway that needs no keys, where a dialect runs this pipeline.
pub fn config(dialect: &str, pipeline: Value) -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config::open(any, Namespace::new("default").unwrap());
    config.pipelines.insert(dialect.to_owned(), pipeline);
    config
}

/// Sets what the namespace may spend a month.
pub async fn limit_credits(world: &World, limit: u64) {
    let namespace = Namespace::new("default").unwrap();
    let client = Client::new(world.broker.clone(), namespace, None);
    let set = Command::SetCredits(SetCredits { limit: Some(limit) });
    let id = CommandId(uuid::Builder::from_custom_bytes(rand::random()).into_uuid());
    let any = Bucket::new("_").unwrap();
    client.command(&any, NO_BATCH, id, &set).await.unwrap();
}

/// The names of an object's fields.
#[track_caller]
pub fn fields(object: &Value) -> BTreeSet<&str> {
    let object = object
        .as_object()
        .unwrap_or_else(|| panic!("{object} is no object"));
    object.keys().map(String::as_str).collect()
}

/// A file beside this one.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/support")
        .join(name)
}

/// The client that a service's documents print, with this in place of the service's address and nothing else changed;
/// `before` and `after` stand around it.
pub fn printed(name: &str, base: (&str, &str), before: &str, after: &str) -> String {
    let client = std::fs::read_to_string(file(name)).unwrap();
    assert!(client.contains(base.0), "{name} names {}", base.0);
    format!("{before}\n{}\n{after}\n", client.replace(base.0, base.1))
}

/// Whether there is such a program. Where there is none, a test says so and is over.
pub async fn is_there(program: &str) -> bool {
    let asked = tokio::process::Command::new(program)
        .arg("--version")
        .output()
        .await;
    let is_there = asked.is_ok_and(|asked| asked.status.success());
    if !is_there {
        eprintln!("skipped: there is no {program} here");
    }
    is_there
}

/// Runs a program to its end: what it wrote. It has to succeed.
#[track_caller]
pub fn run(command: &mut tokio::process::Command) -> impl Future<Output = String> {
    command.kill_on_drop(true);
    let running = tokio::time::timeout(SOON, command.output());
    async move {
        let Output {
            status,
            stdout,
            stderr,
        } = running.await.expect("it ends in time").unwrap();
        let (stdout, stderr) = (
            String::from_utf8(stdout).unwrap(),
            String::from_utf8_lossy(&stderr).into_owned(),
        );
        assert!(status.success(), "{status}: {stdout}{stderr}");
        stdout
    }
}

/// Python with the module `requests`: the real one, or where it is not installed, a small one of ours of that name.
pub async fn python() -> tokio::process::Command {
    let mut python = tokio::process::Command::new("python3");
    let mut real = tokio::process::Command::new("python3");
    let real = real.args(["-c", "import requests"]).output().await;
    if !real.is_ok_and(|real| real.status.success()) {
        eprintln!("python3 has no requests: a small module of that name stands in for it");
        python.env("PYTHONPATH", file("python"));
    }
    python
}

/// A worker that serves a handler for workers of a class, until the test ends. It does each unit at once, or never.
pub fn serve(world: &World, class: &str, handler: &str, does: bool) {
    let id = WorkerId::new(format!("{class}-{handler}")).unwrap();
    let mut config = redrive_worker::Config::new(0, id);
    config.classes = vec![ResourceClass::new(class).unwrap()];
    let name = HandlerName::new(handler).unwrap();
    let handler = handler_fn(name, move |_, _| async move {
        if !does {
            std::future::pending::<()>().await;
        }
        Ok(Done::Completed(Some(Made::text("done"))))
    });
    let (broker, stop) = (world.broker.clone(), CancellationToken::new());
    tokio::spawn(redrive_worker::run(broker, config, vec![handler], stop));
}

/// An answer with `<time>` for times and `<number>` for spans.
pub fn in_other_words(answer: &Value) -> Value {
    match answer {
        Value::String(text) if is_time(text) => "<time>".into(),
        Value::Array(list) => list.iter().map(in_other_words).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match name.as_str() {
                "duration_seconds" | "duration_ms" if value.is_number() => {
                    (name.clone(), "<number>".into())
                }
                _ => (name.clone(), in_other_words(value)),
            })
            .collect(),
        other => other.clone(),
    }
}

fn is_time(text: &str) -> bool {
    text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T'
}
