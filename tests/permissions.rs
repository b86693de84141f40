//! The users of `deploy/nats`: each role as a process of its own that is logged in as its user, and what such a user
//! cannot do, whatever it sends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "permissions/raw.rs"]
mod raw;
mod support;
#[path = "permissions/tried.rs"]
mod tried;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
};

use raw::Raw;
use redrive_nats_server::testing::{TestServer, debian_binary, newest_binary};
use serde_json::{Value, json};
use support::{Ended, Home, Running, SOON, finish, until};
use tried::TRIED;

/// The users, with their passwords and what stands for these in the server's configuration. One is a hash, as all are where
/// it matters.
const USERS: [(&str, &str, &str); 6] = [
    ("coordinator", "the coordinator's", "the coordinator's"),
    ("projector", "the projector's", "the projector's"),
    ("worker", "the worker's", "the worker's"),
    ("gateway", "the gateway's", "the gateway's"),
    (
        "operator",
        "operator s3cret",
        "$2b$04$abcdefghijklmnopqrstuuT.Evedgccg2aA9IEvgV7KvFPP28zVty",
    ),
    ("acme", "acme's own", "acme's own"),
];

/// A nats-server with the users of `deploy/nats`, and a home whose commands use it.
struct System {
    roles: Vec<Running>,
    home: Home,
    server: TestServer,
}

impl System {
    fn start(binary: &Path, roles: &[&str]) -> Self {
        let server = TestServer::start_configured(binary, |config| {
            let shipped =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nats/redrive.conf");
            let shipped = fs::read_to_string(shipped).unwrap();
            // What is shipped as an example is tried, too.
            let users = shipped.replace("#example ", "");
            assert_ne!(users, shipped);
            fs::write(config.store_dir.join("redrive.conf"), users).unwrap();
            let passwords = USERS.map(|(user, _, password)| {
                format!("REDRIVE_{}_PASSWORD: \"{password}\"\n", user.to_uppercase())
            });
            fs::write(
                config.store_dir.join("redrive-passwords.conf"),
                passwords.concat(),
            )
            .unwrap();
            config.extra_config = Some("include \"redrive.conf\"".to_owned());
        });
        let server = server.unwrap();
        let home = Home::with_broker(&server.client_url());
        for (user, password, _) in USERS {
            home.file(&format!("{user}.password"), &format!("{password}\n"));
        }
        let mut system = Self {
            roles: Vec::new(),
            home,
            server,
        };
        for role in roles {
            let running = system.role(role);
            system.roles.push(running);
        }
        system
    }

    /// A command of a user's.
    fn command(&self, user: &str, args: &[&str]) -> std::process::Command {
        let mut command = self.home.command(args);
        command
            .env("REDRIVE_NATS_USER", user)
            .env("REDRIVE_NATS_PASSWORD_FILE", format!("{user}.password"));
        command
    }

    fn role(&self, role: &str) -> Running {
        let args: &[&str] = match role {
            "gateway" => &["gateway", "--listen", "127.0.0.1:0"],
            role => &[role],
        };
        self.home.launch(role, &mut self.command(role, args))
    }

    fn operator(&self, args: &[&str]) -> Ended {
        finish(&mut self.command("operator", args), None)
    }

    /// As the operator of the namespace `acme`, who has an inbox of its own.
    fn acme(&self, args: &[&str]) -> Ended {
        let mut command = self.command("acme", args);
        command.env("REDRIVE_INBOX_PREFIX", "_INBOX.rd.operator.acme");
        finish(&mut command, None)
    }

    /// A connection that sends whatever it is told to.
    fn raw(&self, user: &str) -> Raw {
        let (_, password, _) = USERS.into_iter().find(|(name, ..)| *name == user).unwrap();
        Raw::connect(self.server.port(), user, password)
    }

