//! `redrive bench`: how fast the whole system is on this machine, beside what its broker does by itself.

mod args;
mod figures;
mod load;
mod reads;
mod role;
mod system;

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use redrive_broker::{Broker, Range, Until, fold, nats::NatsBroker};
use redrive_client::Client;
use redrive_domain::{
    event::{Envelope, Event},
    ids::Namespace,
    query::{BatchRef, OfBatch},
    subject,
};

pub(crate) use args::BenchArgs;

use self::{
    args::{Role, Shape},
    figures::{Counts, Earlier, Figure, Measured, Report, quantile, spread},
    load::Load,
    system::{System, Used},
};
use crate::{
    args::{Format, Global},
    exit::{Exit, usage},
    identity, output, say,
    settings::Settings,
    signals,
};

/// Messages on which the broker's own rates are taken, at least and at most; their size in bytes.
const RAW_MESSAGES: (u32, u32) = (1_000, 200_000);
const RAW_BYTES: usize = 128;

/// Measures, or is a part of what is measured.
pub(crate) async fn bench(
    settings: &Settings,
    given: &Global,
    args: BenchArgs,
) -> anyhow::Result<Exit> {
    if let Some(role) = args.role {
        role::play(settings, role, args.store).await?;
        return Ok(Exit::Done);
    }
    if args.shape.batches > args.shape.documents {
        return Err(usage(format!(
            "--batches {}: there are only {} documents to spread over them; give more --documents",
            args.shape.batches, args.shape.documents
        )));
    }
    let earlier = args.compare.as_deref().map(read_earlier).transpose()?;
    if cfg!(debug_assertions) {
        say!("This is a debug build: what it measures tells nothing about a release.");
    }
    let stop = signals::shutdown()?;
    let measured = tokio::select! {
        measured = measure(settings, given.nats_url.as_deref(), &args) => measured?,
        () = stop.cancelled() => {
            say!("Interrupted; what was started is ended.");
            return Ok(Exit::Interrupted);
        }
    };
    let mut report = measured;
    if let Some(earlier) = earlier
        && !report.compare(&earlier)
    {
        say!("The earlier report measured something else: see its options.");
    }
    match settings.output {
        Format::Table => output::line(&report.table())?,
        Format::Json => output::line(&serde_json::to_string_pretty(&report)?)?,
        Format::Jsonl => output::line(&serde_json::to_string(&report)?)?,
    }
    Ok(Exit::Done)
}

fn read_earlier(file: &std::path::Path) -> anyhow::Result<Earlier> {
    let name = file.display();
    let text =
        std::fs::read(file).map_err(|error| usage(format!("cannot read {name}: {error}")))?;
    serde_json::from_slice(&text)
        .map_err(|error| usage(format!("{name} is no report of `bench -o json`: {error}")))
}

async fn measure(
    settings: &Settings,
    url: Option<&str>,
    args: &BenchArgs,
) -> anyhow::Result<Report> {
    let shape = &args.shape;
    let mut runs = Vec::new();
    let mut broker = String::new();
    for run in 1..=args.runs {
        let mut system = System::start(settings, url).await?;
        if run == 1 {
            system.must_be_empty().await?;
        }
        broker = system.broker.info().version;
        let note = |what: &str| say!("run {run} of {}: {what}", args.runs);
        let mut measured = Measured::new();
        raw(&system.broker, shape, &note, &mut measured).await?;
        system.start_roles(&Role::ALWAYS)?;
        if shape.reads > 0 {
            system.start_roles(&[Role::Gateway])?;
        }
        // The borrow of what is run ends before the roles are stopped.
        run_once(&mut system, args, &note, &mut measured).await?;
        let store = system.stop().await?;
        measured.insert(Figure::StoreBytes, number(store));
        runs.push(measured);
    }
    Ok(Report {
        redrive: env!("CARGO_PKG_VERSION").to_owned(),
        broker,
        release: !cfg!(debug_assertions),
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        runs: args.runs,
        options: shape.clone(),
        counts: Counts {
            documents: shape.documents.into(),
            units: shape.units(),
            failed: shape.failing(),
            latency_samples: args.latency_samples.into(),
        },
        figures: spread(&runs),
        compared: None,
    })
}

async fn raw(
    broker: &NatsBroker,
    shape: &Shape,
    note: &impl Fn(&str),
    measured: &mut Measured,
) -> anyhow::Result<()> {
    note("what the broker does by itself");
    let messages = shape.documents.clamp(RAW_MESSAGES.0, RAW_MESSAGES.1);
    let rates = broker
        .raw_rates(usize::try_from(messages)?, RAW_BYTES)
        .await
        .context("cannot measure the broker by itself")?;
    measured.insert(Figure::RawPublishPerS, rates.publish);
    measured.insert(Figure::RawReadPerS, rates.read);
    Ok(())
}

