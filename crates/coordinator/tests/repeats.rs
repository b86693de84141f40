//! Commands that come again after they were carried out. Time is simulated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use redrive_client::ClientError;
use redrive_domain::{
    command::{Accepted, Cancel, Command, Pause, Refusal, Resume, Retry, RetryMode, SetCredits},
    credits::NO_BATCH,
    failure::{Failure, FailureKind},
    ids::{BatchKey, Bucket, CommandId},
    state::BatchState,
};
use serde_json::json;
use support::{Sim, done};

impl Sim {
    async fn give(
        &self,
        key: &BatchKey,
        id: CommandId,
        command: &Command,
    ) -> Result<Accepted, ClientError> {
        let any: Bucket = "_".parse().unwrap();
        self.client.command(&any, key.batch, id, command).await
    }
}

/// What is told of a command is told of it again, whatever has happened since: by the leader that carried it out, and by
/// the next one.
#[tokio::test(start_paused = true)]
async fn a_command_that_comes_again_is_answered_what_it_was_answered() {
    let mut sim = Sim::new().await;
    let leader = sim.coordinator("a");
    let limit = Command::SetCredits(SetCredits { limit: Some(1_000) });
    let any: Bucket = "_".parse().unwrap();
    let id = CommandId::of_key([9; 10], [0; 4]);
    let set = sim.client.command(&any, NO_BATCH, id, &limit).await;
    assert_eq!(set.unwrap().seq, 1);
    sim.worker("w", 2, |unit, _| async move {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let number: u32 = unit.document.id.trim_start_matches("doc-").parse().unwrap();
        match number % 3 {
            0 => Err(Failure::new(FailureKind::TIMEOUT, "slow")),
            1 => Err(Failure::new(FailureKind::INVALID_DATA, "odd")),
            _ => done(),
        }
    });
    let key = sim.submit(json!({ "max_attempts": 1 }), 30).await;
    sim.over(&key).await;
    let retry = Command::Retry(Retry {
        retry_mode: RetryMode::All,
        ..Retry::default()
    });
    let pause = Command::Pause(Pause::default());
    let resume = Command::Resume(Resume::default());
    let cancel = Command::Cancel(Cancel::default());
    let mut told = Vec::new();
    for (place, command) in [retry, pause, resume, cancel].into_iter().enumerate() {
        let id = CommandId::of_key([u8::try_from(place).unwrap(); 10], [1; 4]);
        let first = sim.give(&key, id, &command).await.unwrap();
        assert!(!first.repeated, "{first:?}");
        told.push((id, command, first));
    }
    let retried = told[0].2.retry.as_ref().unwrap();
    assert_eq!(retried.units, 20);
    assert_eq!(retried.by_kind[&FailureKind::TIMEOUT], 10);
    assert_eq!(told[0].2.credits.unwrap().takes, 20);
    assert_eq!(told[0].2.status.to_string(), "running");
    let before = sim.events(&key).await.len();
    for leader_is_new in [false, true] {
        if leader_is_new {
            leader.abort();
            let _b = sim.coordinator("b");
        }
        for (id, command, first) in &told {
            let again = sim.give(&key, *id, command).await.unwrap();
            let as_first = Accepted {
                repeated: true,
                ..first.clone()
            };
            assert_eq!(again, as_first);
        }
    }
    assert_eq!(sim.events(&key).await.len(), before);
    let state: BatchState = sim.state(&key).await;
    assert_eq!(state.status.to_string(), "cancelled");
    let other = CommandId::of_key([0; 10], [2; 4]);
    let refused = sim.give(&key, other, &told[0].1).await;
    assert!(
        matches!(refused, Err(ClientError::Refused(Refusal::KeyReused))),
        "{refused:?}"
    );
}
