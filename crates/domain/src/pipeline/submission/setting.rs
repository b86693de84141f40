//! A change as people write it on a command line: `memory_bytes=4GiB`.

use super::SubmissionChange;
use crate::{ids::ResourceClass, time::Millis};

/// A text that is no setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetting {
    /// It is not of the form `NAME=VALUE`.
    #[error("{0:?} is not NAME=VALUE, for instance memory_bytes=4GiB")]
    Shape(String),
    /// There is no such parameter.
    #[error("{0:?} cannot be set: use one of {names}", names = NAMES.join(", "))]
    Name(String),
    /// The value is not one of that parameter.
    #[error("{name}={value:?}: it takes {want}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it was given.
        value: String,
        /// What it takes.
        want: &'static str,
    },
    /// It is set already.
    #[error("{0} is set twice: say it once")]
    Twice(&'static str),
}

/// All that can be set, in the order in which it is told.
const NAMES: [&str; 12] = [
    "requires_gpu",
    "class",
    "memory_bytes",
    "num_cpus",
    "timeout",
    "max_attempts",
    "rate_limit",
    "max_concurrency",
    "priority",
    "entrypoint",
    "deployment_mode",
    "plugin_archives",
];

fn brief(text: &str) -> String {
    text.chars().take(80).collect()
}

impl SubmissionChange {
    /// Reads `NAME=VALUE` and adds it. Memory takes units (`4GiB`, `500MB`), a timeout is a span (`10m`), and archives
    /// are separated by commas. Bounds are not checked here: see [`SubmissionChange::errors`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set(&mut self, text: &str) -> Result<(), InvalidSetting> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| InvalidSetting::Shape(brief(text)))?;
        let name = *NAMES
            .iter()
            .find(|known| **known == name)
            .ok_or_else(|| InvalidSetting::Name(brief(name)))?;
        let read = match name {
            "requires_gpu" => fill(&mut self.requires_gpu, value.parse().ok(), "true or false"),
            "class" => {
                let class = ResourceClass::new(value).ok();
                fill(
                    &mut self.class,
                    class,
                    "a name of 1 to 64 of A-Z a-z 0-9 _ -",
                )
            }
            "memory_bytes" => {
                let want = "bytes, with a unit such as GiB or MB if you like";
                fill(&mut self.memory_bytes, bytes(value), want)
            }
            "num_cpus" => fill(&mut self.num_cpus, value.parse().ok(), WHOLE),
            "timeout" => fill(&mut self.timeout, value.parse().ok(), "a span such as 10m"),
            "max_attempts" => fill(&mut self.max_attempts, value.parse().ok(), WHOLE),
            "rate_limit" => {
                let rate = value.parse().ok().filter(|rate: &f64| rate.is_finite());
                fill(
                    &mut self.rate_limit,
                    rate,
                    "units a second, for instance 2.5",
                )
            }
            "max_concurrency" => fill(&mut self.max_concurrency, value.parse().ok(), WHOLE),
            "priority" => fill(&mut self.priority, value.parse().ok(), "0 to 100"),
            "entrypoint" => fill(&mut self.entrypoint, Some(value.to_owned()), "a text"),
            "deployment_mode" => fill(&mut self.deployment_mode, Some(value.to_owned()), "a text"),
            _ => {
                let list = value.split(',').filter(|part| !part.is_empty());
                let list = Some(list.map(str::to_owned).collect());
                fill(&mut self.plugin_archives, list, "names separated by commas")
            }
        };
        read.map_err(|wrong| match wrong {
            Wrong::Twice => InvalidSetting::Twice(name),
            Wrong::Value(want) => InvalidSetting::Value {
                name,
                value: brief(value),
                want,
            },
        })
    }

    /// What it changes, as it can be given to [`SubmissionChange::set`] again.
    #[must_use]
    pub fn settings(&self) -> Vec<String> {
        let values = [
            self.requires_gpu.map(|yes| yes.to_string()),
            self.class.as_ref().map(ToString::to_string),
            self.memory_bytes.map(written),
            self.num_cpus.map(|n| n.to_string()),
            self.timeout.map(span),
            self.max_attempts.map(|n| n.to_string()),
            self.rate_limit.map(|rate| rate.to_string()),
            self.max_concurrency.map(|n| n.to_string()),
            self.priority.map(|n| n.to_string()),
            self.entrypoint.clone(),
            self.deployment_mode.clone(),
            self.plugin_archives.as_ref().map(|all| all.join(",")),
        ];
        let named = NAMES.iter().zip(values);
        named
            .filter_map(|(name, value)| Some(format!("{name}={}", value?)))
            .collect()
    }
}

const WHOLE: &str = "a whole number";

enum Wrong {
    Twice,
    Value(&'static str),
}

fn fill<T>(field: &mut Option<T>, value: Option<T>, want: &'static str) -> Result<(), Wrong> {
    if field.is_some() {
        return Err(Wrong::Twice);
    }
    *field = Some(value.ok_or(Wrong::Value(want))?);
    Ok(())
}

/// A number of bytes: `KiB`, `MiB`, … are powers of 1,024; `kB`, `MB`, … of 1,000. The `B` may be left out.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (base, letter) = match unit.strip_suffix('i') {
        Some(letter) => (1_024u64, letter),
        None => (1_000, unit),
    };
    let power = match letter {
        "" if base == 1_000 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let scale = base.checked_pow(power)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    let part = |number: f64| (number * scale as f64) as u64;
    number.parse::<f64>().ok().map(part)
}

/// In the largest unit in which it is a whole number.
fn written(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB")];
    let whole = units
        .iter()
        .find(|(bits, _)| bytes > 0 && bytes.trailing_zeros() >= *bits);
    whole.map_or_else(
        || bytes.to_string(),
        |(bits, unit)| format!("{}{unit}", bytes >> bits),
    )
}

fn span(span: Millis) -> String {
    match span.0 {
        ms if ms > 0 && ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms > 0 && ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}
