//! The little language of the stories. Every step folds what was decided, settles, and checks the invariants.

use std::ops::Range;

use serde_json::json;
use uuid::Uuid;

use crate::{
    command::{Accepted, AddDocuments, Cancel, Command, Create, Refusal, Retry, Start, Submit},
    credits::Ledgers,
    decide::{self, Lost, Now},
    document::Document,
    event::{Cause, Envelope, Event, VERSION},
    evolve::evolve,
    failure::{Failure, FailureKind},
    ids::{BatchId, BatchKey, Bucket, ChunkId, CommandId, EventId, JobName, Namespace, WorkerId},
    invariants::violations,
    pipeline::TierNum,
    state::{BatchState, JobState},
    status::BatchStatus,
    time::{Millis, Timestamp},
    units::UnitSet,
    work::{FailedUnits, Outcome},
};

/// A batch and what has happened to it.
pub(crate) struct Story {
    pub(crate) batch: Option<BatchState>,
    pub(crate) log: Vec<(u64, Envelope)>,
    pub(crate) now: Now,
    bucket: Bucket,
    seq: u64,
    ids: u128,
    last_events: Vec<Event>,
    answer: Option<Result<Accepted, Refusal>>,
    superseded: u64,
    pub(crate) ledgers: Ledgers,
}

/// `"a | b c | !d"`: three tiers, the second with two jobs, the third behind a barrier. Three attempts a unit.
/// `"*a | b | &c"`: `a` splits documents, `c` joins them. `"!&c"` does so behind a barrier.
pub(crate) fn pipeline(text: &str) -> serde_json::Value {
    let tier = |tier: &str| {
        let jobs: Vec<_> = tier
            .trim_start_matches(['!', '&'])
            .split_whitespace()
            .map(|job| json!({ "handler": job.trim_start_matches('*'), "segments": job.starts_with('*') }))
            .collect();
        let marks = tier.split(char::is_alphanumeric).next().unwrap_or_default();
        json!({ "barrier": marks.contains('!'), "join": marks.contains('&'), "jobs": jobs })
    };
    let tiers: Vec<_> = text.split('|').map(|t| tier(t.trim())).collect();
    json!({ "tiers": tiers })
}

pub(crate) fn create(text: &str, start: Start) -> Command {
    let pipeline = pipeline(text);
    Command::Create(Create { pipeline, start })
}

pub(crate) fn page(first: impl Into<Option<u32>>, count: u32) -> Command {
    let from = first.into();
    let documents = (0..count)
        .map(|i| Document::new(format!("doc-{}", from.unwrap_or(0) + i)))
        .collect();
    Command::AddDocuments(AddDocuments {
        first: from,
        documents,
    })
}

pub(crate) fn submit() -> Command {
    Command::Submit(Submit::default())
}

pub(crate) fn cancel() -> Command {
    Command::Cancel(Cancel::default())
}

pub(crate) fn retry() -> Retry {
    Retry::default()
}

pub(crate) fn units(range: Range<u32>) -> UnitSet {
    range.collect()
}

pub(crate) fn failure(kind: FailureKind) -> Failure {
    Failure::new(kind, "it hurt")
}

pub(crate) fn key() -> BatchKey {
    BatchKey {
        namespace: Namespace::new("tests").unwrap(),
        batch: BatchId(Uuid::from_u128(1)),
    }
}

/// A batch that has been created and nothing more.
pub(crate) fn given(text: &str) -> Story {
    nothing().command(create(text, Start::OnSubmit)).accepted()
}

/// No batch.
pub(crate) fn nothing() -> Story {
    Story {
        batch: None,
        log: Vec::new(),
        now: Now {
            at: Timestamp(1_000_000),
            random: 0,
        },
        bucket: Bucket::new("inbox").unwrap(),
        seq: 0,
        ids: 100,
        last_events: Vec::new(),
        answer: None,
        superseded: 0,
        ledgers: Ledgers::default(),
    }
}

/// A report in the making.
pub(crate) struct Report<'a> {
    story: &'a Story,
    pub(crate) outcome: Outcome,
}

impl Report<'_> {
    pub(crate) fn done(mut self, range: Range<u32>) -> Self {
        self.outcome.completed.add(&units(range));
        self
    }
    /// They succeeded, and have so many segments.
    pub(crate) fn split(mut self, range: Range<u32>, segments: u32) -> Self {
        let counts = range.clone().map(|document| (document, segments));
        self.outcome.segments.extend(counts);
        self.done(range)
    }
    pub(crate) fn skipped(mut self, range: Range<u32>) -> Self {
        self.outcome.skipped.add(&units(range));
        self
    }
    pub(crate) fn failed(self, range: Range<u32>, kind: FailureKind) -> Self {
        self.failed_with(range, failure(kind))
    }
    pub(crate) fn failed_with(mut self, range: Range<u32>, failure: Failure) -> Self {
        let units = units(range);
        self.outcome.failures.push(FailedUnits { units, failure });
        self
    }
    /// The attempt that is outstanding for the first unit of the report, unless it was said.
    fn finish(mut self) -> Outcome {
        if self.outcome.attempt == 0 {
            let first = self.outcome.units().first().unwrap_or(0);
            let job = self.story.state().job(self.outcome.tier, &self.outcome.job);
            self.outcome.attempt = job.map_or(1, |(_, job)| job.attempts.get(first) + 1);
        }
        self.outcome
    }
    pub(crate) fn attempt(mut self, attempt: u32) -> Self {
        self.outcome.attempt = attempt;
        self
    }
}

