//! Settings: flag, then environment, then file, then default.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32, path::PathBuf};

use anyhow::Context;
use clap::ValueEnum as _;
use etcetera::{BaseStrategy, base_strategy::Xdg, choose_base_strategy};
use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format as _, Serialized, Toml},
    value::magic::RelativePathBuf,
};
use redrive_broker::nats::{self, InboxPrefix, InvalidInboxPrefix};
use redrive_domain::{
    ids::Namespace,
    time::{InvalidSpan, Millis},
};
use serde::{Deserialize, Serialize};

use crate::{
    args::{AuthKind, Format, Global},
    exit::usage,
    login::Login,
};

/// What a command works with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The broker, where one is configured.
    pub(crate) nats_url: Option<String>,
    /// How to log in there, where the URL does not say it.
    pub(crate) login: Option<Login>,
    /// Where the broker's answers come in; the role's own place unless said.
    pub(crate) inbox_prefix: Option<InboxPrefix>,
    pub(crate) namespace: Namespace,
    /// The data folder of the system that is used otherwise.
    pub(crate) data: PathBuf,
    pub(crate) output: Format,
    /// Where a role answers with its metrics and its health; nowhere unless said.
    pub(crate) http: Option<SocketAddr>,
    /// How often a coordinator puts right what is stuck.
    pub(crate) heal_every: Millis,
    pub(crate) gateway: GatewaySettings,
}

/// How a gateway is set up.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GatewaySettings {
    /// Where it answers.
    pub(crate) listen: Option<SocketAddr>,
    /// Who may ask.
    pub(crate) auth: Option<AuthKind>,
    /// The certificate, as PEM; without one it speaks HTTP.
    pub(crate) tls_cert: Option<RelativePathBuf>,
    /// Its private key, as PEM.
    pub(crate) tls_key: Option<RelativePathBuf>,
    /// Origins whose pages may ask from a browser.
    pub(crate) cors: Vec<String>,
    /// Requests a second that one key may make.
    pub(crate) rate: Option<NonZeroU32>,
    /// Pipelines that requests may name, or that a bucket or a dialect has. Paths are relative to the file that names them.
    pub(crate) pipelines: BTreeMap<String, RelativePathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    nats_url: Option<String>,
    creds: Option<PathBuf>,
    namespace: Namespace,
    data: Option<PathBuf>,
    output: Format,
    http: Option<SocketAddr>,
    heal_every: Span,
    #[serde(default)]
    gateway: GatewaySettings,
    nats_user: Option<String>,
    nats_password_file: Option<PathBuf>,
    inbox_prefix: Option<Prefix>,
}

/// An inbox prefix that has been checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct Prefix(InboxPrefix);

impl TryFrom<String> for Prefix {
    type Error = InvalidInboxPrefix;
    fn try_from(text: String) -> Result<Self, InvalidInboxPrefix> {
        text.parse().map(Self)
    }
}

/// A span of time as people write it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Span(Millis);

impl TryFrom<String> for Span {
    type Error = InvalidSpan;
    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        text.parse().map(Self)
    }
}

/// Names of settings in the environment, without the prefix.
const VARIABLES: [&str; 10] = [
    "nats_url",
    "creds",
    "namespace",
    "data",
    "output",
    "http",
    "heal_every",
    "nats_user",
    "nats_password_file",
    "inbox_prefix",
];

/// What the environment and the file say.
struct Given {
    figment: Figment,
    file: PathBuf,
    dirs: Xdg,
}

fn given(global: &Global) -> anyhow::Result<Given> {
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
        .merge(Serialized::default("heal_every", "30s"))
        .merge(Toml::file(&file))
        .merge(Env::prefixed("REDRIVE_").only(&VARIABLES));
    Ok(Given {
        figment,
        file,
        dirs,
    })
}

pub(crate) fn read(global: &Global) -> anyhow::Result<Settings> {
    let given = given(global)?;
    let file: File = given.figment.extract().map_err(|error| {
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
        login: Login::of(
            global.creds.clone(),
            file.creds,
            file.nats_user,
            file.nats_password_file,
        )?,
        inbox_prefix: file.inbox_prefix.map(|prefix| prefix.0),
        namespace: global.namespace.clone().unwrap_or(file.namespace),
        data: data.unwrap_or_else(|| given.dirs.data_dir().join("redrive")),
        output: global.output.unwrap_or(file.output),
        http: file.http,
        heal_every: file.heal_every.0,
        gateway: file.gateway,
    })
}

