//! What a worker runs.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use redrive_domain::{
    document::{Document, Output},
    failure::Failure,
    ids::{BatchId, Bucket, HandlerName, JobName, Namespace},
    pipeline::TierNum,
    time::Timestamp,
    units::Ordinal,
    work::Chunk,
};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One unit as a handler sees it.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Its place in the batch. Segments have ordinals above those of documents.
    pub ordinal: Ordinal,
    /// Which of the document's segments it is, from 0, where it is one.
    pub segment: Option<u32>,
    /// The document.
    pub document: Arc<Document>,
    /// What the jobs of the tier before made of it, by job; empty in tier 0. Right after a split it is the segment itself,
    /// and where segments are joined the list of what was made of them, as JSON values a line.
    pub inputs: BTreeMap<JobName, Arc<Output>>,
}

impl Unit {
    /// The one output of the tier before, where there is just one.
    #[must_use]
    pub fn input(&self) -> Option<&Arc<Output>> {
        let mut all = self.inputs.values();
        all.next().filter(|_| all.next().is_none())
    }
}

/// The circumstances of one attempt. A copy costs next to nothing.
#[derive(Debug, Clone)]
pub struct Context {
    /// The tenant.
    pub namespace: Namespace,
    /// The source of the documents.
    pub bucket: Bucket,
    /// The batch.
    pub batch: BatchId,
    /// The tier.
    pub tier: TierNum,
    /// The job.
    pub job: JobName,
    /// The job's parameters.
    pub params: Arc<Value>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When the attempt counts as timed out. The runner ends it then; a handler may use it to ask for less.
    pub deadline: Instant,
    /// Memory that the attempt may use, in bytes.
    pub memory_bytes: Option<u64>,
    /// CPUs that the attempt may use at once.
    pub num_cpus: u32,
    /// The most memory that the attempt used, where the handler measures it.
    pub peak_memory: Peak,
    /// The largest output that is kept, in bytes.
    pub max_output_bytes: u64,
    /// What the job says of how it is to be started.
    pub deployment: Arc<Deployment>,
    /// Set when the attempt is no longer wanted: cancelled, timed out, or given to somebody else. The runner drops the
    /// handler's future shortly after; what the handler started elsewhere (processes, threads) it has to stop itself.
    pub cancelled: CancellationToken,
    /// When a handler last said that the work is alive: see [`Context::heartbeat`].
    pub alive: Alive,
    /// W3C trace context (`traceparent`) of what caused the attempt.
    pub trace: Option<String>,
}

/// How a job is to be started, for handlers that want to know. Redrive itself makes nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deployment {
    /// What is to be started.
    pub entrypoint: Option<String>,
    /// Where.
    pub deployment_mode: Option<String>,
    /// Archives to be loaded.
    pub plugin_archives: Vec<String>,
}

impl Deployment {
    pub(crate) fn of(chunk: &Chunk) -> Arc<Self> {
        Arc::new(Self {
            entrypoint: chunk.entrypoint.clone(),
            deployment_mode: chunk.deployment_mode.clone(),
            plugin_archives: chunk.plugin_archives.clone(),
        })
    }
}

impl Context {
    /// Says that a long attempt is still getting somewhere.
    pub fn heartbeat(&self) {
        self.alive.mark();
    }

    /// How long the attempt may go on, and until when by the wall clock: at most ten years.
    #[must_use]
    pub fn left(&self) -> (Duration, Timestamp) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = left.min(Duration::from_secs(10 * 365 * 86_400));
        (left, crate::world::wall_clock().plus(left.into()))
    }

    /// Waits until nobody waits for the attempt any more.
    pub(crate) async fn stopped(&self) {
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            () = tokio::time::sleep_until(self.deadline) => {}
        }
    }
}

/// When something last said that it is alive. Copies share one mark.
#[derive(Debug, Clone, Default)]
pub struct Alive(Arc<AtomicI64>);

impl Alive {
    /// It is alive now.
    pub fn mark(&self) {
        self.0
            .store(crate::world::wall_clock().0, Ordering::Relaxed);
    }

    /// When it last said so, by the wall clock; `None` where it never did.
    #[must_use]
    pub fn last(&self) -> Option<Timestamp> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Timestamp(ms)),
        }
    }
}

/// The most memory that something used. Copies share one mark.
#[derive(Debug, Clone, Default)]
pub struct Peak(Arc<AtomicU64>);

impl Peak {
    /// It used this much at once, in bytes.
    pub fn mark(&self, bytes: u64) {
        self.0.fetch_max(bytes, Ordering::Relaxed);
    }

    /// The most that was marked, in bytes; `None` where nothing was. It is forgotten with that.
    #[must_use]
    pub fn take(&self) -> Option<u64> {
        match self.0.swap(0, Ordering::Relaxed) {
            0 => None,
            bytes => Some(bytes),
        }
    }
}

/// What an attempt came to, where it did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Succeeded, with an output or without one.
    Completed(Option<Output>),
    /// There was nothing to do for this unit.
    Skipped,
}

/// The answer of a handler, later.
pub type Processing<'a> = Pin<Box<dyn Future<Output = Result<Done, Failure>> + Send + 'a>>;

/// The end of what a handler keeps running, later.
pub type Closing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Something that workers can do with a unit. Implementations hold no state of a batch: any unit may come to any
/// worker, more than once.
pub trait Handler: Send + Sync + 'static {
    /// The name under which pipelines ask for it.
    fn name(&self) -> HandlerName;

    /// Does it, once. The future must not block: what computes for long belongs on a thread of its own. A panic is caught and counts as a failure of kind `crashed`.
    fn process<'a>(&'a self, unit: &'a Unit, ctx: &'a Context) -> Processing<'a>;

    /// How it keeps what it starts within the memory and CPUs of a job, as heartbeats say it ([`Heartbeat::limits`]).
    /// `None` where it starts nothing.
    ///
    /// [`Heartbeat::limits`]: redrive_domain::work::Heartbeat::limits
    fn limits(&self) -> Option<&'static str> {
        None
    }

    /// Ends what the handler keeps running between units. A worker that leaves asks for it once, when it has let go of
    /// all its units, and waits for ten seconds at most.
    fn close(&self) -> Closing<'_> {
        Box::pin(std::future::ready(()))
    }
}

/// A handler made of a closure.
pub fn handler_fn<F, Fut>(name: HandlerName, f: F) -> Arc<dyn Handler>
where
    F: Fn(Unit, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Done, Failure>> + Send + 'static,
{
    Arc::new(HandlerFn { name, f })
}

struct HandlerFn<F> {
    name: HandlerName,
    f: F,
}

impl<F, Fut> Handler for HandlerFn<F>
where
    F: Fn(Unit, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Done, Failure>> + Send + 'static,
{
    fn name(&self) -> HandlerName {
        self.name.clone()
    }

    fn process<'a>(&'a self, unit: &'a Unit, ctx: &'a Context) -> Processing<'a> {
        Box::pin((self.f)(unit.clone(), ctx.clone()))
    }
}