impl Story {
    pub(crate) fn state(&self) -> &BatchState {
        self.batch.as_ref().expect("there is a batch")
    }

    pub(crate) fn job(&self, tier: TierNum, job: &str) -> &JobState {
        let name = JobName::new(job).unwrap();
        self.state().job(tier, &name).expect("there is the job").1
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    /// Appends what was decided, and all that follows from it.
    pub(crate) fn append(&mut self, events: Vec<Event>, cause: Cause) {
        self.last_events.clear();
        for event in events {
            self.fold(event, cause);
        }
        let mut steps = 0;
        while let Some(event) = self.batch.as_ref().and_then(decide::settle) {
            self.fold(event, Cause::State);
            steps += 1;
            let most = 3 * self.state().tiers.len() + 8;
            assert!(
                steps <= most,
                "settling does not end: {:?}",
                self.last_events
            );
        }
        if let Some(batch) = &self.batch {
            assert_eq!(violations(batch), Vec::<String>::new());
            assert_eq!(batch.ignored, 0, "{:?}", self.last_events);
        }
    }

    pub(crate) fn envelope(&mut self, event: Event, cause: Cause) -> Envelope {
        Envelope {
            v: VERSION,
            id: EventId(self.id()),
            at: self.now.at,
            namespace: key().namespace,
            batch: key().batch,
            cause,
            actor: None,
            trace: None,
            event,
        }
    }

    /// A sequence goes to what is not the batch's.
    pub(crate) fn skip(&mut self) {
        self.seq += 1;
    }

    pub(crate) fn fold(&mut self, event: Event, cause: Cause) {
        self.seq += 1;
        let envelope = self.envelope(event, cause);
        evolve(&mut self.batch, self.seq, &envelope);
        self.ledgers.take(self.seq, &envelope);
        self.last_events.push(envelope.event.clone());
        self.log.push((self.seq, envelope));
    }

    // What is asked.

    pub(crate) fn command(mut self, command: Command) -> Self {
        let id = CommandId(self.id());
        self.ask(id, &command);
        self
    }

    pub(crate) fn command_with_id(mut self, id: u128, command: &Command) -> Self {
        self.ask(CommandId(Uuid::from_u128(id)), command);
        self
    }

    pub(crate) fn ask(&mut self, id: CommandId, command: &Command) {
        let decided = decide::command_within(
            decide::Tenant {
                ledger: self.ledgers.of(&key().namespace),
                keys: None,
            },
            self.now.at,
            self.batch.as_ref(),
            &key(),
            &self.bucket.clone(),
            id,
            command,
        );
        self.answer = Some(match decided {
            Ok(decision) => {
                self.append(decision.events, Cause::Command(id));
                Ok(decision.accepted)
            }
            Err(refusal) => {
                self.last_events.clear();
                Err(refusal)
            }
        });
    }

    pub(crate) fn in_bucket(mut self, bucket: &str) -> Self {
        self.bucket = Bucket::new(bucket).unwrap();
        self
    }

    /// So many documents, and that is all of them.
    pub(crate) fn documents(self, count: u32) -> Self {
        self.command(page(0, count)).accepted().submit()
    }

    pub(crate) fn submit(self) -> Self {
        self.command(submit()).accepted()
    }

    pub(crate) fn retry(self, retry: Retry) -> Self {
        self.command(Command::Retry(retry))
    }

    // What is reported.

    pub(crate) fn report(&self, tier: TierNum, job: &str) -> Report<'_> {
        let outcome = Outcome {
            chunk: ChunkId(Uuid::from_u128(7)),
            namespace: key().namespace,
            batch: key().batch,
            tier,
            job: JobName::new(job).unwrap(),
            attempt: 0,
            worker: WorkerId::new("w1").unwrap(),
            completed: UnitSet::new(),
            skipped: UnitSet::new(),
            outputs: None,
            failures: Vec::new(),
            returned: UnitSet::new(),
            busy: Millis(5),
            loading: Millis(0),
            peak_memory: None,
            segments: Vec::new(),
            at: self.now.at,
        };
        Report {
            story: self,
            outcome,
        }
    }

