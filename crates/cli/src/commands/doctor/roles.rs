//! Who is there, and what waits for somebody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::StreamExt;
use redrive_broker::{BrokerError, Inspection, Taker};
use redrive_domain::{
    ids::{BatchId, HandlerName, ResourceClass},
    presence::{CoordinatorStanding, Presence},
    query::{BatchRef, BatchView, ListBatches, OfBatch},
    status::BatchStatus,
};
use tokio::time::timeout;

use super::{
    Finding, Kind,
    broker::{self, APART},
};
use crate::{app::App, commands::run::HERE, output::counted, roll::Roll};

/// Messages that may wait before it is worth knowing.
const BACKLOG: u64 = 10_000;
/// Batches under way that are looked at.
const BATCHES: usize = 50;
/// How long to wait for the projector's answers about them.
const ANSWERS: Duration = Duration::from_secs(3);

/// The messages that say who is there cannot be heard.
pub(super) fn deaf(error: &BrokerError) -> Finding {
    Finding::problem(
        "roles",
        format!("who is there cannot be heard: {error}"),
        "let the account subscribe to rd.hb.> and rd.who.>",
    )
}

/// What nobody has taken from the inbox.
pub(super) fn queues(seen: &Inspection, findings: &mut Vec<Finding>) {
    let leader = seen.consumers.iter().find(|one| one.of == Taker::Leader);
    if let Some(leader) = leader.filter(|leader| leader.pending >= BACKLOG) {
        findings.push(Finding::note(
            "inbox",
            format!(
                "{} commands and outcomes wait for the coordinator",
                leader.pending
            ),
            "if that grows, give its machine more, or make chunks larger",
        ));
    }
}

pub(super) fn heard(
    roll: &Roll,
    under_way: &[BatchView],
    kind: Kind,
    app: &App,
    findings: &mut Vec<Finding>,
) {
    findings.push(coordinators(roll, kind, app));
    findings.push(projectors(roll, app));
    findings.push(workers(roll, kind, app));
    findings.extend(gateways(roll));
    findings.extend(limits(roll));
    findings.extend(pools(roll, under_way, app));
    findings.extend(versions(roll));
    findings.extend(clocks(roll));
}

fn place(presence: &Presence) -> String {
    format!("{} on {}", presence.name, presence.host)
}

fn coordinators(roll: &Roll, kind: Kind, app: &App) -> Finding {
    let check = "coordinator";
    let all = roll.coordinators();
    let of = |wanted: fn(&CoordinatorStanding) -> bool| -> Vec<String> {
        let wanted = all.iter().filter(|(_, standing)| wanted(standing));
        wanted.map(|(presence, _)| place(presence)).collect()
    };
    let leading = of(|it| *it == CoordinatorStanding::Leading);
    let taking_over = of(|it| *it == CoordinatorStanding::TakingOver);
    let standing_by = of(|it| matches!(it, CoordinatorStanding::StandingBy { .. }));
    let start = app.hint("coordinator");
    match (&leading[..], &taking_over[..], &standing_by[..]) {
        ([], [], []) if all.is_empty() => Finding::problem(
            check,
            "none is running: commands are not decided on, and nothing is handed out",
            start,
        ),
        ([], [], _) => Finding::problem(
            check,
            format!("none leads, of {} that run", all.len()),
            "wait some seconds for one to take over; if none does, see what they log",
        ),
        ([], [one, ..], _) => Finding::note(
            check,
            format!("{one} is taking over"),
            "wait until it has read the log",
        ),
        ([leader], _, []) if kind == Kind::Configured => Finding::note(
            check,
            format!("{leader} leads; nobody stands by"),
            format!("start another one, on another machine: {start}"),
        ),
        ([leader], _, []) => Finding::ok(check, format!("{leader} leads")),
        ([leader], _, others) => Finding::ok(
            check,
            format!("{leader} leads; standing by: {}", others.join(", ")),
        ),
        (several, ..) => Finding::note(
            check,
            format!("{} say that they lead", several.join(" and ")),
            "look again: one of them is about to step down, and cannot write any more",
        ),
    }
}