/// Where a setting was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "at")]
pub(crate) enum Origin {
    /// On the command line.
    Flag(&'static str),
    /// In the environment.
    Variable(String),
    /// In this file.
    File(PathBuf),
    /// Nowhere.
    Default,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting as it is, and where that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    /// As it may be shown: a password in it is masked.
    pub(crate) value: Option<String>,
    pub(crate) origin: Origin,
}

/// All settings.
///
/// # Errors
/// Those of [`read`].
pub(crate) fn explain(global: &Global) -> anyhow::Result<Vec<Setting>> {
    let settings = read(global)?;
    let given = given(global)?;
    let path = |path: &PathBuf| path.display().to_string();
    let origin = |name: &'static str, flag: Option<&'static str>| match flag {
        Some(flag) => Origin::Flag(flag),
        None => given.origin(name),
    };
    let flag = |is_given: bool, flag| is_given.then_some(flag);
    let is_there = given.file.exists();
    let user = match &settings.login {
        Some(Login::User {
            name,
            password_file,
        }) => Some((name, password_file)),
        Some(Login::Creds(_)) | None => None,
    };
    let gateway = &settings.gateway;
    let file = |file: &Option<RelativePathBuf>| file.as_ref().map(|file| path(&file.relative()));
    let list = |words: Vec<String>| (!words.is_empty()).then(|| words.join(", "));
    let of_gateway = [
        ("gateway.listen", gateway.listen.map(|it| it.to_string())),
        (
            "gateway.auth",
            gateway.auth.and_then(|it| {
                it.to_possible_value()
                    .map(|value| value.get_name().to_owned())
            }),
        ),
        ("gateway.tls_cert", file(&gateway.tls_cert)),
        ("gateway.tls_key", file(&gateway.tls_key)),
        ("gateway.cors", list(gateway.cors.clone())),
        ("gateway.rate", gateway.rate.map(|it| it.to_string())),
        (
            "gateway.pipelines",
            list(gateway.pipelines.keys().cloned().collect()),
        ),
    ];
    let of_gateway = of_gateway.map(|(name, value)| Setting {
        name,
        origin: match value {
            Some(_) => given.origin(name),
            None => Origin::Default,
        },
        value,
    });
    let mut all = vec![
        Setting {
            name: "nats_url",
            value: settings.nats_url.as_deref().map(nats::masked),
            origin: origin("nats_url", flag(global.nats_url.is_some(), "--nats-url")),
        },
        Setting {
            name: "creds",
            value: match &settings.login {
                Some(Login::Creds(creds)) => Some(path(creds)),
                Some(Login::User { .. }) | None => None,
            },
            origin: origin("creds", flag(global.creds.is_some(), "--creds")),
        },
        Setting {
            name: "namespace",
            value: Some(settings.namespace.to_string()),
            origin: origin("namespace", flag(global.namespace.is_some(), "--namespace")),
        },
        Setting {
            name: "data",
            value: Some(path(&settings.data)),
            origin: origin("data", flag(global.data.is_some(), "--data")),
        },
        Setting {
            name: "output",
            value: settings
                .output
                .to_possible_value()
                .map(|value| value.get_name().to_owned()),
            origin: origin("output", flag(global.output.is_some(), "--output")),
        },
        Setting {
            name: "http",
            value: settings.http.map(|address| address.to_string()),
            origin: given.origin("http"),
        },
        Setting {
            name: "heal_every",
            value: Some(settings.heal_every.to_string()),
            origin: given.origin("heal_every"),
        },
        Setting {
            name: "nats_user",
            value: user.map(|(name, _)| name.clone()),
            origin: given.origin("nats_user"),
        },
        Setting {
            name: "nats_password_file",
            value: user.map(|(_, file)| path(file)),
            origin: given.origin("nats_password_file"),
        },
        Setting {
            name: "inbox_prefix",
            value: settings.inbox_prefix.as_ref().map(ToString::to_string),
            origin: given.origin("inbox_prefix"),
        },
        Setting {
            name: "config",
            value: Some(format!(
                "{}{}",
                path(&given.file),
                if is_there { "" } else { " (not there)" }
            )),
            origin: flag(global.config.is_some(), "--config").map_or(Origin::Default, Origin::Flag),
        },
        variable("log", "REDRIVE_LOG"),
        variable("nats_server", "REDRIVE_NATS_SERVER"),
    ];
    all.splice(all.len() - 3..all.len() - 3, of_gateway);
    Ok(all)
}

impl Given {
    fn origin(&self, name: &str) -> Origin {
        let Some(metadata) = self.figment.find_metadata(name) else {
            return Origin::Default;
        };
        match &metadata.source {
            Some(figment::Source::File(file)) => Origin::File(file.clone()),
            _ if metadata.name.contains("environment") => Origin::Variable(variable_of(name)),
            _ => Origin::Default,
        }
    }
}

/// A setting that only the environment makes.
fn variable(name: &'static str, variable: &str) -> Setting {
    let value = std::env::var(variable).ok();
    Setting {
        name,
        origin: match &value {
            Some(_) => Origin::Variable(variable.to_owned()),
            None => Origin::Default,
        },
        value,
    }
}

fn variable_of(key: &str) -> String {
    format!("REDRIVE_{}", key.to_uppercase())
}

/// What is wrong with a setting, and where it was made.
fn wrong(error: &figment::Error) -> String {
    let mut key = error.path.last().cloned().unwrap_or_default();
    let mut place = String::new();
    if let Some(metadata) = &error.metadata {
        if let Some(figment::Source::File(file)) = &metadata.source {
            place = format!("{}: ", file.display());
        } else if metadata.name.contains("environment") {
            key = variable_of(&key);
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
