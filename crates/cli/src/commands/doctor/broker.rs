//! The broker, what the shard is made of, and the clock.

use redrive_broker::{
    BrokerError, BrokerInfo, Difference, Inspection, Quota, StreamReport, StreamRole, StreamState,
    nats,
};
use redrive_domain::time::Millis;

use super::{Finding, Kind};
use crate::{app::App, exit::Exit, settings::Settings};

/// What messages are made to fit in.
const PAYLOAD: usize = 1 << 20;
/// The oldest server that works, and the oldest that can be told how often to flush.
const OLDEST: (u64, u64) = (2, 9);
const FLUSHES: (u64, u64) = (2, 10);
/// Shares of a limit, in percent, from which it is worth knowing, and from which it is a problem.
const FULL: (u64, u64) = (75, 90);
/// From how far apart clocks are worth knowing, and are a problem, in milliseconds. Times in the history and the
/// moments of retries come from the coordinator's clock.
pub(super) const APART: (u64, u64) = (2_000, 30_000);
const SYNCHRONIZE: &str =
    "synchronize the clocks of the machines, for instance: timedatectl set-ntp true";
/// Settings that a stream keeps for its life.
const FIXED: [&str; 2] = ["retention", "storage"];

pub(super) fn unreachable(settings: &Settings, error: &anyhow::Error) -> Finding {
    let seen = format!("{error:#}");
    let remedy = match (&settings.nats_url, Exit::of(error)) {
        (Some(_), Exit::NotAllowed) => {
            "give credentials that may use it: --creds FILE, nats_user and nats_password_file, or user:password@ in --nats-url"
                .to_owned()
        }
        (Some(url), _) => format!(
            "start it, or give another one with --nats-url; {} comes from: redrive config show --origin",
            nats::masked(url)
        ),
        (None, _) => format!("see {}/redrive.log", settings.data.display()),
    };
    Finding::problem("broker", seen, remedy)
}

/// JetStream does not answer, or not to this account.
pub(super) fn closed(error: &BrokerError) -> Finding {
    let remedy = match error {
        BrokerError::Denied(_) => {
            "let the account use $JS.API.> : nothing of Redrive works without"
        }
        _ => "start nats-server with JetStream: nats-server -js -sd DIR",
    };
    Finding::problem("jetstream", error.to_string(), remedy)
}

pub(super) fn not_repaired(error: &BrokerError) -> Finding {
    Finding::problem(
        "repair",
        error.to_string(),
        "what cannot be changed in place has to be deleted once it is empty; a coordinator makes it anew",
    )
}

