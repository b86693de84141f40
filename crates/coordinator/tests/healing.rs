//! What is stuck, what is executed twice, and what nobody serves. Time is simulated; workers that misbehave are played.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use futures::StreamExt;
use redrive_broker::{Broker, Message};
use redrive_domain::{
    command::{Command, Heal},
    event::Event,
    heal::{HealAction, Healed, StuckReason},
    ids::{BatchKey, WorkerId},
    status::BatchStatus,
    subject,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{Chunk, Heartbeat, InFlight, Outcome, Signal},
};
use serde_json::json;
use support::{Sim, completions, done};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// How long anything may take, in simulated time.
const BOUND: Duration = Duration::from_secs(300);

/// A worker that is played: it takes one chunk and says whatever it is told to say.
struct Played {
    name: WorkerId,
    chunk: Chunk,
    _delivery: redrive_broker::Delivery,
}

async fn take(sim: &Sim) -> redrive_broker::Delivery {
    let (handler, class) = ("work".parse().unwrap(), "cpu".parse().unwrap());
    let mut source = sim.broker.take(&handler, &class).await.unwrap();
    loop {
        let taken = source.next(1, Duration::from_secs(1)).await.unwrap();
        if let Some(delivery) = taken.into_iter().next() {
            return delivery;
        }
    }
}

impl Played {
    async fn takes_a_chunk(sim: &Sim, name: &str) -> Self {
        let delivery = take(sim).await;
        Self {
            name: WorkerId::new(name).unwrap(),
            chunk: rmp_serde::from_slice(&delivery.payload).unwrap(),
            _delivery: delivery,
        }
    }

    /// One that has the same chunk.
    fn twin(name: &str, chunk: &Chunk, delivery: redrive_broker::Delivery) -> Self {
        Self {
            name: WorkerId::new(name).unwrap(),
            chunk: chunk.clone(),
            _delivery: delivery,
        }
    }

    fn flight(&self) -> InFlight {
        InFlight {
            chunk: self.chunk.id,
            namespace: self.chunk.namespace.clone(),
            batch: self.chunk.batch,
            tier: self.chunk.tier,
            job: self.chunk.job.clone(),
            attempt: self.chunk.attempt,
            units: self.chunk.units.clone(),
            running: self.chunk.units.clone(),
            taken_at: Some(Timestamp(0)),
            alive_at: None,
        }
    }

    async fn beats(&self, sim: &Sim, at: Timestamp) {
        say(&sim.broker, &self.name, "cpu", vec![self.flight()], at).await;
    }

    /// Says every second that it is still at it; its clock is an odd one.
    fn keeps_beating(&self, sim: &Sim) -> JoinHandle<()> {
        let (broker, name, flight) = (sim.broker.clone(), self.name.clone(), self.flight());
        tokio::spawn(async move {
            let begun = Instant::now();
            loop {
                let at = Timestamp(i64::try_from(begun.elapsed().as_millis()).unwrap());
                say(&broker, &name, "cpu", vec![flight.clone()], at).await;
                sleep(Duration::from_secs(1)).await;
            }
        })
    }

    async fn reports_success(&self, sim: &Sim) {
        let outcome = Outcome {
            chunk: self.chunk.id,
            namespace: self.chunk.namespace.clone(),
            batch: self.chunk.batch,
            tier: self.chunk.tier,
            job: self.chunk.job.clone(),
            attempt: self.chunk.attempt,
            worker: self.name.clone(),
            completed: self.chunk.units.clone(),
            skipped: UnitSet::new(),
            outputs: None,
            segments: Vec::new(),
            failures: Vec::new(),
            returned: UnitSet::new(),
            busy: Millis(1),
            loading: Millis(0),
            peak_memory: None,
            at: Timestamp(0),
        };
        let message = Message {
            subject: subject::outcome(0, &self.chunk.key()),
            payload: rmp_serde::to_vec_named(&outcome).unwrap().into(),
            trace: None,
        };
        sim.broker.submit(message, None).await.unwrap();
    }
}

