//! A batch driven at random: whatever happens in whatever order, the invariants hold and the run comes to an end.

use proptest::prelude::*;
use uuid::Uuid;

use super::story::*;
use crate::{
    command::{Cancel, Command, Create, Pause, Resume, Retry, RetryMode, Start},
    evolve::evolve,
    failure::{FailureClass, FailureKind},
    ids::{CommandId, JobName},
    invariants::History,
    pipeline::{SubmissionChange, TierNum},
    share::Share,
    state::BatchState,
    status::BatchStatus,
    time::Millis,
    units::UnitSet,
    work::{FailedUnits, Outcome},
};

#[derive(Debug, Clone)]
enum Step {
    Add(u32),
    Submit,
    Dispatch { job: usize, size: u64 },
    Report { chunk: usize, how: How, again: bool },
    Lose { chunk: usize, again: bool },
    Retry(Retry),
    Cancel,
    Wait(u64),
    Limit(Option<u64>),
    CancelPart { tier: u16, job: Option<usize> },
    Resubmit { tier: u16, change: SubmissionChange },
    Pause,
    Resume,
}

/// What becomes of a chunk: the unit's ordinal modulo a number decides.
#[derive(Debug, Clone)]
struct How {
    modulus: u32,
    kind: usize,
    class: Option<FailureClass>,
    skipping: bool,
    /// Only so many of its units are reported.
    part: Option<u64>,
}

/// Credits that a document takes.
const PRICE: u64 = 3;

const KINDS: [FailureKind; 6] = [
    FailureKind::NETWORK,
    FailureKind::REJECTED,
    FailureKind::CRASHED,
    FailureKind::PREEMPTED,
    FailureKind::RATE_LIMITED,
    FailureKind::OUT_OF_MEMORY,
];

fn how() -> impl Strategy<Value = How> {
    let class = prop_oneof![
        4 => Just(None),
        1 => Just(Some(FailureClass::Transient)),
        1 => Just(Some(FailureClass::Unknown)),
    ];
    let part = proptest::option::weighted(0.2, 0u64..5);
    (1u32..5, 0..KINDS.len(), class, any::<bool>(), part).prop_map(
        |(modulus, kind, class, skipping, part)| How {
            modulus,
            kind,
            class,
            skipping,
            part,
        },
    )
}

fn retries() -> impl Strategy<Value = Retry> {
    let mode = prop_oneof![Just(RetryMode::All), Just(RetryMode::TransientOnly)];
    let tiers = proptest::option::of(proptest::collection::vec(0u16..2, 0..3));
    let canary = proptest::option::weighted(0.3, proptest::sample::select(vec![1u8, 30, 100]));
    (mode, tiers, 1u8..5, proptest::option::of(1u8..4), canary).prop_map(
        |(retry_mode, tier_nums, max_retry_count, max_retries, canary)| Retry {
            retry_mode,
            tier_nums,
            max_retry_count,
            max_retries,
            canary: canary.map(|percent| Share::percent(u16::from(percent)).unwrap()),
            ..retry()
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u32..20).prop_map(Step::Add),
        1 => Just(Step::Submit),
        8 => (0usize..16, 1u64..12).prop_map(|(job, size)| Step::Dispatch { job, size }),
        8 => (any::<usize>(), how(), any::<bool>())
            .prop_map(|(chunk, how, again)| Step::Report { chunk, how, again }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(chunk, again)| Step::Lose { chunk, again }),
        2 => retries().prop_map(Step::Retry),
        1 => prop_oneof![9 => Just(Step::Wait(500)), 1 => Just(Step::Cancel)],
        2 => (0u64..5_000).prop_map(Step::Wait),
        2 => proptest::option::of(0u64..90).prop_map(Step::Limit),
        1 => Just(Step::Wait(20 * 86_400_000)),
        2 => parts(),
        1 => prop_oneof![1 => Just(Step::Pause), 3 => Just(Step::Resume)],
    ]
}

fn parts() -> impl Strategy<Value = Step> {
    let change = (any::<bool>(), 1u32..5).prop_map(|(gpu, attempts)| SubmissionChange {
        requires_gpu: Some(gpu),
        max_attempts: Some(attempts),
        ..SubmissionChange::default()
    });
    prop_oneof![
        2 => (any::<u16>(), 0usize..3).prop_map(|(tier, job)| Step::CancelPart { tier, job: Some(job) }),
        1 => any::<u16>().prop_map(|tier| Step::CancelPart { tier, job: None }),
        2 => (any::<u16>(), change).prop_map(|(tier, change)| Step::Resubmit { tier, change }),
    ]
}

