//! Where two states differ, field by field.

use std::fmt;

use redrive_domain::state::BatchState;
use serde_json::Value;

/// The most differences that are listed.
const MOST: usize = 200;
/// The longest value that is shown, in characters.
const SHOWN: usize = 120;

/// A field in which two states differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which, for instance `tiers[0].jobs[1].completed`.
    pub path: String,
    /// What it is in the first, as JSON, cut to a readable length; sets are inclusive ranges.
    pub left: String,
    /// What it is in the second.
    pub right: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ≠ {}", self.path, self.left, self.right)
    }
}

/// The fields in which two states differ, at most 200 of them.
#[must_use]
pub fn differences(a: &BatchState, b: &BatchState) -> Vec<Difference> {
    let mut found = Vec::new();
    match (serde_json::to_value(a), serde_json::to_value(b)) {
        (Ok(a), Ok(b)) => walk("", Some(&a), Some(&b), &mut found),
        _ if a == b => {}
        _ => found.push(Difference {
            path: String::new(),
            left: "a state that has no JSON form".into(),
            right: "another one".into(),
        }),
    }
    found
}

fn walk(path: &str, a: Option<&Value>, b: Option<&Value>, found: &mut Vec<Difference>) {
    if a == b || found.len() >= MOST {
        return;
    }
    match (a, b) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let only_b = b.keys().filter(|name| !a.contains_key(*name));
            for name in a.keys().chain(only_b) {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                walk(&path, a.get(name), b.get(name), found);
            }
        }
        (Some(Value::Array(left)), Some(Value::Array(right)))
            if !is_set(left) || !is_set(right) =>
        {
            for place in 0..left.len().max(right.len()) {
                let path = format!("{path}[{place}]");
                walk(&path, left.get(place), right.get(place), found);
            }
        }
        _ => found.push(Difference {
            path: path.to_owned(),
            left: show(a),
            right: show(b),
        }),
    }
}

/// Whether a list is a set of units, as inclusive ranges, which is one value.
fn is_set(list: &[Value]) -> bool {
    list.iter().all(|range| match range {
        Value::Array(range) => matches!(range[..], [Value::Number(_), Value::Number(_)]),
        _ => false,
    })
}

fn show(value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "absent".into();
    };
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    let mut cut: String = text.chars().take(SHOWN).collect();
    cut.push('…');
    cut
}
