//! Failures for which the resources are not to blame.

use super::{Cause, Draft, of};
use crate::{
    command::{Retry, RetryMode},
    diagnosis::{
        Recommendation,
        evidence::{Evidence, quoted},
        figures::counted,
        parts::Change,
    },
    failure::{FailureKind, Fingerprint},
    limits::RECOMMENDED_GROUPS,
    state::Group,
};

fn place(job: &Evidence<'_>) -> String {
    format!("of {} in tier {}", job.spec.name, job.tier)
}

pub(super) fn lost(job: &Evidence<'_>, kind: &FailureKind, units: u64) -> Recommendation {
    let reason = format!(
        "{} {} failed with {kind}; {} attempts of the job were lost with their worker in all: that says nothing of the \
         documents.",
        counted(units, "unit"),
        place(job),
        job.job.lost + job.job.failed_kinds.of(&FailureKind::PREEMPTED)
    );
    let sentence = "See that workers stay, then execute them again.";
    Draft::new(Cause::Lost, units, sentence, reason).retrying(job, of(kind), &Change::default())
}

pub(super) fn transient(job: &Evidence<'_>, kind: &FailureKind, units: u64) -> Recommendation {
    let reason = format!(
        "{} {} failed with {kind}, as {} of the {} attempts did: {}.",
        counted(units, "unit"),
        place(job),
        job.job.failed_kinds.of(kind),
        job.job.executed + job.job.lost,
        job.said(kind)
    );
    let sentence = "See that what they need is there again, then execute them again.";
    Draft::new(Cause::Transient, units, sentence, reason).retrying(
        job,
        of(kind),
        &Change::default(),
    )
}

pub(super) fn poison(job: &Evidence<'_>, kind: &FailureKind, units: u64) -> Recommendation {
    let reason = format!(
        "{} {} were set aside, since worker after worker was lost that executed one: {}.",
        counted(units, "unit"),
        place(job),
        job.said(kind)
    );
    let sentence = "Look at these documents, and at what the handler does with them; execute them again once it lives \
                    through them.";
    Draft::new(Cause::Poison, units, sentence, reason).retrying(job, of(kind), &Change::default())
}

pub(super) fn crashed(job: &Evidence<'_>, kind: &FailureKind, units: u64) -> Recommendation {
    let reason = format!(
        "{} {}: the handler ended in a way that it did not choose: {}.",
        counted(units, "unit"),
        place(job),
        job.said(kind)
    );
    let sentence = "Put the handler right, then execute them again, once each.";
    let retry = Retry {
        max_retries: Some(1),
        ..of(kind)
    };
    Draft::new(Cause::Crashed, units, sentence, reason).retrying(job, retry, &Change::default())
}

/// What is to be done before failures of a kind are worth another attempt.
fn remedy(kind: &FailureKind) -> &'static str {
    match kind.as_str() {
        "invalid_data" => "Mend the documents",
        "missing_field" => "Add what the documents lack",
        "unsupported_format" => "Convert the documents, or let the handler read them",
        "not_found" => "Put the documents where they are looked for",
        "rejected" => "Find out why the other side refuses them",
        "output_too_large" => "Let the handler make less of each",
        _ => "Put right what they failed with",
    }
}

/// One for each of the largest groups.
pub(super) fn permanent(job: &Evidence<'_>, kind: &FailureKind) -> Vec<Recommendation> {
    each(job, kind, |group| {
        Draft::new(
            Cause::Permanent,
            group.units.len(),
            format!("{}, then execute just these again.", remedy(kind)),
            format!(
                "{} {} failed with {kind}, which no repetition changes: {}.",
                counted(group.units.len(), "unit"),
                place(job),
                quoted(group)
            ),
        )
    })
}

/// One for each of the largest groups.
pub(super) fn unknown(job: &Evidence<'_>, kind: &FailureKind) -> Vec<Recommendation> {
    each(job, kind, |group| {
        Draft::new(
            Cause::Unknown,
            group.units.len(),
            "Find out what it means, and execute just these again if it may pass.",
            format!(
                "{} {} failed with {kind}, and nothing says whether that passes: {}.",
                counted(group.units.len(), "unit"),
                place(job),
                quoted(group)
            ),
        )
    })
}

fn each(
    job: &Evidence<'_>,
    kind: &FailureKind,
    draft: impl Fn(&Group) -> Draft,
) -> Vec<Recommendation> {
    let groups = job.groups(kind).into_iter().take(RECOMMENDED_GROUPS);
    let one = |(fingerprint, group): (Fingerprint, &Group)| {
        let mut draft = draft(group);
        draft.fingerprint = Some(fingerprint);
        let retry = Retry {
            retry_mode: RetryMode::All,
            fingerprints: Some(vec![fingerprint]),
            ..Retry::default()
        };
        draft.retrying(job, retry, &Change::default())
    };
    groups.map(one).collect()
}