fn shape() -> impl Strategy<Value = String> {
    let tier = (any::<bool>(), 1usize..4).prop_map(|(barrier, jobs)| {
        let names: Vec<String> = (0..jobs).map(|i| format!("j{i}")).collect();
        format!("{}{}", if barrier { "!" } else { "" }, names.join(" "))
    });
    let plain = proptest::collection::vec(tier, 1..5).prop_map(|tiers| tiers.join(" | "));
    let segmented = proptest::sample::select(vec![
        "*s | j0 j1 | &j2",
        "j0 j1 | *s | j0 | !j1 | !&j2 | j3",
        "*s | !j0 j1",
        "!*s | j0 | j1 j2 | &j0 j1 | !j4",
        "j0 | *s | !j0 | &j1",
    ]);
    prop_oneof![2 => plain, 1 => segmented.prop_map(str::to_owned)]
}

#[derive(Clone)]
struct Held {
    tier: TierNum,
    job: JobName,
    attempt: u32,
    units: UnitSet,
}

struct Driver {
    story: Story,
    chunks: Vec<Held>,
    /// Chunks that were reported or lost, kept so that they are reported again.
    gone: Vec<Held>,
}

impl Driver {
    fn ask(&mut self, command: Command) {
        let id = CommandId(Uuid::from_u128(1 << 64 | self.story.log.len() as u128));
        self.story.ask(id, &command);
    }

    /// Hands out ready units of one job that nobody holds, alike in their attempt.
    fn dispatch(&mut self, place: usize, size: u64) {
        let batch = self.story.state();
        if batch.status != BatchStatus::Running {
            return;
        }
        let jobs: Vec<_> = batch.jobs().collect();
        let (tier, spec, job) = jobs[place % jobs.len()];
        let mut ready = job.ready(self.story.now.at);
        for held in &self.chunks {
            if held.tier == tier && held.job == spec.name {
                ready.remove(&job.outstanding(&held.units, held.attempt));
            }
        }
        if let Some((ended, units)) = job.attempts.split(&ready).into_iter().next() {
            self.chunks.push(Held {
                tier,
                job: spec.name.clone(),
                attempt: ended + 1,
                units: units.take(size),
            });
        }
    }

    fn outcome(&self, held: &Held, how: &How) -> Outcome {
        let mut outcome = self
            .story
            .report(held.tier, held.job.as_str())
            .attempt(held.attempt)
            .outcome;
        let reported = held.units.take(how.part.unwrap_or(u64::MAX));
        let failed: UnitSet = reported.iter().filter(|u| u % how.modulus == 1).collect();
        let fine = reported.minus(&failed);
        if how.skipping {
            outcome.skipped = fine.iter().filter(|u| u % 3 == 0).collect();
        }
        outcome.completed = fine.minus(&outcome.skipped);
        let (spec, _) = self.story.state().job(held.tier, &held.job).unwrap();
        if spec.segments {
            let documents = outcome.completed.iter();
            let counts = documents.map(|d| (d, (d.wrapping_mul(2_654_435_761) >> 20) % 5));
            outcome.segments = counts.collect();
        }
        let mut failure = failure(KINDS[how.kind].clone());
        failure.class = how.class.unwrap_or(failure.class);
        if !failed.is_empty() {
            outcome.failures.push(FailedUnits {
                units: failed,
                failure,
            });
        }
        outcome
    }

    fn take(&mut self, chunk: usize, again: bool) -> Option<Held> {
        let all = self.chunks.len() + self.gone.len();
        let place = chunk.checked_rem(all)?;
        if place >= self.chunks.len() {
            return Some(self.gone[place - self.chunks.len()].clone());
        }
        if again {
            return Some(self.chunks[place].clone());
        }
        let held = self.chunks.swap_remove(place);
        self.gone.push(held.clone());
        self.gone.truncate(8);
        Some(held)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Add(count) => self.ask(page(None, *count)),
            Step::Submit => self.ask(submit()),
            Step::Dispatch { job, size } => self.dispatch(*job, *size),
            Step::Report { chunk, how, again } => {
                if let Some(held) = self.take(*chunk, *again) {
                    let outcome = self.outcome(&held, how);
                    self.story.deliver(&outcome);
                }
            }
            Step::Lose { chunk, again } => {
                if let Some(held) = self.take(*chunk, *again) {
                    self.story
                        .lose(held.tier, held.job.as_str(), held.attempt, held.units);
                }
            }
            Step::Retry(retry) => {
                let mut retry = retry.clone();
                let tiers = u16::try_from(self.story.state().tiers.len()).unwrap();
                retry
                    .tier_nums
                    .iter_mut()
                    .flatten()
                    .for_each(|tier| *tier %= tiers);
                self.ask(Command::Retry(retry));
            }
            Step::Cancel => self.ask(cancel()),
            Step::Limit(limit) => self.story.limit(*limit),
            Step::CancelPart { tier, job } => {
                let tiers = u16::try_from(self.story.state().tiers.len()).unwrap();
                self.ask(Command::Cancel(Cancel {
                    tier: Some(*tier % tiers),
                    job: job.map(|i| JobName::new(format!("j{i}")).unwrap()),
                    reason: None,
                }));
            }
            Step::Resubmit { tier, change } => {
                let tiers = u16::try_from(self.story.state().tiers.len()).unwrap();
                self.ask(Command::Retry(Retry {
                    tier_nums: Some(vec![*tier % tiers]),
                    set: Some(Box::new(change.clone())),
                    ..retry()
                }));
            }
            Step::Pause => self.ask(Command::Pause(Pause::default())),
            Step::Resume => self.ask(Command::Resume(Resume::default())),
            Step::Wait(ms) => self.story.now.at = self.story.now.at.plus(Millis(*ms)),
        }
    }

    /// Everybody does their work until the batch is over.
    fn finish(&mut self) {
        self.story.limit(None);
        self.ask(submit());
        let smooth = How {
            modulus: 7,
            kind: 0,
            class: None,
            skipping: false,
            part: None,
        };
        for _ in 0..400 {
            while let Some(held) = self.chunks.pop() {
                let outcome = self.outcome(&held, &smooth);
                self.story.deliver(&outcome);
            }
            let batch = self.story.state();
            let is_open = batch.jobs().any(|(_, _, job)| !job.open.is_empty());
            match (batch.status.is_over(), batch.aborted) {
                (true, Some(_)) if is_open => self.ask(Command::Resume(Resume::default())),
                (true, _) => return,
                (false, _) => {}
            }
            let jobs = self.story.state().jobs().count();
            (0..jobs).for_each(|job| self.dispatch(job, u64::MAX));
            if self.chunks.is_empty() {
                let now = self.story.now.at;
                let next = self
                    .story
                    .state()
                    .jobs()
                    .filter_map(|(_, _, job)| job.next_due(now))
                    .min();
                self.story.now.at = next.expect("an open unit is ready or waits for a time");
            }
        }
        panic!("the batch does not end: {:?}", self.story.state());
    }
}

