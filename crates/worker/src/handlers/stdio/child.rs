//! One process: it is told of documents, heard, and ended.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    process::ExitStatus,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use redrive_domain::failure::{Failure, FailureKind};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::{
    Ask,
    settings::Spec,
    stopped,
    wire::{self, Hello, Said},
};
use crate::{
    handler::Done,
    handlers::process::{Group, Tail},
    limits::Fence,
};

mod end;
mod start;

use end::Why;

/// How long pipes that outlive the process are read on, and how long a process may outlive its pipes.
const LINGER: Duration = Duration::from_secs(1);
/// How often the process is told that the worker is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How many of the heartbeats that it promised a process may miss.
const MISSED: u32 = 3;

/// What a pool is told of a process, by its number.
#[derive(Debug)]
pub(super) enum Event {
    /// It takes so many documents at once.
    Ready(u64, usize),
    /// It has answered, and has room for another.
    Freed(u64),
    /// It wants no more.
    Leaving(u64),
    /// It has ended.
    Over(u64, Over),
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) how: How,
    /// Units that it was given and that it never heard of.
    pub(super) returned: Vec<Ask>,
}

#[derive(Debug)]
pub(super) enum How {
    /// It never came to work: whoever waits for a process is to be told why.
    NotStarted(Failure),
    /// It ended by itself, or went astray.
    Broken,
    /// It was let go, or was ended for what a document did.
    Ended,
}

/// Runs a process until it ends, or until `asks` ends and it has answered all it holds.
pub(super) async fn run(
    spec: Arc<Spec>,
    number: u64,
    mut asks: mpsc::Receiver<Ask>,
    events: mpsc::Sender<Event>,
) {
    let how = match Running::start(&spec, number, events.clone()) {
        Ok(running) => running.live(&mut asks).await,
        Err(failure) => How::NotStarted(failure),
    };
    asks.close();
    let mut returned = Vec::new();
    while let Ok(ask) = asks.try_recv() {
        returned.push(ask);
    }
    // The pool is gone only when nobody waits any more.
    let _ = events
        .send(Event::Over(number, Over { how, returned }))
        .await;
}

/// A unit that the process has.
struct Held {
    ask: Ask,
    /// Told to stop, with the moment at which the process is ended if it does not.
    stop_by: Option<Instant>,
    /// Ends the watch over it when it goes.
    _watched: oneshot::Sender<()>,
}

struct Running {
    spec: Arc<Spec>,
    number: u64,
    events: mpsc::Sender<Event>,
    child: Child,
    group: Group,
    fence: Fence,
    stdin: Option<ChildStdin>,
    stdout: Option<FramedRead<ChildStdout, LinesCodec>>,
    stderr: Option<ChildStderr>,
    tail: Tail,
    /// What is still to be written, and how much of the first line has been. There is a line at most for each unit that
    /// is held and for its end, and one heartbeat.
    out: VecDeque<Vec<u8>>,
    written: usize,
    hello: Option<Hello>,
    held: BTreeMap<u64, Held>,
    /// The largest id that it was given.
    last: u64,
    /// Whether it has ever answered for a unit.
    answered: bool,
    stops: FuturesUnordered<BoxFuture<'static, u64>>,
    started: Instant,
    heard: Instant,
    beat: Instant,
    exited: Option<ExitStatus>,
    /// Takes no more, and is to end.
    leaving: bool,
    /// When to give up on a process that should have ended, and why.
    until: Option<(Instant, Late)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    /// It, or its pipes, should be over.
    Pipe(&'static str),
    /// It was let go.
    Leaving,
}

enum Next {
    Line(Option<Result<String, LinesCodecError>>),
    Exited(io::Result<ExitStatus>),
    Ask(Option<Ask>),
    Stop(u64),
    Written(io::Result<usize>),
    Stderr(bool),
    Due,
}

impl Running {
    async fn live(mut self, asks: &mut mpsc::Receiver<Ask>) -> How {
        let why = loop {
            let next = self.next(asks).await;
            if let Err(why) = self.step(next).await {
                break why;
            }
        };
        self.end(why).await
    }

