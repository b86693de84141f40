//! Events in words.

use serde_json::Value;

use super::TimelineRow;
use crate::{
    event::{Attempt, Envelope, Event},
    failure::{FailureClass, FailureKind},
    work::FailedUnits,
};

/// Characters of a line at most, about.
const CHARS: usize = 300;

/// The line of one event.
pub(super) fn row(seq: u64, envelope: &Envelope) -> TimelineRow {
    let event = &envelope.event;
    let mut row = TimelineRow {
        seq,
        last_seq: seq,
        at: envelope.at,
        until: envelope.at,
        events: 1,
        event_type: event.name().to_owned(),
        tier: None,
        job: None,
        class: None,
        kind: None,
        worker: None,
        units: event.units().len(),
        actor: envelope.actor.clone(),
        text: String::new(),
    };
    match event {
        Event::BatchCreated {
            bucket, pipeline, ..
        } => {
            let (name, tiers) = (&pipeline.name, pipeline.tiers.len());
            let many = if tiers == 1 { "" } else { "s" };
            row.text =
                format!("batch created in bucket {bucket}: pipeline {name}, {tiers} tier{many}");
        }
        Event::DocumentsAdded { count, .. } => {
            row.units = u64::from(*count);
            row.text = "documents added".to_owned();
        }
        Event::BatchSubmitted { documents } => {
            row.units = u64::from(*documents);
            row.text = "documents submitted".to_owned();
        }
        Event::BatchCompleted {
            status,
            completed,
            failed,
            cancelled,
        } => {
            row.text = format!("batch {status}: {completed} documents completed, {failed} failed");
            if *cancelled > 0 {
                row.text.push_str(&format!(", {cancelled} cancelled"));
            }
        }
        Event::BatchCancelled { reason, documents } => {
            let reason = reason.as_ref().map(|why| format!(": {why}"));
            let reason = reason.unwrap_or_default();
            row.text = format!("batch cancelled with {documents} documents on the way{reason}");
        }
        Event::TierStarted { tier } => {
            row.tier = Some(*tier);
            row.text = "started".to_owned();
        }
        Event::TierCompleted {
            tier,
            status,
            completed,
            failed,
        } => {
            row.tier = Some(*tier);
            row.text = format!("{status}: {completed} documents completed, {failed} failed");
        }
        Event::DocumentsCompleted { attempt, .. } => {
            row.of(attempt);
            row.text = "completed".to_owned();
        }
        Event::AttemptFailed {
            attempt,
            class,
            kind,
            units,
            ..
        } => {
            row.of(attempt);
            row.failed(*class, kind);
            row.text = format!("tried again: {class} {kind}{}", because(units));
        }
        Event::DocumentsFailed {
            attempt,
            class,
            kind,
            units,
        } => {
            row.of(attempt);
            row.failed(*class, kind);
            row.text = format!("failed: {class} {kind}{}", because(units));
        }
        Event::RetryScheduled { selected, .. } => {
            let of = |part: &crate::event::Selected| format!("tier {} {}", part.tier, part.job);
            let of: Vec<String> = selected.iter().map(of).collect();
            row.text = format!("to be executed again by a retry: {}", of.join(", "));
        }
        Event::WorkerLost { attempt, .. } => {
            row.of(attempt);
            row.worker.clone_from(&attempt.worker);
            row.text = match &attempt.worker {
                Some(worker) => format!("lost with worker {worker}"),
                None => "lost with a worker".to_owned(),
            };
        }
        Event::DispatchPaused { reason, .. } => {
            row.text = format!("{}: {reason}", plain(envelope, &["reason"]));
        }
        Event::CommandRefused { verb, message, .. } => {
            row.text = match verb {
                Some(verb) => format!("{verb} refused: {message}"),
                None => format!("a command was refused: {message}"),
            };
        }
        Event::KeyCreated(key) => row.text = format!("key {} made: {}", key.name, key.scopes),
        _ => row.text = plain(envelope, &[]),
    }
    row.text = brief(&row.text);
    row
}

impl TimelineRow {
    fn of(&mut self, attempt: &Attempt) {
        self.tier = Some(attempt.tier);
        self.job = Some(attempt.job.clone());
    }

    fn failed(&mut self, class: FailureClass, kind: &FailureKind) {
        self.class = Some(class);
        self.kind = Some(kind.clone());
    }
}

pub(super) fn sentence(row: &TimelineRow) -> String {
    let mut words = Vec::new();
    if let Some(tier) = row.tier {
        words.push(match &row.job {
            Some(job) => format!("tier {tier} {job}:"),
            None => format!("tier {tier}"),
        });
    }
    if row.units > 0 {
        words.push(row.units.to_string());
    }
    words.push(row.text.clone());
    words.join(" ")
}

/// The first reason of several.
fn because(units: &[FailedUnits]) -> String {
    let message = units.iter().map(|failed| failed.failure.message.as_str());
    let first = message.into_iter().find(|message| !message.is_empty());
    first.map_or_else(String::new, |message| format!(": {message}"))
}

/// An event in the words of its own fields, but for some.
fn plain(envelope: &Envelope, without: &[&str]) -> String {
    let name = envelope.event.name().replace(['.', '_'], " ");
    let written = serde_json::to_value(&envelope.event);
    let fields = written.ok().and_then(|mut event| {
        let fields = event.get_mut(envelope.event.name())?.as_object_mut()?;
        fields.retain(|field, _| !without.contains(&field.as_str()));
        Some(words(&Value::Object(std::mem::take(fields))))
    });
    match fields {
        Some(fields) if !fields.is_empty() => format!("{name}: {fields}"),
        _ => name,
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => joined(items.iter().map(words), ", "),
        Value::Object(fields) => match (fields.len(), fields.get("tier"), fields.get("job")) {
            (2, Some(tier), Some(Value::String(job))) => format!("tier {tier} {job}"),
            _ => {
                let field = |(name, value): (&String, &Value)| {
                    format!("{} {}", name.replace('_', " "), words(value))
                };
                joined(fields.iter().map(field), ", ")
            }
        },
        other => other.to_string(),
    }
}

fn joined(parts: impl Iterator<Item = String>, between: &str) -> String {
    let mut all = String::new();
    for part in parts {
        if all.len() > CHARS {
            break;
        }
        if !all.is_empty() {
            all.push_str(between);
        }
        all.push_str(&part);
    }
    all
}

fn brief(text: &str) -> String {
    // Texts of users could move a cursor.
    let harmless = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().map(harmless).take(CHARS).collect();
    if text.chars().nth(CHARS).is_some() {
        short.push('…');
    }
    short
}
