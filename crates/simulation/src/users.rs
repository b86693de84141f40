//! Those who use the system: they give commands in any order, more than once, and nonsense between them.

use std::{sync::Arc, time::Duration};

use redrive_broker::{Broker, Message};
use redrive_client::{Client, ClientError};
use redrive_domain::{
    command::{
        Accepted, AddDocuments, Cancel, Command, Create, Heal, Pause, Refusal, Resume, Retry,
        RetryMode, SetCredits, Submit, Written,
    },
    credits::NO_BATCH,
    decide::ANY_BUCKET,
    document::Document,
    heal::HealAction,
    ids::{BatchKey, Bucket, CommandId, JobName},
    pause::Paused,
    pipeline::SubmissionChange,
    plan::Plan,
    share::Share,
    subject,
};
use tokio::time::sleep;

use crate::{
    dice::Dice,
    faulty::Faulty,
    keys,
    ledger::{KINDS, document_id},
    link::Link,
    plan::BatchPlan,
    world::World,
};

/// How often a user asks again at the end, when nothing goes wrong any more.
const INSISTS: u32 = 100;
/// After so many probes that failed users tell a job to go on, at the end.
const PROBES: u32 = 4;

/// A command with the id under which it is given, however often.
#[derive(Clone)]
struct Wish {
    id: CommandId,
    command: Command,
}

/// A user of one batch.
pub(crate) struct User {
    world: Arc<World>,
    number: u32,
    lives: u32,
    link: Arc<Link>,
    client: Client<Faulty>,
    plan: BatchPlan,
    dice: Dice,
    /// Plans that were made, the latest last.
    previewed: Vec<Plan>,
}

fn connect(
    world: &Arc<World>,
    number: u32,
    life: u32,
    plan: &BatchPlan,
) -> (Arc<Link>, Client<Faulty>) {
    let link = Link::new(world, format!("user-{number}.{life}"));
    let namespace = plan.key.namespace.clone();
    let client = Client::new(Faulty::new(&link), namespace, Some(link.name.clone()));
    (link, client)
}

impl User {
    pub(crate) fn new(world: &Arc<World>, number: u32, plan: BatchPlan) -> Self {
        let (link, client) = connect(world, number, 0, &plan);
        Self {
            world: Arc::clone(world),
            number,
            lives: 1,
            link,
            client,
            dice: world.dice(("user", number)),
            plan,
            previewed: Vec::new(),
        }
    }

    /// Does all that this user does, and sees to it in the end that the batch has what it was to have.
    pub(crate) async fn act(mut self) -> Self {
        if self.dice.happens(0.4) {
            let limit = self.limit();
            self.give(&limit).await;
        }
        for (pause, wish) in self.script() {
            sleep(pause).await;
            self.give(&wish).await;
        }
        // While much of it is handed out.
        for _ in 0..*self.dice.pick(&[0, 0, 4]) {
            sleep(self.dice.ms(0..=2_000)).await;
            let heal = Command::Heal(self.heal());
            let wish = self.wish(heal);
            self.give(&wish).await;
        }
        if self.dice.happens(0.3) {
            sleep(self.dice.ms(0..=2_000)).await;
            let cancel = self.wish(Command::Cancel(Cancel::default()));
            self.give(&cancel).await;
        }
        // Some of it comes when nothing goes wrong any more.
        let after = self.dice.ms(0..=15_000);
        let left = self.world.weather.storm.saturating_sub(self.world.passed());
        for _ in 0..self.dice.count(0..=6) {
            let pause = (left + after) / 6;
            sleep(pause.mul_f64(0.5 + f64::from(self.dice.count(0..=100)) / 100.0)).await;
            let wish = self.later();
            self.give(&wish).await;
        }
        while !self.world.is_calm() {
            sleep(Duration::from_millis(500)).await;
        }
        self.insist().await;
        self
    }

