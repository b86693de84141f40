//! Work in this terminal: `run`, `resume`, and a retry of what ran here; and work for others: `submit`.

use std::{
    collections::BTreeSet,
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
};

use anyhow::Context;
use redrive_broker::{Broker, BrokerError};
use redrive_client::Upload;
use redrive_domain::{
    command::{Cancel, Command, Create, Start},
    ids::{BatchId, Bucket, HandlerName, ResourceClass},
    pause::PauseReason,
    pipeline::Pipeline,
    query::{BatchRef, BatchView},
    time::Millis,
};
use redrive_worker::handlers;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{credits, outages};
use crate::{
    app::App,
    args::{Format, RunArgs, SubmitArgs},
    exit::{Exit, usage},
    identity, inputs,
    inputs::Paths,
    output,
    progress::{Followed, follow, summary},
    say, signals,
};

/// The prefix of classes whose jobs run in the terminal of whoever runs the batch.
pub(crate) const HERE: &str = ResourceClass::OF_ONE_TERMINAL;

/// Runs a batch here.
pub(crate) async fn run(app: &App, args: RunArgs) -> anyhow::Result<Exit> {
    let batch = args.inputs.id.unwrap_or_else(identity::batch);
    let class = ResourceClass::new(format!("{HERE}{}", batch.0.simple()))?;
    let (pipeline, paths) = match (&args.exec, &args.pipeline) {
        (Some(command), _) => (command_pipeline(&args, command, &class)?, Paths::AsGiven),
        (None, Some(file)) => (in_class(read_pipeline(file)?, &class), Paths::Absolute),
        (None, None) => {
            return Err(usage(
                "what is to be run? Give --exec COMMAND or -f PIPELINE",
            ));
        }
    };
    inputs::check(&args.inputs)?;
    let start = if inputs::from_stdin(&args.inputs) {
        Start::AtOnce
    } else {
        Start::OnSubmit
    };
    let stop = signals::shutdown()?;
    let served = handlers_of(&pipeline);
    may_work(app, &class).await?;
    create(app, &args.inputs.bucket, batch, pipeline, start).await?;
    let here = Here::start(app, vec![class], &served, args.jobs)?;
    let mut upload = Upload::new(
        &app.client,
        args.inputs.bucket.clone(),
        batch,
        identity::command,
    );
    let handed = tokio::select! {
        handed = inputs::hand_over(&args.inputs, paths, &mut upload) => handed,
        () = stop.cancelled() => {
            upload.flush().await?;
            return interrupted(app, here, batch).await;
        }
    };
    if let Err(error) = handed {
        here.stop().await;
        match (start, args.inputs.id) {
            (Start::AtOnce, _) => {
                let resume = app.hint(&format!("resume {batch}"));
                let more = |error: &_| credits::say_how_to_go_on(error, &resume);
                upload.flush().await.inspect_err(more)?;
                say!(
                    "Not all documents could be read. To go on with those before: {}",
                    app.hint(&format!("resume {batch}"))
                );
            }
            (Start::OnSubmit, None) => give_up(app, &args.inputs.bucket, batch, &error).await,
            (Start::OnSubmit, Some(_)) => {}
        }
        return Err(error);
    }
    let resume = app.hint(&format!("resume {batch}"));
    let later = |error: &_| credits::say_how_to_go_on(error, &resume);
    let accepted = upload.finish().await.inspect_err(later)?;
    finish_here(app, here, batch, accepted.seq, &stop).await
}

/// Works on a batch in this terminal until it is over.
pub(crate) async fn work_here(
    app: &App,
    view: &BatchView,
    seq: u64,
    jobs: Option<NonZeroU32>,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let jobs_of = view.tiers.iter().flat_map(|tier| &tier.jobs);
    let served = jobs_of.map(|job| job.handler.to_string()).collect();
    let classes = classes(view);
    if let Some(class) = classes.first() {
        may_work(app, class).await?;
    }
    let here = Here::start(app, classes, &served, jobs)?;
    finish_here(app, here, view.summary.batch, seq, stop).await
}

/// Whether a batch is run by whoever is at the terminal.
pub(crate) fn runs_here(view: &BatchView) -> bool {
    classes(view)
        .iter()
        .any(|class| class.as_str().starts_with(HERE))
}

/// The handlers that a pipeline asks for.
fn handlers_of(pipeline: &Value) -> BTreeSet<String> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned();
    let tiers = list(pipeline, "tiers").into_iter().flatten();
    let jobs = tiers.filter_map(|tier| list(&tier, "jobs")).flatten();
    jobs.filter_map(|job| Some(job.get("handler")?.as_str()?.to_owned()))
        .collect()
}

fn classes(view: &BatchView) -> Vec<ResourceClass> {
    let jobs = view.tiers.iter().flat_map(|tier| &tier.jobs);
    let classes: BTreeSet<_> = jobs.map(|job| job.class.clone()).collect();
    classes.into_iter().collect()
}

