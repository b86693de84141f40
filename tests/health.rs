//! Metrics and health of the roles over HTTP, and that docs/metrics.md says what is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use redrive_broker::metrics::{Described, Kind};
use redrive_nats_server::testing::TestServer;
use support::{Home, Running, SOON, signal, until};

/// A role that answers HTTP at a port of its own.
struct Role {
    running: Running,
    address: String,
}

impl Role {
    fn start(home: &Home, name: &str, args: &[&str]) -> Self {
        let http = ["--http", "127.0.0.1:0"];
        let running = home.start(name, args.iter().chain(&http));
        let address = until("it says where it answers", SOON, || {
            let log = running.log();
            let line = log.lines().find(|line| line.contains("answering HTTP"))?;
            let (_, address) = line.split_once("address=")?;
            Some(address.trim().to_owned())
        });
        Self { running, address }
    }

    /// The status and the body; none where nobody answers.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    #[track_caller]
    fn answers(&self, path: &str, status: u16, body: &str) {
        let mut last = None;
        let end = std::time::Instant::now() + SOON;
        while std::time::Instant::now() < end {
            last = self.get(path);
            if last
                .as_ref()
                .is_some_and(|(is, text)| *is == status && text.contains(body))
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!(
            "{path} does not become {status} {body:?}: {last:?}\n{}",
            self.running.log()
        );
    }
}

#[test]
fn roles_say_whether_they_can_do_their_work() {
    let mut server = TestServer::start().unwrap();
    let home = Home::with_broker(&server.client_url());
    let mut one = Role::start(&home, "one", &["coordinator", "--name", "one"]);
    one.answers("/readyz", 200, "ok coordinator: leading\n");
    let two = Role::start(&home, "two", &["coordinator", "--name", "two"]);
    two.answers("/readyz", 200, "ok coordinator: standing by behind one\n");
    let projector = Role::start(&home, "projector", &["projector"]);
    projector.answers("/readyz", 200, "ok projector: caught up at ");
    let mut worker = Role::start(&home, "worker", &["worker", "--drain", "5m"]);
    worker.answers("/readyz", 200, "ok worker: taking chunks\n");
    // The port is in use.
    let taken = home.run(["worker", "--http", &worker.address]).exits(1);
    let expected = format!(
        "cannot answer HTTP at {}: give another address with --http",
        worker.address
    );
    assert!(taken.stderr.contains(&expected), "{}", taken.stderr);

    // Standing by turns into leading.
    one.running.kill();
    two.answers("/readyz", 200, "ok coordinator: leading\n");

    // One that was told to leave, and has something to finish, takes nothing new.
    home.file(
        "wait.toml",
        "name = \"wait\"\n[[tiers]]\nname = \"t\"\njobs = [{ handler = \"exec\", params = { command = \"./wait.sh\" } }]\n",
    );
    home.script(
        "wait.sh",
        "#!/bin/sh\ntouch begun\nuntil [ -e go ]; do sleep 0.1; done\n",
    );
    home.run(["submit", "-f", "wait.toml", "a"]).exits(0);
    until("it has begun", SOON, || {
        home.work().join("begun").exists().then_some(())
    });
    signal(worker.running.pid(), rustix::process::Signal::TERM);
    worker.answers("/readyz", 503, "failed worker: draining\n");
    worker.answers("/livez", 200, "ok worker: draining\n");
    home.file("go", "");
    worker.running.end().exits(0);

    // Without the broker nobody can work, and nobody is to be started again for it.
    server.stop().unwrap();
    for role in [&two, &projector] {
        role.answers("/readyz", 503, ": not connected to the broker\n");
        role.answers("/livez", 200, "ok ");
    }
    server.restart().unwrap();
    two.answers("/readyz", 200, "ok coordinator: leading\n");
    projector.answers("/readyz", 200, "ok projector: caught up at ");
    assert_eq!(two.get("/else").unwrap().0, 404);
}

fn all() -> Vec<&'static Described> {
    let crates = [
        redrive_coordinator::metrics::METRICS,
        redrive_worker::metrics::METRICS,
        redrive_projector::metrics::METRICS,
        redrive_gateway::metrics::METRICS,
        redrive_broker::metrics::METRICS,
    ];
    crates.into_iter().flatten().collect()
}

fn repository() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The table of docs/metrics.md is the one that the code makes.
#[test]
fn the_table_of_metrics_is_that_of_the_code() {
    let rows = all().into_iter().map(|one| {
        let kind = match one.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = one
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!(" {}", labels.join(", ")),
        };
        format!("| `{}` | {kind} |{labels} | {} |", one.name, one.help)
    });
    let rows: Vec<String> = rows.collect();
    let text = fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let table: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `redrive_"))
        .collect();
    assert_eq!(
        table,
        rows,
        "write the rows of the code into docs/metrics.md:\n{}",
        rows.join("\n")
    );
}

/// Each name that a crate gives to a metric is described.
#[test]
fn each_metric_is_described() {
    let described: BTreeSet<&str> = all().into_iter().map(|one| one.name).collect();
    assert_eq!(described.len(), all().len(), "a name is described twice");
    let mut named = BTreeSet::new();
    let sources: Vec<String> = ["coordinator", "worker", "projector", "gateway", "broker"]
        .map(|name| repository().join(format!("crates/{name}/src/metrics.rs")))
        .map(|path| fs::read_to_string(path).unwrap())
        .into();
    for source in &sources {
        let names = source.split("\"redrive_").skip(1);
        named.extend(names.map(|rest| format!("redrive_{}", rest.split('"').next().unwrap())));
    }
    assert_eq!(
        named.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        described
    );
}

#[test]
fn what_is_scraped_is_described() {
    let home = Home::new();
    let dev = Role::start(&home, "dev", &["dev", "--port", "0"]);
    dev.answers("/readyz", 200, "ok worker: taking chunks\n");
    let ready = dev.get("/readyz").unwrap().1;
    assert_eq!(ready.lines().count(), 4, "{ready}");
    home.run(["run", "--exec", "true", "a", "b"]).exits(0);
    dev.answers("/metrics", 200, "redrive_coordinator_events_total ");
    let text = dev.get("/metrics").unwrap().1;
    let described = all();
    let mut seen = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let one = described.iter().find(|one| one.name == name);
        let one = one.unwrap_or_else(|| panic!("{name} is not described"));
        let expected = match one.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!(kind, expected, "{name}");
        assert!(
            text.contains(&format!("# HELP {name} {}\n", one.help)),
            "{name}"
        );
        seen += 1;
    }
    assert!(seen > 10, "{text}");
    // No label but those that are described.
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains('{'))
    {
        let (name, rest) = line.split_once('{').unwrap();
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        let labels = rest.split_once('}').unwrap().0;
        let one = described.iter().find(|one| one.name == name).unwrap();
        for label in labels
            .split(',')
            .map(|label| label.split('=').next().unwrap())
        {
            assert!(label == "le" || one.labels.contains(&label), "{line}");
        }
    }
}
