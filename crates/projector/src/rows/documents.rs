//! The documents of a batch, each with where it stands.

use std::collections::BTreeMap;

use redrive_domain::{
    pipeline::{JobSpec, TierNum},
    query::{DocumentFailure, DocumentOutput, DocumentRow, Documents, ListDocuments, Page},
    state::{BatchState, JobState},
    units::{Ordinal, UnitSet},
};

use super::{
    Filling, OUTPUTS_AT_ONCE, Shown, bad_cursor, check_tier, outputs_of, reasons, unnamed,
};
use crate::{
    answer::Failed,
    details::{Details, Name, Source},
};

/// Failures, and outputs, of one document that are told: it may have many segments.
const OF_ONE: u64 = 16;
/// Documents that are looked up together: each may have so many failures, and a page may be full after a few.
const AT_ONCE: u64 = 64;

/// The documents that are asked for, by their ordinals, which are the cursor as well.
pub(crate) async fn documents<S: Source>(
    details: &Details<S>,
    max_payload: usize,
    state: &BatchState,
    as_of: u64,
    ask: &ListDocuments,
    limit: u32,
) -> Result<Page<DocumentRow>, Failed> {
    check_tier(state, ask.tier)?;
    let cursor = |text: &str| text.parse().map_err(|_| bad_cursor(text));
    let mut last: Option<Ordinal> = ask.after.as_deref().map(cursor).transpose()?;
    let documents = Documents::of(state);
    let all = documents.matching(ask);
    let failing = Failing::all(state);
    let mut page = Filling::new(max_payload);
    let mut full = false;
    while !full && page.items.len() as u64 != u64::from(limit) {
        let left = u64::from(limit).saturating_sub(page.items.len() as u64);
        let rest = last.map_or_else(|| all.clone(), |last| all.after(last));
        let mut group = rest.take(left.min(AT_ONCE));
        if ask.outputs {
            group = few_outputs(state, &documents, &group);
        }
        if group.is_empty() {
            break;
        }
        let names = details.names(&state.pages, &group).await?;
        let mut failures = failures_of(details, state, &failing, &documents, &group).await?;
        let mut outputs = match ask.outputs {
            true => Some(last_outputs(details, state, &documents, &group, page.budget).await?),
            false => None,
        };
        for ordinal in group.iter() {
            let Some(standing) = documents.standing(ordinal) else {
                last = Some(ordinal);
                continue;
            };
            let Name { id, uri } = names.get(&ordinal).cloned().unwrap_or_else(unnamed);
            let (failed_units, failures) = failures.remove(&ordinal).unwrap_or_default();
            let row = DocumentRow {
                ordinal,
                id,
                uri,
                status: standing.status,
                tier: standing.tier,
                retry_count: standing.retry_count,
                open: standing.open,
                failures,
                failed_units,
                outputs: outputs
                    .as_mut()
                    .map(|outputs| outputs.remove(&ordinal).unwrap_or_default()),
            };
            if !page.add(row) {
                full = true;
                break;
            }
            last = Some(ordinal);
        }
    }
    let next = last.filter(|last| all.last() > Some(*last));
    Ok(Page {
        items: page.items,
        next: next.map(|ordinal| ordinal.to_string()),
        as_of,
    })
}

/// A job in which units are failed.
struct Failing<'a> {
    tier: TierNum,
    spec: &'a JobSpec,
    job: &'a JobState,
    units: UnitSet,
    documents: UnitSet,
}

impl<'a> Failing<'a> {
    fn all(state: &'a BatchState) -> Vec<Self> {
        let of_job = |(tier, spec, job): (TierNum, &'a JobSpec, &'a JobState)| {
            let units = job.all_failed();
            let documents = state.documents_of(&units).into_owned();
            Self {
                tier,
                spec,
                job,
                units,
                documents,
            }
        };
        let jobs = state.jobs().map(of_job);
        jobs.filter(|failing| !failing.units.is_empty()).collect()
    }
}

/// Failures of documents, with how many units failed of each in all.
type Failures = BTreeMap<Ordinal, (u64, Vec<DocumentFailure>)>;

