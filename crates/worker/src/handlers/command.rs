//! What a job wants run: a program with its arguments, or a script.

use serde_json::Value;

use super::params::{Params, short};

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Program {
    /// A program and its arguments.
    Words(Vec<String>),
    /// A script for the shell.
    Shell(String),
}

impl Program {
    /// What to run, from the params `command` and `shell`; where nothing can be made of it, a problem is noted and the result is of no use.
    pub(super) fn read(params: &mut Params<'_>) -> Self {
        let shell = params.flag("shell");
        let Some(command) = params.get("command") else {
            let takes = "is missing: it takes a text or a list of words";
            params.problem("command", takes);
            return Self::Words(Vec::new());
        };
        let words = match command {
            _ if shell => {
                let takes = "a text for /bin/sh, as param \"shell\" is true";
                let script = params.text("command", takes).unwrap_or_default();
                return Self::Shell(script.to_owned());
            }
            Value::String(text) => match shell_words::split(text) {
                Ok(words) => Some(words),
                Err(_) => {
                    let what = format!("is {}: a quote in it is not closed", short(command));
                    params.problem("command", what);
                    return Self::Words(Vec::new());
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
        Self::Words(words.unwrap_or_default())
    }
}
