//! The whole system in one thread, in a time of its own, with everything going wrong that can: the real coordinators,
//! workers, projectors and clients on the broker in memory.
//!
//! A seed decides what is to be run, who runs it, what users ask for, what handlers come to, and what goes wrong: messages
//! are late, come twice, overtake one another or get lost; calls fail before or after they had their effect; processes
//! die in the middle of a call or at any moment and come back; leaders are cut off while another leads; parts of the
//! broker and folders of projectors are deleted. The same seed gives the same run, byte for byte.
//!
//! Each event is checked as it comes into the log ([`redrive_domain::invariants`]), as is what handlers are given, what
//! users are told and what projectors answer. In the end nothing goes wrong any more, and everything has to settle.

mod audit;
mod checks;
mod dice;
mod faulty;
mod keys;
mod ledger;
mod link;
mod plan;
mod previews;
mod roles;
mod segmented;
mod users;
mod weather;
mod world;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use redrive_broker::Broker;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{dice::print_of, plan::Plan, roles::Role, users::User, world::World};

/// How long everything may take to settle when nothing goes wrong any more.
const SETTLES_WITHIN: Duration = Duration::from_secs(400);
/// How long users may take for what they still want then.
const USERS_WITHIN: Duration = Duration::from_secs(200);
/// How long what nobody wants any more may lie about: for 30 seconds the broker keeps it for a worker that died.
const CLEARS_WITHIN: Duration = Duration::from_secs(60);
/// How long it has to stay as it is then.
const QUIET: Duration = Duration::from_secs(5);

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What should never be; empty in a sound system.
    pub violations: Vec<String>,
    /// Events in the log.
    pub events: u64,
    /// Times that a handler began.
    pub executions: u64,
    /// The time that passed in the simulation.
    pub passed: Duration,
    /// A print of the log's bytes.
    pub log: u64,
    /// A print of all that happened.
    pub story: u64,
    /// What happened, line by line: the last of it, or all where that was asked for.
    pub lines: Vec<String>,
    /// How often what kind of thing happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs a seed. It needs a runtime of one thread whose clock is paused and that nobody else uses. With `all` the report
/// has all lines of the story.
pub async fn simulate(seed: u64, all: bool) -> Report {
    let world = Arc::new(World::new(seed, all));
    let folders = tempfile::tempdir();
    let mut violations = Vec::new();
    match &folders {
        Ok(folders) => {
            world.broker.ensure().await.ok();
            run(&world, folders.path()).await;
        }
        Err(error) => violations.push(format!("there is no folder for projectors: {error}")),
    }
    let (lines, story, counts) = world.story();
    let checks = world.checks();
    violations.extend(checks.violations.iter().cloned());
    Report {
        seed,
        violations,
        events: checks.history().last_seq(),
        executions: checks.executions(),
        passed: world.passed(),
        log: print_of(checks.bytes()),
        story,
        lines,
        counts,
    }
}

async fn run(world: &Arc<World>, folder: &std::path::Path) {
    let plan = Plan::of(&mut world.dice("plan"));
    world.tell(format_args!("{:?}", world.weather));
    // What is left of them is ended with the set.
    let mut processes = JoinSet::new();
    for number in 0..plan.coordinators {
        let role = Role::Coordinator(plan.keeping.clone());
        processes.spawn(roles::keep(Arc::clone(world), role, number));
    }
    for (number, worker) in (0..).zip(plan.workers) {
        processes.spawn(roles::keep(Arc::clone(world), Role::Worker(worker), number));
    }
    for number in 0..plan.projectors {
        let role = Role::Projector(folder.join(number.to_string()));
        processes.spawn(roles::keep(Arc::clone(world), role, number));
    }
    processes.spawn(roles::lose_parts(Arc::clone(world)));
    processes.spawn(audit::now_and_then(Arc::clone(world)));
    let mut users = JoinSet::new();
    for (number, batch) in (0..).zip(plan.batches) {
        users.spawn(User::new(world, number, batch).act());
    }
    sleep(world.weather.storm).await;
    world.calm_down();
    let mut attentive = Vec::new();
    let everybody = async {
        while let Some(user) = users.join_next().await {
            attentive.extend(user);
        }
    };
    if timeout(USERS_WITHIN, everybody).await.is_err() {
        world
            .checks()
            .fail("users are not done, though nothing goes wrong any more");
    }
    // What was lost on its way comes again within 30 seconds, and must not change anything later.
    audit::dealt_with(world, CLEARS_WITHIN).await;
    for user in attentive {
        processes.spawn(user.resume_whatever_is_paused());
    }
    if !audit::all_over(world, SETTLES_WITHIN).await {
        let mut checks = world.checks();
        let open: Vec<String> = checks
            .batches()
            .values()
            .filter(|batch| !batch.status.is_over())
            .map(|batch| format!("{} is {}, {:?}", batch.key, batch.status, batch.counts()))
            .collect();
        checks.fail(format!("it does not settle: {open:?}"));
        return;
    }
    if !audit::nothing_is_up(world, CLEARS_WITHIN).await {
        let left = world.broker.offered().await;
        world.checks().fail(format!("chunks are left: {left:?}"));
    }
    sleep(QUIET).await;
    audit::of_everything(world).await;
    world.checks().at_the_end();
    if !audit::all_over(world, Duration::ZERO).await {
        world.checks().fail("what was over did not stay so");
    }
}