async fn failures_of<S: Source>(
    details: &Details<S>,
    state: &BatchState,
    failing: &[Failing<'_>],
    documents: &Documents<'_>,
    group: &UnitSet,
) -> Result<Failures, Failed> {
    let mut found = Failures::new();
    for of_job in failing {
        let (spec, job) = (of_job.spec, of_job.job);
        let mut named = UnitSet::new();
        for document in of_job.documents.and(group).iter() {
            let of_it = of_job.units.and(&documents.units_of(document));
            let (units, told) = found.entry(document).or_default();
            *units += of_it.len();
            named.add(&of_it.take(OF_ONE.saturating_sub(told.len() as u64)));
        }
        for (unit, why) in reasons(details, state, job, &named).await? {
            let (document, segment) = state.document_of(unit);
            let failure = DocumentFailure {
                tier: of_job.tier,
                job: spec.name.clone(),
                segment,
                class: why.failure.class,
                kind: why.failure.kind,
                message: why.failure.message,
                code: why.failure.code,
                attempts: job.attempts.get(unit),
                at: why.at,
            };
            found.entry(document).or_default().1.push(failure);
        }
    }
    Ok(found)
}

/// The jobs of the last tier.
fn last_jobs(state: &BatchState) -> impl Iterator<Item = (&JobSpec, &JobState)> {
    let last = TierNum::try_from(state.tiers.len().saturating_sub(1)).unwrap_or(TierNum::MAX);
    let jobs = state.jobs().filter(move |(tier, _, _)| *tier == last);
    jobs.map(|(_, spec, job)| (spec, job))
}

/// The units of a document that jobs of the last tier are through with, the first of them, job by job.
fn through(state: &BatchState, units: &UnitSet) -> Vec<UnitSet> {
    let mut left = OF_ONE;
    let of_job = |(_, job): (&JobSpec, &JobState)| {
        let done = job.done_of(units).take(left);
        left -= done.len();
        done
    };
    last_jobs(state).map(of_job).collect()
}

/// The first of these documents that have few enough outputs to be looked up together; one at least.
fn few_outputs(state: &BatchState, documents: &Documents<'_>, some: &UnitSet) -> UnitSet {
    let mut few = UnitSet::new();
    let mut outputs = 0;
    for document in some.iter() {
        let units = through(state, &documents.units_of(document));
        outputs += units.iter().map(UnitSet::len).sum::<u64>();
        if outputs > OUTPUTS_AT_ONCE && !few.is_empty() {
            break;
        }
        few.insert(document);
    }
    few
}

/// What the last tier made of documents. What is told of one fits in an answer of its own.
async fn last_outputs<S: Source>(
    details: &Details<S>,
    state: &BatchState,
    documents: &Documents<'_>,
    group: &UnitSet,
    budget: usize,
) -> Result<BTreeMap<Ordinal, Vec<DocumentOutput>>, Failed> {
    let mut units = vec![UnitSet::new(); last_jobs(state).count()];
    for document in group.iter() {
        let of_it = through(state, &documents.units_of(document));
        units
            .iter_mut()
            .zip(&of_it)
            .for_each(|(all, of_job)| all.add(of_job));
    }
    let mut found: BTreeMap<Ordinal, Vec<DocumentOutput>> = BTreeMap::new();
    let mut rooms: BTreeMap<Ordinal, usize> = BTreeMap::new();
    for ((spec, job), units) in last_jobs(state).zip(&units) {
        let mut outputs = outputs_of(details, job, units).await?;
        for unit in units.iter() {
            let (document, segment) = state.document_of(unit);
            let output = outputs.remove(&unit);
            let room = rooms.entry(document).or_insert(budget / 4 * 3);
            let shown = output.as_ref().map(|output| Shown::of(output, *room));
            *room -= shown.as_ref().map_or(0, |shown| shown.bytes);
            let (value, hex) = shown.map_or((None, None), |shown| (shown.value, shown.hex));
            found.entry(document).or_default().push(DocumentOutput {
                job: spec.name.clone(),
                segment,
                skipped: job.skipped.contains(unit),
                media_type: output.map(|output| output.media_type),
                output: value,
                hex,
            });
        }
    }
    Ok(found)
}
