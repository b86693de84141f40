//! The parameters of `stdio`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use redrive_domain::{failure::Failure, time::Millis};
use serde_json::Value;

use crate::{
    handlers::{command::Program, params::Params},
    limits::Share,
};

/// The most processes of one job that a worker can be asked for.
const PROCESSES: u64 = 1_024;

/// How the processes of a job are run.
#[derive(Debug)]
pub(super) struct Spec {
    /// What of the machine one may use.
    pub(super) share: Share,
    pub(super) program: Program,
    pub(super) cwd: Option<PathBuf>,
    pub(super) env: Vec<(String, String)>,
    /// The most at a time.
    pub(super) processes: usize,
    /// How long one may take to say hello.
    pub(super) start_timeout: Duration,
    /// How long one that holds documents may be silent; where the job does not say, the process may.
    pub(super) silence: Option<Duration>,
    /// After how long without a document one is let go.
    pub(super) idle: Duration,
    /// How long one may take to stop a document, and to end once it was let go.
    pub(super) grace: Duration,
}

/// The parameters of one job, checked.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) spec: Arc<Spec>,
    /// What is passed on to the process.
    pub(super) params: Value,
}

impl Settings {
    pub(super) fn read(params: &Value, share: Share) -> Result<Self, Failure> {
        let mut params = Params::new(params);
        let hour = Millis::seconds(3_600);
        let spec = Spec {
            share,
            program: Program::read(&mut params),
            cwd: params.text("cwd", "a directory").map(PathBuf::from),
            env: params.env(),
            processes: params
                .integer("processes", 1..=PROCESSES)
                .and_then(|count| count.try_into().ok())
                .unwrap_or(PROCESSES as usize),
            start_timeout: params
                .span("start_timeout", hour)
                .unwrap_or(Duration::from_secs(60)),
            silence: params.span("silence", hour),
            idle: params.span("idle", hour).unwrap_or(Duration::from_secs(60)),
            grace: params
                .span("grace", Millis::seconds(300))
                .unwrap_or(Duration::from_secs(1)),
        };
        let own = params.get("params").cloned();
        params.finish()?;
        Ok(Self {
            spec: Arc::new(spec),
            params: own.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        })
    }
}
