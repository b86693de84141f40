//! Settings: flag, then environment, then file, then default.

use std::path::PathBuf;

use anyhow::Context;
use etcetera::{BaseStrategy, choose_base_strategy};
use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format as _, Serialized, Toml},
};
use redrive_domain::ids::Namespace;
use serde::Deserialize;

use crate::{
    args::{Format, Global},
    exit::usage,
};

/// What a command works with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The broker, where one is configured.
    pub(crate) nats_url: Option<String>,
    pub(crate) creds: Option<PathBuf>,
    pub(crate) namespace: Namespace,
    /// The data folder of the system that is used otherwise.
    pub(crate) data: PathBuf,
    pub(crate) output: Format,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    nats_url: Option<String>,
    creds: Option<PathBuf>,
    namespace: Namespace,
    data: Option<PathBuf>,
    output: Format,
}

/// Names of settings in the environment, without the prefix.
const VARIABLES: [&str; 5] = ["nats_url", "creds", "namespace", "data", "output"];

pub(crate) fn read(global: &Global) -> anyhow::Result<Settings> {
    let dirs = choose_base_strategy().context("there is no home directory: set HOME")?;
    let file = match &global.config {
        Some(file) if !file.exists() => {
            return Err(usage(format!("there is no file {}", file.display())));
        }
        Some(file) => file.clone(),
        None => dirs.config_dir().join("redrive").join("config.toml"),
    };
    let figment = Figment::new()
        .merge(Serialized::default("namespace", "default"))
        .merge(Serialized::default("output", "table"))
        .merge(Toml::file(file))
        .merge(Env::prefixed("REDRIVE_").only(&VARIABLES));
    let file: File = figment.extract().map_err(|error| {
        let all: Vec<String> = error.into_iter().map(|one| wrong(&one)).collect();
        usage(all.join("\n"))
    })?;
    let data = global.data.clone().or(file.data);
    Ok(Settings {
        nats_url: global
            .nats_url
            .clone()
            .or(file.nats_url)
            .filter(|url| !url.is_empty()),
        creds: global.creds.clone().or(file.creds),
        namespace: global.namespace.clone().unwrap_or(file.namespace),
        data: data.unwrap_or_else(|| dirs.data_dir().join("redrive")),
        output: global.output.unwrap_or(file.output),
    })
}

/// What is wrong with a setting, and where it was made.
fn wrong(error: &figment::Error) -> String {
    let mut key = error.path.last().cloned().unwrap_or_default();
    let mut place = String::new();
    if let Some(metadata) = &error.metadata {
        if let Some(figment::Source::File(file)) = &metadata.source {
            place = format!("{}: ", file.display());
        } else if metadata.name.contains("environment") {
            key = format!("REDRIVE_{}", key.to_uppercase());
        }
    }
    match &error.kind {
        Kind::UnknownField(field, known) => {
            format!("{place}there is no setting {field:?}: use {}", or(known))
        }
        Kind::UnknownVariant(value, known) => {
            format!("{place}{key} is {value:?}: it takes {}", or(known))
        }
        kind => format!("{place}{key}: {kind}"),
    }
}

/// `a, b or c`.
fn or(words: &[&str]) -> String {
    match words {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}
