//! The parameters of `exec`.

use std::{path::PathBuf, time::Duration};

use redrive_domain::{failure::Failure, time::Millis};
use serde_json::Value;

use super::template;
use crate::handlers::{
    command::Program, envelope::is_media_type, exits::ExitCodes, params::Params,
};

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
        let program = Program::read(&mut params);
        let cwd = params.text("cwd", "a directory").map(PathBuf::from);
        let env = params.env();
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
            let text = value.as_str().filter(|text| is_media_type(text))?;
            Some(text.to_owned())
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