    async fn next(&mut self, asks: &mut mpsc::Receiver<Ask>) -> Next {
        let due = self.due();
        let takes = !self.leaving && self.exited.is_none();
        let Self {
            child,
            stdin,
            stdout,
            stderr,
            tail,
            out,
            written,
            stops,
            exited,
            ..
        } = self;
        let line = async {
            match stdout {
                Some(stdout) => Next::Line(stdout.next().await),
                None => std::future::pending().await,
            }
        };
        let writing = async {
            match (stdin, out.front()) {
                (Some(stdin), Some(line)) => {
                    let rest = line.get(*written..).unwrap_or_default();
                    Next::Written(stdin.write(rest).await)
                }
                _ => std::future::pending().await,
            }
        };
        let listening = async {
            match stderr {
                Some(stderr) => Next::Stderr(tail.read(stderr).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            line = line => line,
            written = writing => written,
            more = listening => more,
            status = child.wait(), if exited.is_none() => Next::Exited(status),
            ask = asks.recv(), if takes => Next::Ask(ask),
            Some(id) = stops.next() => Next::Stop(id),
            () = sleep_until(due) => Next::Due,
        }
    }

    /// When to look again, whatever happens.
    fn due(&self) -> Instant {
        let hello = self
            .hello
            .is_none()
            .then(|| self.started + self.spec.start_timeout);
        let silence = self.silence().map(|span| self.heard + span);
        let stops = self.held.values().filter_map(|held| held.stop_by).min();
        let until = self.until.map(|(until, _)| until);
        let beat = Some(self.beat + HEARTBEAT);
        let all = [hello, silence, stops, until, beat];
        all.into_iter().flatten().min().unwrap_or(self.beat)
    }

    /// How long it may be silent just now.
    fn silence(&self) -> Option<Duration> {
        if self.held.is_empty() {
            return None;
        }
        let promised = self.hello.as_ref().and_then(|hello| hello.heartbeat);
        let limit = self.spec.silence.or(promised.map(|span| span * MISSED));
        limit.filter(|limit| !limit.is_zero())
    }

    async fn step(&mut self, next: Next) -> Result<(), Why> {
        match next {
            Next::Line(Some(Ok(line))) => self.hear(&line).await?,
            Next::Line(Some(Err(LinesCodecError::MaxLineLengthExceeded))) => {
                return Err(Why::TooLong);
            }
            Next::Line(Some(Err(LinesCodecError::Io(error)))) => {
                return Err(Why::Nonsense(match error.kind() {
                    io::ErrorKind::InvalidData => "it wrote a line that is not UTF-8".to_owned(),
                    _ => error.to_string(),
                }));
            }
            Next::Line(None) => {
                self.stdout = None;
                self.linger("standard output")?;
            }
            Next::Exited(status) => {
                let status = status.map_err(|error| Why::Nonsense(error.to_string()))?;
                self.exited = Some(status);
                self.stdin = None;
                self.linger("standard output")?;
            }
            Next::Ask(Some(ask)) => self.give(ask),
            Next::Ask(None) => {
                self.leaving = true;
                self.let_go();
            }
            Next::Stop(id) => self.stop(id),
            Next::Written(Ok(count @ 1..)) => {
                self.written += count;
                if self
                    .out
                    .front()
                    .is_some_and(|line| line.len() <= self.written)
                {
                    self.out.pop_front();
                    self.written = 0;
                }
            }
            Next::Written(_) => {
                self.stdin = None;
                self.linger("standard input")?;
            }
            Next::Stderr(more) => {
                if !more {
                    self.stderr = None;
                }
            }
            Next::Due => self.look()?,
        }
        Ok(())
    }

    /// Something that it needs is over. It is over itself when it has exited and all it said is heard.
    fn linger(&mut self, pipe: &'static str) -> Result<(), Why> {
        if let (None, Some(status)) = (&self.stdout, self.exited) {
            return Err(Why::Exited(status));
        }
        let was_let_go = matches!(self.until, Some((_, Late::Leaving)));
        if !was_let_go || self.exited.is_some() {
            self.until = Some((Instant::now() + LINGER, Late::Pipe(pipe)));
        }
        Ok(())
    }

    async fn hear(&mut self, line: &str) -> Result<(), Why> {
        self.heard = Instant::now();
        for held in self.held.values() {
            held.ask.alive.mark();
        }
        if line.trim().is_empty() {
            return Ok(());
        }
        match (wire::read(line).map_err(Why::Nonsense)?, &self.hello) {
            (Said::Hello(hello), None) => {
                tracing::debug!(pid = self.child.id(), ?hello, "a process is ready");
                let ready = Event::Ready(self.number, hello.concurrency);
                self.hello = Some(hello);
                let _ = self.events.send(ready).await;
            }
            (Said::Hello(_), Some(_)) => {
                return Err(Why::Nonsense("it said hello twice".to_owned()));
            }
            (_, None) => {
                let what = "its first line is to be of the type \"hello\"";
                return Err(Why::Nonsense(what.to_owned()));
            }
            (Said::Heartbeat, _) => {}
            (Said::Bye, _) => {
                let _ = self.events.send(Event::Leaving(self.number)).await;
            }
            (Said::Answer(id, answer), _) => match self.held.remove(&id) {
                Some(held) => {
                    self.answered = true;
                    if let Some(peak) = self.fence.peak() {
                        held.ask.peak_memory.mark(peak);
                    }
                    reply(held.ask, answer);
                    let _ = self.events.send(Event::Freed(self.number)).await;
                    self.let_go();
                }
                // It was answered already.
                None if id <= self.last => {}
                None => {
                    let what = format!("it answered with the id {id}, which it was not given");
                    return Err(Why::Nonsense(what));
                }
            },
        }
        Ok(())
    }

    fn give(&mut self, mut ask: Ask) {
        let id = ask.id;
        self.last = self.last.max(id);
        if self.held.is_empty() {
            self.heard = Instant::now();
        }
        self.out.push_back(std::mem::take(&mut ask.line));
        ask.placed.store(true, Ordering::Relaxed);
        let (cancelled, deadline) = (ask.cancelled.clone(), ask.deadline);
        let (watched, gone) = oneshot::channel::<()>();
        self.stops.push(
            async move {
                tokio::select! {
                    () = cancelled.cancelled() => {}
                    () = sleep_until(deadline) => {}
                    _ = gone => {}
                }
                id
            }
            .boxed(),
        );
        let held = Held {
            ask,
            stop_by: None,
            _watched: watched,
        };
        self.held.insert(id, held);
    }

    fn stop(&mut self, id: u64) {
        if let Some(held) = self.held.get_mut(&id) {
            held.stop_by = Some(Instant::now() + self.spec.grace);
            self.out.push_back(wire::cancel(id));
        }
    }

    /// Closes its standard input when it is leaving and holds nothing.
    fn let_go(&mut self) {
        if self.leaving && self.held.is_empty() && self.stdin.take().is_some() {
            self.until = Some((Instant::now() + self.spec.grace, Late::Leaving));
        }
    }

    /// Looks at what is due.
    fn look(&mut self) -> Result<(), Why> {
        let now = Instant::now();
        if let Some((_, late)) = self.until.filter(|(until, _)| *until <= now) {
            return Err(match (late, self.exited) {
                (_, Some(status)) => Why::Exited(status),
                (Late::Pipe(pipe), None) => Why::Closed(pipe),
                (Late::Leaving, None) => Why::Left,
            });
        }
        if self.hello.is_none() && self.started + self.spec.start_timeout <= now {
            return Err(Why::NoHello);
        }
        let stop_by = self.held.values().filter_map(|held| held.stop_by);
        if stop_by.min().is_some_and(|by| by <= now) {
            return Err(Why::NotStopped);
        }
        if let Some(span) = self.silence().filter(|span| self.heard + *span <= now) {
            return Err(Why::Silent(span));
        }
        if self.beat + HEARTBEAT <= now {
            self.beat = now;
            if self.out.is_empty() && self.stdin.is_some() && self.hello.is_some() {
                self.out.push_back(wire::heartbeat());
            }
        }
        Ok(())
    }
}

/// Answers for a unit, within what its job allows.
fn reply(ask: Ask, answer: Result<Done, Failure>) {
    let limit = ask.max_output_bytes;
    let answer = match answer {
        Ok(Done::Completed(Some(output))) if output.body.len() as u64 > limit => {
            let size = output.body.len();
            let message = format!("has {size} bytes: the job's max_output_bytes is {limit}");
            Err(Failure::new(FailureKind::OUTPUT_TOO_LARGE, message))
        }
        answer => answer,
    };
    // Nobody may wait for it any more.
    let _ = ask.reply.send(answer);
}
