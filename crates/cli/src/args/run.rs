//! Commands that make batches and follow them.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use redrive_domain::{
    ids::{BatchId, Bucket},
    time::Millis,
};

use super::BatchArg;

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
