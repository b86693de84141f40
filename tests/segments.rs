//! Documents that are split into segments: on the command line, with everything real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{fs, path::Path, process::Command};

use redrive_nats_server::testing::TestServer;
use serde_json::{Value, json};
use support::{Home, python};

/// Prepares a document, a line for each of its segments; the file of the same name says how many.
const PREPARE: &str = r#"#!/bin/sh
echo "$1" >> prepared
if [ -e "bad-$1" ]; then echo "cannot read $1" >&2; exit 65; fi
n=0
while [ $n -lt "$(cat "$1")" ]; do echo "{\"page\": $n}"; n=$((n + 1)); done
"#;

/// Deals with one segment, and notes that it did.
const HANDLE: &str = r#"#!/bin/sh
segment=$(cat)
echo "$1 $2 $REDRIVE_SEGMENT $segment" >> handled
if [ -e "bad-$1-$2" ]; then echo "no such page" >&2; exit 65; fi
echo "$1 page $2"
"#;

const PIPELINE: &str = r#"
name = "pages"
[[tiers]]
name = "prepare"
[[tiers.jobs]]
name = "prepare_document"
handler = "exec"
segments = true
params = { command = "./prepare.sh {/}" }
[[tiers]]
name = "pages"
[[tiers.jobs]]
name = "page"
handler = "exec"
params = { command = "./handle.sh {/} {segment}" }
[[tiers]]
name = "whole"
join = true
[[tiers.jobs]]
name = "whole"
handler = "exec"
params = { command = "cat" }
"#;

fn pages(home: &Home) {
    home.script("prepare.sh", PREPARE);
    home.script("handle.sh", HANDLE);
    home.file("pages.toml", PIPELINE);
}

