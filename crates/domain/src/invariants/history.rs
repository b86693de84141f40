//! What must hold of a log as it grows, event by event. It keeps one entry a unit where the fold keeps sets, and shares
//! no code with it, so that a mistake in the one shows against the other. It is for checking logs of moderate size: its
//! memory grows with them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    command::Accepted,
    event::{Attempt, Cause, Envelope, Event},
    ids::{BatchKey, CommandId, EventId, JobName},
    pipeline::TierNum,
    time::Timestamp,
    units::{Ordinal, UnitSet},
};

/// Reads a log and says what must not be. One clock is assumed for all who write it.
#[derive(Debug, Clone, Default)]
pub struct History {
    last_seq: u64,
    ids: BTreeSet<EventId>,
    batches: BTreeMap<BatchKey, Story>,
}

/// What was told of one batch.
#[derive(Debug, Clone, Default)]
struct Story {
    created: bool,
    submitted: bool,
    cancelled_seq: Option<u64>,
    documents: u32,
    /// The names of the jobs, by tier.
    jobs: Vec<Vec<JobName>>,
    units: BTreeMap<(TierNum, JobName, Ordinal), Unit>,
    commands: BTreeMap<CommandId, Act>,
    refused: BTreeSet<CommandId>,
    seqs: BTreeSet<u64>,
}

/// A command that was carried out.
#[derive(Debug, Clone, Copy)]
struct Act {
    last_seq: u64,
    whole: bool,
}

/// What was told of one unit in one job.
#[derive(Debug, Clone, Copy, Default)]
struct Unit {
    /// Attempts that ended without success.
    ended: u32,
    standing: Standing,
    /// Its next attempt is not before this.
    due: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Standing {
    #[default]
    Open,
    Done,
    Failed,
}

/// How an attempt ended.
#[derive(Clone, Copy)]
enum Ending {
    Done,
    Failed,
    Again { due: Option<Timestamp> },
}

impl History {
    /// Takes the next event of the log, and says what of it must not be.
    pub fn take(&mut self, seq: u64, envelope: &Envelope) -> Vec<String> {
        let mut found = Vec::new();
        if seq <= self.last_seq {
            found.push(format!("it stands at {seq}, after {}", self.last_seq));
        }
        self.last_seq = seq;
        if !self.ids.insert(envelope.id) {
            found.push(format!("a second event has the id {}", envelope.id));
        }
        let story = self.batches.entry(envelope.key()).or_default();
        story.seqs.insert(seq);
        if let (Event::CommandRefused { .. }, Cause::Command(id)) =
            (&envelope.event, envelope.cause)
        {
            story.refused.insert(id);
        } else {
            if story.cancelled_seq.is_some() {
                found.push("something happens to a batch after its cancellation".to_owned());
            }
            if let Cause::Command(id) = envelope.cause {
                story.act(seq, id, &envelope.event, &mut found);
            }
            story.take(seq, envelope, &mut found);
        }
        let (name, key) = (envelope.event.name(), envelope.key());
        for problem in &mut found {
            *problem = format!("{key} at {seq}, {name}: {problem}");
        }
        found
    }

    /// What of an answer must not be: whoever is told that a command was carried out finds it in the log by then.
    #[must_use]
    pub fn acknowledged(
        &self,
        key: &BatchKey,
        id: CommandId,
        accepted: &Accepted,
    ) -> Option<String> {
        let seq = accepted.seq;
        let story = self.batches.get(key);
        if !story.is_some_and(|story| story.seqs.contains(&seq)) {
            return Some(format!(
                "{key}: an answer names {seq}, where the log has nothing of the batch"
            ));
        }
        let act = story.and_then(|story| story.commands.get(&id));
        match act {
            Some(act) if act.whole && (accepted.repeated || act.last_seq == seq) => None,
            None if accepted.repeated => None,
            act => Some(format!(
                "{key}: command {id} was acknowledged at {seq}, but the log has {act:?}"
            )),
        }
    }

    /// Whether the log says what became of this command: it was carried out, or refused.
    #[must_use]
    pub fn has_dealt_with(&self, key: &BatchKey, id: CommandId) -> bool {
        self.batches
            .get(key)
            .is_some_and(|story| story.commands.contains_key(&id) || story.refused.contains(&id))
    }

    /// Where the cancellation of a batch stands.
    #[must_use]
    pub fn cancelled_at(&self, key: &BatchKey) -> Option<u64> {
        self.batches.get(key)?.cancelled_seq
    }

    /// The last sequence that was taken.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

impl Story {
    /// A command acts once.
    fn act(&mut self, seq: u64, id: CommandId, event: &Event, found: &mut Vec<String>) {
        let act = Act {
            last_seq: seq,
            whole: !matches!(event, Event::RetryScheduled { last: false, .. }),
        };
        if self
            .commands
            .insert(id, act)
            .is_some_and(|before| before.whole)
        {
            found.push(format!("command {id} is carried out twice"));
        }
    }

