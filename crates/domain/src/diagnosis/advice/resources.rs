//! Failures that other resources, or a slower pace, may spare the next attempt.

use super::{Cause, Draft, of};
use crate::{
    command::Retry,
    diagnosis::{
        Recommendation,
        evidence::Evidence,
        figures::{counted, longer_timeout, more_memory, size, span_word, two_digits},
        parts::Change,
    },
    failure::FailureKind,
    time::{Millis, Timestamp},
};

/// How long the other side is left alone after it asked for fewer requests, where it did not say how long.
const PAUSE: Millis = Millis::seconds(60);

/// How many have to run at once to be in each other's way.
const CROWD: u32 = 4;

fn fewer_at_once(most: u32) -> String {
    match most {
        1 => "Execute them again, one at a time.".to_owned(),
        _ => format!("Execute them again, at most {most} at once."),
    }
}

pub(super) fn out_of_memory(job: &Evidence<'_>, units: u64) -> Recommendation {
    let kind = &FailureKind::OUT_OF_MEMORY;
    let failed = counted(units, "unit");
    let peak = crate::diagnosis::parts::peak_memory(job.job);
    let succeeded = match (job.succeeded(), peak) {
        (0, _) => "nothing has succeeded".to_owned(),
        (n, Some(peak)) => format!("{n} succeeded with at most {}", size(peak)),
        (n, None) => format!("{n} succeeded"),
    };
    let limit = job.spec.memory_bytes;
    if let Some((limit, memory)) = limit.and_then(|limit| Some((limit, more_memory(limit, peak)?)))
    {
        let change = Change {
            memory_bytes: Some(memory),
            ..Change::default()
        };
        let draft = Draft::new(
            Cause::OutOfMemory,
            units,
            format!("Execute them again with {} each.", size(memory)),
            format!(
                "{failed} of {} in tier {} needed more than the {} that each may use; {succeeded}.",
                job.spec.name,
                job.tier,
                size(limit)
            ),
        );
        return draft.retrying(job, of(kind), &change);
    }
    let at_once = job.at_once();
    let reason = format!(
        "{failed} of {} in tier {} ran out of memory while about {at_once} ran at once, and no memory_bytes says how much \
         each may use; {succeeded}.",
        job.spec.name, job.tier
    );
    let (sentence, change) = match at_once {
        2.. => {
            let fewer = at_once / 2;
            let change = Change {
                max_concurrency: Some(fewer),
                ..Change::default()
            };
            (fewer_at_once(fewer), change)
        }
        _ => {
            let sentence = "Start a worker on a machine with more memory, then execute them again.";
            (sentence.to_owned(), Change::default())
        }
    };
    Draft::new(Cause::OutOfMemory, units, sentence, reason).retrying(job, of(kind), &change)
}

pub(super) fn timeout(job: &Evidence<'_>, units: u64) -> Recommendation {
    let kind = &FailureKind::TIMEOUT;
    let (timeout, usual, at_once) = (job.spec.timeout, job.usual(), job.at_once());
    let failed = counted(units, "unit");
    let took = match usual {
        Some(usual) => format!(
            "the {} that succeeded took about {usual} each",
            job.succeeded()
        ),
        None => match job.succeeded() {
            0 => "nothing has succeeded".to_owned(),
            n => format!("{n} succeeded"),
        },
    };
    let reason = format!(
        "{failed} of {} in tier {} took longer than {timeout}, while about {at_once} ran at once; {took}.",
        job.spec.name, job.tier
    );
    // Where many of those that usually take a small part of the time run into its end, they are held up by something that
    // they share; a few are only slower than others.
    let is_crowded = usual.is_some_and(|usual| usual.0 < timeout.0 / 4)
        && at_once >= CROWD
        && job.job.failed_kinds.of(kind) >= job.job.executed / 10;
    let (sentence, change) = if is_crowded {
        let fewer = at_once / 2;
        let change = Change {
            max_concurrency: Some(fewer),
            ..Change::default()
        };
        (fewer_at_once(fewer), change)
    } else if let Some(longer) = longer_timeout(timeout, usual) {
        let change = Change {
            timeout: Some(longer),
            ..Change::default()
        };
        let sentence = format!(
            "Execute them again with a timeout of {}.",
            span_word(longer)
        );
        (sentence, change)
    } else {
        let sentence = "Find out what they wait for, then execute them again.";
        (sentence.to_owned(), Change::default())
    };
    Draft::new(Cause::Timeout, units, sentence, reason).retrying(job, of(kind), &change)
}

pub(super) fn rate_limited(job: &Evidence<'_>, units: u64) -> Recommendation {
    let kind = &FailureKind::RATE_LIMITED;
    let failed = counted(units, "unit");
    let asked = job.not_before(kind);
    let last = job.job.last_at.unwrap_or(job.now);
    let until = asked.unwrap_or(last.plus(PAUSE));
    let through = job.rate();
    let limit = job.spec.rate_limit.map(|limit| limit.per_second);
    // What got through, and at most half of a rate that was too high.
    let rate = match (through, limit) {
        (Some(through), Some(limit)) => through.min(limit / 2.0),
        (Some(through), None) => through,
        (None, Some(limit)) => limit / 2.0,
        (None, None) => 1.0,
    };
    let rate = two_digits(rate);
    let got_through = match through {
        Some(_) => format!(
            "{} got through in {}, {rate} a second",
            job.succeeded(),
            job.elapsed()
        ),
        None => "nothing says what it lets through".to_owned(),
    };
    let said = match (asked, limit) {
        (Some(asked), _) => format!("the other side asked to be left alone until {asked}"),
        (None, Some(limit)) => format!("{limit} a second were too many"),
        (None, None) => format!("the last at {last}"),
    };
    let reason = format!(
        "{failed} of {} in tier {} were told to slow down; {said}; {got_through}.",
        job.spec.name, job.tier
    );
    let waits: Option<Timestamp> = Some(until).filter(|until| *until > job.now);
    let sentence = match waits {
        Some(until) => format!("Execute them again from {until} on, at most {rate} a second."),
        None => format!("Execute them again, at most {rate} a second."),
    };
    let change = Change {
        rate_limit: Some(rate),
        ..Change::default()
    };
    let retry = Retry {
        not_before: waits,
        ..of(kind)
    };
    Draft::new(Cause::RateLimited, units, sentence, reason).retrying(job, retry, &change)
}
