//! Handlers and workers in other languages: the examples, and an endpoint.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
};

use redrive_nats_server::testing::TestServer;
use serde_json::{Value, json};
use support::{Home, python, signal};

fn words_of(home: &Home) -> Vec<(String, Value)> {
    let results = home.run(["results", "-o", "jsonl"]).exits(0).lines();
    let mut words: Vec<_> = results
        .iter()
        .map(|row| {
            let document = row["document"].as_str().unwrap();
            let name = document.rsplit('/').next().unwrap();
            (name.to_owned(), row["output"].clone())
        })
        .collect();
    words.sort_by(|a, b| a.0.cmp(&b.0));
    words
}

#[test]
fn a_handler_in_python_runs_in_this_terminal() {
    let home = Home::new();
    home.examples();
    home.file("a.txt", "one two three\n");
    home.file("b.txt", "four\n");
    home.file("empty.txt", "");
    let run = ["run", "-f", "examples/words.toml"];
    let inputs = ["a.txt", "b.txt", "empty.txt", "gone.txt"];
    home.run(run.iter().chain(&inputs))
        .exits(3)
        .says("3 of 4 documents completed, 1 failed");
    let want = [
        ("a.txt", json!({ "words": 3, "longest": "three" })),
        ("b.txt", json!({ "words": 1, "longest": "four" })),
        ("empty.txt", Value::Null),
    ];
    let want = want.map(|(name, output)| (name.to_owned(), output));
    assert_eq!(words_of(&home), want);
    let failures = home.run(["failures", "-o", "json"]).exits(0).json();
    assert_eq!(failures[0]["kind"], "not_found");
    home.quiet();
}

#[test]
fn a_worker_serves_it_and_leaves_no_process_behind() {
    let server = TestServer::start().unwrap();
    let home = Home::with_broker(&server.client_url());
    home.examples();
    home.file("a.txt", "one two three\n");
    let _coordinator = home.start("coordinator", ["coordinator"]);
    let _projector = home.start("projector", ["projector"]);
    let mut worker = home.start("worker", ["worker"]);
    let submit = ["submit", "-f", "examples/words.toml", "--watch", "a.txt"];
    home.run(submit).exits(0);
    assert_eq!(words_of(&home)[0].1["words"], 3);
    let handlers = |home: &Home| {
        let processes = home.processes().into_iter();
        processes
            .filter(|(_, line)| line.contains("words.py"))
            .count()
    };
    assert_eq!(handlers(&home), 1, "it stays for the next document");
    signal(worker.pid(), rustix::process::Signal::TERM);
    worker.end().exits(0);
    assert_eq!(handlers(&home), 0);
}

/// An endpoint that is out of order once, and then answers with what it was asked. Tells of each request.
fn endpoint() -> (String, mpsc::Receiver<(Vec<String>, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for (count, stream) in listener.incoming().flatten().enumerate() {
            let mut reader = BufReader::new(stream);
            let lines = reader.by_ref().lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let length = head.iter().find_map(|line| {
                let line = line.to_ascii_lowercase();
                line.strip_prefix("content-length: ")?.parse().ok()
            });
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let (status, kind, answer) = match count {
                0 => (
                    "503 Later",
                    "application/problem+json",
                    json!({ "title": "waking up" }),
                ),
                _ => (
                    "200 OK",
                    "application/json",
                    json!({ "document": body["document"]["id"] }),
                ),
            };
            tell.send((head, body)).unwrap();
            let answer = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            );
            reader
                .get_mut()
                .write_all(format!("{head}{answer}").as_bytes())
                .unwrap();
        }
    });
    (url, told)
}

#[test]
fn an_endpoint_gets_each_attempt_under_one_key_and_the_secret_of_the_worker() {
    let home = Home::new();
    let (url, told) = endpoint();
    home.file(
        "post.toml",
        &format!(
            r#"
name = "post"
[[tiers]]
name = "post"
[[tiers.jobs]]
handler = "http"
backoff = {{ base = "1ms" }}
[tiers.jobs.params]
url = "{url}"
headers = {{ Authorization = {{ env = "REDRIVE_SECRET_TEST", prefix = "Bearer " }} }}
"#
        ),
    );
    let mut run = home.command(["run", "-f", "post.toml", "a"]);
    run.env("REDRIVE_SECRET_TEST", "sesame");
    support::finish(&mut run, None).exits(0);
    let requests: Vec<_> = told.try_iter().collect();
    assert_eq!(requests.len(), 2);
    let header = |at: usize, name: &str| {
        let (head, _) = &requests[at];
        let found = head
            .iter()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.unwrap_or_default().to_owned()
    };
    assert_eq!(header(0, "authorization"), "Bearer sesame");
    assert!(!header(0, "idempotency-key").is_empty());
    assert_eq!(header(0, "idempotency-key"), header(1, "idempotency-key"));
    assert_eq!([0, 1].map(|at| header(at, "redrive-attempt")), ["1", "2"]);
    let results = home.run(["results", "-o", "jsonl"]).exits(0).lines();
    let id = requests[0].1["document"]["id"].clone();
    assert_eq!(results[0]["output"], json!({ "document": id }));
    let events = home.run(["events"]).exits(0);
    assert!(!events.stdout.contains("sesame"), "a secret is in the log");
}

