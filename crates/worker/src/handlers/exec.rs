//! `exec`: a process for each document.
//!
//! The process is told which document by its arguments, by its environment or on its standard input, answers on its
//! standard output, and says by its exit code what became of it. It leads a process group of its own, of which nothing
//! is left when the attempt is over.

mod process;
mod settings;
mod template;

use redrive_domain::{
    document::Output,
    failure::{Failure, FailureKind},
    ids::HandlerName,
    time::Millis,
};
use serde_json::{Map, Value};
use tokio::process::Command;

use self::{
    process::{End, Ended},
    settings::{Settings, Stdin},
};
use super::{command::Program, exits::Meaning, params::misconfigured, process::not_started};
use crate::{
    handler::{Context, Done, Handler, Processing, Unit},
    limits::Limits,
};

/// Runs a process for each document.
#[derive(Debug, Clone)]
pub struct Exec {
    name: HandlerName,
}

impl Exec {
    /// The name under which it usually serves.
    pub const NAME: &'static str = "exec";

    /// One that serves under that name.
    #[must_use]
    pub fn new(name: HandlerName) -> Self {
        Self { name }
    }
}

impl Handler for Exec {
    fn name(&self) -> HandlerName {
        self.name.clone()
    }

    fn process<'a>(&'a self, unit: &'a Unit, ctx: &'a Context) -> Processing<'a> {
        Box::pin(run(unit, ctx))
    }

    fn limits(&self) -> Option<&'static str> {
        Some(Limits::here().word())
    }
}

async fn run(unit: &Unit, ctx: &Context) -> Result<Done, Failure> {
    let settings = Settings::read(&ctx.params)?;
    printable(unit)?;
    if ctx.cancelled.is_cancelled() {
        return Err(super::cancelled());
    }
    let stdin = stdin(&settings, unit, ctx)?;
    let (program, mut command) = command(&settings.program, unit, ctx)?;
    if let Some(cwd) = &settings.cwd {
        command.current_dir(cwd);
    }
    command.envs(circumstances(unit, ctx));
    command.envs(deployment(ctx));
    command.envs(settings.env.iter().map(|(key, value)| (key, value)));
    let ended = process::run(command, stdin, settings.grace, ctx)
        .await
        .map_err(|error| not_started(&program, settings.cwd.as_deref(), &error))?;
    outcome(&settings, ctx, ended)
}

/// Arguments and environment are C strings.
fn printable(unit: &Unit) -> Result<(), Failure> {
    let document = &unit.document;
    let fields = [("id", Some(&document.id)), ("uri", document.uri.as_ref())];
    for (name, value) in fields {
        if value.is_some_and(|value| value.contains('\0')) {
            let message =
                format!("the document's {name} has a NUL byte: no process can be told of it");
            return Err(Failure::new(FailureKind::INVALID_DATA, message));
        }
    }
    Ok(())
}

/// The command, and what to call it in a message.
fn command(program: &Program, unit: &Unit, ctx: &Context) -> Result<(String, Command), Failure> {
    match program {
        Program::Words(words) => {
            let words = words.iter().map(|word| template::word(word, unit, ctx));
            let words: Vec<String> = words.collect::<Result<_, _>>()?;
            let (program, arguments) = words
                .split_first()
                .ok_or_else(|| misconfigured("param \"command\" is empty"))?;
            let mut command = Command::new(program);
            command.args(arguments);
            Ok((program.clone(), command))
        }
        Program::Shell(script) => {
            let (script, arguments) = template::script(script, unit, ctx)?;
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(script).arg("sh").args(arguments);
            Ok(("/bin/sh".to_owned(), command))
        }
    }
}

fn stdin(settings: &Settings, unit: &Unit, ctx: &Context) -> Result<Option<Vec<u8>>, Failure> {
    let document = || match &unit.document.data {
        Some(data) => data.to_string(),
        None => format!("{}\n", unit.document.locator()),
    };
    let named = || unit.document.data.is_none() && settings.program.names_document();
    Ok(match settings.stdin {
        Stdin::None => None,
        Stdin::Document => Some(document().into_bytes()),
        Stdin::Input if ctx.tier == 0 => {
            let message = "param \"stdin\" is \"input\": in the first tier there is none";
            return Err(misconfigured(message));
        }
        Stdin::Input | Stdin::Auto if !unit.inputs.is_empty() => Some(inputs(unit)),
        Stdin::Auto if !named() => Some(document().into_bytes()),
        Stdin::Input | Stdin::Auto => None,
    })
}

