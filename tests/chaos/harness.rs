//! The system under test, in processes of its own, and what its handlers wrote down.

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command, time::Duration};

use crate::support::{Home, Running};
use futures::StreamExt;
use redrive_broker::{
    Broker, Message, Range,
    nats::{ConnectOptions, NatsBroker},
};
use redrive_domain::{
    event::Envelope,
    evolve::evolve,
    ids::{BatchId, BatchKey},
    invariants::{History, violations},
    state::BatchState,
    subject,
};
use redrive_nats_server::testing::TestServer;
use tokio::time::{Instant, sleep, timeout};

use crate::{BOUND, FOLDER, NAME, URL};

/// A system of processes, each of which may be killed.
pub(crate) struct Chaos {
    pub roles: BTreeMap<&'static str, Running>,
    pub started: u32,
    pub broker: NatsBroker,
    pub home: Home,
    pub server: TestServer,
}

impl Chaos {
    pub(crate) async fn start() -> Self {
        let server = TestServer::start().unwrap();
        let home = Home::with_broker(&server.client_url());
        fs::create_dir(home.root().join("side")).unwrap();
        let broker = NatsBroker::connect(ConnectOptions::new(server.client_url()))
            .await
            .unwrap();
        Self {
            roles: BTreeMap::new(),
            started: 0,
            broker,
            home,
            server,
        }
    }

    /// Starts a role, or starts it anew.
    pub(crate) fn up(&mut self, role: &'static str) {
        self.started += 1;
        let log = format!("{role}-{}", self.started);
        let running = match role.split_once('-').map_or(role, |(kind, _)| kind) {
            "worker" => self.worker(role, &log),
            "projector" => self.home.start(
                &log,
                ["projector", "--store", self.store().to_str().unwrap()],
            ),
            _ => self.home.start(&log, ["coordinator", "--name", role]),
        };
        self.roles.insert(role, running);
    }

    pub(crate) fn worker(&self, name: &str, log: &str) -> Running {
        let mut command = Command::new(env::current_exe().unwrap());
        self.home.settle(&mut command);
        command
            .args(["--exact", "a_worker", "--ignored", "--nocapture"])
            .env(URL, self.server.client_url())
            .env(NAME, name)
            .env(FOLDER, self.home.root().join("side"));
        self.home.launch(log, &mut command)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.home.root().join("store")
    }

    pub(crate) fn kill(&mut self, role: &'static str) {
        self.roles.get_mut(role).unwrap().kill();
    }

    /// Asks the JetStream API, which has to agree.
    pub(crate) async fn api(&self, call: &str) -> serde_json::Value {
        let message = Message {
            subject: format!("$JS.API.{call}"),
            payload: "{}".into(),
            trace: None,
        };
        let end = Instant::now() + BOUND;
        loop {
            match self
                .broker
                .request(message.clone(), Duration::from_secs(5))
                .await
            {
                Ok(answer) => {
                    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
                    assert!(answer.get("error").is_none(), "{call}: {answer}");
                    return answer;
                }
                Err(error) => assert!(Instant::now() < end, "{call}: {error}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The batch by the log, whose every event has to be sound.
    pub(crate) async fn look(&self, key: &BatchKey) -> Option<(BatchState, Vec<Envelope>)> {
        let last = self.broker.last_seq().await.ok().filter(|last| *last > 0)?;
        let mut entries = self.broker.read(Range {
            from: 1,
            until: Some(last),
            filter: Some(subject::events_of_batch(0, key)),
        });
        let (mut state, mut events, mut history) = (None, Vec::new(), History::default());
        while let Some(entry) = entries.next().await {
            let entry = entry.ok()?;
            let envelope = Envelope::decode(&entry.payload).unwrap();
            assert_eq!(history.take(entry.seq, &envelope), Vec::<String>::new());
            evolve(&mut state, entry.seq, &envelope);
            events.push(envelope);
        }
        let state: BatchState = state?;
        assert_eq!(violations(&state), Vec::<String>::new());
        assert_eq!(state.ignored, 0);
        Some((state, events))
    }

    pub(crate) async fn until(
        &self,
        key: &BatchKey,
        what: &str,
        holds: impl Fn(&BatchState) -> bool,
    ) -> BatchState {
        let end = Instant::now() + BOUND;
        loop {
            let seen = timeout(Duration::from_secs(10), self.look(key)).await;
            if let Ok(Some((state, _))) = &seen
                && holds(state)
            {
                return state.clone();
            }
            assert!(
                Instant::now() < end,
                "never: {what}: {:?}\n{}",
                seen.ok().flatten().map(|(state, _)| state.counts()),
                self.logs()
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn logs(&self) -> String {
        let tail = |log: String| {
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(15)..].join("\n")
        };
        let of =
            |(role, running): (&&str, &Running)| format!("--- {role}\n{}\n", tail(running.log()));
        self.roles.iter().map(of).collect()
    }

    /// What handlers wrote down: by tier and document, the attempts that succeeded.
    pub(crate) fn side(&self) -> BTreeMap<(u16, String), Vec<u32>> {
        let mut all: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for file in fs::read_dir(self.home.root().join("side")).unwrap() {
            let path = file.unwrap().path();
            if path.file_name().is_some_and(|name| name == "mended") {
                continue;
            }
            for line in fs::read_to_string(path).unwrap().lines() {
                let [tier, document, attempt] = line.split(' ').collect::<Vec<_>>()[..] else {
                    panic!("{line:?}");
                };
                let key = (tier.parse().unwrap(), document.to_owned());
                all.entry(key).or_default().push(attempt.parse().unwrap());
            }
        }
        all
    }

    /// Who leads, by what the coordinators say.
    pub(crate) fn leaders(&self) -> Vec<&'static str> {
        let leads = |running: &Running| {
            let log = running.log();
            let last = log.lines().rev().find(|line| line.contains("leading"));
            last.is_some_and(|line| !line.contains("no longer"))
        };
        let coordinators = self
            .roles
            .iter()
            .filter(|(role, _)| role.starts_with("coordinator"));
        coordinators
            .filter(|(_, running)| leads(running))
            .map(|(role, _)| *role)
            .collect()
    }

    pub(crate) async fn leader(&self) -> &'static str {
        let end = Instant::now() + BOUND;
        loop {
            match self.leaders()[..] {
                [leader] => return leader,
                _ => assert!(Instant::now() < end, "nobody leads alone\n{}", self.logs()),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn submit(&self, pipeline: &serde_json::Value, documents: u32) -> BatchKey {
        self.home.file("pipeline.json", &pipeline.to_string());
        let ids: String = (0..documents).map(|n| format!("doc-{n}\n")).collect();
        let submitted = self
            .home
            .feed(["submit", "-f", "pipeline.json"], ids)
            .exits(0);
        BatchKey {
            namespace: "default".parse().unwrap(),
            batch: submitted.stdout.trim().parse::<BatchId>().unwrap(),
        }
    }
}
