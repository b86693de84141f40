//! The parameters of `exec`.

use std::{path::PathBuf, time::Duration};

use redrive_domain::{failure::Failure, time::Millis};
use serde_json::Value;

use super::{exits::ExitCodes, template};
use crate::handlers::params::{Params, short};

/// What to run.
#[derive(Debug, Clone)]
pub(super) enum Program {
    /// A program and its arguments.
    Words(Vec<String>),
    /// A script for the shell.
    Shell(String),
}

impl Program {
    /// Whether the command says where the document comes in.
    pub(super) fn names_document(&self) -> bool {
        match self {
            Self::Words(words) => words.iter().any(|word| template::names_document(word)),
            Self::Shell(script) => {
                let arguments = ["$1", "${1", "$@", "$*"];
                arguments.iter().any(|a| script.contains(a)) || template::names_document(script)
            }
        }
    }
}

/// What the process reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stdin {
    Auto,
    Document,
    Input,
    None,
}

/// The parameters of one job, checked.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) program: Program,
    pub(super) cwd: Option<PathBuf>,
    pub(super) env: Vec<(String, String)>,
    pub(super) stdin: Stdin,
    pub(super) media_type: Option<String>,
    pub(super) exit_codes: ExitCodes,
    pub(super) grace: Duration,
}

impl Settings {
    pub(super) fn read(params: &Value) -> Result<Self, Failure> {
        let mut params = Params::new(params);
        let program = program(&mut params);
        let cwd = params.text("cwd", "a directory").map(PathBuf::from);
        let env = env(&mut params);
        let stdin = params
            .read("stdin", "auto, document, input or none", |value| {
                Some(match value.as_str()? {
                    "auto" => Stdin::Auto,
                    "document" => Stdin::Document,
                    "input" => Stdin::Input,
                    "none" => Stdin::None,
                    _ => return None,
                })
            })
            .unwrap_or(Stdin::Auto);
        let takes = "a media type such as application/json, of at most 200 characters";
        let media_type = params.read("media_type", takes, |value| {
            let text = value.as_str()?;
            let (kind, rest) = text.split_once('/')?;
            let fits = !kind.is_empty() && !rest.is_empty() && text.len() <= 200;
            (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
        });
        let exit_codes = ExitCodes::read(&mut params);
        let grace = params.span("grace", Millis::seconds(300));
        params.finish()?;
        Ok(Self {
            program,
            cwd,
            env,
            stdin,
            media_type,
            exit_codes,
            grace: grace.unwrap_or(Duration::from_secs(2)),
        })
    }
}

/// What to run; where nothing can be made of it, a problem is noted and the result is of no use.
fn program(params: &mut Params<'_>) -> Program {
    let shell = params.flag("shell");
    let Some(command) = params.get("command") else {
        let takes = "is missing: it takes a text or a list of words";
        params.problem("command", takes);
        return Program::Words(Vec::new());
    };
    let words = match command {
        _ if shell => {
            let takes = "a text for /bin/sh, as param \"shell\" is true";
            let script = params.text("command", takes).unwrap_or_default();
            return Program::Shell(script.to_owned());
        }
        Value::String(text) => match shell_words::split(text) {
            Ok(words) => Some(words),
            Err(_) => {
                let what = format!("is {}: a quote in it is not closed", short(command));
                params.problem("command", what);
                return Program::Words(Vec::new());
            }
        },
        Value::Array(words) => words
            .iter()
            .map(|word| word.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    };
    let words = words.filter(|words| {
        words.first().is_some_and(|program| !program.is_empty())
            && !words.iter().any(|word| word.contains('\0'))
    });
    if words.is_none() {
        let takes = "it takes a text or a list of words, of which the first is the program";
        params.problem("command", format_args!("is {}: {takes}", short(command)));
    }
    Program::Words(words.unwrap_or_default())
}

fn env(params: &mut Params<'_>) -> Vec<(String, String)> {
    let mut env = Vec::new();
    for (key, value) in params.texts("env") {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            let what = "is no variable: a name has no = and neither has NUL bytes";
            params.problem(&format!("env.{key}"), what);
        }
        env.push((key.to_owned(), value));
    }
    env
}
