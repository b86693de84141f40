//! What handlers are given, and that the log says of them what they came to.

use std::{collections::BTreeMap, time::Duration};

use redrive_domain::{
    event::{Attempt, Event},
    failure::FailureKind,
    ids::{BatchKey, WorkerId},
    time::{Millis, Timestamp},
    units::{Ordinal, UnitSet},
};
use redrive_worker::handler::{Context, Unit};

use super::Checks;
use crate::{
    ledger::{Execution, Fate, document_id},
    segmented,
};

/// How long after a cancellation, while nothing goes wrong, something of the batch may still begin: a chunk may be on
/// its way to a worker, which hears with its next heartbeat, 100 ms later, that it is not wanted.
const STOPS_WITHIN: Millis = Millis(300);
/// How long after the storm messages of it may still arrive.
const AFTERMATH: Millis = Millis::seconds(15);

impl Checks {
    /// What the log says of an attempt is what the handler came to.
    pub(super) fn was_executed(&mut self, seq: u64, key: &BatchKey, event: &Event) {
        match event {
            Event::DocumentsCompleted {
                attempt,
                units,
                skipped,
                outputs,
                ..
            } => {
                let outputs = outputs.as_ref().map(|packed| packed.open());
                let outputs: BTreeMap<Ordinal, Vec<u8>> = match outputs {
                    None => BTreeMap::new(),
                    Some(Ok(list)) => list
                        .into_iter()
                        .map(|(unit, output)| (unit, output.body.to_vec()))
                        .collect(),
                    Some(Err(error)) => return self.fail(format!("{seq}: outputs: {error}")),
                };
                for (execution, unit) in executions(key, attempt, &units.or(skipped)) {
                    let fate = execution.course(self.seed).fate;
                    let output = outputs.get(&unit).map(|body| String::from_utf8_lossy(body));
                    let right = match fate {
                        Fate::Output => {
                            units.contains(unit)
                                && output.as_deref() == Some(execution.output().as_str())
                        }
                        Fate::Nothing => units.contains(unit) && output.is_none(),
                        Fate::Skip => skipped.contains(unit) && output.is_none(),
                        Fate::Fail(_) | Fate::Panic => false,
                    };
                    if !right {
                        self.fail(format!(
                            "at {seq}: {execution:?} counts as done with {output:?}; it came to {fate:?}"
                        ));
                    }
                    self.must_have_ended(seq, &execution);
                }
            }
            Event::AttemptFailed {
                attempt,
                kind,
                units,
                ..
            }
            | Event::DocumentsFailed {
                attempt,
                kind,
                units,
                ..
            } => {
                let mut all = UnitSet::new();
                units.iter().for_each(|failed| all.add(&failed.units));
                for (execution, _) in executions(key, attempt, &all) {
                    let fate = execution.course(self.seed).fate;
                    let by_handler = match &fate {
                        Fate::Fail(own) => own == kind,
                        Fate::Panic => *kind == FailureKind::CRASHED,
                        _ => false,
                    };
                    // The runner's own: it took too long, what it needs could not be read, or the worker had to leave. And
                    // the leader's: it lost worker after worker.
                    let course = execution.course(self.seed);
                    let by_runner = match kind {
                        kind if *kind == FailureKind::TIMEOUT => self
                            .timeout_of(key, attempt)
                            .is_some_and(|timeout| Millis::from(course.takes) >= timeout),
                        kind => [
                            FailureKind::UNAVAILABLE,
                            FailureKind::PREEMPTED,
                            FailureKind::POISON,
                        ]
                        .contains(kind),
                    };
                    if by_handler {
                        self.must_have_ended(seq, &execution);
                    } else if !by_runner {
                        self.fail(format!(
                            "at {seq}: {execution:?} counts as failed with {kind}; it came to {fate:?}"
                        ));
                    }
                }
            }
            _ => {}
        }
    }

    fn timeout_of(&self, key: &BatchKey, attempt: &Attempt) -> Option<Millis> {
        let (spec, _) = self.batches.get(key)?.job(attempt.tier, &attempt.job)?;
        Some(spec.timeout)
    }

    fn must_have_ended(&mut self, seq: u64, execution: &Execution) {
        if self
            .ledger
            .get(execution)
            .is_none_or(|booked| booked.ended == 0)
        {
            self.fail(format!(
                "at {seq}: an outcome of {execution:?}, which was never executed to its end"
            ));
        }
    }

    /// A handler begins.
    pub(crate) fn begun(
        &mut self,
        execution: &Execution,
        unit: &Unit,
        ctx: &Context,
        now: Timestamp,
        calm_for: Duration,
        worker: &WorkerId,
    ) {
        self.ledger.entry(execution.clone()).or_default().begun += 1;
        let key = BatchKey {
            namespace: ctx.namespace.clone(),
            batch: ctx.batch,
        };
        let Some(batch) = self.batches.get(&key) else {
            return self.fail(format!("{execution:?} is of a batch that is not there"));
        };
        let (document, _) = batch.document_of(unit.ordinal);
        let mut wrong: Vec<String> = unit
            .inputs
            .iter()
            .filter_map(|(job, input)| {
                if batch.segments.is_some() {
                    return segmented::wrong_input(batch, execution, unit, job, input);
                }
                let made = Execution {
                    tier: execution.tier.saturating_sub(1),
                    job: job.clone(),
                    ..execution.clone()
                };
                let fine = input.body == made.output().as_bytes();
                (!fine).then(|| format!("it was given {input:?} of job {job}"))
            })
            .collect();
        if unit.document.id != document_id(execution.batch, document) {
            wrong.push(format!("it was given {:?}", unit.document.id));
        }
        for problem in wrong {
            self.fail(format!("{execution:?}: {problem}"));
        }
        if let Some(at) = self.cancelled_at.get(&execution.batch) {
            let since = now.since(*at);
            // What was sent in the storm may arrive long after it.
            let calm = Millis::from(calm_for) > Millis(since.0 + AFTERMATH.0);
            if since > STOPS_WITHIN && calm {
                let batch = ctx.batch;
                self.fail(format!(
                    "{worker} begins {execution:?} {since} after the cancellation of {batch}"
                ));
            }
        }
    }

    /// A handler came to its end.
    pub(crate) fn ended(&mut self, execution: &Execution) {
        self.ledger.entry(execution.clone()).or_default().ended += 1;
    }
}

fn executions<'a>(
    key: &'a BatchKey,
    attempt: &'a Attempt,
    units: &'a UnitSet,
) -> Vec<(Execution, Ordinal)> {
    let execution = |unit| Execution {
        batch: key.batch,
        tier: attempt.tier,
        job: attempt.job.clone(),
        unit,
        attempt: attempt.number,
    };
    units.iter().map(|unit| (execution(unit), unit)).collect()
}
