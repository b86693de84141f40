//! Runs that end before their documents are through, and go on.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{
    JOB, SLOW, completions, documents, executed, executions,
    support::{Home, Running, SOON, signal, until},
};

/// Starts a run of many slow documents and waits until it is well under way.
fn half_way(home: &Home) -> Running {
    home.script("slow.sh", SLOW);
    let documents = documents(60);
    let run = ["run", "-j", "4", "--exec", "./slow.sh {}"].map(str::to_owned);
    let run = home.start("run", run.iter().chain(&documents));
    until("the run is half-way", SOON, || {
        (executed(home) >= 20).then_some(())
    });
    run
}

/// Every document is accounted for once in the log, and was executed once or, where it was in flight, twice.
fn all_accounted_for(home: &Home) {
    let counts = completions(home);
    let wanted = documents(60).into_iter().map(|id| (id, 1)).collect();
    assert_eq!(counts, wanted);
    for id in documents(60) {
        let times = executions(home, &id);
        assert!((1..=2).contains(&times), "{id} was executed {times} times");
    }
    home.run(["replay", "last", "--verify"]).exits(0);
}

#[test]
fn a_run_that_was_killed_is_resumed() {
    let home = Home::new();
    // The system lives on, with chunks that were taken by a worker that is no more.
    let up = home.keep();
    let mut run = half_way(&home);
    run.kill();
    let killed = Instant::now();
    assert!(executed(&home) < 60, "it was over before it was killed");
    home.run(["resume", "last"])
        .exits(0)
        .says("60 of 60 documents completed");
    all_accounted_for(&home);
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(20), "it took {took:?}");
    home.run(["resume", "last"])
        .exits(0)
        .says("nothing to resume");
    drop(up);
}

#[test]
fn what_a_killed_worker_had_only_just_taken_is_not_waited_for() {
    let home = Home::new();
    let _up = home.keep();
    let script = "#!/bin/sh\n[ -e started ] && exit 0\ntouch started\nsleep 2\n";
    home.script("once.sh", script);
    let mut run = home.start("run", ["run", "--exec", "./once.sh", "x"]);
    until("it has begun", SOON, || {
        home.work().join("started").exists().then_some(())
    });
    // Before its next heartbeat, in which it would have named what it works on.
    run.kill();
    let killed = Instant::now();
    home.run(["resume", "last"]).exits(0);
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(20), "it took {took:?}");
}

#[test]
fn a_run_whose_system_was_killed_too_is_resumed() {
    let home = Home::new();
    let mut run = half_way(&home);
    let system = home.system_pid().unwrap();
    let broker = home.brokers();
    run.kill();
    signal(system, Signal::KILL);
    broker.iter().for_each(|pid| signal(*pid, Signal::KILL));
    assert!(executed(&home) < 60, "it was over before it was killed");
    home.run(["resume", "last"])
        .exits(0)
        .says("60 of 60 documents completed");
    all_accounted_for(&home);
}

#[test]
fn ctrl_c_interrupts_and_says_how_to_go_on() {
    let home = Home::new();
    let mut run = half_way(&home);
    run.interrupt();
    let ended = run.end().exits(130);
    let hint = ended
        .stderr
        .lines()
        .find_map(|line| line.split_once("go on with: redrive "))
        .expect("a hint")
        .1
        .to_owned();
    home.run(hint.split(' '))
        .exits(0)
        .says("60 of 60 documents completed");
    all_accounted_for(&home);
    for id in documents(60) {
        assert_eq!(executions(&home, &id), 1, "{id}: an interruption drains");
    }
}

#[test]
fn an_interrupted_input_is_resumed_with_what_arrived() {
    let home = Home::new();
    home.script("job.sh", JOB);
    let mut run = Running::reading(&home, "run", &["run", "--exec", "./job.sh {}"]);
    run.write("first\n");
    until("the first document is worked on", SOON, || {
        (executions(&home, "first") == 1).then_some(())
    });
    run.interrupt();
    run.end().exits(130).says("redrive resume ");
    home.run(["resume", "last"])
        .exits(0)
        .says("going on with the 1 that arrived")
        .says("1 of 1 documents completed");
    assert_eq!(executions(&home, "first"), 1);
}