    fn take(&mut self, seq: u64, envelope: &Envelope, found: &mut Vec<String>) {
        let at = envelope.at;
        if let Event::BatchCreated { pipeline, .. } = &envelope.event {
            if std::mem::replace(&mut self.created, true) {
                found.push("the batch is made twice".to_owned());
            }
            let names = |jobs: &[crate::pipeline::JobSpec]| {
                jobs.iter().map(|job| job.name.clone()).collect::<Vec<_>>()
            };
            self.jobs = pipeline
                .tiers
                .iter()
                .map(|tier| names(&tier.jobs))
                .collect();
            return;
        }
        if !self.created {
            found.push("something happens to a batch that was never made".to_owned());
        }
        match &envelope.event {
            Event::DocumentsAdded { first, count, .. } => {
                if *first != self.documents || self.submitted {
                    let has = self.documents;
                    found.push(format!("documents from {first} come to {has} others"));
                }
                self.documents = first.saturating_add(*count);
            }
            Event::BatchSubmitted { documents } => {
                if self.submitted || *documents != self.documents {
                    let has = self.documents;
                    found.push(format!("{documents} are submitted, of {has}"));
                }
                self.submitted = true;
            }
            Event::BatchCancelled { .. } => self.cancelled_seq = Some(seq),
            Event::BatchCompleted {
                completed, failed, ..
            } => self.complete(*completed, *failed, found),
            Event::DocumentsCompleted { attempt, .. } => {
                let units = envelope.event.units();
                self.end(attempt, &units, Ending::Done, at, found);
            }
            Event::DocumentsFailed { attempt, .. } => {
                let units = envelope.event.units();
                self.end(attempt, &units, Ending::Failed, at, found);
            }
            Event::AttemptFailed {
                attempt, retry_at, ..
            } => {
                let due = Some(*retry_at);
                let units = envelope.event.units();
                self.end(attempt, &units, Ending::Again { due }, at, found);
            }
            Event::WorkerLost { attempt, units } => {
                self.end(attempt, units, Ending::Again { due: None }, at, found);
            }
            Event::RetryScheduled { selected, .. } => {
                for part in selected {
                    for ordinal in part.units.iter() {
                        let place = (part.tier, part.job.clone(), ordinal);
                        let unit = self.units.entry(place).or_default();
                        if unit.standing != Standing::Failed {
                            found.push(format!(
                                "unit {ordinal} of tier {} job {} is retried, and has not failed",
                                part.tier, part.job
                            ));
                        }
                        unit.standing = Standing::Open;
                        unit.due = None;
                    }
                }
            }
            _ => {}
        }
    }

    /// An attempt ends once, in its turn, for units that came that far.
    fn end(
        &mut self,
        attempt: &Attempt,
        units: &UnitSet,
        ending: Ending,
        at: Timestamp,
        found: &mut Vec<String>,
    ) {
        let (tier, number) = (attempt.tier, attempt.number);
        for ordinal in units.iter() {
            let mut problem = |what: String| {
                found.push(format!(
                    "attempt {number} of unit {ordinal} of tier {tier} job {}: {what}",
                    attempt.job
                ));
            };
            if ordinal >= self.documents {
                problem("there is no such document".to_owned());
            }
            if !self.came_to(tier, ordinal) {
                problem("the tier before has not done it".to_owned());
            }
            let place = (tier, attempt.job.clone(), ordinal);
            let unit = self.units.entry(place).or_default();
            if unit.standing != Standing::Open {
                problem(format!("it ends, and was {:?} before", unit.standing));
            }
            if number != unit.ended.saturating_add(1) {
                problem(format!("{} attempts have ended before", unit.ended));
            }
            if let Some(due) = unit.due.filter(|due| at < *due) {
                problem(format!("it ends at {at}, and was due at {due}"));
            }
            match ending {
                Ending::Done => unit.standing = Standing::Done,
                Ending::Failed => {
                    unit.ended = number;
                    unit.standing = Standing::Failed;
                }
                Ending::Again { due } => {
                    unit.ended = number;
                    unit.due = due.or(unit.due);
                }
            }
        }
    }

    /// Whether all jobs of the tier before have done a unit.
    fn came_to(&self, tier: TierNum, unit: Ordinal) -> bool {
        let Some(before) = tier.checked_sub(1) else {
            return true;
        };
        self.is_done(before, unit)
    }

    fn is_done(&self, tier: TierNum, ordinal: Ordinal) -> bool {
        let Some(jobs) = self.jobs.get(usize::from(tier)) else {
            return false;
        };
        jobs.iter().all(|job| {
            let unit = self.units.get(&(tier, job.clone(), ordinal));
            unit.is_some_and(|unit| unit.standing == Standing::Done)
        })
    }

