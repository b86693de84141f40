//! The demo's own handlers: what a Rust user would write.

use std::{collections::BTreeMap, sync::Arc};

use redrive_domain::{
    document::Output,
    failure::{Failure, FailureKind},
    ids::{HandlerName, InvalidName},
};
use redrive_worker::handler::{Context, Done, Handler, Unit, handler_fn};
use serde_json::{Value, json};

/// Words that an entry of the index keeps at most.
const WORDS: usize = 400;

pub(super) fn handlers() -> Result<Vec<Arc<dyn Handler>>, InvalidName> {
    Ok(vec![
        handler_fn(HandlerName::new("demo-words")?, words),
        handler_fn(HandlerName::new("demo-outline")?, outline),
        handler_fn(HandlerName::new("demo-index")?, index),
    ])
}

fn text_of(unit: &Unit) -> Result<(String, bool), Failure> {
    let input = unit
        .input()
        .ok_or_else(|| Failure::new(FailureKind::MISSING_FIELD, "there is no text to read"))?;
    let text = String::from_utf8_lossy(&input.body).into_owned();
    let is_html = input.media_type.starts_with("text/html");
    if text.trim().is_empty() {
        return Err(Failure::new(FailureKind::INVALID_DATA, "the text is empty"));
    }
    Ok((text, is_html))
}

/// The text of a page without its tags: enough for pages as plain as the demo's.
fn without_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut in_tag = false;
    for c in html.chars() {
        match c {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                text.push(' ');
            }
            c if !in_tag => text.push(c),
            _ => {}
        }
    }
    text
}

pub(super) fn terms(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| (2..=40).contains(&word.chars().count()))
        .map(str::to_lowercase)
}

async fn words(unit: Unit, _: Context) -> Result<Done, Failure> {
    let (text, is_html) = text_of(&unit)?;
    let text = if is_html { without_tags(&text) } else { text };
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut total = 0u32;
    for term in terms(&text) {
        *counts.entry(term).or_default() += 1;
        total += 1;
    }
    let mut counts: Vec<(String, u32)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.truncate(WORDS);
    let counts: BTreeMap<String, u32> = counts.into_iter().collect();
    Ok(Done::Completed(Some(Output::json(
        &json!({ "total": total, "counts": counts }),
    ))))
}

async fn outline(unit: Unit, _: Context) -> Result<Done, Failure> {
    let (text, is_html) = text_of(&unit)?;
    let title = if is_html {
        text.split_once("<title>")
            .and_then(|(_, rest)| rest.split_once("</title>"))
            .map(|(title, _)| title)
    } else {
        // A program says what it is in a comment at its head, if anywhere.
        let heading = |line: &&str| line.starts_with("# ") || line.starts_with("//!");
        let mut head = text.lines().take(20);
        head.find(heading)
            .or_else(|| text.lines().find(|line| !line.trim().is_empty()))
    };
    let title: String = title
        .unwrap_or_default()
        .trim_start_matches(['#', '/', '!', ' '])
        .chars()
        .take(100)
        .collect();
    let value = json!({ "title": title, "lines": text.lines().count(), "bytes": text.len() });
    Ok(Done::Completed(Some(Output::json(&value))))
}

/// Brings together what the two extractors made of a document.
async fn index(unit: Unit, _: Context) -> Result<Done, Failure> {
    let part = |name: &str| -> Result<Value, Failure> {
        let found = unit.inputs.iter().find(|(job, _)| job.as_str() == name);
        found
            .and_then(|(_, output)| output.to_value())
            .ok_or_else(|| {
                Failure::new(
                    FailureKind::MISSING_FIELD,
                    format!("there is no output of {name}"),
                )
            })
    };
    let (words, outline) = (part("words")?, part("outline")?);
    let entry =
        json!({ "title": outline["title"], "total": words["total"], "counts": words["counts"] });
    Ok(Done::Completed(Some(Output::json(&entry))))
}
