//! Memory and CPUs of processes, which are real and really take too much.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod handlers_support;

use handlers_support::{PATIENCE, context, name, unit};
use redrive_domain::failure::{Failure, FailureClass, FailureKind};
use redrive_worker::{
    handler::{Context, Done, Handler},
    handlers::{exec::Exec, stdio::Stdio},
};
use serde_json::{Value, json};
use tokio::time::timeout;

const MIB: u64 = 1 << 20;

fn within(memory_bytes: u64, params: Value) -> Context {
    let mut ctx = context(params);
    ctx.memory_bytes = Some(memory_bytes);
    ctx
}

async fn exec(ctx: &Context) -> Result<Done, Failure> {
    let exec = Exec::new(name("exec"));
    let done = timeout(PATIENCE * 2, exec.process(&unit("doc"), ctx)).await;
    done.expect("it hangs")
}

/// A program in Python that holds so many MiB until it is ended, at most for a minute.
fn holds(mib: u64) -> Value {
    let script = format!("import time; kept = b'x' * ({mib} << 20); time.sleep(60)");
    json!({ "command": ["python3", "-c", script] })
}

#[track_caller]
fn is_out_of_memory(failure: &Failure, limit: u64) {
    assert_eq!(failure.kind, FailureKind::OUT_OF_MEMORY, "{failure:?}");
    assert_eq!(failure.class, FailureClass::Transient);
    let says = format!("was killed: the job allows 64.0 MiB (memory_bytes = {limit})");
    assert!(failure.message.contains(&says), "{failure:?}");
}

#[tokio::test]
async fn what_takes_more_memory_than_it_may_is_killed_and_says_so() {
    let ctx = within(64 * MIB, holds(200));
    let failure = exec(&ctx).await.unwrap_err();
    is_out_of_memory(&failure, 64 * MIB);
    assert!(ctx.peak_memory.take() > Some(64 * MIB));
}

#[tokio::test]
async fn memory_of_all_that_a_process_starts_counts_together() {
    let script = "import os, time
for _ in range(3):
    if os.fork() == 0:
        break
kept = b'x' * (30 << 20)
time.sleep(60)";
    let ctx = within(64 * MIB, json!({ "command": ["python3", "-c", script] }));
    is_out_of_memory(&exec(&ctx).await.unwrap_err(), 64 * MIB);
}

#[tokio::test]
async fn memory_that_processes_share_counts_once() {
    let script = "import os, time
kept = b'x' * (60 << 20)
started = [os.fork() for _ in range(3)]
time.sleep(0.3)
if all(started):
    for _ in started:
        os.wait()";
    let ctx = within(150 * MIB, json!({ "command": ["python3", "-c", script] }));
    assert_eq!(exec(&ctx).await, Ok(Done::Completed(None)));
}

#[tokio::test]
async fn the_memory_of_what_succeeds_is_measured() {
    let script = "import time; kept = b'x' * (50 << 20); time.sleep(0.3)";
    let params = json!({ "command": ["python3", "-c", script] });
    for ctx in [within(500 * MIB, params.clone()), context(params)] {
        assert_eq!(exec(&ctx).await, Ok(Done::Completed(None)));
        let peak = ctx.peak_memory.take().unwrap();
        assert!((50 * MIB..200 * MIB).contains(&peak), "{peak}");
    }
}

#[tokio::test]
async fn a_death_that_is_not_for_memory_is_a_crash() {
    let params = json!({ "command": ["sh", "-c", "kill -9 $$"] });
    let failure = exec(&within(64 * MIB, params)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::CRASHED);
}

#[tokio::test]
async fn a_process_has_as_many_cpus_as_its_job_says() {
    let count = "import os; print(len(os.sched_getaffinity(0)))";
    let all = std::thread::available_parallelism().unwrap().get();
    if all < 2 || Exec::new(name("exec")).limits() != Some("watch") {
        return; // There is no choice, or the kernel gives out time instead.
    }
    let mut ctx = context(json!({ "command": ["python3", "-c", count] }));
    for (cpus, seen) in [(1, 1), (1_000, all)] {
        ctx.num_cpus = cpus;
        let Ok(Done::Completed(Some(output))) = exec(&ctx).await else {
            panic!("it failed");
        };
        assert_eq!(output.body, format!("{seen}\n").into_bytes());
    }
}

#[tokio::test]
async fn a_process_that_stays_is_killed_for_the_document_that_is_too_large_and_the_next_is_new() {
    let script = "
import json, sys, time
print(json.dumps({'type': 'hello', 'protocol': 1}), flush=True)
for line in sys.stdin:
    told = json.loads(line)
    if told['type'] == 'document':
        kept = b'x' * (200 << 20 if told['document']['id'] == 'large' else 1)
        if len(kept) > 1: time.sleep(60)
        print(json.dumps({'type': 'ok', 'id': told['id']}), flush=True)
";
    let stdio = Stdio::new(name("stdio"));
    let ctx = within(64 * MIB, json!({ "command": ["python3", "-c", script] }));
    let process = async |id: &str| {
        let unit = unit(id);
        let done = timeout(PATIENCE * 2, stdio.process(&unit, &ctx)).await;
        done.expect("it hangs")
    };
    assert_eq!(process("small").await, Ok(Done::Completed(None)));
    is_out_of_memory(&process("large").await.unwrap_err(), 64 * MIB);
    assert_eq!(process("small").await, Ok(Done::Completed(None)));
    stdio.close().await;
}