/// What the tier before made: as it is where it is one, else by job.
fn inputs(unit: &Unit) -> Vec<u8> {
    if let Some(input) = unit.input() {
        return input.body.clone();
    }
    let by_job = unit
        .inputs
        .iter()
        .map(|(job, output)| (job.to_string(), output.to_value().unwrap_or(Value::Null)));
    Value::Object(Map::from_iter(by_job))
        .to_string()
        .into_bytes()
}

/// What the process may know of its circumstances.
fn circumstances(unit: &Unit, ctx: &Context) -> Vec<(&'static str, String)> {
    let (left, deadline) = ctx.left();
    let segment = unit
        .segment
        .map(|index| ("REDRIVE_SEGMENT", index.to_string()));
    let mut known = vec![
        ("REDRIVE_NAMESPACE", ctx.namespace.to_string()),
        ("REDRIVE_BUCKET", ctx.bucket.to_string()),
        ("REDRIVE_BATCH", ctx.batch.to_string()),
        ("REDRIVE_TIER", ctx.tier.to_string()),
        ("REDRIVE_JOB", ctx.job.to_string()),
        ("REDRIVE_DOCUMENT_ID", unit.document.id.clone()),
        (
            "REDRIVE_DOCUMENT_URI",
            unit.document.uri.clone().unwrap_or_default(),
        ),
        ("REDRIVE_ORDINAL", unit.ordinal.to_string()),
        ("REDRIVE_ATTEMPT", ctx.attempt.to_string()),
        ("REDRIVE_DEADLINE_UNIX_MS", deadline.0.to_string()),
        // Many tools take 0 for no limit at all.
        ("REDRIVE_TIMEOUT_SECONDS", left.as_secs().max(1).to_string()),
    ];
    known.extend(segment);
    known
}

/// What the job says of how it is to be started, as far as it says so.
fn deployment(ctx: &Context) -> impl Iterator<Item = (&'static str, String)> {
    let deployment = &ctx.deployment;
    // No archive has a line end in its name.
    let archives = deployment.plugin_archives.join("\n");
    let said = [
        ("REDRIVE_ENTRYPOINT", deployment.entrypoint.clone()),
        (
            "REDRIVE_DEPLOYMENT_MODE",
            deployment.deployment_mode.clone(),
        ),
        (
            "REDRIVE_PLUGIN_ARCHIVES",
            (!archives.is_empty()).then_some(archives),
        ),
    ];
    said.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
}

fn outcome(settings: &Settings, ctx: &Context, ended: Ended) -> Result<Done, Failure> {
    let stderr = String::from_utf8_lossy(&ended.stderr);
    if let Some(peak) = ended.used.peak {
        ctx.peak_memory.mark(peak);
    }
    let failure = match (ended.end, ended.used.failure()) {
        (End::Exited(status), Some(failure)) if !status.success() => failure,
        (End::Exited(status), _) => {
            let exit = settings.exit_codes.judge(status);
            match exit.failure(&stderr) {
                Some(failure) => failure,
                None if exit.meaning == Meaning::Skipped => return Ok(Done::Skipped),
                None => return Ok(Done::Completed(output(settings, ended.stdout))),
            }
        }
        (End::TimedOut, _) => Failure::new(
            FailureKind::TIMEOUT,
            format!(
                "did not finish in time and was stopped after {}",
                Millis::from(ended.took)
            ),
        ),
        (End::Cancelled, _) => super::cancelled(),
        (End::TooLarge, _) => Failure::new(
            FailureKind::OUTPUT_TOO_LARGE,
            format!(
                "wrote more than {} bytes to standard output: the job's max_output_bytes",
                ctx.max_output_bytes
            ),
        ),
    };
    Err(match stderr.trim() {
        "" => failure,
        stderr => failure.with_detail(stderr),
    })
}

fn output(settings: &Settings, body: Vec<u8>) -> Option<Output> {
    if body.is_empty() {
        return None;
    }
    let media_type = settings.media_type.clone().unwrap_or_else(|| {
        match std::str::from_utf8(&body) {
            Ok(_) => "text/plain; charset=utf-8",
            Err(_) => "application/octet-stream",
        }
        .to_owned()
    });
    Some(Output { media_type, body })
}
