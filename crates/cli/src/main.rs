//! The `redrive` command: see what failed in a batch, where and why, and redrive only that.

mod app;
mod args;
mod commands;
mod embedded;
mod exit;
mod gateway;
mod http;
mod identity;
mod inputs;
mod login;
mod output;
mod progress;
mod roll;
mod settings;
mod signals;
mod system;
mod vigil;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::{
    app::App,
    args::{Cli, Command},
    commands::{
        archive, bench, cancel, config, control, credits, demo, diagnose, doctor, documents,
        generate, heal, history, keys, look, roles, run, time, top, workers,
    },
    exit::Exit,
    settings::Settings,
    system::Folder,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            say!("redrive: cannot start: {error}");
            return Exit::Error.into();
        }
    };
    let ended = runtime.block_on(carry_out(cli));
    // What still reads standard input cannot be waited for.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            say!("redrive: {error:#}");
            Exit::of(&error).into()
        }
    }
}

/// Roles log what they do; other commands only what is wrong. `REDRIVE_LOG` and `-v` say otherwise.
fn start_log(cli: &Cli) {
    let is_role = matches!(
        cli.command,
        Command::Dev(_)
            | Command::Coordinator(_)
            | Command::Worker(_)
            | Command::Projector(_)
            | Command::Gateway(_)
            | Command::Embedded
    );
    let usual = match (cli.global.verbose, is_role) {
        (0, false) => "error",
        (0, true) => {
            "warn,redrive=info,redrive_coordinator=info,redrive_worker=info,redrive_projector=info,redrive_gateway=info"
        }
        (1, _) => "info",
        (_, _) => "debug",
    };
    let filter = EnvFilter::try_from_env("REDRIVE_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let color = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(color)
        .with_writer(std::io::stderr)
        .init();
}

async fn carry_out(cli: Cli) -> anyhow::Result<Exit> {
    // These help where the settings are what is wrong.
    match &cli.command {
        Command::Completions(args) => return generate::completions(args),
        Command::Man(args) => return generate::man(args),
        Command::Openapi => return generate::openapi(),
        Command::Asyncapi => return generate::asyncapi(),
        _ => {}
    }
    let settings = settings::read(&cli.global)?;
    match cli.command {
        Command::Config(action) => config::config(&cli.global, settings.output, &action),
        Command::Demo(args) => demo::demo(&settings, args, cli.global.data.is_some()).await,
        Command::Doctor(args) => doctor::doctor(&settings, &cli.global, args).await,
        Command::Dev(args) => roles::dev(&settings, args).await,
        Command::Coordinator(args) => roles::coordinator(&settings, args).await,
        Command::Worker(args) => roles::worker(&settings, args).await,
        Command::Projector(args) => roles::projector(&settings, args).await,
        Command::Gateway(args) => roles::gateway(&settings, args).await,
        Command::Bench(args) => bench::bench(&settings, &cli.global, args).await,
        Command::Replay(args) if args.file().is_some() => {
            archive::replay(settings.output, args).await
        }
        Command::Embedded => {
            embedded::serve(Folder::new(&settings.data)?).await?;
            Ok(Exit::Done)
        }
        command => use_system(&settings, &cli.global, command).await,
    }
}

async fn use_system(
    settings: &Settings,
    given: &args::Global,
    command: Command,
) -> anyhow::Result<Exit> {
    let app = App::open(settings, given).await?;
    match command {
        Command::Run(args) => run::run(&app, args).await,
        Command::Submit(args) => run::submit(&app, args).await,
        Command::Watch(args) => {
            let stop = signals::shutdown()?;
            run::watch(&app, args.batch.batch, None, args.timeout, &stop).await
        }
        Command::Status(args) => look::status(&app, args).await,
        Command::Diagnose(args) => diagnose::diagnose(&app, args).await,
        Command::Documents(args) => documents::documents(&app, args).await,
        Command::Failures(args) => look::failures(&app, args).await,
        Command::Results(args) => look::results(&app, args).await,
        Command::Batches(args) => look::batches(&app, args).await,
        Command::Credits(args) => credits::credits(&app, args).await,
        Command::Keys(action) => keys::keys(&app, action).await,
        Command::Retry(args) => control::retry(&app, args).await,
        Command::Cancel(args) => cancel::cancel(&app, args).await,
        Command::Heal(args) => heal::heal(&app, args).await,
        Command::Pause(args) => control::pause(&app, args).await,
        Command::Resume(args) => control::resume(&app, args).await,
        Command::Top => top::top(&app).await,
        Command::Workers(args) => workers::workers(&app, args).await,
        Command::Events(args) => history::events(&app, args).await,
        Command::Replay(args) => history::replay(&app, args).await,
        Command::Diff(args) => time::diff(&app, args).await,
        Command::Timeline(args) => time::timeline(&app, args).await,
        Command::Export(args) => archive::export(&app, args).await,
        // These have been dealt with.
        Command::Demo(_)
        | Command::Bench(_)
        | Command::Dev(_)
        | Command::Coordinator(_)
        | Command::Worker(_)
        | Command::Projector(_)
        | Command::Gateway(_)
        | Command::Doctor(_)
        | Command::Config(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Openapi
        | Command::Asyncapi
        | Command::Embedded => Ok(Exit::Done),
    }
}