/// Nobody needs a gateway; of those that run, each is to be able to answer.
fn gateways(roll: &Roll) -> Option<Finding> {
    let all = roll.gateways();
    let places = |ready: bool| -> Vec<String> {
        let some = all.iter().filter(|(_, standing)| standing.ready == ready);
        some.map(|(presence, standing)| format!("{}, {}", place(presence), standing.url))
            .collect()
    };
    match (places(true), places(false)) {
        (ready, late) if ready.is_empty() && late.is_empty() => None,
        (ready, late) if late.is_empty() => Some(Finding::ok("gateway", ready.join("; "))),
        (_, late) => Some(Finding::problem(
            "gateway",
            format!("not ready: {}", late.join("; ")),
            "its /readyz says what is missing",
        )),
    }
}

fn projectors(roll: &Roll, app: &App) -> Finding {
    let check = "projector";
    let all = roll.projectors();
    if all.is_empty() {
        let seen = "none is running: nobody answers questions such as status and failures";
        return Finding::problem(check, seen, app.hint("projector"));
    }
    let late: Vec<String> = all
        .iter()
        .filter(|(_, standing)| {
            standing.lag().is_none_or(|lag| lag >= BACKLOG) || !standing.serving
        })
        .map(
            |(presence, standing)| match (standing.serving, standing.lag()) {
                (true, Some(lag)) => format!("{} is {lag} messages behind", place(presence)),
                (true, None) => format!("{} cannot see how far the log goes", place(presence)),
                (false, _) => format!("{} does not serve queries", place(presence)),
            },
        )
        .collect();
    if late.is_empty() {
        let places: Vec<String> = all
            .iter()
            .map(|(presence, standing)| {
                format!(
                    "{}, {} behind",
                    place(presence),
                    standing.lag().unwrap_or(0)
                )
            })
            .collect();
        return Finding::ok(check, places.join("; "));
    }
    let seen = late.join("; ");
    let remedy = "wait until it has read the log; if it does not catch up, see what it logs";
    match late.len() < all.len() {
        true => Finding::note(check, seen, remedy),
        false => Finding::problem(check, seen, remedy),
    }
}

fn workers(roll: &Roll, kind: Kind, app: &App) -> Finding {
    let beats: Vec<_> = roll.workers.values().map(|heard| &heard.what).collect();
    let working = beats.iter().filter(|beat| !beat.draining).count();
    if beats.is_empty() && kind == Kind::Embedded {
        return Finding::ok("worker", "none; `redrive run` does its work itself");
    }
    if working == 0 {
        let seen = match beats.len() {
            0 => "none is live: nothing is executed".to_owned(),
            n => format!("{n} live, all of them draining: nothing new is executed"),
        };
        return Finding::problem("worker", seen, app.hint("worker"));
    }
    let slots: u64 = beats.iter().map(|beat| u64::from(beat.slots)).sum();
    let chunks: usize = beats.iter().map(|beat| beat.in_flight.len()).sum();
    let draining = match beats.len() - working {
        0 => String::new(),
        n => format!(", {n} draining"),
    };
    Finding::ok(
        "worker",
        format!(
            "{} live{draining}, {}, {} in flight",
            beats.len(),
            counted(slots, "slot"),
            counted(chunks as u64, "chunk")
        ),
    )
}

/// How workers keep the processes of handlers within their memory and CPUs.
fn limits(roll: &Roll) -> Option<Finding> {
    let mut ways = BTreeMap::<&str, u64>::new();
    for heard in roll.workers.values() {
        if let Some(way) = &heard.what.limits {
            *ways.entry(way).or_default() += 1;
        }
    }
    if ways.is_empty() {
        return None;
    }
    let ways: Vec<String> = ways
        .into_iter()
        .map(|(way, workers)| match way {
            "cgroup_v2" => format!(
                "by the kernel, with cgroup v2 ({})",
                counted(workers, "worker")
            ),
            "watch" => format!("by watching them ({})", counted(workers, "worker")),
            other => format!("by {other} ({})", counted(workers, "worker")),
        })
        .collect();
    let seen = format!("processes are kept within their memory {}", ways.join(", "));
    Some(Finding::ok("limits", seen))
}

