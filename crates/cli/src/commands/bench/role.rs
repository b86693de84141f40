//! A process of the measured system: the same role as of its own command, with a handler that does nothing.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, sync::Arc};

use redrive_broker::Broker;
use redrive_domain::{
    failure::{Failure, FailureKind},
    ids::HandlerName,
};
use redrive_worker::handler::{Context, Done, Handler, Processing, Unit};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use super::args::{Role, Share};
use crate::{app, exit::usage, identity, settings::Settings};

/// The name of the handler that does nothing.
pub(super) const HANDLER: &str = "noop";
/// Its parameter: of how many in a million the first attempt fails.
pub(super) const FAILING: &str = "failing_per_million";

/// Does nothing, but for those whose first attempt is to fail.
struct Noop(HandlerName);

impl Handler for Noop {
    fn name(&self) -> HandlerName {
        self.0.clone()
    }

    fn process<'a>(&'a self, unit: &'a Unit, ctx: &'a Context) -> Processing<'a> {
        let failing = ctx.params.get(FAILING).and_then(serde_json::Value::as_u64);
        let fails = ctx.attempt == 1 && Share::new(failing.unwrap_or(0)).takes(unit.ordinal);
        Box::pin(std::future::ready(if fails {
            let text = "the first attempt fails, as the benchmark wants it";
            Err(Failure::new(FailureKind::UNAVAILABLE, text))
        } else {
            Ok(Done::Completed(None))
        }))
    }
}

/// Plays a role until the benchmark ends it, or has ended itself: standard input is at its end then.
pub(super) async fn play(
    settings: &Settings,
    role: Role,
    store: Option<PathBuf>,
) -> anyhow::Result<()> {
    let Some(url) = &settings.nats_url else {
        return Err(usage("--role needs --nats-url"));
    };
    let broker = app::connect(settings, url, role.login()).await?;
    let stop = CancellationToken::new();
    let ended = stop.clone();
    tokio::spawn(async move {
        let _ = tokio::io::stdin().read(&mut [0]).await;
        ended.cancel();
    });
    match role {
        Role::Coordinator => {
            let config = redrive_coordinator::Config::new(identity::unique("coordinator"));
            redrive_coordinator::run(broker, config, stop).await?;
        }
        Role::Worker => {
            let config = redrive_worker::Config::new(0, identity::worker()?);
            let handlers: Vec<Arc<dyn Handler>> = vec![Arc::new(Noop(HandlerName::new(HANDLER)?))];
            redrive_worker::run(broker, config, handlers, stop).await?;
        }
        Role::Projector => {
            broker.ensure().await?;
            let config = redrive_projector::Config {
                data_dir: store,
                ..redrive_projector::Config::default()
            };
            redrive_projector::run(broker, config, stop).await?;
        }
        Role::Gateway => {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let mut config = redrive_gateway::Config::open(any, settings.namespace.clone());
            config.rate = NonZeroU32::MAX;
            let gateway = redrive_gateway::bind(broker, config, stop).await?;
            // Whoever reads it reads all of it.
            if let Some(file) = store {
                let draft = file.with_extension("new");
                std::fs::write(&draft, gateway.url())?;
                std::fs::rename(&draft, &file)?;
            }
            gateway.run().await;
        }
    }
    Ok(())
}
