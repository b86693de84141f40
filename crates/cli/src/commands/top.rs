//! `top`: a live view in the terminal.

mod draw;
mod look;
mod screen;

use std::io::IsTerminal;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    app::App,
    exit::{Exit, usage},
    signals::Signals,
};

pub(crate) async fn top(app: &App) -> anyhow::Result<Exit> {
    if !std::io::stdout().is_terminal() {
        return Err(usage(
            "top draws on a terminal, and standard output is none: a program asks with `redrive status -o json`, \
             `redrive batches -o json` or `redrive workers -o json`",
        ));
    }
    // Before the screen changes, so that what fails is said where it can be read.
    let mut looker = look::Looker::open(app).await?;
    let mut signals = Signals::new()?;
    let (sender, mut seen) = watch::channel(look::Seen::default());
    let mut screen = screen::Screen::open()?;
    let _looking = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let seen = looker.look().await;
            if sender.send(seen).is_err() {
                return;
            }
        }
    }));
    loop {
        screen.draw(&seen.borrow_and_update())?;
        tokio::select! {
            changed = seen.changed() => if changed.is_err() {
                anyhow::bail!("the looking ended");
            },
            key = screen.key() => match key {
                screen::Key::Quit => return Ok(Exit::Done),
                screen::Key::Redraw => {}
                screen::Key::Gone => anyhow::bail!("the terminal is gone"),
            },
            () = signals.any() => return Ok(Exit::Interrupted),
        }
    }
}