fn lines(home: &Home, file: &str) -> Vec<String> {
    let text = fs::read_to_string(home.work().join(file)).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn rows(home: &Home, args: &[&str]) -> Vec<Value> {
    let rows = home.run(args).exits(0).json();
    rows.as_array().unwrap().clone()
}

#[test]
fn only_the_segments_that_failed_are_executed_again() {
    let home = Home::new();
    let _keeper = home.keep();
    pages(&home);
    for (name, pages) in [("a", "3"), ("b", "4"), ("c", "2"), ("none", "0")] {
        home.file(name, pages);
    }
    for bad in ["bad-a-1", "bad-b-0", "bad-b-3", "bad-c"] {
        home.file(bad, "");
    }
    home.run(["run", "-f", "pages.toml", "a", "b", "c", "none"])
        .exits(3)
        .says("1 of 4 documents completed, 3 failed");
    let handled = lines(&home, "handled");
    let expected = [
        "a 0 0 {\"page\": 0}",
        "a 1 1 {\"page\": 1}",
        "a 2 2 {\"page\": 2}",
        "b 0 0 {\"page\": 0}",
        "b 1 1 {\"page\": 1}",
        "b 2 2 {\"page\": 2}",
        "b 3 3 {\"page\": 3}",
    ];
    assert_eq!(handled, expected);

    // Documents and units are told apart.
    let status = home.run(["status", "-o", "json"]).exits(0).json();
    assert_eq!(status["counts"]["failed"], 3);
    let tier = &status["tiers"][1];
    assert_eq!(
        (&tier["entered"], &tier["completed"], &tier["failed"]),
        (&json!(3), &json!(1), &json!(2)),
        "documents"
    );
    assert_eq!(
        tier["segments"],
        json!({ "entered": 7, "completed": 4, "failed": 3 })
    );
    let told = home.run(["status"]).exits(0).stdout;
    assert!(told.contains("7: 4 completed, 3 failed (tier 1"), "{told}");
    let failures = rows(&home, &["failures", "-o", "json"]);
    let mut failed: Vec<(&Value, &Value, &Value)> = failures
        .iter()
        .map(|row| (&row["document"], &row["segment"], &row["tier"]))
        .collect();
    // The segments of a document come in when it is split, whichever is first.
    failed.sort_by_key(|(document, segment, tier)| format!("{tier} {document} {segment}"));
    let null = Value::Null;
    assert_eq!(
        failed,
        [
            (&json!("c"), &null, &json!(0)),
            (&json!("a"), &json!(1), &json!(1)),
            (&json!("b"), &json!(0), &json!(1)),
            (&json!("b"), &json!(3), &json!(1)),
        ]
    );
    let told = home.run(["failures"]).exits(0).stdout;
    assert!(told.contains("b [3]"), "{told}");

    // The segments of one document are mended, and a document that was never prepared.
    for bad in ["bad-b-0", "bad-b-3", "bad-c"] {
        fs::remove_file(home.work().join(bad)).unwrap();
        fs::write(home.work().join("handled"), "").unwrap();
    }
    fs::write(home.work().join("prepared"), "").unwrap();
    home.run(["retry", "--mode", "all", "--tier", "1", "--dry-run"])
        .exits(0)
        .says("Would retry 3 segments of 2 documents");
    home.run(["retry", "--mode", "all"])
        .exits(3)
        .says("Retrying 3 documents, of them 3 segments")
        .says("3 of 4 documents completed, 1 failed, 1 retry");
    assert_eq!(lines(&home, "prepared"), ["c"]);
    let handled = lines(&home, "handled");
    let again: Vec<&str> = handled.iter().map(|line| &line[..3]).collect();
    assert_eq!(again, ["a 1", "b 0", "b 3", "c 0", "c 1"]);

    // A join has what was made of all segments, in their order.
    let results = rows(&home, &["results", "-o", "json"]);
    let mut made: Vec<(&str, &str)> = results
        .iter()
        .map(|row| {
            let output = row["output"].as_str().unwrap_or_default();
            (row["document"].as_str().unwrap(), output)
        })
        .collect();
    made.sort_unstable();
    let page = |document: &str, n: u32| format!("\"{document} page {n}\\n\"\n");
    let (b, c): (String, String) = (
        (0..4).map(|n| page("b", n)).collect(),
        (0..2).map(|n| page("c", n)).collect(),
    );
    assert_eq!(made, [("b", &*b), ("c", &*c), ("none", "")]);
    let segments = rows(&home, &["results", "--tier", "1", "-o", "json"]);
    let of_b: Vec<&Value> = segments
        .iter()
        .filter(|row| row["document"] == "b")
        .map(|row| &row["segment"])
        .collect();
    assert_eq!(of_b, [&json!(0), &json!(1), &json!(2), &json!(3)]);
    home.run(["replay", "--verify"]).exits(0);
}

/// Answers for segments, and notes which; those of which the file `bad` speaks fail.
const WORDS: &str = r#"
import json, os, sys

def say(**message):
    print(json.dumps(message), flush=True)

say(type="hello", protocol=1, concurrency=64)
with open("handled", "a") as handled:
    for line in sys.stdin:
        told = json.loads(line)
        if told["type"] != "document":
            continue
        (input,) = told["inputs"].values()
        handled.write("%d %d\n" % (told["segment"], input["value"]))
        handled.flush()
        if os.path.exists("bad") and told["segment"] % 1000 == 7:
            say(type="failed", id=told["id"], kind="rejected", message="not this one")
        else:
            say(type="ok", id=told["id"], output={"double": 2 * input["value"]})
"#;

#[test]
fn a_document_of_ten_thousand_segments_is_joined() {
    let home = Home::new();
    let _keeper = home.keep();
    home.file("words.py", WORDS);
    home.file("bad", "");
    home.file(
        "large.toml",
        r#"
        [[tiers]]
        [[tiers.jobs]]
        name = "prepare_document"
        handler = "exec"
        segments = true
        params = { command = "seq {}" }
        [[tiers]]
        [[tiers.jobs]]
        name = "double"
        handler = "stdio"
        params = { command = "python3 words.py", processes = 2 }
        [[tiers]]
        join = true
        [[tiers.jobs]]
        name = "sum"
        handler = "exec"
        params = { shell = true, command = '''tr -dc '0-9\n' | awk '{ sum += $1 } END { print NR, sum }' ''' }
        "#,
    );
    home.run(["run", "-f", "large.toml", "10000"])
        .exits(3)
        .says("0 of 1 documents completed, 1 failed");
    assert_eq!(lines(&home, "handled").len(), 10_000);
    let status = home.run(["status", "-o", "json"]).exits(0).json();
    assert_eq!(
        status["tiers"][1]["segments"],
        json!({ "entered": 10_000, "completed": 9_990, "failed": 10 })
    );
    fs::remove_file(home.work().join("bad")).unwrap();
    fs::write(home.work().join("handled"), "").unwrap();
    home.run(["retry", "--mode", "all"])
        .exits(0)
        .says("Retrying 10 segments of 1 document")
        .says("1 of 1 documents completed");
    let again: Vec<String> = (0..10)
        .map(|n| format!("{} {}", n * 1_000 + 7, n * 1_000 + 8))
        .collect();
    let mut handled = lines(&home, "handled");
    handled.sort_by_key(|line| line.split(' ').next().unwrap().parse::<u32>().unwrap());
    assert_eq!(handled, again);
    let results = rows(&home, &["results", "-o", "json"]);
    assert_eq!(results[0]["output"], "10000 100010000\n");
    home.run(["replay", "--verify"]).exits(0);
}

#[test]
fn what_is_no_list_of_segments_is_said_and_nothing_is_lost() {
    let home = Home::new();
    let _keeper = home.keep();
    pages(&home);
    home.script(
        "prepare.sh",
        "#!/bin/sh\necho '{\"page\": 1}'; echo 'Page 2'\n",
    );
    home.run(["run", "-f", "pages.toml", "a"]).exits(3);
    let failures = rows(&home, &["failures", "-o", "json"]);
    assert_eq!(failures[0]["kind"], "invalid_segments");
    let message = failures[0]["message"].as_str().unwrap();
    assert!(message.contains("line 2"), "{message}");
    home.file("a", "2");
    home.script("prepare.sh", PREPARE);
    home.run(["retry", "--mode", "all"]).exits(0);
    assert_eq!(lines(&home, "handled").len(), 2);

    home.file("wrong.toml", &PIPELINE.replace("join = true", "join = 1"));
    home.run(["run", "-f", "wrong.toml", "a"])
        .exits(2)
        .says("tiers[2].join");
    home.file("wrong.toml", &PIPELINE.replace("segments = true", ""));
    home.run(["run", "-f", "wrong.toml", "a"])
        .exits(2)
        .says("tiers[2].join: no tier before it has a job with segments");
}

/// Splits a text into words, and says how often each tried, with what is left of them.
const WORKER: &str = r#"
import asyncio, json, os, sys
sys.path.insert(0, "examples")
from worker import Failed, Skip, work

def split(document, inputs, params, attempt):
    return [{"word": word} for word in document["data"]["text"].split()]

def word(document, inputs, params, attempt):
    ((media_type, body),) = inputs.values()
    word = json.loads(body)["word"]
    if word == "dull":
        raise Skip()
    if word == "late" and attempt == 1:
        raise Failed("unavailable", "not yet")
    return word.upper() if len(word) > 2 else {"short": word}

def join(document, inputs, params, attempt):
    ((media_type, body),) = inputs.values()
    return [json.loads(line) for line in body.splitlines()]

asyncio.run(work(sys.argv[1], {"split": split, "word": word, "join": join}))
"#;

#[test]
fn a_worker_written_from_the_protocol_splits_and_joins() {
    let requirements =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/requirements.txt");
    let packages = python::packages(&requirements.canonicalize().unwrap());
    let server = TestServer::start().unwrap();
    let home = Home::with_broker(&server.client_url());
    home.examples();
    home.file("own.py", WORKER);
    home.file(
        "python.toml",
        r#"
        tiers = [
            { jobs = [{ handler = "split", segments = true }] },
            { jobs = [{ handler = "word", backoff = { base = "10ms" } }] },
            { join = true, jobs = [{ handler = "join" }] },
        ]
        "#,
    );
    let mut documents = String::new();
    for n in 0..40 {
        let text = match n {
            7 => String::new(),
            n => format!("one late n{n} dull again"),
        };
        let document = json!({ "id": format!("doc-{n}"), "data": { "text": text } });
        documents.push_str(&format!("{document}\n"));
    }
    home.file("documents.ndjson", &documents);
    let _coordinator = home.start("coordinator", ["coordinator"]);
    let _projector = home.start("projector", ["projector"]);
    let mut command = Command::new("python3");
    command.args(["own.py", &server.client_url()]);
    home.settle(&mut command);
    let _worker = home.launch("python", command.env("PYTHONPATH", &packages));
    let submit = "submit -f python.toml --watch --ndjson documents.ndjson";
    home.run(submit.split(' '))
        .exits(0)
        .says("40 of 40 documents completed");
    for row in home.run(["results", "-o", "jsonl"]).exits(0).lines() {
        let id = row["document"].as_str().unwrap();
        let n = id.strip_prefix("doc-").unwrap();
        let short = match n.len() {
            1 => json!({ "short": format!("n{n}") }),
            _ => json!(format!("N{n}")),
        };
        let made = match n {
            "7" => json!([]),
            _ => json!(["ONE", "LATE", short, null, "AGAIN"]),
        };
        assert_eq!(row["output"], made, "{id}");
    }
    home.run(["replay", "--verify"]).exits(0);
}