    /// What handlers pause once more, and what nobody wanted to be paused for ever. An outage passes by itself, but where
    /// a handler mostly fails, the waits between probes grow longer than a seed has time.
    pub(crate) async fn resume_whatever_is_paused(mut self) {
        loop {
            sleep(Duration::from_millis(500)).await;
            let paused = {
                let checks = self.world.checks();
                let batch = checks.batches().get(&self.plan.key);
                let waits = |paused: &Paused| {
                    let outage = paused.outage();
                    outage.is_none_or(|outage| outage.probes >= PROBES)
                };
                batch.is_some_and(|batch| {
                    let mut jobs = batch.jobs();
                    !batch.status.is_over()
                        && jobs.any(|(_, _, job)| job.paused.as_ref().is_some_and(waits))
                })
            };
            if paused {
                let wish = self.wish(Command::Resume(Resume::default()));
                self.ask(&wish).await.ok();
            }
        }
    }

    /// Whose a command is: this user's batch's, or the namespace's.
    fn place(&self, command: &Command) -> (Bucket, BatchKey) {
        let BatchPlan { bucket, key, .. } = self.plan.clone();
        match command {
            Command::SetCredits(_) | Command::CreateKey(_) | Command::RevokeKey(_) => (
                Bucket::new(ANY_BUCKET).unwrap_or(bucket),
                BatchKey {
                    batch: NO_BATCH,
                    ..key
                },
            ),
            _ => (bucket, key),
        }
    }

    /// Nobody else is to be kept from their work in the end.
    async fn lift_the_limit(&mut self) {
        let wish = self.wish(Command::SetCredits(SetCredits { limit: None }));
        self.ask(&wish).await.ok();
    }

    fn wish(&mut self, command: Command) -> Wish {
        Wish {
            id: CommandId(self.dice.uuid()),
            command,
        }
    }

    /// All that it takes to submit the batch, in order.
    fn submission(&mut self) -> Vec<Wish> {
        let create = Command::Create(Create {
            pipeline: self.plan.pipeline.clone(),
            start: self.plan.start,
        });
        let mut wishes = vec![self.wish(create)];
        let mut first = 0;
        for count in self.plan.pages.clone() {
            let page = self.page(first, count);
            wishes.push(self.wish(page));
            first += count;
        }
        let submit = Command::Submit(Submit {
            documents: Some(first),
        });
        wishes.push(self.wish(submit));
        wishes
    }

    fn page(&self, first: u32, count: u32) -> Command {
        let batch = self.plan.key.batch;
        let documents = (first..first + count).map(|unit| Document::new(document_id(batch, unit)));
        Command::AddDocuments(AddDocuments {
            first: Some(first),
            documents: documents.collect(),
        })
    }

    /// The submission, with repetitions, in some disorder, and with other things between.
    fn script(&mut self) -> Vec<(Duration, Wish)> {
        let mut wishes = self.submission();
        if self.dice.happens(0.3) {
            let at = self.dice.within(0..=wishes.len() as u64 - 2) as usize;
            wishes.swap(at, at + 1);
        }
        let mut script = Vec::new();
        for wish in wishes {
            while self.dice.happens(0.15) {
                let other = self.later();
                script.push((self.dice.ms(0..=2_000), other));
            }
            let again = self
                .dice
                .happens(0.3)
                .then(|| match self.dice.happens(0.5) {
                    true => wish.clone(),
                    false => Wish {
                        id: CommandId(self.dice.uuid()),
                        ..wish.clone()
                    },
                });
            script.push((self.dice.ms(0..=2_000), wish));
            if let Some(again) = again {
                script.push((self.dice.ms(0..=2_000), again));
            }
        }
        script
    }

    /// What may be asked at any time.
    fn later(&mut self) -> Wish {
        let command = match self.dice.count(0..=27) {
            0 => Command::Cancel(Cancel::default()),
            1 | 23 | 24 => Command::Cancel(self.cancel()),
            2 => self.page(self.plan.documents(), 1),
            3 => Command::Submit(Submit::default()),
            4 => self.page(0, self.plan.documents().min(2)),
            5 | 6 => Command::Pause(Pause {
                tier: *self.dice.pick(&[None, None, Some(0), Some(1), Some(9)]),
                job: self.job(),
                reason: None,
            }),
            7 | 8 => Command::Resume(Resume {
                tier: *self.dice.pick(&[None, None, None, Some(0), Some(1)]),
                job: self.job(),
            }),
            9..=12 if !self.previewed.is_empty() => {
                let latest = self.previewed.len() - 1;
                let plan = match self.dice.happens(0.8) {
                    true => self.previewed[latest].clone(),
                    false => self.dice.pick(&self.previewed).clone(),
                };
                Command::Retry(Retry {
                    plan: Some(plan),
                    ..Retry::default()
                })
            }
            18..=19 => return self.limit(),
            20..=22 => Command::Heal(self.heal()),
            25..=27 => keys::command(&mut self.dice),
            number => Command::Retry(Retry {
                dry_run: number <= 14,
                ..self.retry()
            }),
        };
        self.wish(command)
    }

