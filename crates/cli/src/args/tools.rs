//! Everyday tools.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;
use redrive_domain::time::Millis;

#[derive(Debug, Clone, Copy, Args)]
#[command(after_help = "Exit codes: 0 where nothing is a problem, 1 where something is.")]
pub(crate) struct DoctorArgs {
    /// Make streams that are missing, and put settings right that were changed at the broker
    #[arg(long)]
    pub(crate) repair: bool,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WorkersArgs {
    /// How long to listen; each worker says every second that it is there
    #[arg(long, default_value = "2500ms", value_name = "SPAN")]
    pub(crate) wait: Millis,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Print the settings that hold; passwords are masked
    Show(ConfigShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigShowArgs {
    /// Say of each where it was made: a flag, a variable, a file, or the default
    #[arg(long)]
    pub(crate) origin: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  redrive completions bash > ~/.local/share/bash-completion/completions/redrive\n  \
    redrive completions zsh > ~/.zfunc/_redrive\n  redrive completions fish > ~/.config/fish/completions/redrive.fish"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write a page for each command into this folder, instead of printing the first one
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
