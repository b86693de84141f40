//! What handlers do, and the book that they keep of it: the world outside, which no log can undo.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use redrive_domain::{
    document::Output,
    failure::{Failure, FailureKind},
    ids::{BatchId, HandlerName, JobName, WorkerId},
    pipeline::TierNum,
    units::Ordinal,
};
use redrive_worker::handler::{Context, Done, Handler, Unit, handler_fn};
use tokio::time::sleep;

use crate::{dice::Dice, segmented, world::World};

/// One attempt of one unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Execution {
    pub(crate) batch: BatchId,
    pub(crate) tier: TierNum,
    pub(crate) job: JobName,
    pub(crate) unit: Ordinal,
    pub(crate) attempt: u32,
}

/// What became of an attempt, however often it was executed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Booked {
    pub(crate) begun: u32,
    pub(crate) ended: u32,
}

pub(crate) type Ledger = BTreeMap<Execution, Booked>;

/// What an attempt comes to, decided by the seed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    Output,
    Nothing,
    Skip,
    Fail(FailureKind),
    Panic,
}

/// How an attempt goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Course {
    pub(crate) takes: Duration,
    pub(crate) fate: Fate,
    /// Whether it stops when it is told to.
    pub(crate) obeys: bool,
}

pub(crate) const KINDS: [FailureKind; 8] = [
    FailureKind::UNAVAILABLE,
    FailureKind::RATE_LIMITED,
    FailureKind::RATE_LIMITED,
    FailureKind::NETWORK,
    FailureKind::INVALID_DATA,
    FailureKind::REJECTED,
    FailureKind::PREEMPTED,
    FailureKind::OUT_OF_MEMORY,
];

impl Execution {
    /// The same for the same attempt, wherever it is executed.
    pub(crate) fn course(&self, seed: u64) -> Course {
        // Some batches are slow and some fail often.
        let mut batch = Dice::new(seed, ("batch", self.batch));
        let slowest = *batch.pick(&[20, 200, 1_500]);
        let failing = *batch.pick(&[0.0, 0.1, 0.5, 0.8]);
        let wrongly = Dice::new(seed, "misconfigured").happens(0.25);
        let misconfigured = match wrongly {
            true => *batch.pick(&[0.0, 0.02, 0.2]),
            false => 0.0,
        };
        let mut dice = Dice::new(seed, self);
        let takes = match dice.happens(0.02) {
            true => dice.ms(1_000..=9_000),
            false => dice.ms(0..=slowest),
        };
        let fate = if dice.happens(failing) {
            match dice.happens(0.05) {
                true => Fate::Panic,
                false => Fate::Fail(dice.pick(&KINDS).clone()),
            }
        } else {
            dice.pick(&[
                Fate::Output,
                Fate::Output,
                Fate::Output,
                Fate::Nothing,
                Fate::Skip,
            ])
            .clone()
        };
        let fate = match dice.happens(misconfigured) {
            true => Fate::Fail(FailureKind::MISCONFIGURED),
            false => fate,
        };
        let obeys = dice.happens(0.7);
        Course { takes, fate, obeys }
    }

    /// What it makes.
    pub(crate) fn output(&self) -> String {
        if segmented::splits(&self.job) {
            return segmented::segments_of(self);
        }
        format!("{} {} {} by {}", self.batch, self.unit, self.tier, self.job)
    }
}

/// The document of an ordinal, as users send it.
pub(crate) fn document_id(batch: BatchId, unit: Ordinal) -> String {
    format!("{batch}-{unit}")
}

/// A handler that follows the seed, and books what it does.
pub(crate) fn handler(world: &Arc<World>, name: HandlerName, worker: WorkerId) -> Arc<dyn Handler> {
    let world = Arc::clone(world);
    handler_fn(name, move |unit, ctx| {
        let (world, worker) = (Arc::clone(&world), worker.clone());
        async move { process(&world, &worker, &unit, &ctx).await }
    })
}

async fn process(
    world: &World,
    worker: &WorkerId,
    unit: &Unit,
    ctx: &Context,
) -> Result<Done, Failure> {
    let execution = Execution {
        batch: ctx.batch,
        tier: ctx.tier,
        job: ctx.job.clone(),
        unit: unit.ordinal,
        attempt: ctx.attempt,
    };
    let calm_for = world.calm_for();
    world
        .checks()
        .begun(&execution, unit, ctx, world.clock.now(), calm_for, worker);
    let course = execution.course(world.seed);
    if course.obeys {
        tokio::select! {
            biased;
            () = ctx.cancelled.cancelled() => {
                return Err(Failure::new(FailureKind::PREEMPTED, "it was told to stop"));
            }
            () = sleep(course.takes) => {}
        }
    } else {
        sleep(course.takes).await;
    }
    world.checks().ended(&execution);
    match course.fate {
        Fate::Output => Ok(Done::Completed(Some(Output::text(execution.output())))),
        Fate::Nothing => Ok(Done::Completed(None)),
        Fate::Skip => Ok(Done::Skipped),
        Fate::Fail(kind) => Err(Failure::new(kind, "as the seed has it")),
        // Without a word on the standard error.
        Fate::Panic => std::panic::resume_unwind(Box::new("as the seed has it")),
    }
}
