//! Asking what the last tier made: Okapi BM25 (Robertson et al., "Okapi at TREC-3", 1994) over the entries.

use std::collections::BTreeMap;

use futures::StreamExt;
use redrive_domain::query::{BatchRef, ListResults};
use serde::Deserialize;

use super::extract::terms;
use crate::app::App;

/// How soon more of the same word counts for less, and how much a document's length matters: the usual values.
const K1: f64 = 1.2;
const B: f64 = 0.75;

#[derive(Deserialize)]
struct Entry {
    title: String,
    total: u32,
    counts: BTreeMap<String, u32>,
}

pub(super) struct Index {
    entries: Vec<(String, Entry)>,
}

pub(super) struct Hit<'a> {
    pub(super) document: &'a str,
    pub(super) title: &'a str,
}

impl Index {
    pub(super) async fn read(app: &App, batch: BatchRef) -> anyhow::Result<Self> {
        let query = ListResults {
            batch,
            tier: None,
            job: None,
            limit: None,
            after: None,
            min_seq: None,
            at: None,
        };
        let mut entries = Vec::new();
        let mut rows = std::pin::pin!(app.client.pages(query));
        while let Some(row) = rows.next().await {
            let row = row?;
            if let Some(entry) = row
                .output
                .and_then(|output| serde_json::from_value(output).ok())
            {
                entries.push((row.document, entry));
            }
        }
        Ok(Self { entries })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn ask(&self, question: &str, most: usize) -> Vec<Hit<'_>> {
        let count = self.entries.len() as f64;
        let average = self
            .entries
            .iter()
            .map(|(_, entry)| f64::from(entry.total))
            .sum::<f64>()
            / count.max(1.0);
        let weights: Vec<(String, f64)> = terms(question)
            .map(|term| {
                let with = self
                    .entries
                    .iter()
                    .filter(|(_, entry)| entry.counts.contains_key(&term))
                    .count() as f64;
                let weight = ((count - with + 0.5) / (with + 0.5) + 1.0).ln();
                (term, weight)
            })
            .collect();
        let score = |entry: &Entry| -> f64 {
            let norm = K1 * (1.0 - B + B * f64::from(entry.total) / average.max(1.0));
            let of_term = |(term, weight): &(String, f64)| {
                let times = entry.counts.get(term).copied().map_or(0.0, f64::from);
                weight * times * (K1 + 1.0) / (times + norm)
            };
            weights.iter().map(of_term).sum()
        };
        let mut hits: Vec<(f64, &(String, Entry))> = self
            .entries
            .iter()
            .map(|entry| (score(&entry.1), entry))
            .collect();
        hits.retain(|(score, _)| *score > 0.0);
        hits.sort_by(|a, b| b.0.total_cmp(&a.0));
        hits.into_iter()
            .take(most)
            .map(|(_, (document, entry))| Hit {
                document,
                title: &entry.title,
            })
            .collect()
    }
}
