//! How a process begins.

use std::{
    collections::{BTreeMap, VecDeque},
    process::Stdio as Pipe,
    sync::Arc,
};

use futures::stream::FuturesUnordered;
use redrive_domain::failure::Failure;
use tokio::{process::Command, sync::mpsc, time::Instant};
use tokio_util::codec::{FramedRead, LinesCodec};

use super::{Event, Running, Spec, wire};
use crate::{
    handlers::{
        command::Program,
        params::misconfigured,
        process::{Group, Tail, not_started},
    },
    limits::Limits,
};

impl Running {
    /// Starts one.
    ///
    /// # Errors
    /// Where the program cannot be run.
    pub(super) fn start(
        spec: &Arc<Spec>,
        number: u64,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, Failure> {
        let (name, mut command) = match &spec.program {
            Program::Words(words) => {
                let (program, arguments) = words
                    .split_first()
                    .ok_or_else(|| misconfigured("param \"command\" is empty"))?;
                let mut command = Command::new(program);
                command.args(arguments);
                (program.as_str(), command)
            }
            Program::Shell(script) => {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(script);
                ("/bin/sh", command)
            }
        };
        if let Some(cwd) = &spec.cwd {
            command.current_dir(cwd);
        }
        command
            .envs(spec.env.iter().map(|(key, value)| (key, value)))
            .stdin(Pipe::piped())
            .stdout(Pipe::piped())
            .stderr(Pipe::piped());
        let spawned = Limits::here().spawn(&mut command, spec.share);
        let (mut child, fence) =
            spawned.map_err(|error| not_started(name, spec.cwd.as_deref(), &error))?;
        tracing::debug!(pid = child.id(), program = name, "a process starts");
        let lines = LinesCodec::new_with_max_length(wire::LINE_BYTES);
        let now = Instant::now();
        Ok(Self {
            number,
            events,
            group: Group::of(&child),
            fence,
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map(|out| FramedRead::new(out, lines)),
            stderr: child.stderr.take(),
            child,
            tail: Tail::default(),
            out: VecDeque::new(),
            written: 0,
            hello: None,
            held: BTreeMap::new(),
            last: 0,
            answered: false,
            stops: FuturesUnordered::new(),
            started: now,
            heard: now,
            beat: now,
            exited: None,
            leaving: false,
            until: None,
            spec: spec.clone(),
        })
    }
}
