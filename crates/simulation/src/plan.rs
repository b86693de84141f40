//! What is there to be run and who runs it, drawn from the seed.

use std::time::Duration;

use redrive_coordinator::SnapshotsKept;
use redrive_domain::{
    command::Start,
    ids::{BatchId, BatchKey, Bucket, Namespace},
};
use serde_json::{Value, json};

use crate::{dice::Dice, segmented};

/// Handlers that jobs ask for.
pub(crate) const HANDLERS: [&str; 2] = ["read", "count"];

/// The system of one run.
pub(crate) struct Plan {
    pub(crate) coordinators: u32,
    pub(crate) keeping: Keeping,
    pub(crate) workers: Vec<WorkerPlan>,
    pub(crate) projectors: u32,
    pub(crate) batches: Vec<BatchPlan>,
}

/// What coordinators keep beside the log.
#[derive(Clone)]
pub(crate) struct Keeping {
    pub(crate) snapshots: SnapshotsKept,
    pub(crate) over: usize,
    pub(crate) heal_every: Duration,
}

impl Keeping {
    /// Mostly far more snapshots than where there is much to be done, and fewer batches than there are.
    fn of(dice: &mut Dice) -> Self {
        let often = |events, rest, most| SnapshotsKept {
            events,
            rest: Duration::from_millis(rest),
            most: Duration::from_millis(most),
        };
        Self {
            snapshots: dice
                .pick(&[
                    often(1, 0, 500),
                    often(5, 1_000, 4_000),
                    often(30, 2_000, 10_000),
                    SnapshotsKept::default(),
                ])
                .clone(),
            over: *dice.pick(&[0, 1, 128]),
            heal_every: Duration::from_millis(*dice.pick(&[0, 500, 3_000, 30_000])),
        }
    }
}

/// A worker.
pub(crate) struct WorkerPlan {
    pub(crate) slots: u32,
    pub(crate) handlers: Vec<&'static str>,
    /// Whether it comes back under the name that it had.
    pub(crate) keeps_name: bool,
}

/// A batch, as its user means it.
#[derive(Clone)]
pub(crate) struct BatchPlan {
    pub(crate) key: BatchKey,
    pub(crate) bucket: Bucket,
    pub(crate) pipeline: Value,
    pub(crate) start: Start,
    /// Documents by page.
    pub(crate) pages: Vec<u32>,
}

impl BatchPlan {
    pub(crate) fn documents(&self) -> u32 {
        self.pages.iter().sum()
    }
}

impl Plan {
    pub(crate) fn of(dice: &mut Dice) -> Self {
        let mut workers: Vec<WorkerPlan> = (0..dice.count(1..=3))
            .map(|_| WorkerPlan {
                slots: dice.count(1..=4),
                handlers: match dice.happens(0.7) {
                    true => HANDLERS.to_vec(),
                    false => vec![*dice.pick(&HANDLERS)],
                },
                keeps_name: dice.happens(0.5),
            })
            .collect();
        // Somebody can do everything.
        if let Some(first) = workers.first_mut() {
            first.handlers = HANDLERS.to_vec();
        }
        Self {
            coordinators: *dice.pick(&[1, 2, 2, 2, 3]),
            keeping: Keeping::of(dice),
            workers,
            projectors: *dice.pick(&[1, 1, 2]),
            batches: (0..dice.count(1..=4)).map(|_| batch(dice)).collect(),
        }
    }
}

fn batch(dice: &mut Dice) -> BatchPlan {
    let mut tiers: Vec<Value> = (0..dice.count(1..=3)).map(|_| tier(dice)).collect();
    let most = *dice.pick(&[3, 12, 24]);
    // These cannot be refused.
    #[allow(clippy::expect_used)]
    let (namespace, bucket) = (
        Namespace::new(dice.pick(&["one", "two"])).expect("it is a name"),
        Bucket::new("docs").expect("it is a name"),
    );
    let batch = BatchId(dice.uuid());
    segmented::some(batch, &mut tiers);
    BatchPlan {
        key: BatchKey { namespace, batch },
        bucket,
        pipeline: json!({
            "tiers": tiers,
            "credits_per_document": dice.pick(&[0, 1, 1, 1, 3]),
            "max_failed": dice.pick(&[Value::Null, Value::Null, Value::Null, json!(2), json!("40%")]),
        }),
        start: *dice.pick(&[Start::OnSubmit, Start::OnSubmit, Start::AtOnce]),
        pages: (0..dice.count(1..=3))
            .map(|_| dice.count(1..=most))
            .collect(),
    }
}

fn tier(dice: &mut Dice) -> Value {
    let jobs: Vec<Value> = (0..*dice.pick(&[1, 1, 2]))
        .map(|number| {
            let mut job = json!({
                "name": format!("job{number}"),
                "handler": dice.pick(&HANDLERS),
                "max_attempts": dice.count(1..=4),
                "timeout": dice.pick(&["1s", "3s", "8s"]),
                "priority": dice.count(0..=100),
                "backoff": {
                    "base": dice.pick(&["100ms", "1s", "8s"]),
                    "max": "15s",
                },
            });
            if dice.happens(0.4) {
                // Narrow ones, that so few documents can open.
                job["breaker"] = json!({
                    "window": dice.pick(&["2s", "20s"]),
                    "min_attempts": dice.count(2..=5),
                    "failure_rate": dice.pick(&["50%", "90%"]),
                    "pause": dice.pick(&["100ms", "2s"]),
                });
            }
            if dice.happens(0.15) {
                job["rate_limit"] = json!({
                    "per_second": dice.pick(&[5.0, 30.0]),
                    "burst": dice.count(1..=10),
                });
            }
            job
        })
        .collect();
    json!({ "jobs": jobs, "barrier": dice.happens(0.25) })
}
