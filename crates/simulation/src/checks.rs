//! What is checked, at every event of the log and wherever something can be seen from outside.

use std::collections::BTreeMap;

use futures::{FutureExt, StreamExt};
use redrive_broker::{Broker, Range, memory::MemoryBroker};
use redrive_domain::{
    command::Accepted,
    credits::Ledgers,
    event::{Envelope, Event},
    evolve::{Batches, evolve_among},
    heal::StuckReason,
    ids::{BatchId, BatchKey, CommandId, Namespace},
    invariants::{History, violations},
    pause::{JobRef, PauseReason},
    time::Timestamp,
    work::Chunk,
};

use crate::{dice::print_of, ledger::Ledger, previews::Previews};

mod executions;

/// Violations that are kept: one leads to many.
const MOST: usize = 20;

/// What is known of the run by those who only look.
pub(crate) struct Checks {
    seed: u64,
    history: History,
    batches: Batches,
    ledgers: Ledgers,
    /// The print of each state that a batch went through.
    states: BTreeMap<(BatchKey, u64), u64>,
    cancelled_at: BTreeMap<BatchId, Timestamp>,
    ledger: Ledger,
    /// Documents of which somebody was told that they were taken.
    promised: BTreeMap<BatchKey, u32>,
    /// Retries that were handed over durably, and are to have been dealt with in the end.
    owed: Vec<(BatchKey, CommandId)>,
    previews: Previews,
    inboxes_lost: u32,
    bytes: Vec<u8>,
    pub(crate) violations: Vec<String>,
}

