//! Comparing what projectors answer with the log.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use redrive_broker::{Broker, memory::MemoryBroker};
use redrive_client::{Client, ClientError};
use redrive_domain::{
    ids::BatchKey,
    query::{BatchRef, CreditsView, ListBatches, ListFailures, OfNamespace, ReadState},
};
use tokio::time::{Instant, sleep};

use crate::{dice::print_of, world::World};

/// How often each question is asked at the end, so that every projector is asked.
const EACH: usize = 2;

fn client(world: &World, key: &BatchKey) -> Client<MemoryBroker> {
    Client::new(world.broker.clone(), key.namespace.clone(), None)
}

/// Asks now and then, while the system runs.
pub(crate) async fn now_and_then(world: Arc<World>) {
    let mut dice = world.dice("audit");
    loop {
        sleep(dice.ms(500..=6_000)).await;
        let keys: Vec<BatchKey> = world.checks().batches().keys().cloned().collect();
        if keys.is_empty() {
            continue;
        }
        let key = dice.pick(&keys);
        // Where nobody answers now, somebody will later.
        check_state(&world, key).await.ok();
    }
}

/// Asks for everything, when nothing goes wrong any more: now somebody has to answer.
pub(crate) async fn of_everything(world: &World) {
    check_credits(world).await;
    let batches = world.checks().batches().clone();
    for (key, state) in &batches {
        for _ in 0..EACH {
            if let Err(error) = check_state(world, key).await {
                world
                    .checks()
                    .fail(format!("nobody answers for {key}: {error}"));
            }
        }
        let failures = ListFailures::of(BatchRef::Id(key.batch));
        let client = client(world, key);
        let listed: Vec<_> = client.pages(failures).collect().await;
        let failed: u64 = state.jobs().map(|(_, _, job)| job.all_failed().len()).sum();
        let ok = listed.iter().all(Result::is_ok);
        if !ok || listed.len() as u64 != failed {
            let problem = format!("{key} has {failed} failures, listed are {}", listed.len());
            world.checks().fail(problem);
        }
        let all: Vec<_> = client.pages(ListBatches::default()).collect().await;
        let named = |listed: &&Result<redrive_domain::query::BatchSummary, ClientError>| {
            listed
                .as_ref()
                .is_ok_and(|it| it.batch == key.batch && it.status == state.status)
        };
        if all.iter().filter(named).count() != 1 {
            world.checks().fail(format!(
                "{key} is not in the list of batches once, as it is"
            ));
        }
    }
}

/// What projectors say of credits is what the log says.
async fn check_credits(world: &World) {
    let ledgers = world.checks().ledgers().clone();
    for (namespace, ledger) in ledgers.iter() {
        let client = Client::new(world.broker.clone(), namespace.clone(), None);
        for _ in 0..EACH {
            let said = client.credits(&OfNamespace::default()).await;
            let right = said.as_ref().is_ok_and(|said| {
                let right = CreditsView::of(ledger, said.month, said.as_of);
                *said == right
            });
            if !right {
                let problem = format!("a projector says {said:?} of {namespace}, where {ledger:?}");
                world.checks().fail(problem);
            }
        }
    }
}

/// The state that a projector has is the one that the log had at that place, and that is no older than the question.
async fn check_state(world: &World, key: &BatchKey) -> Result<(), ClientError> {
    let asked_at = world
        .checks()
        .batches()
        .get(key)
        .map_or(0, |batch| batch.last_seq);
    let mut hex = String::new();
    let (mut total, mut seq) = (1, 0);
    while ((hex.len() / 2) as u64) < total {
        let ask = ReadState {
            batch: BatchRef::Id(key.batch),
            offset: (hex.len() / 2) as u64,
            min_seq: None,
            at: None,
        };
        let piece = client(world, key).state(&ask).await?;
        if seq != piece.last_seq {
            // It went on meanwhile.
            hex.clear();
            if seq != 0 {
                seq = 0;
                continue;
            }
        }
        (total, seq) = (piece.total, piece.last_seq);
        hex.push_str(&piece.hex);
    }
    let bytes: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    world.count("states compared");
    let print = bytes.map(print_of);
    let mut checks = world.checks();
    if seq < asked_at {
        checks.fail(format!(
            "a projector has {key} at {seq}, where the log was at {asked_at}"
        ));
    }
    if print.is_none() || print != checks.state_at(key, seq) {
        checks.fail(format!(
            "a projector has another state of {key} at {seq} than the log"
        ));
    }
    Ok(())
}

/// Waits until all batches are over; whether that came within the time.
pub(crate) async fn all_over(world: &World, within: Duration) -> bool {
    let over = async || {
        let checks = world.checks();
        checks
            .batches()
            .values()
            .all(|batch| batch.status.is_over())
    };
    comes(over, within).await
}

/// Waits until all that was handed over durably has been dealt with; the checks at the end say whether it was.
pub(crate) async fn dealt_with(world: &World, within: Duration) -> bool {
    comes(async || world.checks().owes_nothing(), within).await
}

/// Waits until no chunk is up or with a worker; whether that came within the time.
pub(crate) async fn nothing_is_up(world: &World, within: Duration) -> bool {
    let empty = async || matches!(world.broker.offered().await, Ok(left) if left.is_empty());
    comes(empty, within).await
}

async fn comes(what: impl AsyncFn() -> bool, within: Duration) -> bool {
    let end = Instant::now() + within;
    loop {
        if what().await {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        sleep(Duration::from_millis(100)).await;
    }
}