/// Batches under way, as the projector has them; none where it does not answer, which is a finding of its own.
pub(super) async fn under_way(app: &App) -> Vec<BatchView> {
    let ask = async {
        let query = ListBatches {
            status: Some(BatchStatus::Running),
            min_seq: Some(0),
            ..ListBatches::default()
        };
        let running: Vec<_> = app.client.pages(query).take(BATCHES).collect().await;
        let mut views = Vec::new();
        for batch in running.into_iter().flatten() {
            let ask = OfBatch {
                batch: BatchRef::Id(batch.batch),
                min_seq: Some(0),
                at: None,
            };
            views.extend(app.client.status(&ask).await);
        }
        views
    };
    timeout(ANSWERS, ask).await.unwrap_or_default()
}

/// Units that wait for a worker which is not there.
fn pools(roll: &Roll, under_way: &[BatchView], app: &App) -> Vec<Finding> {
    let served: BTreeSet<(&HandlerName, &ResourceClass)> = roll
        .workers
        .values()
        .filter(|heard| !heard.what.draining)
        .flat_map(|heard| {
            let beat = &heard.what;
            let classes = move |handler| beat.classes.iter().map(move |class| (handler, class));
            beat.handlers.iter().flat_map(classes)
        })
        .collect();
    let mut waiting = BTreeMap::<_, (u64, BatchId)>::new();
    for view in under_way {
        for job in view.tiers.iter().flat_map(|tier| &tier.jobs) {
            let pool = (&job.handler, &job.class);
            if job.open > 0 && !served.contains(&pool) {
                let (units, _) = waiting.entry(pool).or_insert((0, view.summary.batch));
                *units += job.open;
            }
        }
    }
    let finding = |((handler, class), (units, batch)): (
        (&HandlerName, &ResourceClass),
        (u64, BatchId),
    )| {
        let units = counted(units, "unit");
        if class.as_str().starts_with(HERE) {
            Finding::note(
                "work",
                format!("{units} of {batch} wait for their `redrive run`, which was interrupted"),
                app.hint(&format!("resume {batch}")),
            )
        } else {
            Finding::problem(
                "work",
                format!(
                    "{units}, some of batch {batch}, wait for handler {handler} and class {class}; no live worker serves both"
                ),
                app.hint(&format!("worker --handler {handler} --class {class}")),
            )
        }
    };
    waiting.into_iter().map(finding).collect()
}

fn versions(roll: &Roll) -> Option<Finding> {
    let roles = roll.roles().map(|heard| heard.what.version.as_str());
    let workers = roll.workers.values();
    let workers = workers.filter_map(|heard| heard.what.version.as_deref());
    let here = env!("CARGO_PKG_VERSION");
    let all: BTreeSet<&str> = roles.chain(workers).chain([here]).collect();
    if all.len() < 2 {
        return None;
    }
    let all: Vec<&str> = all.into_iter().collect();
    Some(Finding::note(
        "versions",
        format!("{} run together; this is {here}", all.join(" and ")),
        "finish the upgrade: projectors and workers first, coordinators last",
    ))
}

/// Clocks of roles that are far from the one here, the farthest of each machine.
fn clocks(roll: &Roll) -> Vec<Finding> {
    let mut machines = BTreeMap::<&str, i64>::new();
    let roles = roll
        .roles()
        .map(|heard| (heard.what.host.as_str(), heard.ahead_ms));
    let workers = roll.workers.values();
    let workers = workers.map(|heard| (heard.what.host.as_str(), heard.ahead_ms));
    for (host, ahead) in roles.chain(workers) {
        let farthest = machines.entry(host).or_default();
        if ahead.unsigned_abs() > farthest.unsigned_abs() {
            *farthest = ahead;
        }
    }
    machines
        .into_iter()
        .filter(|(_, ahead)| ahead.unsigned_abs() >= APART.0)
        .filter_map(|(host, ahead)| broker::apart(&format!("the clock of {host}"), ahead))
        .collect()
}
