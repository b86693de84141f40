//! Questions about the past: how a batch was, what changed from then to now, and what happened.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, PoisonError},
};

use futures::StreamExt;
use redrive_broker::{Broker, Range, Until, fold};
use redrive_domain::{
    command::Refusal,
    event::Envelope,
    ids::Namespace,
    query::{
        At, BatchRef, BatchSummary, Change, Changes, Chapters, Diff, ListBatches, ListChanges,
        Page, ReadTimeline, TimelineRow,
    },
    state::BatchState,
    subject,
    units::Ordinal,
};

use super::Server;
use crate::{
    answer::{Failed, limit},
    rows::{Filling, bad_cursor, unnamed},
    shared::Found,
};

/// Events that one page of a timeline reads at most, about: a page that would need more is short and goes on.
const READ: u64 = 50_000;
/// Batches on a page of a list that is of a moment: each may have to be folded from the log.
const FOLDED: usize = 20;

/// A place among the documents that changed between two log sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AmongChanges {
    from: u64,
    to: u64,
    ordinal: Ordinal,
}

/// A place in a timeline that ends with a log sequence: a chapter, and how many of its lines have been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InTimeline {
    until: u64,
    start: u64,
    told: usize,
}

impl fmt::Display for AmongChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.from, self.to, self.ordinal)
    }
}

impl fmt::Display for InTimeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.until, self.start, self.told)
    }
}

fn three<A: FromStr, B: FromStr, C: FromStr>(text: &str) -> Result<(A, B, C), Refusal> {
    let parse = || {
        let (first, rest) = text.split_once('.')?;
        let (second, third) = rest.split_once('.')?;
        Some((
            first.parse().ok()?,
            second.parse().ok()?,
            third.parse().ok()?,
        ))
    };
    parse().ok_or_else(|| bad_cursor(text))
}

impl FromStr for AmongChanges {
    type Err = Refusal;
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let (from, to, ordinal) = three(text)?;
        Ok(Self { from, to, ordinal })
    }
}

impl FromStr for InTimeline {
    type Err = Refusal;
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let (until, start, told) = three(text)?;
        Ok(Self { until, start, told })
    }
}

impl<B: Broker> Server<B> {
    /// A batch as of a moment, folded from the log; nothing where it had not been made. `field` is what the asker calls
    /// the moment.
    pub(super) async fn moment(
        &self,
        now: &Arc<BatchState>,
        at: At,
        as_of: u64,
        field: &str,
    ) -> Result<Found<Option<Arc<BatchState>>>, Failed> {
        match at {
            At::Seq(seq) if seq > as_of => {
                let message = format!("is {seq}: the log ends at {as_of}");
                return Err(Refusal::invalid(field, message).into());
            }
            At::Seq(seq) if seq >= now.last_seq => {
                let what = Some(Arc::clone(now));
                return Ok(Found { what, as_of: seq });
            }
            At::Seq(seq) if seq < now.created_seq => {
                let what = None;
                return Ok(Found { what, as_of: seq });
            }
            At::Seq(_) | At::Time(_) => {}
        }
        let past = || self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = |seq| (self.shared.read().epoch, now.key.clone(), seq);
        if let At::Seq(seq) = at {
            let known = past().get(&kept(seq));
            if let Some(what) = known {
                let what = Some(what);
                return Ok(Found { what, as_of: seq });
            }
        }
        let filter = subject::events_of_batch(self.config.shard, &now.key);
        let folded = fold(&self.broker, Some(filter), Until::from(at)).await;
        let mut folded = folded.map_err(unreadable)?;
        let what = folded.batches.remove(&now.key).map(Arc::new);
        let last_seq = what.as_ref().map_or(0, |batch| batch.last_seq);
        let as_of = match at {
            At::Seq(seq) => seq,
            At::Time(_) => last_seq,
        };
        if let Some(batch) = &what {
            // Pages that follow name the last event.
            for seq in [as_of, last_seq] {
                past().put(kept(seq), Arc::clone(batch), 1);
            }
        }
        Ok(Found { what, as_of })
    }

    /// The batches that there were at a moment, as they were.
    pub(super) async fn batches_at(
        &self,
        namespace: &Namespace,
        ask: &ListBatches,
        at: At,
        (before, limit): (Option<u64>, u32),
        need: u64,
    ) -> Result<Page<BatchSummary>, Failed> {
        let (before, made_by) = match at {
            At::Seq(seq) => {
                let end = seq.saturating_add(1);
                (Some(before.unwrap_or(end).min(end)), None)
            }
            At::Time(time) => (before, Some(time)),
        };
        let bucket = ask.bucket.clone();
        let wanted = move |summary: &BatchSummary| {
            bucket.as_ref().is_none_or(|it| *it == summary.bucket)
                && made_by.is_none_or(|time| summary.created_at <= time)
        };
        let most = usize::try_from(limit).unwrap_or(usize::MAX).min(FOLDED);
        let Found { what, as_of } = self
            .shared
            .list(namespace, need, before, most, wanted)
            .await?;
        if let At::Seq(seq) = at
            && seq > as_of
        {
            let message = format!("is {seq}: the log ends at {as_of}");
            return Err(Refusal::invalid("at", message).into());
        }
        let mut items = Vec::new();
        let mut last_seq = 0;
        for summary in what.items {
            let batch = BatchRef::Id(summary.batch);
            let now = self.find(namespace, batch, None, need).await?.what;
            let then = self.moment(&now, at, as_of, "at").await?.what;
            let Some(then) = then else { continue };
            last_seq = last_seq.max(then.last_seq);
            let summary = BatchSummary::of(&then);
            if ask.status.is_none_or(|status| status == summary.status) {
                items.push(summary);
            }
        }
        Ok(Page {
            items,
            next: what.next.map(|seq| seq.to_string()),
            as_of: match at {
                At::Seq(seq) => seq,
                At::Time(_) => last_seq,
            },
        })
    }

