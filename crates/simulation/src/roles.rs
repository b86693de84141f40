//! The processes: they live, die at any moment, and come back.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use redrive_broker::memory::Part;
use redrive_domain::ids::{HandlerName, WorkerId};
use redrive_projector::{Blocking, Clock};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    dice::Dice,
    faulty::Faulty,
    ledger::handler,
    link::Link,
    plan::{Keeping, WorkerPlan},
    world::World,
};

/// What a process is, and how a life of it begins.
pub(crate) enum Role {
    Coordinator(Keeping),
    Worker(WorkerPlan),
    /// With the folder of its view.
    Projector(PathBuf),
}

type Life = BoxFuture<'static, Result<(), String>>;

impl Role {
    fn name(&self) -> &'static str {
        match self {
            Self::Coordinator(_) => "coordinator",
            Self::Worker(_) => "worker",
            Self::Projector(_) => "projector",
        }
    }

    fn begin(&self, link: &Arc<Link>, number: u32, stop: CancellationToken) -> Life {
        let world = Arc::clone(&link.world);
        let broker = Faulty::new(link);
        match self {
            Self::Coordinator(keeping) => {
                let mut config = redrive_coordinator::Config::new(link.name.clone());
                config.clock = world.clock.clone();
                config.seed = Some(link.number());
                config.snapshots = keeping.snapshots.clone();
                config.over_kept = keeping.over;
                config.heal_every = keeping.heal_every;
                redrive_coordinator::run(broker, config, stop)
                    .map(|end| end.map_err(|error| error.to_string()))
                    .boxed()
            }
            Self::Worker(plan) => {
                let name = match plan.keeps_name {
                    true => format!("worker-{number}"),
                    false => link.name.replace(['.', ' '], "-"),
                };
                // Neither is ever refused.
                #[allow(clippy::expect_used)]
                let id = WorkerId::new(name).expect("it is a name");
                let mut config = redrive_worker::Config::new(0, id.clone());
                config.slots = NonZeroU32::new(plan.slots).unwrap_or(NonZeroU32::MIN);
                config.drain_grace = Duration::from_secs(1);
                let (clock, own) = (world.clock.clone(), Arc::clone(link));
                config.world =
                    redrive_worker::world::World::new(move || clock.now(), move || own.number());
                let handlers = plan
                    .handlers
                    .iter()
                    .filter_map(|name| HandlerName::new(name).ok())
                    .map(|name| handler(&world, name, id.clone()))
                    .collect();
                redrive_worker::run(broker, config, handlers, stop)
                    .map(|end| end.map_err(|error| error.to_string()))
                    .boxed()
            }
            Self::Projector(folder) => {
                let (clock, own) = (world.clock.clone(), Arc::clone(link));
                let config = redrive_projector::Config {
                    data_dir: Some(folder.clone()),
                    checkpoint_events: 20,
                    checkpoint_every: Duration::from_secs(3),
                    // So few that batches leave memory and come back.
                    memory_batches: 1,
                    clock: Clock::new(move || clock.now()),
                    blocking: Blocking::new(move |work| {
                        let link = Arc::clone(&own);
                        async move {
                            sleep(link.way()).await;
                            link.may_die("before it works on its folder").await;
                            work();
                            link.may_die("after it worked on its folder").await;
                            sleep(link.way()).await;
                            link.gate().await;
                        }
                        .boxed()
                    }),
                    ..redrive_projector::Config::default()
                };
                redrive_projector::run(broker, config, stop)
                    .map(|end| end.map_err(|error| error.to_string()))
                    .boxed()
            }
        }
    }
}

/// Runs one process, life after life.
pub(crate) async fn keep(world: Arc<World>, role: Role, number: u32) {
    let mut dice = world.dice((role.name(), number));
    // Most of the work is done by then: a new leader meets what little is left, and waits.
    let mut aftershocks = match (&role, world.weather.kill) {
        (Role::Coordinator(_), Some(_)) => dice.count(0..=3),
        _ => 0,
    };
    for life in 0_u32.. {
        let link = Link::new(&world, format!("{}-{number}.{life}", role.name()));
        let stop = CancellationToken::new();
        let begins = role.begin(&link, number, stop.clone());
        link.tell(format_args!("begins"));
        live(&link, &mut dice, &mut aftershocks, begins, stop).await;
        // Nothing of what it had begun goes on.
        link.die();
        if let Role::Projector(folder) = &role
            && dice.happens(0.25)
        {
            sleep(Duration::from_millis(1)).await;
            link.tell(format_args!("loses its folder"));
            world.count("folders lost");
            std::fs::remove_dir_all(folder).ok();
        }
        sleep(match world.is_calm() {
            true => Duration::from_millis(10),
            false => dice.ms(10..=6_000),
        })
        .await;
    }
}

