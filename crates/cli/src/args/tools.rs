//! Everyday tools.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

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