/// Nothing counts twice, or after a cancellation.
fn the_history_is_sound(story: &Story) {
    let mut history = History::default();
    for (seq, envelope) in &story.log {
        assert_eq!(history.take(*seq, envelope), Vec::<String>::new());
    }
}

/// A fold that went through bytes after every event is the same fold.
fn stopping_anywhere_changes_nothing(story: &Story) {
    let (mut straight, mut stopped) = (None, None);
    for (seq, envelope) in story.log.iter().filter(|(_, event)| event.key() == key()) {
        evolve(&mut straight, *seq, envelope);
        let again = crate::event::Envelope::decode(&envelope.encode().unwrap()).unwrap();
        assert_eq!(again, *envelope);
        evolve(&mut stopped, *seq, &again);
        let bytes = straight.as_ref().unwrap().encode().unwrap();
        assert_eq!(stopped.as_ref().unwrap().encode().unwrap(), bytes);
        let back = BatchState::decode(&bytes).unwrap();
        assert_eq!(Some(&back), straight.as_ref());
        assert_eq!(back.encode().unwrap(), bytes);
        stopped = Some(back);
    }
    assert_eq!(straight.as_ref(), Some(story.state()));
}

/// The ledger knows no documents and the batch no limits; they agree, and in the end nothing is held.
fn the_books_balance(story: &Story) {
    let mut history = History::default();
    for (seq, envelope) in &story.log {
        history.take(*seq, envelope);
    }
    let credits = &story.state().credits;
    assert_eq!(history.holds(&key()), credits.documents().len());
    if story.state().status.is_over() {
        assert!(credits.held.is_empty(), "{credits:?}");
    }
    let (mut settled, mut released) = (0, 0);
    for (_, ledger) in story.ledgers.iter() {
        for (month, account) in &ledger.months {
            let held = credits.held.get(month).map_or(0, UnitSet::len);
            assert_eq!(account.held(), held * PRICE, "{month}");
            assert_eq!(account.held(), history.held(&key().namespace, *month));
            settled += account.settled;
            released += account.released;
        }
    }
    assert_eq!((credits.settled, credits.released), (settled, released));
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold_and_the_batch_ends(
        shape in shape(),
        at_once in any::<bool>(),
        random in any::<u64>(),
        max_failed in proptest::option::weighted(0.5, 0u32..6),
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let start = if at_once { Start::AtOnce } else { Start::OnSubmit };
        let mut pipeline = pipeline(&shape);
        pipeline["credits_per_document"] = PRICE.into();
        pipeline["max_failed"] = max_failed.into();
        let create = Command::Create(Create { pipeline, start });
        let story = nothing().random(random).command(create).accepted();
        let mut driver = Driver { story, chunks: Vec::new(), gone: Vec::new() };
        for step in &steps {
            driver.step(step);
            the_books_balance(&driver.story);
        }
        driver.finish();
        the_books_balance(&driver.story);
        // A round of retries ends as well.
        driver.ask(Command::Retry(Retry { retry_mode: RetryMode::All, max_retry_count: 10, ..retry() }));
        driver.finish();
        the_history_is_sound(&driver.story);
        stopping_anywhere_changes_nothing(&driver.story);
    }
}
