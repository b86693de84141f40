//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use redrive_broker::Until;
use redrive_domain::{
    failure::{FailureClass, FailureKind},
    ids::{BatchId, Bucket, HandlerName, JobName, Namespace, ResourceClass},
    pipeline::TierNum,
    query::BatchRef,
    status::BatchStatus,
    time::Millis,
};

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
    allowed, 7 broker unreachable, 124 timed out waiting, 130 interrupted."
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
    /// Take up again a batch whose run was interrupted
    Resume(ResumeArgs),
    /// Hand a batch to the workers of a system
    Submit(SubmitArgs),
    /// Show how a batch is doing
    Status(BatchArg),
    /// Follow a batch until it is over
    Watch(WatchArgs),
    /// List the documents that failed, where and why
    Failures(FailuresArgs),
    /// Print what the pipeline made of the documents
    Results(ResultsArgs),
    /// Execute failed documents again; those that succeeded are never touched
    Retry(RetryArgs),
    /// Stop a batch
    Cancel(CancelArgs),
    /// Print events of the log, one JSON object a line
    Events(EventsArgs),
    /// Fold the log afresh, up to any moment, and print the state
    Replay(ReplayArgs),
    /// List the batches of the namespace, the last one first
    Batches(BatchesArgs),
    /// Show what Redrive does, on real files and a small web server, in under a minute
    Demo(DemoArgs),
    /// Run everything in one process: broker, coordinator, projector and a worker
    Dev(DevArgs),
    /// Run a coordinator
    Coordinator(CoordinatorArgs),
    /// Run a worker
    Worker(WorkerArgs),
    /// Run a projector
    Projector(ProjectorArgs),
    /// Run the system of a data folder for as long as somebody uses it
    #[command(hide = true)]
    Embedded,
}

/// Where documents come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct Inputs {
    /// The documents: paths, URLs, or anything that names them. Without any, they are read from standard input, a line
    /// each
    #[arg(value_name = "INPUT")]
    pub(crate) inputs: Vec<String>,
    /// Read documents from a file with a JSON object a line ({"id", "uri", "data"}, or any record); - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "inputs")]
    pub(crate) ndjson: Option<PathBuf>,
    /// The bucket that the documents belong to
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(crate) bucket: Bucket,
    /// The batch's id: a UUID of your own, so that handing it over twice makes one batch
    #[arg(long, value_name = "UUID")]
    pub(crate) id: Option<BatchId>,
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("work").required(true).args(["exec", "pipeline"]),
    after_help = "Examples:\n  redrive run --exec 'pdftotext {} -' docs/*.pdf\n  find . -name '*.png' | redrive run -j 4 \
    --timeout 30s --exec 'optipng {}'\n  redrive run --exec 'jq .name' --ndjson people.ndjson"
)]
pub(crate) struct RunArgs {
    /// The command to run for each document. It is split into words and never given to a shell. {} stands for the
    /// document, {/} for its file name, {.} for it without extension; without any, the document comes on standard input
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: Option<String>,
    /// Give the command to /bin/sh instead
    #[arg(long, requires = "exec")]
    pub(crate) shell: bool,
    /// A pipeline to run here instead of a command
    #[arg(short = 'f', long = "file", value_name = "PIPELINE")]
    pub(crate) pipeline: Option<PathBuf>,
    /// Documents to work on at once [default: the number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroU32>,
    /// How long one attempt may take
    #[arg(long, default_value = "5m", value_name = "SPAN")]
    pub(crate) timeout: Millis,
    /// Attempts before a document counts as failed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20), value_name = "N")]
    pub(crate) max_attempts: u32,
    /// The largest output that is kept of a document, in bytes
    #[arg(long, default_value_t = 64 * 1024, value_parser = clap::value_parser!(u64).range(0..=524_288), value_name = "BYTES")]
    pub(crate) max_output: u64,
    #[command(flatten)]
    pub(crate) inputs: Inputs,
}

