//! Lists of units, page by page. The order is that of tier, job and ordinal, which never changes, and the cursor is a
//! place in it: nothing is shown twice or left out on the way, whatever happens to the batch between two pages.

use std::{collections::BTreeMap, fmt, str::FromStr};

use redrive_domain::{
    command::Refusal,
    document::Output,
    failure::{Failure, FailureClass, FailureKind},
    ids::{JobName, WorkerId},
    pipeline::{JobSpec, TierNum},
    query::{FailureRow, ListFailures, ListResults, PAGE_BYTES, Page, ResultRow},
    state::{BatchState, JobState},
    time::Timestamp,
    units::{Ordinal, UnitSet},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    answer::Failed,
    details::{Detail, Details, Name, Source},
};

/// Units whose outputs are looked up together: outputs may be large, and a page may be full after a few.
const OUTPUTS_AT_ONCE: u64 = 64;
/// Bytes of an answer beside its rows, at most.
const ANSWER_BYTES: usize = 8 * 1024;

/// A place in the order of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    tier: TierNum,
    job: usize,
    ordinal: Ordinal,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.tier, self.job, self.ordinal)
    }
}

impl FromStr for Cursor {
    type Err = Refusal;
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let parse = || {
            let (tier, rest) = text.split_once('.')?;
            let (job, ordinal) = rest.split_once('.')?;
            Some(Self {
                tier: tier.parse().ok()?,
                job: job.parse().ok()?,
                ordinal: ordinal.parse().ok()?,
            })
        };
        parse().ok_or_else(|| bad_cursor(text))
    }
}

/// A cursor that no answer gave.
pub(crate) fn bad_cursor(text: &str) -> Refusal {
    let text: String = text.chars().take(80).collect();
    Refusal::invalid(
        "after",
        format!("{text:?} is not the \"next\" of a page before"),
    )
}

/// Some units of one job, and its place.
struct Slot<'a> {
    at: Cursor,
    spec: &'a JobSpec,
    job: &'a JobState,
    units: UnitSet,
}

/// The jobs from the cursor on with their units, at most so many units, and whether there are more.
fn slots<'a>(
    state: &'a BatchState,
    after: Option<Cursor>,
    limit: u64,
    wanted: impl Fn(TierNum, &JobSpec, &JobState) -> UnitSet,
) -> (Vec<Slot<'a>>, bool) {
    let mut found = Vec::new();
    let mut left = limit;
    let mut place = 0;
    let mut last_tier = None;
    for (tier, spec, job) in state.jobs() {
        place = if last_tier == Some(tier) {
            place + 1
        } else {
            0
        };
        last_tier = Some(tier);
        let mut units = match after {
            Some(after) if (tier, place) < (after.tier, after.job) => continue,
            Some(after) if (tier, place) == (after.tier, after.job) => {
                wanted(tier, spec, job).after(after.ordinal)
            }
            _ => wanted(tier, spec, job),
        };
        if units.is_empty() {
            continue;
        }
        if units.len() > left {
            units = units.take(left);
            if !units.is_empty() {
                found.push(slot(tier, place, spec, job, units));
            }
            return (found, true);
        }
        left -= units.len();
        found.push(slot(tier, place, spec, job, units));
    }
    (found, false)
}

fn slot<'a>(
    tier: TierNum,
    job_index: usize,
    spec: &'a JobSpec,
    job: &'a JobState,
    units: UnitSet,
) -> Slot<'a> {
    let at = Cursor {
        tier,
        job: job_index,
        ordinal: 0,
    };
    Slot {
        at,
        spec,
        job,
        units,
    }
}

