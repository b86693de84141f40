//! The fields of one table, each read with what it takes.

use std::fmt;

use serde_json::{Map, Value};

use super::SpecError;
use crate::{
    ids::InvalidName,
    pipeline::submission::{is_text, texts_of},
    time::Millis,
};

/// The fields of one table; those that nobody asked for are errors in the end.
pub(super) struct Fields<'a> {
    map: Map<String, Value>,
    path: String,
    known: Vec<&'static str>,
    errors: &'a mut Vec<SpecError>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(value: &Value, path: String, errors: &'a mut Vec<SpecError>) -> Self {
        let map = value.as_object().cloned().unwrap_or_else(|| {
            errors.push(SpecError {
                path: path.clone(),
                message: "is to be a table".to_owned(),
            });
            Map::new()
        });
        Self {
            map,
            path,
            known: Vec::new(),
            errors,
        }
    }

    fn place(&self, field: &str) -> String {
        match self.path.as_str() {
            "" => field.to_owned(),
            path => format!("{path}.{field}"),
        }
    }

    pub(super) fn error(&mut self, field: &str, message: impl Into<String>) {
        let path = self.place(field);
        self.errors.push(SpecError {
            path,
            message: message.into(),
        });
    }

    pub(super) fn get(&mut self, field: &'static str) -> Option<&Value> {
        if !self.known.contains(&field) {
            self.known.push(field);
        }
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn read<T>(
        &mut self,
        field: &'static str,
        want: impl fmt::Display,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(field)?.clone();
        let read = read(&value);
        if read.is_none() {
            let shown: String = value.to_string().chars().take(60).collect();
            self.error(field, format!("is {shown}: it takes {want}"));
        }
        read
    }

    pub(super) fn text(&mut self, field: &'static str) -> Option<String> {
        self.read(field, "a text of 1 to 200 characters", |value| {
            let text = value.as_str()?;
            let fits =
                (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control);
            fits.then(|| text.to_owned())
        })
    }

    pub(super) fn flag(&mut self, field: &'static str) -> bool {
        self.read(field, "true or false", Value::as_bool)
            .unwrap_or(false)
    }

    pub(super) fn name<T>(
        &mut self,
        field: &'static str,
        new: fn(String) -> Result<T, InvalidName>,
    ) -> Option<T> {
        let want = "a name of 1 to 64 of the characters A-Z a-z 0-9 _ -";
        self.read(field, want, |value| new(value.as_str()?.to_owned()).ok())
    }

    pub(super) fn integer(
        &mut self,
        field: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let want = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(field, want, |value| {
            value.as_u64().filter(|n| range.contains(n))
        })
    }

    pub(super) fn count(
        &mut self,
        field: &'static str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        u32::try_from(self.integer(field, range)?).ok()
    }

    /// One line of text of at most so many bytes.
    pub(super) fn line(&mut self, field: &'static str, most: usize) -> Option<String> {
        self.read(field, texts_of(most), |value| {
            let text = value.as_str().filter(|text| is_text(text, most))?;
            Some(text.to_owned())
        })
    }

    /// A list of such lines.
    pub(super) fn lines(&mut self, field: &'static str, count: usize, most: usize) -> Vec<String> {
        let want = format!(
            "a list of at most {count} texts, each of {}",
            texts_of(most)
        );
        let read = self.read(field, want, |value| {
            let list = value.as_array().filter(|list| list.len() <= count)?;
            let lines = list.iter().map(|value| {
                let text = value.as_str().filter(|text| is_text(text, most))?;
                Some(text.to_owned())
            });
            lines.collect()
        });
        read.unwrap_or_default()
    }

    pub(super) fn number(
        &mut self,
        field: &'static str,
        range: std::ops::RangeInclusive<f64>,
    ) -> Option<f64> {
        let want = format!("a number from {} to {}", range.start(), range.end());
        self.read(field, want, |value| {
            value.as_f64().filter(|n| range.contains(n))
        })
    }

    /// A span as text (`"30s"`) or as seconds.
    pub(super) fn span(
        &mut self,
        field: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<Millis> {
        let want = format!(
            "a span such as \"30s\" or seconds, from {} to {}",
            Millis(*range.start()),
            Millis(*range.end())
        );
        self.read(field, want, |value| {
            let span = match value {
                Value::String(text) => text.parse().ok()?,
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                value => Millis((value.as_f64().filter(|s| *s >= 0.0)? * 1_000.0) as u64),
            };
            range.contains(&span.0).then_some(span)
        })
    }

    pub(super) fn nested<T>(
        &mut self,
        field: &'static str,
        read: fn(&Value, String, &mut Vec<SpecError>) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(field)?.clone();
        let path = self.place(field);
        read(&value, path, self.errors)
    }

    pub(super) fn list<T>(
        &mut self,
        field: &'static str,
        count: std::ops::RangeInclusive<usize>,
        read: fn(&Value, String, &mut Vec<SpecError>) -> Option<T>,
    ) -> Vec<T> {
        let items = match self.get(field) {
            Some(Value::Array(items)) => items.clone(),
            None => Vec::new(),
            Some(_) => {
                self.error(field, "is to be a list of tables");
                return Vec::new();
            }
        };
        if !count.contains(&items.len()) {
            let (least, most, has) = (count.start(), count.end(), items.len());
            self.error(
                field,
                format!("has {has} entries: it takes {least} to {most}"),
            );
            return Vec::new();
        }
        let place = self.place(field);
        items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| read(item, format!("{place}[{i}]"), self.errors))
            .collect()
    }

    pub(super) fn finish(self) {
        for field in self.map.keys() {
            if !self.known.contains(&field.as_str()) {
                let path = self.place(field);
                let message = format!("is not known here; known are {}", self.known.join(", "));
                self.errors.push(SpecError { path, message });
            }
        }
    }
}