impl Checks {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            history: History::default(),
            batches: Batches::new(),
            ledgers: Ledgers::default(),
            states: BTreeMap::new(),
            cancelled_at: BTreeMap::new(),
            ledger: Ledger::new(),
            promised: BTreeMap::new(),
            owed: Vec::new(),
            previews: Previews::default(),
            inboxes_lost: 0,
            bytes: Vec::new(),
            violations: Vec::new(),
        }
    }

    pub(crate) fn fail(&mut self, problem: impl Into<String>) {
        if self.violations.len() < MOST {
            self.violations.push(problem.into());
        }
    }

    pub(crate) fn batches(&self) -> &Batches {
        &self.batches
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn executions(&self) -> u64 {
        self.ledger
            .values()
            .map(|booked| u64::from(booked.begun))
            .sum()
    }

    /// All bytes of the log, one entry after the other.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The state of a batch at a sequence, as a print.
    pub(crate) fn state_at(&self, key: &BatchKey, seq: u64) -> Option<u64> {
        self.states.get(&(key.clone(), seq)).copied()
    }

    /// Takes in what is new in the log, and says what that was: of which kind, and all of it.
    pub(crate) fn observe(
        &mut self,
        broker: &MemoryBroker,
        now: Timestamp,
    ) -> Vec<(&'static str, String)> {
        let mut told = Vec::new();
        let last = broker.last_seq().now_or_never();
        let last = last.and_then(Result::ok).unwrap_or(0);
        if last <= self.history.last_seq() {
            return told;
        }
        let mut entries = broker.read(Range {
            from: self.history.last_seq() + 1,
            until: Some(last),
            filter: None,
        });
        // The broker in memory has it all at hand.
        while let Some(Some(Ok(entry))) = entries.next().now_or_never() {
            self.bytes.extend_from_slice(entry.subject.as_bytes());
            self.bytes.extend_from_slice(&entry.payload);
            match Envelope::decode(&entry.payload) {
                Ok(envelope) => {
                    let (batch, name) = (envelope.batch, envelope.event.name());
                    let units = match envelope.event.units() {
                        units if units.is_empty() => String::new(),
                        units => format!(" {units:?}"),
                    };
                    told.push((
                        kind_of(&envelope.event),
                        format!("{} {batch} {name}{units}", entry.seq),
                    ));
                    self.take(entry.seq, &envelope, now);
                    if let Some(problem) = self.previews.carried_out(broker, &envelope) {
                        self.fail(format!("at {}: {problem}", entry.seq));
                    }
                }
                Err(error) => self.fail(format!("{} cannot be read: {error}", entry.seq)),
            }
        }
        told
    }

    fn take(&mut self, seq: u64, envelope: &Envelope, now: Timestamp) {
        for problem in self.history.take(seq, envelope) {
            self.fail(problem);
        }
        let key = envelope.key();
        if let Event::BatchCancelled { .. } = envelope.event {
            self.cancelled_at.insert(key.batch, now);
        }
        self.was_executed(seq, &key, &envelope.event);
        evolve_among(&mut self.batches, seq, envelope);
        self.ledgers.take(seq, envelope);
        if envelope.event.is_about_credits() {
            self.balance(seq, &key.namespace);
        }
        let Some(state) = self.batches.get(&key) else {
            return;
        };
        let mut found = violations(state);
        if state.ignored > 0 {
            found.push(format!("an event changes nothing: {:?}", envelope.event));
        }
        match state.encode() {
            Ok(bytes) => {
                self.states.insert((key.clone(), seq), print_of(&bytes));
            }
            Err(error) => found.push(format!("the state has no encoding: {error}")),
        }
        for problem in found {
            self.fail(format!("{key} at {seq}: {problem}"));
        }
    }

    /// What a ledger has as held is what the namespace's batches hold, and what the history says that they do.
    fn balance(&mut self, seq: u64, namespace: &Namespace) {
        let Some(ledger) = self.ledgers.of(namespace) else {
            return;
        };
        let mut wrong = Vec::new();
        for (month, account) in &ledger.months {
            let here = self
                .batches
                .iter()
                .filter(|(key, _)| key.namespace == *namespace);
            let held: u64 = here
                .filter_map(|(_, batch)| {
                    let held = batch.credits.held.get(month)?;
                    Some(held.len() * batch.pipeline.credits_per_document)
                })
                .sum();
            let told = self.history.held(namespace, *month);
            if [held, told] != [account.held(); 2] {
                wrong.push(format!(
                    "at {seq}: {account:?} of {namespace} in {month}, where {held} are held by batches, and {told} by documents"
                ));
            }
        }
        wrong.into_iter().for_each(|problem| self.fail(problem));
    }

    pub(crate) fn ledgers(&self) -> &Ledgers {
        &self.ledgers
    }

    /// Somebody who knows the log up to a sequence hands a chunk out.
    pub(crate) fn offered(&mut self, payload: &[u8], knows: u64) {
        let chunk = match rmp_serde::from_slice::<Chunk>(payload) {
            Ok(chunk) => chunk,
            Err(error) => return self.fail(format!("a chunk cannot be read: {error}")),
        };
        let key = chunk.key();
        if self
            .history
            .cancelled_at(&key)
            .is_some_and(|seq| seq <= knows)
        {
            self.fail(format!(
                "a chunk of {key} is handed out by one who knows that it is cancelled"
            ));
        }
        let job = JobRef {
            tier: chunk.tier,
            job: chunk.job,
        };
        let ended = self.history.ended_since(&key, &job);
        if ended.is_some_and(|seq| seq <= knows) {
            self.fail(format!(
                "a chunk of {key} is handed out by one who knows that {job:?} is cancelled"
            ));
        }
        let paused = self.history.paused_since(&key, &job);
        let known = paused.filter(|(seq, _)| *seq <= knows);
        let probes = known
            .and_then(|(_, until)| until)
            .is_some_and(|until| chunk.at >= until);
        if probes && chunk.units.len() != 1 {
            self.fail(format!(
                "{} units of {job:?} of {key} are handed out to find out whether the other side is back",
                chunk.units.len()
            ));
        }
        if known.is_some() && !probes {
            self.fail(format!(
                "a chunk of {key} is handed out by one who knows that {job:?} is paused"
            ));
        }
    }

    /// Somebody is told that a command was carried out.
    pub(crate) fn acknowledged(&mut self, key: &BatchKey, id: CommandId, accepted: &Accepted) {
        if let Some(problem) = self.history.acknowledged(key, id, accepted) {
            self.fail(problem);
        }
        if let Some(problem) = self.previews.told(key, accepted) {
            self.fail(problem);
        }
        let promised = self.promised.entry(key.clone()).or_default();
        *promised = accepted.documents.max(*promised);
    }

    /// The inbox took a retry for good, unless it has been lost since it had been lost so often. Whatever else asks for
    /// what is so already leaves no trace.
    pub(crate) fn handed_over(&mut self, key: BatchKey, id: CommandId, lost: u32) {
        if lost == self.inboxes_lost {
            self.owed.push((key, id));
        }
    }

    /// Whether all that was handed over has been dealt with.
    pub(crate) fn owes_nothing(&self) -> bool {
        let done = |(key, id): &(BatchKey, CommandId)| self.history.has_dealt_with(key, *id);
        self.owed.iter().all(done)
    }

    /// How often the inbox was lost.
    pub(crate) fn inboxes_lost(&self) -> u32 {
        self.inboxes_lost
    }

    /// With the inbox goes what it had taken: somebody deleted it.
    pub(crate) fn inbox_lost(&mut self) {
        self.inboxes_lost += 1;
        self.owed.clear();
    }

    /// Nothing is left to do, and nothing was lost.
    pub(crate) fn at_the_end(&mut self) {
        let promised = std::mem::take(&mut self.promised);
        for (key, documents) in promised {
            let has = self.batches.get(&key).map_or(0, |batch| batch.documents);
            if has < documents {
                self.fail(format!("{key} has {has} documents of {documents} promised"));
            }
        }
        let held: Vec<BatchKey> = self
            .batches
            .keys()
            .filter(|key| self.history.holds(key) > 0)
            .cloned()
            .collect();
        for key in held {
            self.fail(format!("{key} is over and holds credits"));
        }
        for (key, id) in std::mem::take(&mut self.owed) {
            if !self.history.has_dealt_with(&key, id) {
                self.fail(format!(
                    "{key}: retry {id} was handed over, and never dealt with"
                ));
            }
        }
    }
}

/// Of those that are to come up in some runs.
fn kind_of(event: &Event) -> &'static str {
    match event {
        Event::DispatchPaused { reason, .. } => match reason {
            PauseReason::Asked(_) => "jobs paused by users",
            PauseReason::Misconfigured(_) => "jobs paused by misconfigured handlers",
            PauseReason::Breaker(outage) if outage.probes > 0 => "probes that failed",
            PauseReason::Breaker(_) => "breakers that opened",
        },
        Event::RetryScheduled { plan_seq, .. } if plan_seq.is_some() => "plans carried out",
        Event::StuckDetected {
            fixed: true,
            reason,
            ..
        } => match reason {
            StuckReason::NoOwner => "units taken from nobody alive",
            StuckReason::PastDeadline => "units taken that were past their deadline",
            StuckReason::NoSignOfLife => "units taken that showed no sign of life",
        },
        event => event.name(),
    }
}
