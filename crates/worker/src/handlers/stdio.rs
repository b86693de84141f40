//! `stdio`: processes that stay, and are told of documents and answer in lines of JSON.
//!
//! A process serves the units of one namespace whose jobs have the same parameters, one after the other or several at
//! once, as it says in its first line. It leads a process group of its own, of which nothing is left when it has ended.

mod child;
mod pool;
mod settings;
mod wire;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use redrive_domain::{
    failure::{Failure, FailureKind},
    ids::{HandlerName, Namespace},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::settings::Settings;
use super::envelope::Envelope;
use crate::{
    handler::{Alive, Closing, Context, Done, Handler, Peak, Processing, Unit},
    limits::{Limits, Share},
};

/// Units that wait to be looked at by a pool.
const ASKS: usize = 64;

/// Hands documents to processes that stay.
#[derive(Debug)]
pub struct Stdio {
    name: HandlerName,
    next: AtomicU64,
    pools: Mutex<HashMap<Key, Pool>>,
}

/// Units that may share processes: those of a namespace whose jobs have these parameters, as JSON, and this much of the
/// machine.
type Key = (Namespace, String, Share);

#[derive(Debug)]
struct Pool {
    asks: mpsc::Sender<Ask>,
    task: AbortOnDropHandle<()>,
}

/// A unit for a process.
#[derive(Debug)]
struct Ask {
    /// What an answer names it by; larger than that of any before.
    id: u64,
    /// What the process reads.
    line: Vec<u8>,
    cancelled: CancellationToken,
    deadline: Instant,
    max_output_bytes: u64,
    alive: Alive,
    peak_memory: Peak,
    /// Whether a process has it.
    placed: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<Done, Failure>>,
}

impl Stdio {
    /// The name under which it usually serves.
    pub const NAME: &'static str = "stdio";

    /// One that serves under that name. Its processes are its own, and end with it at the latest.
    #[must_use]
    pub fn new(name: HandlerName) -> Self {
        Self {
            name,
            next: AtomicU64::new(1),
            pools: Mutex::default(),
        }
    }

    async fn run(&self, unit: &Unit, ctx: &Context) -> Result<Done, Failure> {
        let share = Share {
            memory_bytes: ctx.memory_bytes,
            num_cpus: ctx.num_cpus,
        };
        let settings = Settings::read(&ctx.params, share)?;
        if ctx.cancelled.is_cancelled() {
            return Err(super::cancelled());
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, mut answer) = oneshot::channel();
        let placed = Arc::new(AtomicBool::new(false));
        let ask = Ask {
            id,
            line: wire::document(id, &Envelope::new(unit, ctx, &settings.params))?,
            cancelled: ctx.cancelled.clone(),
            deadline: ctx.deadline,
            max_output_bytes: ctx.max_output_bytes,
            alive: ctx.alive.clone(),
            peak_memory: ctx.peak_memory.clone(),
            placed: placed.clone(),
            reply,
        };
        let asked = async {
            let asks = self.pool(ctx, &settings);
            if let Err(refused) = asks.send(ask).await {
                // The pool ended for want of work just now. The next is new, and does not.
                let _ = self.pool(ctx, &settings).send(refused.0).await;
            }
        };
        tokio::select! {
            () = asked => {}
            () = ctx.stopped() => return Err(stopped(ctx.deadline)),
        }
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            () = ctx.stopped() => match placed.load(Ordering::Relaxed) {
                // The process is told to stop, and ends if it does not.
                true => answer.await,
                false => return Err(stopped(ctx.deadline)),
            },
        };
        answered.unwrap_or_else(|_| Err(super::cancelled()))
    }

    fn pool(&self, ctx: &Context, settings: &Settings) -> mpsc::Sender<Ask> {
        let share = settings.spec.share;
        let key = (ctx.namespace.clone(), ctx.params.to_string(), share);
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| !pool.asks.is_closed());
        let pool = pools.entry(key).or_insert_with(|| {
            let (asks, receiver) = mpsc::channel(ASKS);
            let task = tokio::spawn(pool::run(settings.spec.clone(), receiver));
            Pool {
                asks,
                task: AbortOnDropHandle::new(task),
            }
        });
        pool.asks.clone()
    }

    async fn end(&self) {
        let pools: Vec<Pool> = {
            let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.drain().map(|(_, pool)| pool).collect()
        };
        let ends = pools.into_iter().map(|Pool { asks, task }| {
            drop(asks);
            task
        });
        for ended in futures::future::join_all(ends).await {
            if let Err(error) = ended {
                tracing::error!(%error, "a pool of processes ended unexpectedly");
            }
        }
    }
}

impl Handler for Stdio {
    fn name(&self) -> HandlerName {
        self.name.clone()
    }

    fn process<'a>(&'a self, unit: &'a Unit, ctx: &'a Context) -> Processing<'a> {
        Box::pin(self.run(unit, ctx))
    }

    fn limits(&self) -> Option<&'static str> {
        Some(Limits::here().word())
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(self.end())
    }
}

/// The failure of a unit that was stopped.
fn stopped(deadline: Instant) -> Failure {
    match Instant::now() >= deadline {
        true => Failure::new(FailureKind::TIMEOUT, "did not end in time"),
        false => super::cancelled(),
    }
}