async fn live(
    link: &Arc<Link>,
    dice: &mut Dice,
    aftershocks: &mut u32,
    mut life: Life,
    stop: CancellationToken,
) {
    let world = Arc::clone(&link.world);
    loop {
        tokio::select! {
            biased;
            () = link.died() => {}
            end = &mut life => {
                if let Err(error) = end {
                    world.checks().fail(format!("{} ends: {error}", link.name));
                }
                link.tell(format_args!("has ended"));
            }
            event = next(&world, dice, aftershocks) => {
                let time = dice.ms(500..=12_000);
                match event {
                    Event::Kill => {
                        world.count("kills");
                        link.tell(format_args!("is killed"));
                    }
                    Event::Stop => {
                        world.count("stops");
                        link.tell(format_args!("is told to stop"));
                        stop.cancel();
                        continue;
                    }
                    Event::Cut => {
                        let fails = dice.happens(0.5);
                        world.count("cuts");
                        link.tell(format_args!("is cut off for {time:?}, calls fail: {fails}"));
                        link.cut(time, fails);
                        continue;
                    }
                    Event::Calm => {
                        link.heal();
                        continue;
                    }
                }
            }
        }
        return;
    }
}

enum Event {
    Kill,
    Stop,
    Cut,
    Calm,
}

/// What happens to a process next from outside.
async fn next(world: &World, dice: &mut Dice, aftershocks: &mut u32) -> Event {
    let weather = &world.weather;
    let mut first: Option<(Instant, Event)> = None;
    let now = Instant::now();
    for (every, event) in [
        (weather.kill, Event::Kill),
        (weather.kill.map(|every| every * 3), Event::Stop),
        (weather.cut, Event::Cut),
    ] {
        let Some(every) = every else { continue };
        let at = now + dice.ms(0..=2 * u64::try_from(every.as_millis()).unwrap_or(0));
        if first.as_ref().is_none_or(|(earliest, _)| at < *earliest) {
            first = Some((at, event));
        }
    }
    let left = weather.storm.saturating_sub(world.passed());
    match first {
        _ if world.is_calm() => aftershock(world, dice, aftershocks).await,
        Some((at, event)) if at < now + left => {
            tokio::time::sleep_until(at).await;
            event
        }
        _ => {
            sleep(left + Duration::from_millis(1)).await;
            Event::Calm
        }
    }
}

/// When nothing else goes wrong any more, a process may still be killed a few times.
async fn aftershock(world: &World, dice: &mut Dice, left: &mut u32) -> Event {
    if *left == 0 {
        std::future::pending::<()>().await;
    }
    sleep(dice.ms(500..=8_000)).await;
    *left -= 1;
    world.shake();
    Event::Kill
}

/// What becomes of a part of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Of(Part),
    /// The place of chunks is there, and takes none.
    BrokenWork,
}

/// Loses parts of the broker, now and then.
pub(crate) async fn lose_parts(world: Arc<World>) {
    let all = [
        Loss::Of(Part::Work),
        Loss::Of(Part::Reader),
        Loss::Of(Part::Leases),
        Loss::Of(Part::Inbox),
        Loss::Of(Part::Snapshot),
        Loss::BrokenWork,
    ];
    let (losses, usurpations) = (world.weather.losses, world.weather.usurpations);
    let mut dice = (world.dice("losses"), world.dice("usurpations"));
    tokio::join!(
        lose_some(&world, &mut dice.0, losses, &all),
        lose_some(&world, &mut dice.1, usurpations, &[Loss::Of(Part::Leases)]),
    );
}

async fn lose_some(world: &World, dice: &mut Dice, every: Option<Duration>, losses: &[Loss]) {
    let Some(every) = every else { return };
    let most = 2 * u64::try_from(every.as_millis()).unwrap_or(0);
    loop {
        sleep(dice.ms(0..=most)).await;
        if world.is_calm() {
            return;
        }
        let loss = *dice.pick(losses);
        world.count("parts lost");
        world.tell(format_args!("the broker has a loss: {loss:?}"));
        match loss {
            Loss::Of(part) => world.broker.lose(part),
            Loss::BrokenWork => world.broker.break_work(),
        }
        if loss == Loss::Of(Part::Inbox) {
            world.checks().inbox_lost();
        }
    }
}