    fn limit(&mut self) -> Wish {
        let limits = [None, Some(0), Some(10), Some(30), Some(100), Some(100)];
        let limit = *self.dice.pick(&limits);
        self.wish(Command::SetCredits(SetCredits { limit }))
    }

    fn retry(&mut self) -> Retry {
        Retry {
            retry_mode: *self.dice.pick(&[
                RetryMode::All,
                RetryMode::All,
                RetryMode::TransientOnly,
            ]),
            tier_nums: match self.dice.happens(0.3) {
                true => Some(vec![self.dice.pick(&[0, 1, 9]).to_owned()]),
                false => None,
            },
            kinds: match self.dice.happens(0.3) {
                true => Some(vec![
                    self.dice.pick(&KINDS).clone(),
                    self.dice.pick(&KINDS).clone(),
                ]),
                false => None,
            },
            max_retry_count: *self.dice.pick(&[1, 3, 10, 10, 11]),
            max_retries: *self.dice.pick(&[None, Some(1), Some(3), Some(4)]),
            canary: match self.dice.happens(0.3) {
                true => Share::percent(*self.dice.pick(&[1, 30, 100])).ok(),
                false => None,
            },
            jobs: match self.dice.happens(0.1) {
                true => self.job().map(|job| vec![job]),
                false => None,
            },
            set: self.dice.happens(0.2).then(|| Box::new(self.change())),
            ..Retry::default()
        }
    }

    /// Most of what is handed out again so is well, and goes on where it was.
    fn heal(&mut self) -> Heal {
        let action = match self.dice.happens(0.8) {
            true => HealAction::DetectStuck,
            false => HealAction::KillDuplicates,
        };
        Heal {
            tier: *self.dice.pick(&[None, None, Some(0), Some(1), Some(9)]),
            fix: self.dice.happens(0.6),
            idle_seconds: *self.dice.pick(&[None, Some(1), Some(1), Some(3)]),
            ..Heal::new(action)
        }
    }

    /// Other parameters, some of which are none; nothing that would leave nobody to do the work.
    fn change(&mut self) -> SubmissionChange {
        SubmissionChange {
            priority: *self.dice.pick(&[None, Some(0), Some(100), Some(101)]),
            memory_bytes: *self.dice.pick(&[None, Some(1 << 30), Some(1 << 31)]),
            max_attempts: *self.dice.pick(&[None, Some(1), Some(4)]),
            rate_limit: *self.dice.pick(&[None, None, Some(20.0)]),
            max_concurrency: *self.dice.pick(&[None, Some(1), Some(5)]),
            entrypoint: self.dice.happens(0.3).then(|| "main".to_owned()),
            ..SubmissionChange::default()
        }
    }

    /// A tier, a job, or all of it.
    fn cancel(&mut self) -> Cancel {
        let tier = *self.dice.pick(&[None, Some(0), Some(1), Some(2), Some(9)]);
        Cancel {
            tier,
            job: self.job(),
            reason: None,
        }
    }

    fn job(&mut self) -> Option<JobName> {
        let name = *self.dice.pick(&["", "", "job0", "job1"]);
        JobName::new(name).ok()
    }

    /// Gives a command. One who dies over it comes back and gives it again.
    async fn give(&mut self, wish: &Wish) {
        loop {
            let link = Arc::clone(&self.link);
            tokio::select! {
                biased;
                () = link.died() => {}
                () = self.give_once(wish) => return,
            }
            (self.link, self.client) = connect(&self.world, self.number, self.lives, &self.plan);
            self.lives += 1;
        }
    }