async fn say(
    broker: &redrive_broker::memory::MemoryBroker,
    name: &WorkerId,
    class: &str,
    in_flight: Vec<InFlight>,
    at: Timestamp,
) {
    let beat = Heartbeat {
        worker: name.clone(),
        host: "there".to_owned(),
        pid: 1,
        version: None,
        handlers: vec!["work".parse().unwrap()],
        classes: vec![class.parse().unwrap()],
        slots: 1,
        draining: false,
        in_flight,
        limits: None,
        started_at: Timestamp(0),
        at,
    };
    let message = Message {
        subject: subject::heartbeat(0, name),
        payload: rmp_serde::to_vec_named(&beat).unwrap().into(),
        trace: None,
    };
    broker.signal(message).await.unwrap();
}

fn often(config: &mut redrive_coordinator::Config) {
    config.heal_every = Duration::from_secs(2);
}

async fn heal(sim: &mut Sim, key: &BatchKey, heal: Heal) -> Healed {
    let accepted = sim.command(key, Command::Heal(heal)).await;
    accepted.heal.unwrap()
}

async fn events_named(sim: &Sim, key: &BatchKey, name: &str) -> Vec<Event> {
    let events = sim.events(key).await.into_iter();
    events
        .map(|(_, envelope)| envelope.event)
        .filter(|event| event.name() == name)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_past_its_deadline_goes_to_another_worker_by_itself() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator_with("a", often);
    let key = sim.submit(json!({ "timeout": "5s" }), 1).await;
    let stuck = Played::takes_a_chunk(&sim, "stuck").await;
    let beating = stuck.keeps_beating(&sim);
    let mut signals = sim.broker.listen(subject::signals(0)).await.unwrap();
    // Within its time, and for a while after it, it is left alone.
    sleep(Duration::from_secs(12)).await;
    assert_eq!(events_named(&sim, &key, "heal.stuck_detected").await, []);
    sim.worker("sound", 1, |_, _| async { done() });
    let told = timeout(BOUND, signals.next()).await.unwrap().unwrap();
    let told: Signal = rmp_serde::from_slice(&told.payload).unwrap();
    assert_eq!(told, Signal::StopChunk(stuck.chunk.id));
    assert_eq!(sim.over(&key).await.status, BatchStatus::Completed);
    let found = events_named(&sim, &key, "heal.stuck_detected").await;
    let [
        Event::StuckDetected {
            attempt,
            reason,
            fixed: true,
            ..
        },
    ] = &found[..]
    else {
        panic!("{found:?}");
    };
    assert_eq!(*reason, StuckReason::PastDeadline);
    assert_eq!(attempt.worker, Some(stuck.name.clone()));
    // What it says after all changes nothing.
    let before = sim.events(&key).await.len();
    stuck.reports_success(&sim).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(sim.events(&key).await.len(), before);
    beating.abort();
}