async fn finish_here(
    app: &App,
    here: Here,
    batch: BatchId,
    seq: u64,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let followed = follow(app, BatchRef::Id(batch), Some(seq), None, stop).await;
    match followed {
        Ok(Followed::Over(view)) => {
            here.stop().await;
            Ok(ended(app, &view))
        }
        Ok(Followed::Paused(view)) => {
            here.stop().await;
            Ok(paused(app, &view))
        }
        Ok(_) => interrupted(app, here, batch).await,
        Err(error) => {
            here.stop().await;
            Err(error)
        }
    }
}

/// Says how a batch ended, and what to do next.
pub(crate) fn ended(app: &App, view: &BatchView) -> Exit {
    say!("{}", summary(view));
    outages::tell(app, view);
    let exit = Exit::of_batch(view.summary.status);
    if exit == Exit::Failures {
        say!("  what failed, and why:   {}", app.hint("failures last"));
        say!("  execute it once more:   {}", app.hint("retry last"));
    }
    if view.summary.counts.completed > 0 {
        say!("  what came of the rest:  {}", app.hint("results last"));
    }
    exit
}

/// Says what holds a batch up, and what to do about it.
pub(crate) fn paused(app: &App, view: &BatchView) -> Exit {
    let batch = view.summary.batch;
    let mut misconfigured = false;
    for (tier, job, paused) in view.paused() {
        let (job, open) = (&job.job, output::counted(job.open, "document"));
        misconfigured |= matches!(paused.reason, PauseReason::Misconfigured(_));
        say!(
            "Paused: {job} in tier {tier} with {open} left ({})",
            paused.reason
        );
    }
    if misconfigured {
        let failed = app.hint(&format!("retry {batch} --kind misconfigured"));
        say!("  put it right, then execute again what failed of it, and the rest:  {failed}");
    }
    say!(
        "  go on with the rest alone:  {}",
        app.hint(&format!("resume {batch}"))
    );
    Exit::Paused
}

async fn interrupted(app: &App, here: Here, batch: BatchId) -> anyhow::Result<Exit> {
    here.stop().await;
    say!(
        "Interrupted. Nothing is lost; go on with: {}",
        app.hint(&format!("resume {batch}"))
    );
    Ok(Exit::Interrupted)
}

/// Whether this user may take work at all: a worker would wait for ever until it may. All else passes or is told later.
async fn may_work(app: &App, class: &ResourceClass) -> anyhow::Result<()> {
    let handler = HandlerName::new("exec")?;
    match app.client.broker().take(&handler, class).await {
        Err(error @ BrokerError::Denied(_)) => Err(error).context(
            "this works in your terminal, which takes the rights of a worker as well; `redrive submit` leaves it to the \
             system's workers",
        ),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A worker in this process.
struct Here {
    stop: CancellationToken,
    worker: JoinHandle<()>,
}

impl Here {
    fn start(
        app: &App,
        classes: Vec<ResourceClass>,
        served: &BTreeSet<String>,
        jobs: Option<NonZeroU32>,
    ) -> anyhow::Result<Self> {
        let mut config = redrive_worker::Config::new(0, identity::worker()?);
        config.classes = classes;
        config.host = identity::host();
        config.drain_grace = std::time::Duration::from_secs(3);
        if let Some(jobs) = jobs {
            config.slots = jobs;
        }
        let stop = CancellationToken::new();
        let (broker, token) = (app.client.broker().clone(), stop.clone());
        let mut handlers = handlers::builtin()?;
        // Those that the batch does not ask for would only take turns at the slots. Where it asks for none of them, the
        // worker still has to be there to be told of the end.
        if handlers
            .iter()
            .any(|handler| served.contains(handler.name().as_str()))
        {
            handlers.retain(|handler| served.contains(handler.name().as_str()));
        }
        let worker = tokio::spawn(async move {
            if let Err(error) = redrive_worker::run(broker, config, handlers, token).await {
                tracing::error!(%error, "the worker ended");
            }
        });
        Ok(Self { stop, worker })
    }

    async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.worker.await {
            tracing::warn!(%error, "the worker broke");
        }
    }
}

pub(crate) fn read_pipeline(file: &Path) -> anyhow::Result<Value> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| usage(format!("cannot read {name}: {error}")))?;
    let is_json = file
        .extension()
        .is_some_and(|ext| ext.eq_ignore_ascii_case("json"));
    let value: Value = if is_json {
        serde_json::from_str(&text).map_err(|error| usage(format!("{name}: {error}")))?
    } else {
        toml::from_str(&text).map_err(|error| usage(format!("{name}: {error}")))?
    };
    // Told here, before anything is handed over, with the file's name.
    Pipeline::from_value(&value).map_err(|error| usage(format!("{name}: {error}")))?;
    Ok(value)
}