    fn complete(&self, completed: u64, failed: u64, found: &mut Vec<String>) {
        let last = self.jobs.len().checked_sub(1);
        let last = last.and_then(|tier| TierNum::try_from(tier).ok());
        let through = |ordinal: &Ordinal| last.is_some_and(|tier| self.is_done(tier, *ordinal));
        let done = (0..self.documents).filter(through).count() as u64;
        let broken: BTreeSet<Ordinal> = self
            .units
            .iter()
            .filter(|(_, unit)| unit.standing == Standing::Failed)
            .map(|((_, _, ordinal), _)| *ordinal)
            .collect();
        if (completed, failed) != (done, broken.len() as u64) {
            found.push(format!(
                "it counts {completed} completed and {failed} failed, where {done} and {} are",
                broken.len()
            ));
        }
        if completed + failed != u64::from(self.documents) {
            found.push(format!("that is not all {} documents", self.documents));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        command::Start,
        event::VERSION,
        ids::{BatchId, Bucket, ChunkId, Namespace},
        packed::Packed,
        pipeline::Pipeline,
        time::Millis,
    };

    struct Log {
        history: History,
        seq: u64,
    }

    impl Log {
        /// A batch of two tiers with four documents.
        fn new() -> Self {
            let mut log = Self {
                history: History::default(),
                seq: 0,
            };
            let job = serde_json::json!({ "jobs": [{ "handler": "x", "name": "a" }] });
            let tiers = serde_json::json!({ "tiers": [job, job] });
            log.fine(Event::BatchCreated {
                bucket: Bucket::new("docs").unwrap(),
                pipeline: Pipeline::from_value(&tiers).unwrap(),
                start: Start::OnSubmit,
            });
            log.fine(Event::DocumentsAdded {
                first: 0,
                count: 4,
                documents: Packed::new(&Vec::new()).unwrap(),
            });
            log.fine(Event::BatchSubmitted { documents: 4 });
            log
        }

        fn take(&mut self, cause: Cause, event: Event) -> Vec<String> {
            self.seq += 1;
            let envelope = Envelope {
                v: VERSION,
                id: EventId(Uuid::from_u128(self.seq.into())),
                at: Timestamp(1_000),
                namespace: Namespace::new("tests").unwrap(),
                batch: BatchId(Uuid::from_u128(1)),
                cause,
                actor: None,
                trace: None,
                event,
            };
            self.history.take(self.seq, &envelope)
        }

        fn fine(&mut self, event: Event) {
            assert_eq!(self.take(Cause::State, event), Vec::<String>::new());
        }

        #[track_caller]
        fn wrong(&mut self, event: Event, what: &str) {
            let found = self.take(Cause::State, event);
            assert!(
                found.iter().any(|problem| problem.contains(what)),
                "{found:?}"
            );
        }
    }

    fn attempt(tier: TierNum, number: u32) -> Attempt {
        Attempt {
            tier,
            job: JobName::new("a").unwrap(),
            number,
            chunk: ChunkId(Uuid::nil()),
            worker: None,
            busy: Millis(0),
        }
    }

    fn done(tier: TierNum, number: u32, unit: Ordinal) -> Event {
        Event::DocumentsCompleted {
            attempt: attempt(tier, number),
            units: UnitSet::from([unit]),
            skipped: UnitSet::new(),
            outputs: None,
        }
    }

    fn lost(number: u32, unit: Ordinal) -> Event {
        Event::WorkerLost {
            attempt: attempt(0, number),
            units: UnitSet::from([unit]),
        }
    }

    #[test]
    fn an_outcome_counts_once_and_in_its_turn() {
        let mut log = Log::new();
        log.fine(done(0, 1, 0));
        log.wrong(done(0, 1, 0), "was Done before");
        log.fine(lost(1, 1));
        log.wrong(done(0, 1, 1), "1 attempts have ended");
        log.wrong(done(0, 3, 2), "0 attempts have ended");
        log.wrong(done(1, 1, 1 << 20), "no such document");
        log.wrong(done(1, 1, 3), "the tier before");
        log.fine(done(1, 1, 0));
    }

    #[test]
    fn nothing_happens_after_a_cancellation() {
        let mut log = Log::new();
        log.fine(Event::BatchCancelled {
            reason: None,
            documents: 4,
        });
        log.wrong(done(0, 1, 0), "after its cancellation");
    }

    #[test]
    fn a_command_acts_once_and_stands_in_the_log_when_it_is_acknowledged() {
        let mut log = Log::new();
        let id = CommandId(Uuid::from_u128(7));
        let cancel = || Event::BatchCancelled {
            reason: None,
            documents: 4,
        };
        let key = BatchKey {
            namespace: Namespace::new("tests").unwrap(),
            batch: BatchId(Uuid::from_u128(1)),
        };
        let accepted = |seq| Accepted {
            batch: key.batch,
            status: crate::status::BatchStatus::Running,
            seq,
            repeated: false,
            documents: 4,
            retry: None,
            plan: None,
            jobs: Vec::new(),
            cancelled_documents: None,
        };
        let early = log.history.acknowledged(&key, id, &accepted(3));
        assert!(early.is_some_and(|problem| problem.contains("the log has None")));
        let first = log.take(Cause::Command(id), cancel());
        assert_eq!(first, Vec::<String>::new());
        assert_eq!(log.history.acknowledged(&key, id, &accepted(4)), None);
        assert!(log.history.acknowledged(&key, id, &accepted(5)).is_some());
        let again = log.take(Cause::Command(id), cancel());
        assert!(
            again
                .iter()
                .any(|problem| problem.contains("carried out twice"))
        );
    }
}
