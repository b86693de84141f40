//! The command line.

mod control;
mod credits;
mod heal;
mod history;
mod keys;
mod look;
mod roles;
mod run;
mod time;
mod tools;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use redrive_domain::{ids::Namespace, pipeline::TierNum, query::BatchRef};

pub(crate) use control::{CancelArgs, Mode, PauseArgs, ResumeArgs, RetryArgs};
pub(crate) use credits::CreditsArgs;
pub(crate) use heal::HealArgs;
pub(crate) use history::{EventsArgs, Of, ReplayArgs, Show};
pub(crate) use keys::{CreateKeyArgs, KeysAction, ListKeysArgs, RevokeKeyArgs};
pub(crate) use look::{BatchesArgs, DocumentsArgs, FailuresArgs, ResultsArgs, StatusArgs};
pub(crate) use roles::{
    AuthKind, CoordinatorArgs, DemoArgs, DevArgs, GatewayArgs, HttpArg, ProjectorArgs, WorkerArgs,
};
pub(crate) use run::{Inputs, RunArgs, SubmitArgs, WatchArgs};
pub(crate) use time::{DiffArgs, ExportArgs, TimelineArgs};
pub(crate) use tools::{CompletionsArgs, ConfigAction, DoctorArgs, ManArgs, WorkersArgs};

/// See what failed in a batch, where and why, and redrive only that.
///
/// Without a broker (--nats-url), `run` and the commands that look at what it did use a small system of your own in a
/// data folder: started when needed, stopped when the last command leaves.
#[derive(Debug, Parser)]
#[command(
    name = "redrive",
    version,
    max_term_width = 110,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit codes: 0 done, 2 usage, 3 finished with failed documents, 4 not found, 5 conflict, 6 not \
    allowed, 7 broker unreachable, 8 paused, 124 timed out waiting, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where and how")]
pub(crate) struct Global {
    /// The broker to use, for instance nats://localhost:4222.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) nats_url: Option<String>,
    /// A file with NATS credentials.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) creds: Option<PathBuf>,
    /// The namespace [default: default].
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<Namespace>,
    /// The data folder of the system that is used where no broker is configured.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A configuration file [default: redrive/config.toml in the user's configuration directory].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How to print data.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// Say more on standard error; twice for even more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON value.
    Json,
    /// A JSON value a line.
    Jsonl,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command, or a pipeline, over many inputs; durable, with retries, and resumable
    Run(RunArgs),
    /// Go on with a batch whose run was interrupted, or that is paused
    Resume(ResumeArgs),
    /// Hand a batch to the workers of a system
    Submit(SubmitArgs),
    /// Show how a batch is doing
    Status(StatusArgs),
    /// Say what is wrong with a batch and why, and which command helps
    Diagnose(StatusArgs),
    /// Follow a batch until it is over
    Watch(WatchArgs),
    /// List the documents of a batch, and where each of them stands
    Documents(DocumentsArgs),
    /// List the documents that failed, where and why
    Failures(FailuresArgs),
    /// Print what the pipeline made of the documents
    Results(ResultsArgs),
    /// Execute failed documents again; those that succeeded are never touched
    Retry(RetryArgs),
    /// Hand nothing more of a batch out until it is resumed
    Pause(PauseArgs),
    /// Look for what is stuck or executed twice, and put it right
    Heal(HealArgs),
    /// Stop a batch, a tier of it, or one job
    Cancel(CancelArgs),
    /// Print events of the log, one JSON object a line
    Events(EventsArgs),
    /// Fold the log, or an exported file, afresh up to any moment, and print the state
    Replay(ReplayArgs),
    /// Tell what changed between two moments, document by document
    Diff(DiffArgs),
    /// Tell what happened to a batch, in a few lines
    Timeline(TimelineArgs),
    /// Write a batch as a file that can be mailed, and replayed without a broker
    ///
    /// The file goes to standard output. It holds the namespace, the ids of documents, failures with their messages,
    /// names of workers and users, and times; and, unless --redact leaves them out: URIs and inline data of documents,
    /// outputs, parameters of jobs with the environment and headers that are written there, and details of failures.
    Export(ExportArgs),
    /// List the batches of the namespace, the last one first
    Batches(BatchesArgs),
    /// Show what the namespace has spent and may spend this month, or set its limit
    Credits(CreditsArgs),
    /// Make, list and end the namespace's keys to the HTTP interface
    #[command(subcommand)]
    Keys(KeysAction),
    /// Show what Redrive does, on real files and a small web server, in under a minute
    Demo(DemoArgs),
    /// Measure the whole system on this machine, beside what its broker does by itself
    Bench(crate::commands::bench::BenchArgs),
    /// Run everything in one process: broker, coordinator, projector, a worker and a gateway
    Dev(DevArgs),
    /// Run a coordinator
    Coordinator(CoordinatorArgs),
    /// Run a worker
    Worker(WorkerArgs),
    /// Run a projector
    Projector(ProjectorArgs),
    /// Run a gateway: everything over HTTP, and the interfaces of services that clients were written for
    Gateway(GatewayArgs),
    /// Look at the whole system, and say what is wrong and what to do
    Doctor(DoctorArgs),
    /// List the workers that are live
    Workers(WorkersArgs),
    /// Show live what is under way: batches, failures, workers
    Top,
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigAction),
    /// Print a script that completes commands in a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands
    Man(ManArgs),
    /// Print the OpenAPI document of the HTTP interface
    Openapi,
    /// Print the AsyncAPI document of the subjects on NATS
    Asyncapi,
    /// Run the system of a data folder for as long as somebody uses it
    #[command(hide = true)]
    Embedded,
}

#[derive(Debug, Args)]
pub(crate) struct BatchArg {
    /// The batch: its id, or the word last
    #[arg(default_value = "last")]
    pub(crate) batch: BatchRef,
}

fn parse_tier(text: &str) -> Result<TierNum, &'static str> {
    text.parse()
        .map_err(|_| "use the tier's number; the first tier is 0")
}