#[tokio::test(start_paused = true)]
async fn what_shows_no_sign_of_life_is_shown_and_handed_out_again_by_who_asks() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator_with("a", often);
    let key = sim.submit(json!({}), 1).await;
    let stuck = Played::takes_a_chunk(&sim, "stuck").await;
    let _beating = stuck.keeps_beating(&sim);
    sleep(Duration::from_secs(25)).await;
    let ask = |idle, fix| Heal {
        tier: Some(0),
        idle_seconds: Some(idle),
        fix,
        ..Heal::new(HealAction::DetectStuck)
    };
    let nothing = heal(&mut sim, &key, ask(60, true)).await;
    assert_eq!((nothing.chunks, nothing.stuck), (1, vec![]));
    let shown = heal(&mut sim, &key, ask(20, false)).await;
    assert_eq!(shown.stuck.len(), 1);
    assert_eq!(shown.stuck[0].reason, StuckReason::NoSignOfLife);
    assert_eq!(shown.stuck[0].worker, Some(stuck.name.clone()));
    assert!(!shown.stuck[0].fixed);
    assert_eq!(sim.state(&key).await.counts().open, 1);
    let fixed = heal(&mut sim, &key, ask(20, true)).await;
    assert!(fixed.stuck[0].fixed);
    sim.worker("sound", 1, |_, _| async { done() });
    sim.over(&key).await;
    assert_eq!(completions(&sim.events(&key).await), [(0, 1)].into());
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_somebody_took_and_never_spoke_of_goes_to_an_idle_worker() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator_with("a", often);
    let key = sim.submit(json!({}), 1).await;
    let begun = Instant::now();
    let _silent = Played::takes_a_chunk(&sim, "silent").await;
    sim.worker("sound", 1, |_, _| async { done() });
    assert_eq!(sim.over(&key).await.status, BatchStatus::Completed);
    // Before the broker would have given it to somebody else.
    assert!(begun.elapsed() < Duration::from_secs(25));
    let found = events_named(&sim, &key, "heal.stuck_detected").await;
    assert!(
        matches!(
            &found[..],
            [Event::StuckDetected {
                reason: StuckReason::NoOwner,
                ..
            }]
        ),
        "{found:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_workers_with_one_chunk_the_second_stops_and_is_not_heard() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator_with("a", often);
    let key = sim.submit(json!({}), 1).await;
    let first = Played::takes_a_chunk(&sim, "first").await;
    let _one = first.keeps_beating(&sim);
    sleep(Duration::from_secs(3)).await;
    // The broker gives it to another one once nobody has told it for 30 seconds that it is being dealt with.
    let again = take(&sim).await;
    let second = Played::twin("second", &first.chunk, again);
    let mut signals = sim.broker.listen(subject::signals(0)).await.unwrap();
    let _two = second.keeps_beating(&sim);
    let told = timeout(BOUND, signals.next()).await.unwrap().unwrap();
    let told: Signal = rmp_serde::from_slice(&told.payload).unwrap();
    let stop = Signal::StopExecution {
        worker: second.name.clone(),
        chunk: first.chunk.id,
    };
    assert_eq!(told, stop);
    let found = heal(&mut sim, &key, Heal::new(HealAction::KillDuplicates)).await;
    assert_eq!(found.duplicates.len(), 1, "{found:?}");
    let kept = found.duplicates[0].kept.clone().unwrap();
    assert_eq!(kept.worker, first.name);
    assert_eq!(found.duplicates[0].superseded[0].worker, second.name);
    second.reports_success(&sim).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(sim.state(&key).await.counts().completed, 0);
    first.reports_success(&sim).await;
    sim.over(&key).await;
    let told = events_named(&sim, &key, "heal.duplicates_killed").await;
    assert!((1..=2).contains(&told.len()), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_back_with_what_another_one_does_is_told_of() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator_with("a", often);
    let key = sim.submit(json!({}), 1).await;
    let frozen = Played::takes_a_chunk(&sim, "frozen").await;
    frozen.beats(&sim, Timestamp(0)).await;
    let worker = sim.worker("sound", 1, |_, ctx| async move {
        // Until the other one has come back.
        sleep(Duration::from_secs(20)).await;
        assert_eq!(ctx.attempt, 2);
        done()
    });
    sim.until(&key, "it is lost", |state| {
        state.jobs().any(|(_, _, job)| job.lost == 1)
    })
    .await;
    sleep(Duration::from_secs(2)).await;
    frozen.beats(&sim, Timestamp(10_000)).await;
    let over = sim.over(&key).await;
    assert_eq!(over.status, BatchStatus::Completed);
    let told = events_named(&sim, &key, "heal.duplicates_killed").await;
    let [
        Event::DuplicatesKilled {
            kept: Some(kept),
            superseded,
            ..
        },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!((kept.worker.as_str(), kept.attempt), ("sound", 2));
    assert_eq!(superseded[0].worker, frozen.name);
    assert_eq!(superseded[0].attempt, 1);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_nobody_serves_is_told_of_until_somebody_does() {
    let mut sim = Sim::new().await;
    let _leader = sim.coordinator("a");
    sim.worker("other", 1, |_, _| async { done() });
    let key = sim.submit(json!({ "class": "gpu" }), 5).await;
    let orphaned = |state: &redrive_domain::state::BatchState| {
        state.jobs().any(|(_, _, job)| job.orphaned.is_some())
    };
    sim.until(&key, "it is orphaned", orphaned).await;
    // It is said once.
    sleep(Duration::from_secs(20)).await;
    assert_eq!(events_named(&sim, &key, "dispatch.orphaned").await.len(), 1);
    let name = WorkerId::new("gpu").unwrap();
    say(&sim.broker, &name, "gpu", Vec::new(), Timestamp(0)).await;
    sim.until(&key, "it is served", |state| !orphaned(state))
        .await;
    // The worker is gone again, and nobody else comes.
    sim.until(&key, "it is orphaned again", orphaned).await;
    assert_eq!(events_named(&sim, &key, "dispatch.served").await.len(), 1);
}