fn documents_of(state: &BatchState, slots: &[Slot<'_>]) -> UnitSet {
    let mut all = UnitSet::new();
    slots.iter().for_each(|slot| all.add(&slot.units));
    state.documents_of(&all).into_owned()
}

/// Rows until the page is full.
pub(crate) struct Filling<T> {
    pub(crate) items: Vec<T>,
    bytes: usize,
    budget: usize,
}

impl<T: Serialize> Filling<T> {
    pub(crate) fn new(max_payload: usize) -> Self {
        Self {
            items: Vec::new(),
            bytes: 0,
            budget: PAGE_BYTES.min(max_payload.saturating_sub(ANSWER_BYTES)),
        }
    }

    /// Adds a row if it fits; the first always does.
    pub(crate) fn add(&mut self, row: T) -> bool {
        let size = serde_json::to_vec(&row).map_or(0, |bytes| bytes.len() + 1);
        if !self.items.is_empty() && self.bytes + size > self.budget {
            return false;
        }
        self.bytes += size;
        self.items.push(row);
        true
    }
}

fn check_tier(state: &BatchState, tier: Option<TierNum>) -> Result<(), Refusal> {
    let last = state.tiers.len().saturating_sub(1);
    match tier.filter(|tier| usize::from(*tier) > last) {
        Some(tier) => {
            let message = format!("is {tier}: the batch has tiers 0 to {last}");
            Err(Refusal::invalid("tier", message))
        }
        None => Ok(()),
    }
}

pub(crate) fn unnamed() -> Name {
    // The state says that the document is there; that its name is not can only be damage.
    Name {
        id: String::new(),
        uri: None,
    }
}

/// The failure of one unit.
struct Why {
    failure: Failure,
    worker: Option<WorkerId>,
    at: Timestamp,
    seq: u64,
}

mod documents;
mod sample;

pub(crate) use documents::documents;
pub(crate) use sample::first_failed;

/// The units of a batch that are failed now.
pub(crate) async fn failures<S: Source>(
    details: &Details<S>,
    max_payload: usize,
    state: &BatchState,
    as_of: u64,
    ask: &ListFailures,
    limit: u32,
) -> Result<Page<FailureRow>, Failed> {
    check_tier(state, ask.tier)?;
    let after = ask.after.as_deref().map(str::parse).transpose()?;
    let (slots, more) = slots(state, after, u64::from(limit), |tier, _, job| {
        if ask.tier.is_some_and(|only| only != tier) {
            return UnitSet::new();
        }
        job.failed_as(ask.class, ask.kind.as_ref(), ask.fingerprint)
    });
    let names = details
        .names(&state.pages, &documents_of(state, &slots))
        .await?;
    let mut page = Filling::new(max_payload);
    let mut last = None;
    for slot in &slots {
        let whys = reasons(details, state, slot.job, &slot.units).await?;
        for (ordinal, why) in whys {
            let Why {
                failure,
                worker,
                at,
                seq,
            } = why;
            let (document, segment) = state.document_of(ordinal);
            let name = names.get(&document).cloned().unwrap_or_else(unnamed);
            let row = FailureRow {
                document: name.id,
                uri: name.uri,
                ordinal: document,
                segment,
                tier: slot.at.tier,
                job: slot.spec.name.clone(),
                failure,
                attempts: slot.job.attempts.get(ordinal),
                retry_count: state.retries.get(document),
                worker,
                at,
                seq,
            };
            if !page.add(row) {
                return Ok(finish(page, last, as_of));
            }
            last = Some(Cursor { ordinal, ..slot.at });
        }
    }
    Ok(finish(page, last.filter(|_| more), as_of))
}

/// Why these units of a job failed, each of them, in their order.
async fn reasons<S: Source>(
    details: &Details<S>,
    state: &BatchState,
    job: &JobState,
    units: &UnitSet,
) -> Result<BTreeMap<Ordinal, Why>, Failed> {
    let mut whys: BTreeMap<Ordinal, Why> = BTreeMap::new();
    let take = |seq, units: &UnitSet, detail: &Detail| explain(&mut whys, seq, units, detail);
    details.each(&job.failures, units, take).await?;
    for ordinal in units.iter() {
        whys.entry(ordinal).or_insert_with(|| Why {
            failure: unexplained(job, ordinal),
            worker: None,
            at: job.last_at.unwrap_or(state.last_at),
            seq: job.failures.get(ordinal).unwrap_or(0),
        });
    }
    Ok(whys)
}

fn explain(whys: &mut BTreeMap<Ordinal, Why>, seq: u64, units: &UnitSet, detail: &Detail) {
    let Detail::Failed {
        at,
        attempt,
        groups,
    } = detail
    else {
        return;
    };
    for group in groups {
        for ordinal in group.units.and(units).iter() {
            whys.entry(ordinal).or_insert_with(|| Why {
                failure: group.failure.clone(),
                worker: attempt.worker.clone(),
                at: *at,
                seq,
            });
        }
    }
}

/// What the state alone says of a failure.
fn unexplained(job: &JobState, ordinal: Ordinal) -> Failure {
    let found = job
        .failed_by_kind()
        .find(|(_, _, units)| units.contains(ordinal));
    let (class, kind) = found.map_or(
        (FailureClass::Unknown, FailureKind::FAILED),
        |(class, kind, _)| (class, kind.clone()),
    );
    Failure::new(kind, "the log does not say why").with_class(class)
}

fn finish<T>(page: Filling<T>, next: Option<Cursor>, as_of: u64) -> Page<T> {
    Page {
        items: page.items,
        next: next.map(|cursor| cursor.to_string()),
        as_of,
    }
}

/// What the jobs of a tier made of the documents.
pub(crate) async fn results<S: Source>(
    details: &Details<S>,
    max_payload: usize,
    state: &BatchState,
    as_of: u64,
    ask: &ListResults,
    limit: u32,
) -> Result<Page<ResultRow>, Failed> {
    check_tier(state, ask.tier)?;
    let last_tier = state.tiers.len().saturating_sub(1);
    let only = ask
        .tier
        .unwrap_or(TierNum::try_from(last_tier).unwrap_or(TierNum::MAX));
    check_job(state, only, ask.job.as_ref())?;
    let mut after: Option<Cursor> = ask.after.as_deref().map(str::parse).transpose()?;
    let mut page = Filling::new(max_payload);
    let mut last = None;
    loop {
        let left = u64::from(limit) - page.items.len() as u64;
        let (slots, more) = slots(
            state,
            after,
            left.min(OUTPUTS_AT_ONCE),
            |tier, spec, job| {
                if tier != only || ask.job.as_ref().is_some_and(|job| *job != spec.name) {
                    return UnitSet::new();
                }
                job.completed.or(&job.skipped)
            },
        );
        let names = details
            .names(&state.pages, &documents_of(state, &slots))
            .await?;
        for slot in &slots {
            let mut outputs = outputs_of(details, slot.job, &slot.units).await?;
            for ordinal in slot.units.iter() {
                let of = state.document_of(ordinal);
                let name = names.get(&of.0).cloned().unwrap_or_else(unnamed);
                let output = outputs.remove(&ordinal);
                let row = result_row(slot, ordinal, of, name, output, page.budget);
                if !page.add(row) {
                    return Ok(finish(page, last, as_of));
                }
                last = Some(Cursor { ordinal, ..slot.at });
            }
        }
        if !more {
            return Ok(finish(page, None, as_of));
        }
        if page.items.len() as u64 >= u64::from(limit) {
            return Ok(finish(page, last, as_of));
        }
        after = last;
    }
}

fn check_job(state: &BatchState, tier: TierNum, job: Option<&JobName>) -> Result<(), Refusal> {
    let Some(job) = job.filter(|job| state.job(tier, job).is_none()) else {
        return Ok(());
    };
    let jobs = state.jobs().filter(|(of, _, _)| *of == tier);
    let names: Vec<&str> = jobs.map(|(_, spec, _)| spec.name.as_str()).collect();
    let message = format!(
        "there is no {job} in tier {tier}: it has {}",
        names.join(", ")
    );
    Err(Refusal::invalid("job", message))
}

fn result_row(
    slot: &Slot<'_>,
    unit: Ordinal,
    (ordinal, segment): (Ordinal, Option<u32>),
    name: Name,
    output: Option<Output>,
    budget: usize,
) -> ResultRow {
    let mut row = ResultRow {
        document: name.id,
        uri: name.uri,
        ordinal,
        segment,
        tier: slot.at.tier,
        job: slot.spec.name.clone(),
        skipped: slot.job.skipped.contains(unit),
        media_type: None,
        output: None,
        hex: None,
    };
    if let Some(output) = output {
        let room = budget.saturating_sub(2 * ANSWER_BYTES);
        let Shown { value, hex, .. } = Shown::of(&output, room);
        (row.output, row.hex) = (value, hex);
        row.media_type = Some(output.media_type);
    }
    row
}

/// What these units of a job came to, where there is an output.
async fn outputs_of<S: Source>(
    details: &Details<S>,
    job: &JobState,
    units: &UnitSet,
) -> Result<BTreeMap<Ordinal, Output>, Failed> {
    let mut outputs = BTreeMap::new();
    let take = |_, units: &UnitSet, detail: &Detail| {
        if let Detail::Outputs(found) = detail {
            let wanted = units.iter();
            outputs.extend(wanted.filter_map(|unit| Some((unit, found.get(&unit)?.clone()))));
        }
    };
    details.each(&job.outputs, units, take).await?;
    Ok(outputs)
}

/// An output as it goes into an answer.
struct Shown {
    value: Option<Value>,
    hex: Option<String>,
    bytes: usize,
}

impl Shown {
    /// One that takes more room than that shows with its media type alone: it is there, and has to be read from the log.
    fn of(output: &Output, room: usize) -> Self {
        let value = output.to_value();
        let bytes = match &value {
            Some(value) => serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len()),
            None => output.body.len() * 2,
        };
        if bytes > room {
            let (value, hex) = (None, None);
            return Self {
                value,
                hex,
                bytes: 0,
            };
        }
        let hex = value.is_none().then(|| hex(&output.body));
        Self { value, hex, bytes }
    }
}

/// Base 16 (RFC 4648), in small letters.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digits = bytes.iter().flat_map(|byte| {
        let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
        [DIGITS[high], DIGITS[low]]
    });
    digits.collect()
}
