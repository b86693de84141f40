//! `doctor`: looks at the whole system, and says of each thing how it is and what to do.

mod broker;
mod roles;

use redrive_broker::Broker;
use serde::Serialize;
use tokio::time::{Duration, Instant};

use crate::{
    app::App,
    args::{DoctorArgs, Format, Global},
    exit::Exit,
    output::{self, counted},
    roll::{self, Listener, Roll},
    say,
    settings::Settings,
    system::Life,
};

/// How much longer to listen where something that should be there was not heard, or is not settled yet.
const LONGER: Duration = Duration::from_secs(5);
/// How often to look whether it is.
const LOOK: Duration = Duration::from_millis(250);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mark {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Something does not work, or is about not to.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    mark: Mark,
    check: &'static str,
    /// What was seen.
    seen: String,
    /// What to do: a command where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self {
            mark: Mark::Ok,
            check,
            seen: seen.into(),
            remedy: None,
        }
    }

    fn note(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            mark: Mark::Note,
            check,
            seen: seen.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn problem(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            mark: Mark::Problem,
            ..Self::note(check, seen, remedy)
        }
    }
}

/// Which system is looked at: what it has to have depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One that is configured by its URL.
    Configured,
    /// That of a data folder, run by `dev`.
    Dev,
    /// That of a data folder, which runs while commands use it and whose work is done by them.
    Embedded,
}

pub(crate) async fn doctor(
    settings: &Settings,
    given: &Global,
    args: DoctorArgs,
) -> anyhow::Result<Exit> {
    let mut findings = Vec::new();
    match App::open(settings, given).await {
        Ok(app) => examine(&app, args, &mut findings).await,
        Err(error) => findings.push(broker::unreachable(settings, &error)),
    }
    show(settings.output, &findings)?;
    let worst = findings.iter().map(|finding| finding.mark).max();
    Ok(match worst {
        Some(Mark::Problem) => Exit::Error,
        _ => Exit::Done,
    })
}

async fn examine(app: &App, args: DoctorArgs, findings: &mut Vec<Finding>) {
    let broker = app.client.broker();
    let kind = match app.life() {
        None => Kind::Configured,
        Some(Life::Own) => Kind::Dev,
        Some(Life::Users) => Kind::Embedded,
    };
    findings.push(broker::version(&broker.info(), app));
    // Listening goes on while the broker is looked at.
    let listener = Listener::open(broker).await;
    let repaired = match args.repair {
        true => broker.repair().await,
        false => Ok(()),
    };
    match broker.inspect().await {
        Ok(seen) => {
            broker::inspected(&seen, kind, &broker.info(), app, findings);
            roles::queues(&seen, findings);
            match listener {
                Ok(listener) => {
                    let roll = hear(listener, kind).await;
                    let under_way = match roll.projectors().is_empty() {
                        true => Vec::new(),
                        false => roles::under_way(app).await,
                    };
                    roles::heard(&roll, &under_way, kind, app, findings);
                }
                Err(error) => findings.push(roles::deaf(&error)),
            }
        }
        Err(error) => findings.push(broker::closed(&error)),
    }
    if let Err(error) = repaired {
        findings.push(broker::not_repaired(&error));
    }
}

/// Who is there. Listens longer where somebody is missing, or is only about to be what it should be.
async fn hear(mut listener: Listener, kind: Kind) -> Roll {
    let begun = Instant::now();
    listener.until(begun + roll::LISTEN).await;
    while begun.elapsed() < roll::LISTEN + LONGER && !is_settled(&listener.roll, kind) {
        listener.until(Instant::now() + LOOK).await;
    }
    listener.roll
}

fn is_settled(roll: &Roll, kind: Kind) -> bool {
    let projectors = roll.projectors();
    let followed = projectors
        .iter()
        .any(|(_, standing)| standing.serving && standing.lag() == Some(0));
    roll.leader().is_some() && followed && (kind == Kind::Embedded || !roll.workers.is_empty())
}

fn show(format: Format, findings: &[Finding]) -> anyhow::Result<()> {
    match format {
        Format::Json => return output::line(&serde_json::to_string_pretty(findings)?),
        Format::Jsonl => {
            for finding in findings {
                output::line(&serde_json::to_string(finding)?)?;
            }
            return Ok(());
        }
        Format::Table => {}
    }
    for finding in findings {
        let mark = match finding.mark {
            Mark::Ok => "ok",
            Mark::Note => "note",
            Mark::Problem => "PROBLEM",
        };
        output::line(&format!("{mark:8} {:12} {}", finding.check, finding.seen))?;
        if let Some(remedy) = &finding.remedy {
            output::line(&format!("{:21} -> {remedy}", ""))?;
        }
    }
    let count = |mark| findings.iter().filter(|one| one.mark == mark).count() as u64;
    let (problems, notes) = (count(Mark::Problem), count(Mark::Note));
    match (problems, notes) {
        (0, 0) => say!("All is well."),
        (0, _) => say!("No problem, {}.", counted(notes, "note")),
        _ => say!(
            "{}, {}.",
            counted(problems, "problem"),
            counted(notes, "note")
        ),
    }
    Ok(())
}