#[derive(Debug, Args)]
pub(crate) struct BatchArg {
    /// The batch: its id, or the word last
    #[arg(default_value = "last")]
    pub(crate) batch: BatchRef,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Documents to work on at once [default: the number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroU32>,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// The pipeline, as TOML or JSON
    #[arg(short = 'f', long = "file", value_name = "PIPELINE")]
    pub(crate) pipeline: PathBuf,
    /// Follow the batch until it is over
    #[arg(short, long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) inputs: Inputs,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Give up after this long
    #[arg(long, value_name = "SPAN")]
    pub(crate) timeout: Option<Millis>,
}

#[derive(Debug, Args)]
pub(crate) struct FailuresArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Only of this tier
    #[arg(long, value_name = "N", value_parser = parse_tier)]
    pub(crate) tier: Option<TierNum>,
    /// Only of this class: transient, permanent or unknown
    #[arg(long)]
    pub(crate) class: Option<FailureClass>,
    /// Only of this kind, for instance timeout
    #[arg(long)]
    pub(crate) kind: Option<FailureKind>,
    /// Print at most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Of this tier [default: the last]
    #[arg(long, value_name = "N", value_parser = parse_tier)]
    pub(crate) tier: Option<TierNum>,
    /// Of this job
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<JobName>,
    /// Print at most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

/// Which failures to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Only failures that pass by themselves
    #[default]
    TransientOnly,
    /// All failures
    All,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Which failures
    #[arg(long, value_enum, default_value_t)]
    pub(crate) mode: Mode,
    /// Only failures of this tier; may be given several times
    #[arg(long, value_name = "N", value_parser = parse_tier)]
    pub(crate) tier: Vec<TierNum>,
    /// Leave out documents that have been retried this often
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=10), value_name = "1..10")]
    pub(crate) max_retry_count: u8,
    /// Attempts in this round [default: as the job says]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3), value_name = "1..3")]
    pub(crate) max_retries: Option<u8>,
    /// Follow the batch until it is over
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Where the batch runs in this terminal: documents to work on at once [default: the number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroU32>,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArg,
    /// Why, for the history
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// The batch: its id, or the word last [default: all of the namespace]
    pub(crate) batch: Option<BatchRef>,
    /// Go on with what happens
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only of this type or its subtypes, for instance documents.failed or tier
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The batch: its id, or the word last [default: all of the namespace]
    pub(crate) batch: Option<BatchRef>,
    /// Stop after this log sequence or point in time
    #[arg(long, value_name = "SEQ|TIME", value_parser = parse_until)]
    pub(crate) until: Option<Until>,
    /// Compare the state with the projector's, field by field
    #[arg(long, conflicts_with = "until")]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BatchesArgs {
    /// Only of this bucket
    #[arg(long, value_name = "NAME")]
    pub(crate) bucket: Option<Bucket>,
    /// Only with this status
    #[arg(long, value_parser = parse_status)]
    pub(crate) status: Option<BatchStatus>,
    /// Print at most so many
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: usize,
}

fn parse_until(text: &str) -> Result<Until, &'static str> {
    let seq = text.parse().map(Until::Seq);
    seq.or_else(|_| text.parse().map(Until::Time))
        .map_err(|_| "give a log sequence such as 120, or a time such as 2026-01-31T12:00:00Z")
}

fn parse_tier(text: &str) -> Result<TierNum, &'static str> {
    text.parse()
        .map_err(|_| "use the tier's number; the first tier is 0")
}

fn parse_status(text: &str) -> Result<BatchStatus, String> {
    serde_json::from_value(text.into()).map_err(|_| {
        "use pending, running, completed, completed_with_failures, failed or cancelled".to_owned()
    })
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The folder whose texts are indexed [default: Redrive's own texts]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// What to ask the index in the end
    #[arg(long, default_value = "retry failed documents")]
    pub(crate) ask: String,
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// The broker's port on 127.0.0.1; 0 for any that is free
    #[arg(long, default_value_t = 4222)]
    pub(crate) port: u16,
    /// Documents to work on at once [default: the number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroU32>,
}

#[derive(Debug, Args)]
pub(crate) struct CoordinatorArgs {
    /// A name that no other coordinator has [default: host and process]
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// A name that no other worker has [default: host and process]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Handlers to serve. exec and stdio run whatever command a pipeline names: serve them only where all who may submit are trusted
    #[arg(long = "handler", value_name = "NAME", default_values = ["exec", "fetch", "http", "stdio"], value_delimiter = ',')]
    pub(crate) handlers: Vec<HandlerName>,
    /// Resource classes to serve
    #[arg(long = "class", value_name = "NAME", default_values = ["cpu"], value_delimiter = ',')]
    pub(crate) classes: Vec<ResourceClass>,
    /// Documents to work on at once [default: the number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroU32>,
    /// How long what runs may go on after SIGTERM
    #[arg(long, default_value = "30s", value_name = "SPAN")]
    pub(crate) drain: Millis,
}

#[derive(Debug, Args)]
pub(crate) struct ProjectorArgs {
    /// Where to keep the read model; a cache that may be deleted at any time [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
}