/// A second tier for the worker of the example: it reads what the first made, and fails once where it is told to.
const WORKER: &str = r#"
import asyncio, sys
sys.path.insert(0, "examples")
import worker

def weigh(document, inputs, params, attempt):
    if document["data"].get("late") and attempt == 1:
        raise worker.Failed("unavailable", "not yet", detail="try again", retry_after=1)
    if document["data"].get("dull"):
        raise worker.Skip
    media_type, body = inputs["shout"]
    return {"text": body.decode(), "type": media_type, "attempt": attempt, "params": params}

asyncio.run(worker.work(sys.argv[1], {"shout": worker.shout, "weigh": weigh}, slots=2))
"#;

const PIPELINE: &str = r#"
name = "python"
[[tiers]]
name = "shout"
jobs = [{ handler = "shout" }]
[[tiers]]
name = "weigh"
jobs = [{ handler = "weigh", params = { lang = "en" }, backoff = { base = "1ms" } }]
"#;

/// Prints the settings of a consumer that a worker in Rust made and of one that the worker in Python made.
const CONSUMERS: &str = r#"
import asyncio, json, sys
import nats

async def main():
    connection = await nats.connect(sys.argv[1])
    for name in sys.argv[2:]:
        answer = await connection.request(f"$JS.API.CONSUMER.INFO.RD_WORK_0.{name}", b"{}")
        print(json.dumps(json.loads(answer.data)["config"]).replace(name.split("+")[0], "HANDLER"))
    await connection.close()

asyncio.run(main())
"#;

#[test]
fn a_worker_in_python_finishes_a_batch() {
    let requirements =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/requirements.txt");
    let packages = python::packages(&requirements.canonicalize().unwrap());
    let server = TestServer::start().unwrap();
    let home = Home::with_broker(&server.client_url());
    home.examples();
    home.file("python.toml", PIPELINE);
    home.file("own.py", WORKER);
    let mut documents = String::new();
    for n in 0..300 {
        let mut document = json!({ "id": format!("doc-{n}"), "data": { "text": format!("é{n}") } });
        match n {
            3 => document["data"] = json!({}),
            5 => document["data"]["late"] = true.into(),
            7 => document["data"]["dull"] = true.into(),
            _ => {}
        }
        documents.push_str(&format!("{document}\n"));
    }
    home.file("documents.ndjson", &documents);
    let _coordinator = home.start("coordinator", ["coordinator"]);
    let _projector = home.start("projector", ["projector"]);
    let mut command = Command::new("python3");
    command.args(["own.py", &server.client_url()]);
    home.settle(&mut command);
    let mut worker = home.launch("python", command.env("PYTHONPATH", &packages));
    let _other = home.start("worker", ["worker", "--handler", "exec"]);
    let submit = "submit -f python.toml --watch --ndjson documents.ndjson";
    home.run(submit.split(' '))
        .exits(3)
        .says("299 of 300 documents completed, 1 failed");

    let results = home.run(["results", "-o", "jsonl"]).exits(0).lines();
    assert_eq!(results.len(), 299);
    let output = |id: &str| {
        let row = results.iter().find(|row| row["document"] == id);
        row.unwrap()["output"].clone()
    };
    let made = |n: u32, attempt: u32| {
        json!({
            "text": format!("É{n}"), "type": "text/plain; charset=utf-8", "attempt": attempt,
            "params": { "lang": "en" },
        })
    };
    assert_eq!(output("doc-0"), made(0, 1));
    assert_eq!(output("doc-299"), made(299, 1));
    assert_eq!(output("doc-5"), made(5, 2), "the second attempt");
    assert_eq!(output("doc-7"), Value::Null, "skipped");
    let events = home.run(["events", "--type", "documents.attempt_failed"]);
    let attempts = events.exits(0).lines();
    assert_eq!(attempts.len(), 1);
    let failure = &attempts[0]["event"]["units"][0]["failure"];
    assert_eq!(failure["detail"], "try again");

    home.run(["retry", "--mode", "all", "--watch"]).exits(3);
    let failures = home.run(["failures", "-o", "json"]).exits(0).json();
    assert_eq!(failures.as_array().unwrap().len(), 1);
    let failure = &failures[0];
    assert_eq!(failure["document"], "doc-3");
    assert_eq!(failure["kind"], "missing_field");
    assert_eq!(failure["class"], "permanent");
    assert_eq!(failure["retry_count"], 1);
    home.run(["replay", "last", "--verify"]).exits(0);

    let mut command = Command::new("python3");
    command.args([
        "-c",
        CONSUMERS,
        &server.client_url(),
        "exec+cpu",
        "shout+cpu",
    ]);
    home.settle(&mut command);
    let consumers = support::finish(command.env("PYTHONPATH", &packages), None);
    let consumers = consumers.exits(0).lines();
    assert_eq!(consumers[0], consumers[1], "they are the same for all");

    signal(worker.pid(), rustix::process::Signal::TERM);
    let ended = worker.end().exits(0);
    assert_eq!(ended.stderr, "");
}