fn in_class(mut pipeline: Value, class: &ResourceClass) -> Value {
    let tiers = pipeline.get_mut("tiers").and_then(Value::as_array_mut);
    for tier in tiers.into_iter().flatten() {
        let jobs = tier.get_mut("jobs").and_then(Value::as_array_mut);
        for job in jobs.into_iter().flatten() {
            if let Some(job) = job.as_object_mut() {
                job.insert("class".to_owned(), class.as_str().into());
            }
        }
    }
    pipeline
}

fn command_pipeline(args: &RunArgs, command: &str, class: &ResourceClass) -> anyhow::Result<Value> {
    let cwd = std::env::current_dir()?;
    let mut params = json!({ "command": command, "cwd": cwd.to_string_lossy() });
    if args.shell {
        params["shell"] = true.into();
    } else {
        let words = shell_words::split(command)
            .map_err(|_| usage("--exec: a quote in the command is not closed"))?;
        if words.first().is_none_or(String::is_empty) {
            return Err(usage("--exec: there is no command in it"));
        }
    }
    Ok(json!({
        "name": output::brief(command, 60),
        "tiers": [{
            "name": "run",
            "jobs": [{
                "name": "exec",
                "handler": "exec",
                "class": class,
                "num_cpus": cpus_each(args.jobs),
                "params": params,
                "timeout": span(args.timeout),
                "max_attempts": args.max_attempts,
                "max_output_bytes": args.max_output,
            }],
        }],
    }))
}

/// The CPUs of this machine, shared by what runs at once: a program with threads has those that nobody else would use.
fn cpus_each(jobs: Option<NonZeroU32>) -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let jobs = jobs.and_then(|jobs| usize::try_from(jobs.get()).ok());
    (cpus / jobs.unwrap_or(cpus)).clamp(1, 1_024)
}

fn span(span: Millis) -> String {
    format!("{}ms", span.0)
}

async fn create(
    app: &App,
    bucket: &Bucket,
    batch: BatchId,
    pipeline: Value,
    start: Start,
) -> anyhow::Result<()> {
    let create = Command::Create(Create { pipeline, start });
    app.client
        .command(bucket, batch, identity::command(), &create)
        .await?;
    Ok(())
}

/// Cancels a batch whose documents could not all be read, as nobody is going to complete it. Best effort: it is the
/// reading that went wrong that is to be told.
async fn give_up(app: &App, bucket: &Bucket, batch: BatchId, error: &anyhow::Error) {
    let command = Command::Cancel(Cancel {
        reason: Some(format!("its documents could not be handed over: {error:#}")),
        ..Cancel::default()
    });
    let told = app
        .client
        .command(bucket, batch, identity::command(), &command);
    match told.await {
        Ok(_) => say!("The batch {batch} is given up:"),
        Err(error) => tracing::debug!(%error, "the batch cannot be cancelled"),
    }
}

/// Hands a batch to the workers of a system.
pub(crate) async fn submit(app: &App, args: SubmitArgs) -> anyhow::Result<Exit> {
    let pipeline = read_pipeline(&args.pipeline)?;
    inputs::check(&args.inputs)?;
    let batch = args.inputs.id.unwrap_or_else(identity::batch);
    let stop = signals::shutdown()?;
    create(app, &args.inputs.bucket, batch, pipeline, Start::OnSubmit).await?;
    let mut upload = Upload::new(
        &app.client,
        args.inputs.bucket.clone(),
        batch,
        identity::command,
    );
    tokio::select! {
        handed = inputs::hand_over(&args.inputs, Paths::Absolute, &mut upload) => {
            if let (Err(error), None) = (&handed, args.inputs.id) {
                give_up(app, &args.inputs.bucket, batch, error).await;
            }
            handed?;
        }
        () = stop.cancelled() => {
            say!("Interrupted before the batch had all its documents: nothing of it starts. Hand it over again with --id {batch}");
            return Ok(Exit::Interrupted);
        }
    }
    let again = format!("the same command with --id {batch}");
    let later = |error: &_| credits::say_how_to_go_on(error, &again);
    let accepted = upload.finish().await.inspect_err(later)?;
    match app.output {
        Format::Table => output::line(&batch.to_string())?,
        _ => output::line(&serde_json::to_string(&accepted)?)?,
    }
    if args.watch {
        return watch(app, BatchRef::Id(batch), Some(accepted.seq), None, &stop).await;
    }
    Ok(Exit::Done)
}

/// Follows a batch until it is over.
pub(crate) async fn watch(
    app: &App,
    batch: BatchRef,
    min_seq: Option<u64>,
    limit: Option<Millis>,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    match follow(app, batch, min_seq, limit, stop).await? {
        Followed::Over(view) => Ok(ended(app, &view)),
        Followed::Paused(view) => Ok(paused(app, &view)),
        Followed::Interrupted => {
            say!("No longer watching; the batch goes on.");
            Ok(Exit::Interrupted)
        }
        Followed::TimedOut => {
            say!("The batch is not over yet; it goes on.");
            Ok(Exit::TimedOut)
        }
    }
}
