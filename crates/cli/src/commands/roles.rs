//! The roles: `dev`, `coordinator`, `worker`, `projector`, `gateway`.

use std::{net::SocketAddr, sync::Arc};

use redrive_domain::{ids::WorkerId, time::Millis};
use redrive_gateway::ServeError;
use redrive_worker::{handler::Handler, handlers};

use crate::{
    app,
    args::{CoordinatorArgs, DevArgs, GatewayArgs, HttpArg, ProjectorArgs, WorkerArgs},
    exit::{Exit, usage},
    gateway, http, identity,
    login::Role,
    say,
    settings::Settings,
    signals,
    system::{Folder, Life, System},
    vigil::Vigil,
};

/// The broker of a role that runs by itself.
const USUAL_URL: &str = "nats://127.0.0.1:4222";

fn url(settings: &Settings) -> &str {
    settings.nats_url.as_deref().unwrap_or(USUAL_URL)
}

async fn serve_http(
    settings: &Settings,
    given: HttpArg,
    vigil: &Vigil,
) -> anyhow::Result<Option<http::Served>> {
    http::serve(given.http.or(settings.http), vigil).await
}

pub(crate) async fn dev(settings: &Settings, args: DevArgs) -> anyhow::Result<Exit> {
    let stop = signals::shutdown()?;
    let folder = Folder::new(&settings.data)?;
    let data = folder.path().display().to_string();
    let vigil = Vigil::default();
    let _http = serve_http(settings, args.http, &vigil).await?;
    let port = (args.port > 0).then_some(args.port);
    let mut system = System::start(folder, port, Life::Own, vigil).await?;
    let mut config = redrive_worker::Config::new(0, identity::worker()?);
    config.host = identity::host();
    if let Some(jobs) = args.jobs {
        config.slots = jobs;
    }
    system.start_worker(config, handlers::builtin()?);
    let http = start_gateway(&mut system, settings, args.listen).await?;
    say!("Redrive runs: broker, coordinator, projector, a worker and a gateway.");
    say!("  broker   {}", system.url());
    say!(
        "  http     {http}  (only from this machine, and without keys; {http}/docs tells what there is)"
    );
    say!("  data     {data}");
    say!(
        "Try, in another terminal:  redrive submit --nats-url {} -f PIPELINE.toml INPUT…  --watch",
        system.url()
    );
    say!("Ctrl-C ends it; what it knows stays.");
    let result = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(Exit::Done),
            error = system.failed() => break Err(error),
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {
                if !system.is_running() {
                    break Err(anyhow::anyhow!("the broker has ended: see {data}/nats"));
                }
            }
        }
    };
    say!("Ending…");
    system.stop().await?;
    result
}

/// Starts a gateway where it is wanted; where nobody said, at the usual address, or where there is room.
async fn start_gateway(
    system: &mut System,
    settings: &Settings,
    listen: Option<SocketAddr>,
) -> anyhow::Result<String> {
    let wanted = listen.or(settings.gateway.listen);
    let config = gateway::open(settings, wanted.unwrap_or(gateway::USUAL))?;
    match system.start_gateway(config).await {
        Err(ServeError::Bind { .. }) if wanted.is_none() => {
            let any = SocketAddr::new(gateway::USUAL.ip(), 0);
            Ok(system.start_gateway(gateway::open(settings, any)?).await?)
        }
        started => Ok(started?),
    }
}

pub(crate) async fn coordinator(
    settings: &Settings,
    args: CoordinatorArgs,
) -> anyhow::Result<Exit> {
    if args.worker_timeout < Millis::seconds(2) {
        return Err(usage(format!(
            "--worker-timeout {}: workers say each second that they are there; give them at least 2s",
            args.worker_timeout
        )));
    }
    let stop = signals::shutdown()?;
    let vigil = Vigil::default();
    let _http = serve_http(settings, args.http, &vigil).await?;
    let broker = app::connect(settings, url(settings), Role::Coordinator).await?;
    let name = args.name.unwrap_or_else(|| identity::unique("coordinator"));
    tracing::info!(name, "coordinator");
    let mut config = redrive_coordinator::Config::new(name);
    config.worker_timeout = args.worker_timeout.into();
    config.heal_every = args.heal_every.unwrap_or(settings.heal_every).into();
    vigil.coordinator(&broker, &config);
    redrive_coordinator::run(broker, config, stop).await?;
    Ok(Exit::Done)
}

pub(crate) async fn worker(settings: &Settings, args: WorkerArgs) -> anyhow::Result<Exit> {
    let stop = signals::shutdown()?;
    let shipped = handlers::builtin()?;
    let mut served: Vec<Arc<dyn Handler>> = Vec::new();
    for wanted in &args.handlers {
        let found = shipped.iter().find(|handler| handler.name() == *wanted);
        served.push(Arc::clone(found.ok_or_else(|| {
            let known: Vec<String> = shipped
                .iter()
                .map(|handler| handler.name().to_string())
                .collect();
            usage(format!(
                "--handler {wanted}: there is no such handler here; there are {}",
                known.join(", ")
            ))
        })?));
    }
    let vigil = Vigil::default();
    let _http = serve_http(settings, args.http, &vigil).await?;
    let broker = app::connect(settings, url(settings), Role::Worker).await?;
    let id = match args.name {
        Some(name) => WorkerId::new(name)?,
        None => identity::worker()?,
    };
    tracing::info!(worker = %id, "worker");
    let mut config = redrive_worker::Config::new(0, id);
    config.host = identity::host();
    config.classes = args.classes;
    config.drain_grace = args.drain.into();
    if let Some(jobs) = args.jobs {
        config.slots = jobs;
    }
    vigil.worker(&broker, &config, &stop);
    redrive_worker::run(broker, config, served, stop).await?;
    Ok(Exit::Done)
}

pub(crate) async fn projector(settings: &Settings, args: ProjectorArgs) -> anyhow::Result<Exit> {
    let stop = signals::shutdown()?;
    let vigil = Vigil::default();
    let _http = serve_http(settings, args.http, &vigil).await?;
    let broker = app::connect(settings, url(settings), Role::Projector).await?;
    tracing::info!(store = ?args.store, "projector");
    let config = redrive_projector::Config {
        data_dir: args.store,
        ..redrive_projector::Config::default()
    };
    vigil.projector(&broker, &config);
    redrive_projector::run(broker, config, stop).await?;
    Ok(Exit::Done)
}

pub(crate) async fn gateway(settings: &Settings, args: GatewayArgs) -> anyhow::Result<Exit> {
    let stop = signals::shutdown()?;
    let config = gateway::configured(settings, &args)?;
    let vigil = Vigil::default();
    let _http = serve_http(settings, args.http, &vigil).await?;
    let broker = app::connect(settings, url(settings), Role::Gateway).await?;
    let vitals = config.vitals.clone();
    let bound = redrive_gateway::bind(broker.clone(), config, stop).await?;
    tracing::info!(url = bound.url(), "gateway");
    vigil.gateway(&broker, &vitals, bound.url());
    bound.run().await;
    Ok(Exit::Done)
}