    /// In one of the ways in which that is done.
    async fn give_once(&mut self, wish: &Wish) {
        let verb = wish.command.verb();
        if self.dice.happens(0.05) {
            self.babble().await;
        }
        let preview = matches!(&wish.command, Command::Retry(retry) if retry.dry_run);
        if self.dice.happens(0.6) || preview {
            let answer = self.ask(wish).await;
            self.previewed
                .extend(answer.ok().and_then(|accepted| accepted.plan));
            return;
        }
        let (bucket, key) = self.place(&wish.command);
        let named = self.dice.happens(0.7);
        let body = Written {
            id: named.then_some(wish.id),
            actor: None,
            command: &wish.command,
        };
        let message = Message {
            subject: subject::command(&key.namespace, &bucket, key.batch, verb),
            payload: serde_json::to_vec(&body).unwrap_or_default().into(),
            trace: None,
        };
        let before = self.world.checks().inboxes_lost();
        let handed_over = Faulty::new(&self.link).submit(message, None).await;
        self.link
            .tell(format_args!("hands over {verb}: {handed_over:?}"));
        let acts = matches!(&wish.command, Command::Retry(retry) if !retry.dry_run);
        if handed_over.is_ok() && named && acts {
            self.world.checks().handed_over(key, wish.id, before);
        }
    }

    async fn ask(&self, wish: &Wish) -> Result<Accepted, ClientError> {
        let (bucket, key) = self.place(&wish.command);
        let answer = self
            .client
            .command(&bucket, key.batch, wish.id, &wish.command)
            .await;
        let verb = wish.command.verb();
        match &answer {
            Ok(accepted) => {
                self.link
                    .tell(format_args!("{verb} is accepted at {}", accepted.seq));
                self.world.count("commands accepted");
                // Where nobody ever set a limit, there is no event that says so.
                if accepted.seq > 0 {
                    self.world.checks().acknowledged(&key, wish.id, accepted);
                }
            }
            Err(error) => {
                if let ClientError::Refused(Refusal::Stale(_)) = error {
                    self.world.count("plans that are stale");
                }
                if let ClientError::Refused(Refusal::Credits(_)) = error {
                    self.world.count("commands beyond what is left of credits");
                }
                self.world.count("commands refused or unanswered");
                self.link.tell(format_args!("{verb}: {error}"));
            }
        }
        answer
    }

    /// Says something that means nothing.
    async fn babble(&mut self) {
        let key = &self.plan.key;
        let subjects = [
            format!("rd.cmd.{}.docs.{}.explode", key.namespace, key.batch),
            format!("rd.cmd.{}.docs.{}.retry", key.namespace, key.batch),
            "rd.cmd.nonsense".to_owned(),
            subject::outcome(0, key),
        ];
        let payloads = ["", "{", "[]", "{\"retry_mode\":7}", "\u{1}\u{2}"];
        let message = Message {
            subject: self.dice.pick(&subjects).clone(),
            payload: self.dice.pick(&payloads).as_bytes().into(),
            trace: None,
        };
        self.link
            .tell(format_args!("babbles on {}", message.subject));
        Faulty::new(&self.link).submit(message, None).await.ok();
    }

    /// Completes the submission: by now nobody may say no but for a reason.
    async fn insist(&mut self) {
        for wish in self.submission() {
            for tries in 0..=INSISTS {
                match self.ask(&wish).await {
                    Ok(_) => break,
                    // It was cancelled, or submitted with what it had.
                    Err(ClientError::Refused(Refusal::Conflict { .. })) => {
                        self.submit_as_it_is().await;
                        return;
                    }
                    Err(ClientError::Refused(Refusal::Credits(_))) if tries < INSISTS => {
                        self.lift_the_limit().await;
                    }
                    Err(error) if tries == INSISTS || matches!(error, ClientError::Refused(_)) => {
                        let verb = wish.command.verb();
                        let problem = format!("{} cannot {verb}: {error}", self.link.name);
                        self.world.checks().fail(problem);
                        return;
                    }
                    Err(_) => sleep(Duration::from_millis(500)).await,
                }
            }
        }
    }

    async fn submit_as_it_is(&mut self) {
        let wish = self.wish(Command::Submit(Submit::default()));
        for _ in 0..INSISTS {
            match self.ask(&wish).await {
                Err(ClientError::Refused(Refusal::Credits(_))) => self.lift_the_limit().await,
                Ok(_) | Err(ClientError::Refused(_)) => return,
                Err(_) => sleep(Duration::from_millis(500)).await,
            }
        }
        self.world
            .checks()
            .fail("nobody answers, though nothing goes wrong any more");
    }
}
