//! What the tests of the handlers share.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod server;

use std::{sync::Arc, time::Duration};

use redrive_domain::{
    document::{Document, Output},
    ids::{BatchId, HandlerName},
};
use redrive_worker::handler::{Context, Unit};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn name(name: &str) -> HandlerName {
    HandlerName::new(name).unwrap()
}

pub fn unit(locator: &str) -> Unit {
    Unit {
        ordinal: 7,
        segment: None,
        document: Arc::new(Document::new(locator)),
        inputs: [].into(),
    }
}

pub fn with_input(mut unit: Unit, job: &str, output: Output) -> Unit {
    unit.inputs.insert(job.parse().unwrap(), Arc::new(output));
    unit
}

pub fn context(params: Value) -> Context {
    Context {
        namespace: "team".parse().unwrap(),
        bucket: "docs".parse().unwrap(),
        batch: "01890a5d-ac96-774b-bcce-b302099a8057"
            .parse::<BatchId>()
            .unwrap(),
        tier: 1,
        job: "work".parse().unwrap(),
        params: Arc::new(params),
        attempt: 2,
        deadline: Instant::now() + PATIENCE,
        memory_bytes: None,
        num_cpus: 1,
        peak_memory: redrive_worker::handler::Peak::default(),
        max_output_bytes: 64 * 1024,
        deployment: Arc::default(),
        cancelled: CancellationToken::new(),
        alive: redrive_worker::handler::Alive::default(),
        trace: None,
    }
}

/// Waits until something holds, looking often, and fails when it does not come to hold.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process runs. One that is dead and not yet buried does not.
pub fn runs(pid: &str) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => false,
        Ok(stat) => {
            let state = stat.rsplit_once(')').unwrap().1.trim_start();
            !state.starts_with(['Z', 'X'])
        }
    }
}