async fn run_once(
    system: &mut System,
    args: &BenchArgs,
    note: &impl Fn(&str),
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let broker = system.broker.clone();
    let namespace = Namespace::new(format!("bench-{}", identity::uuid().simple()))?;
    let client = Client::new(broker.clone(), namespace, None);
    let mut load = Load::begin(client.clone()).await?;
    // Until this is over, roles may still be starting.
    alive(system, load.one()).await?;

    note("documents");
    let before = (broker.log_usage().await?, Cpu::now(system));
    let phases = match args.shape.reads {
        0 => alive(system, load.carry_out(&args.shape)).await?,
        rate => {
            let url = system.gateway().await?;
            let work = load.carry_out(&args.shape);
            let reading = reads::during(&url, client.namespace(), rate, work);
            let (phases, samples) = alive(system, reading).await?;
            measured.insert(Figure::Reads, number(samples.len() as u64));
            measured.extend(quantile(&samples, 0.5).map(|it| (Figure::ReadP50Ms, it)));
            measured.extend(quantile(&samples, 0.99).map(|it| (Figure::ReadP99Ms, it)));
            phases
        }
    };
    let ended = Instant::now();
    before.1.until(&Cpu::now(system), measured);
    alive(system, caught_up(&client)).await?;
    measured.insert(Figure::ProjectorBehindMs, millis(ended.elapsed()));
    let after = broker.log_usage().await?;
    let documents = f64::from(args.shape.documents);
    let events = number(after.messages - before.0.messages);
    let bytes = number(after.bytes - before.0.bytes);
    let seconds = phases.retried.as_secs_f64();
    measured.insert(Figure::DocumentsPerS, documents / seconds);
    if let Some(raw) = measured.get(&Figure::RawPublishPerS) {
        measured.insert(Figure::DocumentsToRawPublish, documents / seconds / raw);
    }
    measured.insert(Figure::HandoverS, phases.handed_over.as_secs_f64());
    measured.insert(Figure::OverS, phases.over.as_secs_f64());
    measured.insert(Figure::RetriedS, seconds);
    measured.insert(Figure::EventsPerS, events / seconds);
    measured.insert(Figure::LogBytesPerDocument, bytes / documents);
    measured.insert(Figure::LogBytesPerEvent, bytes / events);

    note("replay");
    replay(&broker, client.namespace(), measured).await?;

    if args.latency_samples > 0 {
        note("single documents");
        let mut samples = Vec::new();
        for _ in 0..args.latency_samples {
            samples.push(millis(alive(system, load.one()).await?));
        }
        samples.sort_unstable_by(f64::total_cmp);
        measured.extend(quantile(&samples, 0.5).map(|it| (Figure::LatencyP50Ms, it)));
        measured.extend(quantile(&samples, 0.99).map(|it| (Figure::LatencyP99Ms, it)));
    }
    for (figure, used) in [
        (
            Figure::PeakBytesCoordinator,
            system.used_by(Role::Coordinator),
        ),
        (Figure::PeakBytesWorker, system.used_by(Role::Worker)),
        (Figure::PeakBytesProjector, system.used_by(Role::Projector)),
        (Figure::PeakBytesBroker, system.used_by_broker()),
        (Figure::PeakBytesClient, System::used_by_client()),
    ] {
        measured.extend(used.peak.map(|bytes| (figure, number(bytes))));
    }
    Ok(())
}

/// Does something for as long as all roles are there.
async fn alive<T>(
    system: &mut System,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        error = system.failed() => Err(error),
    }
}

/// Waits until the projector answers with all that stands in the log.
async fn caught_up(client: &Client<NatsBroker>) -> anyhow::Result<()> {
    let query = OfBatch {
        batch: BatchRef::Last,
        min_seq: None,
        at: None,
    };
    client.status(&query).await?;
    Ok(())
}

async fn replay(
    broker: &NatsBroker,
    namespace: &Namespace,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let filter = subject::events_of_namespace(0, namespace);
    let transitions = transitions(broker, filter.clone()).await?;
    let began = Instant::now();
    let folded = fold(broker, Some(filter), Until::End).await?;
    let seconds = began.elapsed().as_secs_f64();
    measured.insert(Figure::ReplayEventsPerS, number(folded.events) / seconds);
    measured.insert(Figure::ReplayTransitionsPerS, number(transitions) / seconds);
    Ok(())
}

/// How often a unit succeeded, failed, or was chosen for a retry.
async fn transitions(broker: &NatsBroker, filter: String) -> anyhow::Result<u64> {
    let mut entries = broker.read(Range {
        from: 1,
        until: Some(broker.last_seq().await?),
        filter: Some(filter),
    });
    let mut count = 0;
    while let Some(entry) = entries.next().await {
        count += match Envelope::decode(&entry?.payload)?.event {
            Event::DocumentsCompleted { units, skipped, .. } => units.len() + skipped.len(),
            Event::AttemptFailed { units, .. } | Event::DocumentsFailed { units, .. } => {
                units.iter().map(|it| it.units.len()).sum()
            }
            Event::RetryScheduled { selected, .. } => {
                selected.iter().map(|it| it.units.len()).sum()
            }
            _ => 0,
        };
    }
    Ok(count)
}

/// The processor time of each process at one moment.
struct Cpu([(Figure, Used); 5]);

impl Cpu {
    fn now(system: &System) -> Self {
        Self([
            (Figure::CpuSCoordinator, system.used_by(Role::Coordinator)),
            (Figure::CpuSWorker, system.used_by(Role::Worker)),
            (Figure::CpuSProjector, system.used_by(Role::Projector)),
            (Figure::CpuSBroker, system.used_by_broker()),
            (Figure::CpuSClient, System::used_by_client()),
        ])
    }

    fn until(&self, later: &Self, measured: &mut Measured) {
        for ((figure, before), (_, after)) in self.0.iter().zip(&later.0) {
            if let (Some(before), Some(after)) = (before.cpu, after.cpu) {
                measured.insert(*figure, after - before);
            }
        }
    }
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}

#[allow(clippy::cast_precision_loss)]
fn number(count: u64) -> f64 {
    count as f64
}
