//! What `top` shows: asked of the projector and the broker, and heard from those who are there.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures::StreamExt;
use redrive_broker::{Broker, StreamRole, nats::NatsBroker};
use redrive_client::Client;
use redrive_domain::{
    failure::{FailureClass, FailureKind},
    ids::BatchId,
    presence::CoordinatorStanding,
    query::{BatchRef, BatchView, ListBatches, OfBatch},
    status::BatchStatus,
    time::Timestamp,
    work::Heartbeat,
};
use tokio::time::{Instant, timeout};

use crate::{app::App, identity, roll::Listener};

/// How often to look.
const EVERY: Duration = Duration::from_secs(1);
/// How long to wait for all answers of one look.
const ANSWERS: Duration = Duration::from_secs(3);
/// Batches that are shown.
const BATCHES: u32 = 20;
/// Of the rate before and the one now, how much the one now counts: it does not jump from second to second.
const FRESH: f64 = 0.3;

/// What one look showed.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) url: String,
    pub(super) namespace: String,
    /// When it was; none before the first look.
    pub(super) at: Option<Timestamp>,
    pub(super) leader: Option<String>,
    pub(super) standing_by: usize,
    /// Commands and outcomes that the coordinator has not dealt with; none where that is not known.
    pub(super) inbox: Option<u64>,
    pub(super) log: Option<u64>,
    /// Messages that the projector which is least behind has not read.
    pub(super) projector_lag: Option<u64>,
    pub(super) batches: Vec<Running>,
    /// Of the batches shown, failures now by kind, the most frequent first.
    pub(super) failures: Vec<(FailureClass, FailureKind, u64)>,
    pub(super) workers: Vec<Heartbeat>,
    /// Why some of this is not fresh.
    pub(super) trouble: Option<String>,
}

/// A batch that is under way.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) view: BatchView,
    /// Attempts that ended, a second.
    pub(super) rate: Option<f64>,
}

struct Progress {
    attempts: u64,
    at: Instant,
    rate: Option<f64>,
}

pub(super) struct Looker {
    client: Client<NatsBroker>,
    listener: Listener,
    progress: HashMap<BatchId, Progress>,
    seen: Seen,
}

impl Looker {
    pub(super) async fn open(app: &App) -> anyhow::Result<Self> {
        Ok(Self {
            listener: Listener::open(app.client.broker()).await?,
            client: app.client.clone(),
            progress: HashMap::new(),
            seen: Seen {
                url: app.url.clone(),
                namespace: app.client.namespace().to_string(),
                ..Seen::default()
            },
        })
    }

    /// Listens for a while, and asks; the first time it asks at once.
    pub(super) async fn look(&mut self) -> Seen {
        let wait = match self.seen.at {
            Some(_) => EVERY,
            None => EVERY / 4,
        };
        self.listener.until(Instant::now() + wait).await;
        self.listener.roll.forget();
        let asked = match timeout(ANSWERS, self.ask()).await {
            Ok(asked) => asked,
            Err(_) if !self.client.broker().is_connected() => {
                Err("the broker cannot be reached; trying again".to_owned())
            }
            Err(_) => Err("no answer in time; is a projector running?".to_owned()),
        };
        self.seen.trouble = asked.err();
        self.hear();
        self.seen.at = Some(identity::now());
        self.seen.clone()
    }

    /// Takes over who is there.
    fn hear(&mut self) {
        let roll = &self.listener.roll;
        let seen = &mut self.seen;
        seen.leader = roll.leader().map(|leader| leader.name.clone());
        let is_by = |(_, standing): &(_, &CoordinatorStanding)| {
            matches!(standing, CoordinatorStanding::StandingBy { .. })
        };
        seen.standing_by = roll.coordinators().into_iter().filter(is_by).count();
        let lags = roll.projectors().into_iter().filter_map(|(_, it)| it.lag());
        seen.projector_lag = lags.min();
        let workers = roll.workers.values();
        seen.workers = workers.map(|heard| heard.what.clone()).collect();
    }

    async fn ask(&mut self) -> Result<(), String> {
        let inspected = self.client.broker().inspect().await;
        let inspected = inspected.map_err(|error| error.to_string())?;
        let state = |role| {
            inspected
                .stream(role)
                .and_then(|stream| stream.found.as_ref())
        };
        self.seen.inbox = state(StreamRole::Inbox).map(|inbox| inbox.messages);
        self.seen.log = state(StreamRole::Log).map(|log| log.last_seq);
        let query = ListBatches {
            status: Some(BatchStatus::Running),
            limit: Some(BATCHES),
            min_seq: Some(0),
            ..ListBatches::default()
        };
        let running: Vec<_> = self
            .client
            .pages(query)
            .take(usize::try_from(BATCHES).unwrap_or(usize::MAX))
            .collect()
            .await;
        let mut batches = Vec::new();
        for summary in running {
            let batch = summary.map_err(|error| error.to_string())?.batch;
            let ask = OfBatch {
                batch: BatchRef::Id(batch),
                min_seq: Some(0),
                at: None,
            };
            let view = self.client.status(&ask).await;
            let view = view.map_err(|error| error.to_string())?;
            let rate = self.rate(&view);
            batches.push(Running { view, rate });
        }
        self.progress
            .retain(|batch, _| batches.iter().any(|one| one.view.summary.batch == *batch));
        self.seen.failures = failures(&batches);
        self.seen.batches = batches;
        Ok(())
    }

    fn rate(&mut self, view: &BatchView) -> Option<f64> {
        let jobs = view.tiers.iter().flat_map(|tier| &tier.jobs);
        let attempts = jobs.map(|job| job.attempts).sum();
        let at = Instant::now();
        let before = self.progress.get(&view.summary.batch);
        let rate = before.map(|before| {
            let seconds = at.duration_since(before.at).as_secs_f64();
            let now = attempts_since(attempts, before.attempts) / seconds.max(0.001);
            match before.rate {
                Some(rate) => rate * (1.0 - FRESH) + now * FRESH,
                None => now,
            }
        });
        let progress = Progress { attempts, at, rate };
        self.progress.insert(view.summary.batch, progress);
        rate
    }
}

fn attempts_since(now: u64, before: u64) -> f64 {
    now.saturating_sub(before) as f64
}

fn failures(batches: &[Running]) -> Vec<(FailureClass, FailureKind, u64)> {
    let mut counts = BTreeMap::<(FailureClass, FailureKind), u64>::new();
    let jobs = batches
        .iter()
        .flat_map(|one| &one.view.tiers)
        .flat_map(|tier| &tier.jobs);
    for (class, kinds) in jobs.flat_map(|job| &job.failures) {
        for (kind, count) in kinds {
            *counts.entry((*class, kind.clone())).or_default() += count;
        }
    }
    let mut all: Vec<_> = counts
        .into_iter()
        .map(|((class, kind), count)| (class, kind, count))
        .collect();
    all.sort_by_key(|(.., count)| std::cmp::Reverse(*count));
    all
}
