//! Reading the parameters of a job, so that somebody who wrote one wrongly is told which and what it takes.

use std::{fmt, ops::RangeInclusive, time::Duration};

use redrive_domain::{
    failure::{Failure, FailureKind},
    time::Millis,
};
use serde_json::{Map, Value};

/// The parameters of one job. Those that nobody asked for are errors in the end.
pub(super) struct Params<'a> {
    map: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
    problems: Vec<String>,
}

impl<'a> Params<'a> {
    pub(super) fn new(value: &'a Value) -> Self {
        let problems = match value {
            Value::Null | Value::Object(_) => Vec::new(),
            other => vec![format!(
                "params are {}: they are to be a table",
                short(other)
            )],
        };
        Self {
            map: value.as_object(),
            known: Vec::new(),
            problems,
        }
    }

    /// Notes that a parameter is wrong.
    pub(super) fn problem(&mut self, name: &str, what: impl fmt::Display) {
        self.problems.push(format!("param {name:?} {what}"));
    }

    /// The value as it was written; null counts as not given.
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.map?.get(name).filter(|value| !value.is_null())
    }

    /// The value as something, where it can be read as that.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        takes: impl fmt::Display,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(name)?;
        let read = read(value);
        if read.is_none() {
            self.problem(name, format_args!("is {}: it takes {takes}", short(value)));
        }
        read
    }

    pub(super) fn flag(&mut self, name: &'static str) -> bool {
        self.read(name, "true or false", Value::as_bool)
            .unwrap_or(false)
    }

    /// A text that is not empty and has no NUL byte.
    pub(super) fn text(&mut self, name: &'static str, takes: &str) -> Option<&'a str> {
        self.read(name, takes, |value| {
            value
                .as_str()
                .filter(|text| !text.is_empty() && !text.contains('\0'))
        })
    }

    pub(super) fn integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let takes = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, takes, |value| {
            value.as_u64().filter(|n| range.contains(n))
        })
    }

    /// A span as text (`"30s"`) or as seconds.
    pub(super) fn span(&mut self, name: &'static str, most: Millis) -> Option<Duration> {
        let takes = format!("a span such as \"2s\" or seconds, from 0 to {most}");
        self.read(name, takes, |value| {
            let span = match value {
                Value::String(text) => text.parse::<Millis>().ok()?.into(),
                value => Duration::try_from_secs_f64(value.as_f64()?).ok()?,
            };
            Some(span).filter(|span| *span <= Duration::from(most))
        })
    }

    /// A table of texts; numbers and booleans count as their text.
    pub(super) fn texts(&mut self, name: &'static str) -> Vec<(&'a str, String)> {
        let Some(map) = self.read(name, "a table of texts", Value::as_object) else {
            return Vec::new();
        };
        let mut texts = Vec::new();
        for (key, value) in map {
            match value {
                Value::String(text) => texts.push((key.as_str(), text.clone())),
                Value::Number(_) | Value::Bool(_) => texts.push((key.as_str(), value.to_string())),
                other => self.problem(
                    &format!("{name}.{key}"),
                    format_args!("is {}: it takes a text", short(other)),
                ),
            }
        }
        texts
    }

    /// Environment variables for a process, from the param `env`.
    pub(super) fn env(&mut self) -> Vec<(String, String)> {
        let mut env = Vec::new();
        for (key, value) in self.texts("env") {
            if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
                let what = "is no variable: a name has no = and neither has NUL bytes";
                self.problem(&format!("env.{key}"), what);
            }
            env.push((key.to_owned(), value));
        }
        env
    }

    /// All that is wrong, as one failure.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        for name in self.map.into_iter().flat_map(Map::keys) {
            if !self.known.contains(&name.as_str()) {
                self.problems.push(format!(
                    "param {name:?} is not known; known are {}",
                    self.known.join(", ")
                ));
            }
        }
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(misconfigured(self.problems.join("; ")))
        }
    }
}

/// A failure that every document of the job would meet.
pub(super) fn misconfigured(message: impl AsRef<str>) -> Failure {
    Failure::new(FailureKind::MISCONFIGURED, message)
}

/// The start of a value, to be shown.
pub(super) fn short(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}