    /// What the server says of users who tried what they may not.
    fn violations(&self) -> Vec<String> {
        let log = fs::read_to_string(self.server.store().join("nats-server.log")).unwrap();
        log.lines()
            .filter(|line| line.contains("Violation"))
            .map(str::to_owned)
            .collect()
    }

    fn files(&self) {
        self.home.file("texts.toml", TEXTS);
        self.home.script("shout.sh", SHOUT);
        for name in ["a.txt", "b.txt", "c.txt"] {
            self.home.file(name, &format!("this is {name}\n"));
        }
    }

    /// Submits a batch of which one document fails while the lights are out.
    fn submit(&self, by: impl Fn(&[&str]) -> Ended) -> Ended {
        self.files();
        self.home.file("dark", "");
        by(&[
            "submit",
            "-f",
            "texts.toml",
            "--watch",
            "a.txt",
            "b.txt",
            "c.txt",
        ])
    }

    /// What of the log has the namespace `forged`.
    fn forged(&self) -> Value {
        let mut operator = self.raw("operator");
        let body = json!({ "subjects_filter": "rd.evt.0.forged.>" }).to_string();
        let subject = "$JS.API.STREAM.INFO.RD_EVENTS_0";
        let info = operator.request("_INBOX.rd.operator", subject, &body);
        let info: Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["config"]["name"], "RD_EVENTS_0", "{info}");
        info["state"]["subjects"].clone()
    }
}

const TEXTS: &str = r#"
name = "texts"

[[tiers]]
name = "fetch"
jobs = [{ name = "fetch", handler = "fetch" }]

[[tiers]]
name = "shout"
jobs = [{ name = "shout", handler = "exec", params = { command = "./shout.sh" }, max_attempts = 1 }]
"#;

/// Fails for one document while the lights are out.
const SHOUT: &str = r#"#!/bin/sh
[ -e dark ] && case $REDRIVE_DOCUMENT_ID in *b.txt) exit 65 ;; esac
tr a-z A-Z
"#;

/// Asks the gateway, and reads its answer up to a line that has this text.
#[track_caller]
fn ask(gateway: &Running, key: &str, request: &str, body: &str, text: &str) {
    let address = until("the gateway says where it answers", SOON, || {
        let log = gateway.log();
        let (_, rest) = log.split_once("url=\"http://")?;
        rest.split('"').next().map(str::to_owned)
    });
    let once = || {
        let mut stream = TcpStream::connect(&address).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        let (host, length) = (&address, body.len());
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}",
        )
        .ok()?;
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.any(|line| line.contains(text)).then_some(())
    };
    // It may not be able to answer yet.
    until(&format!("{request} is answered with {text:?}"), SOON, once);
}

/// A batch runs, fails in part and is retried, and all that commands look at is there: with no more than what is allowed.
fn everything_works(binary: &Path) {
    let roles = ["worker", "projector", "gateway", "coordinator"];
    let mut system = System::start(binary, &roles);
    let submitted = system.submit(|args| system.operator(args)).exits(3);
    let batch = submitted.stdout.trim();
    let failed = system.operator(&["failures", batch]).exits(0);
    assert!(failed.stdout.contains("b.txt"), "{failed:?}");
    fs::remove_file(system.home.work().join("dark")).unwrap();
    system
        .operator(&["retry", batch, "--mode", "all", "--watch"])
        .exits(0);
    let results = system.operator(&["results", batch]).exits(0);
    assert!(results.stdout.contains("THIS IS B.TXT"), "{results:?}");
    let events = system.operator(&["events", batch]).exits(0);
    assert!(events.stdout.contains("documents.retry_scheduled"));
    let verified = system.operator(&["replay", batch, "--verify"]).exits(0);
    assert!(verified.stderr.contains("identical"), "{verified:?}");
    for looking in ["timeline", "export", "heal", "diagnose"] {
        system.operator(&[looking, batch]).exits(0);
    }
    system.operator(&["doctor"]).exits(0);
    let gateway = &system.roles[2];
    let create = ["keys", "create", "ci", "--scope", "read,operate"];
    let key = system.operator(&create).exits(0).stdout;
    let ask = |request: &str, body: &str, text| ask(gateway, key.trim(), request, body, text);
    ask("GET /readyz", "", "200 OK");
    let events = format!("GET /v1/batches/{batch}/events");
    ask(&events, "", "batch.completed");
    let job = json!({ "name": "fetch", "handler": "fetch" });
    let new = json!({
        "bucket": "texts",
        "pipeline": { "name": "one", "tiers": [{ "name": "fetch", "jobs": [job] }] },
        "documents": [{ "id": "a.txt", "uri": system.home.work().join("a.txt") }],
    });
    ask("POST /v1/batches", &new.to_string(), "201 Created");
    system.operator(&["watch", "last"]).exits(0);
    ask("GET /v1/batches", "", "texts");
    for role in &mut system.roles {
        role.interrupt();
        role.end().exits(0);
    }
    assert_eq!(system.violations(), [""; 0]);
}

