//! Texts made of what the program knows of itself: its command line, its interfaces.

use anyhow::Context;
use clap::CommandFactory;

use crate::{
    args::{Cli, CompletionsArgs, ManArgs},
    exit::Exit,
    output, say,
};

pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "redrive", &mut script);
    output::write(&String::from_utf8(script)?)?;
    Ok(Exit::Done)
}

pub(crate) fn man(args: &ManArgs) -> anyhow::Result<Exit> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command().disable_help_subcommand(true)).render(&mut page)?;
        output::write(&String::from_utf8(page)?)?;
        return Ok(Exit::Done);
    };
    let written =
        std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    written.with_context(|| format!("cannot write the pages to {}", dir.display()))?;
    say!(
        "The pages are in {}; read one with `man {0}/redrive.1`.",
        dir.display()
    );
    Ok(Exit::Done)
}

pub(crate) fn openapi() -> anyhow::Result<Exit> {
    let document = serde_json::to_string_pretty(&redrive_gateway::document())?;
    output::write(&format!("{document}\n"))?;
    Ok(Exit::Done)
}

pub(crate) fn asyncapi() -> anyhow::Result<Exit> {
    output::write(&redrive_gateway::asyncapi()?)?;
    Ok(Exit::Done)
}