    pub(super) async fn diff(
        &self,
        namespace: &Namespace,
        ask: &ListChanges,
    ) -> Result<Diff, Failed> {
        let limit = limit(ask.limit)?;
        let after: Option<AmongChanges> = ask.after.as_deref().map(str::parse).transpose()?;
        let (need, _turn) = self.turn(ask.min_seq).await?;
        let Found { what: now, as_of } = self.find(namespace, ask.batch, None, need).await?;
        let (from, to) = match after {
            Some(place) => (At::Seq(place.from), Some(At::Seq(place.to))),
            None => (ask.from, ask.to),
        };
        let earlier = self.moment(&now, from, as_of, "from").await?.what;
        let later = match to {
            Some(to) => self.moment(&now, to, as_of, "to").await?.what,
            None => Some(Arc::clone(&now)),
        };
        let later = later.ok_or_else(|| {
            let made = now.created_seq;
            let message = format!("is before the batch was made, which was at {made}");
            Refusal::invalid("to", message)
        })?;
        let from = earlier.as_ref().map_or(0, |batch| batch.last_seq);
        let to = later.last_seq;
        if from > to {
            let message = format!(
                "comes to event {from}, which is after event {to} of \"to\": give the earlier moment as \"from\""
            );
            return Err(Refusal::invalid("from", message).into());
        }
        let changes = Changes::between(earlier.as_deref(), &later);
        let rest = match after {
            Some(place) => changes.documents().after(place.ordinal),
            None => changes.documents().clone(),
        };
        let units = rest.take(u64::from(limit));
        let names = self.details.names(&later.pages, &units).await?;
        let mut page = Filling::new(self.max_payload());
        let mut last = None;
        for ordinal in units.iter() {
            let Some((before, after)) = changes.of(ordinal) else {
                continue;
            };
            let name = names.get(&ordinal).cloned().unwrap_or_else(unnamed);
            let change = Change {
                document: name.id,
                uri: name.uri,
                ordinal,
                before,
                after,
            };
            if !page.add(change) {
                break;
            }
            last = Some(ordinal);
        }
        let next = last.filter(|last| rest.last() > Some(*last));
        let next = next.map(|ordinal| AmongChanges { from, to, ordinal }.to_string());
        Ok(Diff {
            from,
            to,
            changed: changes.documents().len(),
            transitions: changes.transitions(),
            page: Page {
                items: page.items,
                next,
                as_of,
            },
        })
    }

    pub(super) async fn timeline(
        &self,
        namespace: &Namespace,
        ask: &ReadTimeline,
    ) -> Result<Page<TimelineRow>, Failed> {
        let limit = usize::try_from(limit(ask.limit)?).unwrap_or(usize::MAX);
        let after: Option<InTimeline> = ask.after.as_deref().map(str::parse).transpose()?;
        let (need, _turn) = self.turn(ask.min_seq).await?;
        // A later page knows where it ends.
        let at = ask.at.filter(|_| after.is_none());
        let Found { what: batch, as_of } = self.find(namespace, ask.batch, at, need).await?;
        let place = after.unwrap_or(InTimeline {
            until: batch.last_seq,
            start: batch.created_seq,
            told: 0,
        });
        let mut entries = self.broker.read(Range {
            from: place.start.max(1),
            until: Some(place.until.min(batch.last_seq)),
            filter: Some(subject::events_of_batch(self.config.shard, &batch.key)),
        });
        let mut page = Telling::new(place, limit, self.max_payload());
        let mut chapters = Chapters::default();
        let mut read = 0;
        let next = loop {
            let Some(entry) = entries.next().await else {
                break chapters.rest().and_then(|chapter| page.tell(chapter));
            };
            let entry = entry.map_err(unreadable)?;
            read += 1;
            let Ok(envelope) = Envelope::decode(&entry.payload) else {
                continue;
            };
            let Some(chapter) = chapters.take(entry.seq, &envelope) else {
                continue;
            };
            if let Some(place) = page.tell(chapter) {
                break Some(place);
            }
            if read >= READ {
                break Some(page.place(entry.seq, 0));
            }
        };
        Ok(Page {
            items: page.filling.items,
            next: next.map(|place| place.to_string()),
            as_of,
        })
    }
}

fn unreadable(error: redrive_broker::BrokerError) -> Failed {
    Failed::Unavailable(format!("the log cannot be read ({error}): ask again"))
}

/// A page of a timeline while it fills.
struct Telling {
    filling: Filling<TimelineRow>,
    limit: usize,
    until: u64,
    /// Lines of the next chapter that were on the page before.
    told: usize,
}

impl Telling {
    fn new(place: InTimeline, limit: usize, max_payload: usize) -> Self {
        Self {
            filling: Filling::new(max_payload),
            limit,
            until: place.until,
            told: place.told,
        }
    }

    fn place(&self, start: u64, told: usize) -> InTimeline {
        let until = self.until;
        InTimeline { until, start, told }
    }

    /// Puts a chapter on the page; where the next page begins, if this one is full before.
    fn tell(&mut self, chapter: Vec<TimelineRow>) -> Option<InTimeline> {
        let start = chapter.first()?.seq;
        let told = std::mem::take(&mut self.told);
        for (line, row) in chapter.into_iter().enumerate().skip(told) {
            if self.filling.items.len() >= self.limit || !self.filling.add(row) {
                return Some(self.place(start, line));
            }
        }
        None
    }
}