fn number(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

pub(super) fn version(info: &BrokerInfo, app: &App) -> Finding {
    let seen = format!("nats-server {} at {}", info.version, app.url);
    if number(&info.version).is_some_and(|version| version < OLDEST) {
        return Finding::problem("broker", seen, "use nats-server 2.9 or newer");
    }
    if info.max_payload < PAYLOAD {
        let seen = format!(
            "{seen}: messages of at most {}",
            bytes(info.max_payload as u64)
        );
        let remedy =
            "set max_payload to 1MB in the server's configuration: large outputs fail otherwise";
        return Finding::note("broker", seen, remedy);
    }
    Finding::ok("broker", seen)
}

pub(super) fn inspected(
    seen: &Inspection,
    kind: Kind,
    info: &BrokerInfo,
    app: &App,
    findings: &mut Vec<Finding>,
) {
    findings.push(usage(seen));
    findings.extend(seen.streams.iter().map(|report| stream(report, app)));
    for consumer in seen
        .consumers
        .iter()
        .filter(|one| !one.differences.is_empty())
    {
        findings.push(Finding::note(
            "consumer",
            format!("{:?} has {}", consumer.of, listed(&consumer.differences)),
            "delete it at the broker: who takes with it makes it anew",
        ));
    }
    findings.push(flushing(seen, kind, info));
    findings.push(clock(seen));
}

/// How much of a limit is used, where there is one.
fn share(quota: Quota) -> Option<u64> {
    let limit = quota.limit.filter(|limit| *limit > 0)?;
    Some(quota.used.saturating_mul(100) / limit)
}

fn usage(seen: &Inspection) -> Finding {
    let usage = seen.usage;
    let text = |quota: Quota, unit: fn(u64) -> String| match quota.limit {
        Some(limit) => format!("{} of {}", unit(quota.used), unit(limit)),
        None => unit(quota.used),
    };
    let count = |n: u64| n.to_string();
    let seen = format!(
        "files {}, memory {}, streams {}, consumers {}",
        text(usage.storage, bytes),
        text(usage.memory, bytes),
        text(usage.streams, count),
        text(usage.consumers, count)
    );
    let all = [usage.storage, usage.memory, usage.streams, usage.consumers];
    let fullest = all.into_iter().filter_map(share).max().unwrap_or(0);
    let remedy =
        "raise the limits of the account, or of jetstream {} in the server's configuration";
    match fullest {
        n if n >= FULL.1 => Finding::problem("jetstream", seen, remedy),
        n if n >= FULL.0 => Finding::note("jetstream", seen, remedy),
        _ => Finding::ok("jetstream", seen),
    }
}

fn listed(differences: &[Difference]) -> String {
    let one = |it: &Difference| format!("{} {} instead of {}", it.setting, it.found, it.wanted);
    let all: Vec<String> = differences.iter().map(one).collect();
    all.join(", ")
}

fn stream(report: &StreamReport, app: &App) -> Finding {
    let name = &report.name;
    let Some(state) = &report.found else {
        return Finding::problem(
            "stream",
            format!("{name} is missing"),
            format!("a coordinator makes it: {}", app.hint("coordinator")),
        );
    };
    if !state.differences.is_empty() {
        return altered(report, state, app);
    }
    if !state.poor_replicas.is_empty() {
        return Finding::problem(
            "stream",
            format!(
                "{name}: copies offline or behind on {}",
                state.poor_replicas.join(", ")
            ),
            format!("look after these servers: nats stream report {name}"),
        );
    }
    let copies = match state.replicas {
        1 => String::new(),
        n => format!(", {n} copies"),
    };
    let seen = format!(
        "{name}: {} messages, {}{copies}",
        state.messages,
        bytes(state.bytes)
    );
    let full = share(Quota {
        used: state.bytes,
        limit: state.max_bytes,
    });
    match full {
        Some(percent) if percent >= FULL.0 => {
            let seen = format!("{seen}, {percent}% of what it may hold");
            let remedy = format!(
                "give it room, a full log takes nothing: nats stream edit {name} --max-bytes=-1"
            );
            match percent >= FULL.1 {
                true => Finding::problem("stream", seen, remedy),
                false => Finding::note("stream", seen, remedy),
            }
        }
        _ => Finding::ok("stream", seen),
    }
}

fn altered(report: &StreamReport, state: &StreamState, app: &App) -> Finding {
    let name = &report.name;
    let fixed = state
        .differences
        .iter()
        .any(|it| FIXED.contains(&it.setting.as_str()));
    let remedy = match (fixed, report.role) {
        (false, _) => app.hint("doctor --repair"),
        (true, StreamRole::Log) => {
            "that cannot be changed in place: copy the log into a new stream, or begin with a new account".to_owned()
        }
        (true, _) => format!("once it is empty, delete it, and a coordinator makes it anew: nats stream rm {name}"),
    };
    let seen = format!("{name} has {}", listed(&state.differences));
    match report.role {
        // They only decide who tries.
        StreamRole::Leases => Finding::note("stream", seen, remedy),
        _ => Finding::problem("stream", seen, remedy),
    }
}

/// JetStream does not tell its clients how often it flushes.
fn flushing(seen: &Inspection, kind: Kind, info: &BrokerInfo) -> Finding {
    let log = seen
        .stream(StreamRole::Log)
        .and_then(|log| log.found.as_ref());
    let copies = log.map_or(1, |log| log.replicas);
    if copies >= 3 {
        return Finding::ok(
            "fsync",
            format!("the log has {copies} copies; one may lose its power"),
        );
    }
    if kind != Kind::Configured {
        return Finding::ok(
            "fsync",
            "the server of the data folder flushes every 2 minutes: kill -9 loses nothing, a power cut may lose that",
        );
    }
    let seen = "a server does not say how often it flushes: every 2 minutes unless it is told, and a power cut may lose that";
    let remedy = match number(&info.version) {
        Some(version) if version < FLUSHES => {
            "use nats-server 2.10 or newer with jetstream { sync_interval: always }, or three copies of the log"
        }
        _ => {
            "see that its configuration has jetstream { sync_interval: always }, or give the log three copies"
        }
    };
    Finding::note("fsync", seen, remedy)
}

fn clock(seen: &Inspection) -> Finding {
    let Some(clock) = seen.clock else {
        return Finding::note(
            "clock",
            "the server does not tell its time to this account",
            "compare the clocks yourself: date --utc",
        );
    };
    let off = clock.ahead_ms.unsigned_abs();
    match apart("the broker's clock", clock.ahead_ms) {
        Some(finding) => finding,
        None => Finding::ok(
            "clock",
            format!(
                "the broker's is within {} of this one",
                Millis(off + clock.within_ms)
            ),
        ),
    }
}

/// What is to be said of a clock that is so far ahead of the one here.
pub(super) fn apart(whose: &str, ahead_ms: i64) -> Option<Finding> {
    let off = ahead_ms.unsigned_abs();
    let word = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let seen = format!("{whose} is {} {word} the one here", Millis(off));
    match off {
        n if n >= APART.1 => Some(Finding::problem("clock", seen, SYNCHRONIZE)),
        n if n >= APART.0 => Some(Finding::note("clock", seen, SYNCHRONIZE)),
        _ => None,
    }
}

fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut size = n as f64;
    let mut unit = "B";
    for larger in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    match unit {
        "B" => format!("{n} B"),
        _ => format!("{size:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use redrive_broker::Usage;

    use super::*;
    use crate::commands::doctor::Mark;

    #[test]
    fn limits_are_told_before_they_are_met() {
        let with = |used| Inspection {
            clock: None,
            usage: Usage {
                storage: Quota {
                    used,
                    limit: Some(1_000),
                },
                ..Usage::default()
            },
            streams: Vec::new(),
            consumers: Vec::new(),
        };
        let marks = [749, 750, 899, 900, 2_000].map(|used| usage(&with(used)).mark);
        let expected = [
            Mark::Ok,
            Mark::Note,
            Mark::Note,
            Mark::Problem,
            Mark::Problem,
        ];
        assert_eq!(marks, expected);
    }

    #[test]
    fn clocks_that_are_apart_are_told() {
        assert_eq!(apart("it", 1_999), None);
        let behind = apart("it", -2_500).unwrap();
        assert_eq!(behind.mark, Mark::Note);
        assert_eq!(behind.seen, "it is 2.5s behind the one here");
        assert_eq!(apart("it", 60_000).unwrap().mark, Mark::Problem);
    }

    #[test]
    fn sizes_are_short() {
        let shown = [0, 1_023, 1_536, 5 << 30].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(number("2.10.1") > Some(OLDEST));
        assert!(number("2.8.4") < Some(OLDEST));
        assert_eq!(number("memory"), None);
    }
}
