//! What an exit code means.

use std::{ops::RangeInclusive, os::unix::process::ExitStatusExt, process::ExitStatus};

use redrive_domain::failure::{Failure, FailureClass, FailureKind};
use rustix::process::Signal;
use serde_json::Value;

use crate::handlers::params::{Params, short};

/// What an exit means for a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    Ok,
    Skipped,
    Failed(FailureKind, FailureClass),
}

impl Meaning {
    fn failed(kind: FailureKind) -> Self {
        let class = kind.usual_class();
        Self::Failed(kind, class)
    }

    /// What a code means where the job says nothing of it: sysexits.h, and the codes of Bernstein's delivery agents
    /// (99, 100, 111) and of the shell (126, 127).
    fn usual(code: i32) -> Self {
        Self::failed(match code {
            0 => return Self::Ok,
            99 => return Self::Skipped,
            69 | 71 | 74 | 75 => FailureKind::UNAVAILABLE,
            111 => FailureKind::NETWORK,
            65 => FailureKind::INVALID_DATA,
            66 => FailureKind::NOT_FOUND,
            100 => FailureKind::REJECTED,
            64 | 77 | 78 | 126 | 127 => FailureKind::MISCONFIGURED,
            _ => FailureKind::FAILED,
        })
    }
}

/// What the job says of some codes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Ok,
    Skipped,
    Failed(Option<FailureKind>, Option<FailureClass>),
}

impl Said {
    const TAKES: &'static str =
        "ok, skipped, a failure class, a failure kind, or a table of class and kind";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(word) => Some(match word.as_str() {
                "ok" => Self::Ok,
                "skipped" => Self::Skipped,
                word => match word.parse() {
                    Ok(class) => Self::Failed(None, Some(class)),
                    Err(_) => Self::Failed(Some(word.parse().ok()?), None),
                },
            }),
            Value::Object(map) => {
                let known = map.keys().all(|key| key == "class" || key == "kind");
                let text = |key| {
                    map.get(key)
                        .map(|value: &Value| value.as_str().unwrap_or(""))
                };
                let kind = text("kind").map(str::parse).transpose().ok()?;
                let class = text("class").map(str::parse).transpose().ok()?;
                (known && !map.is_empty()).then_some(Self::Failed(kind, class))
            }
            _ => None,
        }
    }
}

/// The meanings of all codes: those that the job gives first, then the usual ones.
#[derive(Debug, Clone, Default)]
pub(super) struct ExitCodes(Vec<(RangeInclusive<i32>, Said)>);

impl ExitCodes {
    pub(super) fn read(params: &mut Params<'_>) -> Self {
        const NAME: &str = "exit_codes";
        let takes = "a table from exit codes (\"3\" or \"10-19\") to what they mean";
        let mut codes: Vec<(RangeInclusive<i32>, Said)> = Vec::new();
        let map = params.read(NAME, takes, Value::as_object);
        for (key, value) in map.into_iter().flatten() {
            let place = format!("{NAME}.{key}");
            let Some(range) = range(key) else {
                let what = "is no exit code: use one of 0 to 255, or a range such as \"10-19\"";
                params.problem(&place, what);
                continue;
            };
            let Some(said) = Said::read(value) else {
                let what = format!("is {}: it takes {}", short(value), Said::TAKES);
                params.problem(&place, what);
                continue;
            };
            let overlaps = codes.iter().any(|(other, _)| {
                is_single(other) == is_single(&range)
                    && other.start() <= range.end()
                    && range.start() <= other.end()
            });
            if overlaps {
                params.problem(&place, "overlaps with another entry");
            }
            codes.push((range, said));
        }
        // A single code goes before the range around it.
        codes.sort_by_key(|(range, _)| !is_single(range));
        Self(codes)
    }

    fn of(&self, code: i32) -> Meaning {
        let said = self.0.iter().find(|(range, _)| range.contains(&code));
        let (kind, class) = match said.map(|(_, said)| said) {
            None => return Meaning::usual(code),
            Some(Said::Ok) => return Meaning::Ok,
            Some(Said::Skipped) => return Meaning::Skipped,
            Some(Said::Failed(kind, class)) => (kind.clone(), *class),
        };
        let kind = kind.unwrap_or(match Meaning::usual(code) {
            Meaning::Failed(kind, _) => kind,
            Meaning::Ok | Meaning::Skipped => FailureKind::FAILED,
        });
        let class = class.unwrap_or(kind.usual_class());
        Meaning::Failed(kind, class)
    }

    /// What an exit means, with its code and a sentence on it.
    pub(super) fn judge(&self, status: ExitStatus) -> Exit {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit {
                meaning: self.of(code),
                code: code.to_string(),
                sentence: format!("exited with code {code}"),
                signal: false,
            },
            (None, signal) => {
                let name = signal_name(signal.unwrap_or_default());
                Exit {
                    meaning: Meaning::failed(FailureKind::CRASHED),
                    sentence: format!("was killed by {name}"),
                    code: name,
                    signal: true,
                }
            }
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) meaning: Meaning,
    pub(super) code: String,
    pub(super) sentence: String,
    pub(super) signal: bool,
}

impl Exit {
    /// The failure, where it is one.
    pub(super) fn failure(&self, stderr: &str) -> Option<Failure> {
        let Meaning::Failed(kind, class) = &self.meaning else {
            return None;
        };
        let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
        let message = match last {
            Some(line) if self.signal => format!("{}: {line}", self.sentence),
            Some(line) => line.to_owned(),
            None => self.sentence.clone(),
        };
        Some(
            Failure::new(kind.clone(), message)
                .with_class(*class)
                .with_code(&self.code),
        )
    }
}

fn is_single(range: &RangeInclusive<i32>) -> bool {
    range.start() == range.end()
}

fn range(key: &str) -> Option<RangeInclusive<i32>> {
    let code = |text: &str| text.trim().parse::<u8>().ok().map(i32::from);
    match key.split_once('-') {
        None => code(key).map(|code| code..=code),
        Some((from, to)) => {
            let (from, to) = (code(from)?, code(to)?);
            (from <= to).then_some(from..=to)
        }
    }
}

fn signal_name(number: i32) -> String {
    const NAMES: [(Signal, &str); 19] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::SYS, "SIGSYS"),
    ];
    let known = NAMES.iter().find(|(signal, _)| signal.as_raw() == number);
    known.map_or_else(
        || format!("signal {number}"),
        |(_, name)| (*name).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        assert_eq!(range("3"), Some(3..=3));
        assert_eq!(range("10-19"), Some(10..=19));
        for bad in ["", "-1", "256", "19-10", "1-2-3", "a", "3-"] {
            assert_eq!(range(bad), None, "{bad:?}");
        }
    }
}
