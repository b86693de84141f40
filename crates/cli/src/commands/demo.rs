//! The demo.
use crate::{args::DemoArgs, exit::Exit, settings::Settings};

pub(crate) async fn demo(_: &Settings, _: DemoArgs) -> anyhow::Result<Exit> {
    Ok(Exit::Done)
}