#[test]
fn all_roles_work_with_what_their_users_may_do() {
    everything_works(&newest_binary().unwrap());
}

#[test]
fn all_roles_work_with_what_their_users_may_do_at_an_old_server() {
    if let Some(old) = debian_binary() {
        everything_works(&old);
    }
}

#[test]
fn what_a_role_does_not_need_is_refused() {
    let system = System::start(&newest_binary().unwrap(), &[]);
    for (user, publish, subscribe) in TRIED {
        let mut raw = system.raw(user);
        for subject in publish {
            let heard = raw.publish(subject, "", "{}");
            assert_eq!(
                heard.refused.len(),
                1,
                "{user} publishes {subject}: {heard:?}"
            );
        }
        for subject in subscribe {
            let heard = raw.subscribe(subject);
            assert_eq!(
                heard.refused.len(),
                1,
                "{user} subscribes to {subject}: {heard:?}"
            );
        }
    }
    fs::write(system.home.work().join("worker.password"), "guessed\n").unwrap();
    let mut guessing = system.command("worker", &["status"]);
    finish(&mut guessing, None).exits(6);
    finish(&mut system.home.command(["status"]), None).exits(6);
}

/// The server does not ask whether a user might publish to the subject where it wants its answer. What a worker asks for is
/// answered in the workers' own account, whatever the subject.
#[test]
fn a_worker_cannot_have_answers_sent_where_they_do_harm() {
    let system = System::start(&newest_binary().unwrap(), &["projector", "coordinator"]);
    // There is no worker that works, so the batch waits.
    system.files();
    let submitted = system
        .operator(&["submit", "-f", "texts.toml", "a.txt"])
        .exits(0);
    let batch = submitted.stdout.trim();
    let cancel = format!("rd.req.default._.{batch}.cancel");
    let forged = "rd.evt.0.forged.b.batch.completed";

    let mut worker = system.raw("worker");
    let asking = "$JS.API.CONSUMER.CREATE.RD_WORK_0.fetch+cpu.rd.work.0.fetch.cpu.>";
    let consumer = json!({ "stream_name": "RD_WORK_0", "config": {
        "durable_name": "fetch+cpu", "filter_subject": "rd.work.0.fetch.cpu.>", "ack_policy": "explicit",
    }});
    let made = worker.request("_INBOX.rd.worker", asking, &consumer.to_string());
    assert!(made.contains("fetch+cpu"), "{made}");
    for reply in [forged, &cancel] {
        for (subject, body) in [
            // Answered with an acknowledgement, a description, an event, and an empty message.
            ("rd.out.0.default.b", "no outcome"),
            ("$JS.API.STREAM.INFO.RD_EVENTS_0", ""),
            ("$JS.API.DIRECT.GET.RD_EVENTS_0", r#"{"seq":1}"#),
            (
                "$JS.API.CONSUMER.MSG.NEXT.RD_WORK_0.fetch+cpu",
                r#"{"batch":9,"no_wait":true}"#,
            ),
        ] {
            let heard = worker.publish(subject, reply, body);
            assert!(heard.refused.is_empty(), "{subject}: {heard:?}");
        }
    }
    // By another name it reaches no more.
    worker.publish("rd.api.STREAM.DELETE.RD_EVENTS_0", "", "");
    // Whatever came of these came before the answer to what is asked last.
    worker.request("_INBOX.rd.worker", "rd.out.0.default.b", "no outcome");

    assert_eq!(system.forged(), json!(null));
    // Who shares the account with the log has what it asks for sent anywhere, but no answer of the server is a command: not
    // an acknowledgement or a description, and not an empty message either.
    let mut projector = system.raw("projector");
    let create = "$JS.API.CONSUMER.CREATE.RD_EVENTS_0.mine.rd.evt.0.none.>";
    let consumer = json!({ "stream_name": "RD_EVENTS_0", "config": {
        "name": "mine", "filter_subject": "rd.evt.0.none.>", "ack_policy": "none", "inactive_threshold": 60_000_000_000_u64,
    }});
    projector.request("_INBOX.rd.projector", create, &consumer.to_string());
    let next = "$JS.API.CONSUMER.MSG.NEXT.RD_EVENTS_0.mine";
    let nothing = r#"{"batch":1,"no_wait":true}"#;
    for (subject, body) in [(next, nothing), ("$JS.API.INFO", "")] {
        let heard = projector.publish(subject, &cancel, body);
        assert!(heard.refused.is_empty(), "{subject}: {heard:?}");
    }
    // The last of these comes after the others have come.
    projector.request("_INBOX.rd.projector", "$JS.API.INFO", "");
    // This is answered after any command that was given before.
    system.operator(&["heal", batch]).exits(0);
    let status = system
        .operator(&["status", batch, "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(status["status"], "running", "{status}");

    // In the account of the log it would have been stored, and the look above would have seen it.
    let mut operator = system.raw("operator");
    operator.publish("$JS.API.INFO", forged, "");
    assert_eq!(system.forged(), json!({ forged: 1 }));
}

#[test]
fn an_operator_of_one_namespace_reaches_no_other() {
    let system = System::start(
        &newest_binary().unwrap(),
        &["worker", "projector", "coordinator"],
    );
    let ours = ["--namespace", "acme"];
    let submitted = system
        .submit(|args| system.acme(&[args, &ours].concat()))
        .exits(3);
    let batch = submitted.stdout.trim();
    fs::remove_file(system.home.work().join("dark")).unwrap();
    let retry = ["retry", batch, "--mode", "all", "--watch"];
    system.acme(&[&retry[..], &ours].concat()).exits(0);
    assert_eq!(system.violations(), [""; 0]);

    for args in [
        &["batches"][..],
        &["status", "last"],
        &["submit", "-f", "texts.toml", "a.txt"],
    ] {
        let refused = system.acme(args).exits(6);
        assert!(refused.stderr.contains("not allow"), "{refused:?}");
    }

    // Nor by asking for something that is its own, with the answer to be sent as a command to somebody else.
    let submitted = system
        .operator(&["submit", "-f", "texts.toml", "a.txt", "--watch"])
        .exits(0);
    let other = submitted.stdout.trim();
    let before = system.operator(&["events", other]).exits(0).lines().len();
    let command = format!("rd.req.default._.{other}.retry");
    let heard = system
        .raw("acme")
        .publish("rd.qry.acme.batches", &command, "{}");
    assert!(heard.refused.is_empty(), "{heard:?}");
    until("the projector may not answer there", SOON, || {
        let found = system
            .violations()
            .iter()
            .any(|line| line.contains(&command));
        found.then_some(())
    });
    let after = system.operator(&["events", other]).exits(0).lines().len();
    assert_eq!(before, after);
}