    pub(crate) fn outcome(
        self,
        tier: TierNum,
        job: &str,
        fill: impl FnOnce(Report<'_>) -> Report<'_>,
    ) -> Self {
        let outcome = fill(self.report(tier, job)).finish();
        self.reported(&outcome)
    }

    pub(crate) fn reported(mut self, outcome: &Outcome) -> Self {
        self.deliver(outcome);
        self
    }

    pub(crate) fn deliver(&mut self, outcome: &Outcome) {
        let decision = decide::outcome(self.batch.as_ref(), outcome, self.now);
        self.superseded = decision.superseded;
        self.append(decision.events, Cause::Chunk(outcome.chunk));
    }

    pub(crate) fn done(self, tier: TierNum, job: &str, range: Range<u32>) -> Self {
        self.outcome(tier, job, |report| report.done(range))
    }

    pub(crate) fn fails(
        self,
        tier: TierNum,
        job: &str,
        range: Range<u32>,
        kind: FailureKind,
    ) -> Self {
        self.outcome(tier, job, |report| report.failed(range, kind))
    }

    pub(crate) fn worker_lost(mut self, tier: TierNum, job: &str, range: Range<u32>) -> Self {
        let set = units(range);
        let attempt = self.job(tier, job).attempts.get(set.first().unwrap_or(0)) + 1;
        self.lose(tier, job, attempt, set);
        self
    }

    pub(crate) fn lose(&mut self, tier: TierNum, job: &str, attempt: u32, units: UnitSet) {
        let chunk = ChunkId(Uuid::from_u128(7));
        let lost = Lost {
            tier,
            job: JobName::new(job).unwrap(),
            attempt,
            chunk,
            worker: None,
            units,
        };
        let events = decide::lost(self.state(), &lost);
        self.append(events, Cause::Chunk(chunk));
    }

    pub(crate) fn later(mut self, span: Millis) -> Self {
        self.now.at = self.now.at.plus(span);
        self
    }

    pub(crate) fn random(mut self, random: u64) -> Self {
        self.now.random = random;
        self
    }

    // What is so.

    #[track_caller]
    pub(crate) fn accepted(self) -> Self {
        if let Some(Err(refusal)) = &self.answer {
            panic!("refused: {refusal}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn repeated(self) -> Self {
        assert!(self.answer().repeated, "{:?}", self.answer);
        self.and_nothing_happens()
    }

    #[track_caller]
    pub(crate) fn answer(&self) -> &Accepted {
        match &self.answer {
            Some(Ok(accepted)) => accepted,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// The refusal has this code and its message has these words.
    #[track_caller]
    pub(crate) fn refused(self, code: &str, words: &str) -> Self {
        let Some(Err(refusal)) = &self.answer else {
            panic!("not refused: {:?}", self.answer);
        };
        let json = serde_json::to_value(refusal).unwrap();
        assert_eq!(json["code"], code, "{refusal}");
        assert!(refusal.to_string().contains(words), "{refusal}");
        self.and_nothing_happens()
    }

    #[track_caller]
    pub(crate) fn events(self, names: &[&str]) -> Self {
        let happened: Vec<String> = self.last_events.iter().map(Event::subject_type).collect();
        assert_eq!(happened, names);
        self
    }

    #[track_caller]
    pub(crate) fn and_nothing_happens(self) -> Self {
        self.events(&[])
    }

    /// The event of the last step with that name.
    #[track_caller]
    pub(crate) fn event(&self, name: &str) -> &Event {
        let found = self.last_events.iter().find(|e| e.subject_type() == name);
        found.unwrap_or_else(|| panic!("no {name} in {:?}", self.last_events))
    }

    #[track_caller]
    pub(crate) fn status(self, status: BatchStatus) -> Self {
        assert_eq!(self.state().status, status);
        self
    }

    #[track_caller]
    pub(crate) fn tier_status(self, tier: usize, status: BatchStatus) -> Self {
        assert_eq!(self.state().tiers[tier].status, status);
        self
    }

    /// Documents that are completed, failed, cancelled, open.
    #[track_caller]
    pub(crate) fn counts(self, completed: u64, failed: u64, cancelled: u64, open: u64) -> Self {
        let is = self.state().counts();
        assert_eq!(
            (is.completed, is.failed, is.cancelled, is.open),
            (completed, failed, cancelled, open)
        );
        self
    }

    #[track_caller]
    pub(crate) fn open(
        self,
        tier: TierNum,
        job: &str,
        units: impl IntoIterator<Item = u32>,
    ) -> Self {
        assert_eq!(self.job(tier, job).open, units.into_iter().collect());
        self
    }

    #[track_caller]
    pub(crate) fn superseded(self, count: u64) -> Self {
        assert_eq!(self.superseded, count);
        self
    }
}
