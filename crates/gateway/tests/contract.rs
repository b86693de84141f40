//! What the interface says of itself, and what the services say whose dialects it speaks, against what it does.
//!
//! Requests are made by Schemathesis from OpenAPI documents: Redrive's own, and those in `tests/contract`, which have what the
//! documents of the other services demand. It is a Python package, pinned by hashes, in a folder of the user's cache. Where
//! it cannot be had the tests say so and pass, unless `REDRIVE_CONTRACT=full` (`just contract`), which also asks for more.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod common;

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use common::World;
use redrive_gateway::{Auth, Config};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::process::Command;

/// How long the packages may take to come, and how long a run may.
const INSTALL: Duration = Duration::from_secs(240);
const RUN: Duration = Duration::from_secs(600);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contract")
}

/// Whether all is to be tried, and nothing left out.
fn is_full() -> bool {
    std::env::var("REDRIVE_CONTRACT").is_ok_and(|value| value == "full")
}

/// Runs a program to its end; what it wrote, where it went well.
async fn done(command: &mut Command, within: Duration) -> Result<String, String> {
    let what = format!("{:?}", command.as_std().get_program());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(within, command.output()).await;
    let output = output.map_err(|_| format!("{what} was not done in {within:?}"))?;
    let output = output.map_err(|error| format!("{what}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => {
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("{what}: {}\n{text}{error}", output.status))
        }
    }
}

/// The folder of the programs, made where it is not there.
async fn tools() -> Result<PathBuf, String> {
    let pinned = folder().join("requirements.txt");
    let text = std::fs::read(&pinned).unwrap();
    let hash = format!("{:x}", Sha256::digest(&text));
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let cache = cache.or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let cache = cache.ok_or("there is no folder for it: HOME is not set")?;
    let cache = cache.join("redrive/contract");
    std::fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let venv = cache.join(&hash[..16]);
    let made = venv.join("made");
    // Tests run at once; one of them makes it.
    let lock = std::fs::File::create(cache.join("lock")).map_err(|error| error.to_string())?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    let _lock = lock.unwrap().map_err(|error| error.to_string())?;
    if !made.exists() {
        let check = "import sys; sys.exit(sys.version_info < (3, 11))";
        let mut python = Command::new("python3");
        done(python.args(["-c", check]), INSTALL)
            .await
            .map_err(|_| "it takes Python 3.11 or later".to_owned())?;
        let mut python = Command::new("python3");
        done(python.args(["-m", "venv", "--clear"]).arg(&venv), INSTALL).await?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "--no-input", "--disable-pip-version-check"])
            .args(["install", "--quiet", "--require-hashes", "--no-deps"])
            .args(["--only-binary=:all:", "--retries", "1", "-r"])
            .arg(&pinned);
        done(&mut pip, INSTALL).await?;
        std::fs::write(&made, "").map_err(|error| error.to_string())?;
    }
    Ok(venv.join("bin"))
}

/// A system with a gateway that asks for keys, and what asks it.
struct Contract {
    world: World,
    tools: PathBuf,
    key: String,
    work: TempDir,
}

/// One way to run a document.
#[derive(Default)]
struct Run<'a> {
    /// Whether something of it has to be carried out, and not only be refused as said.
    succeeds: bool,
    /// Values of parameters, such as `path.batch_id`. Others are made up.
    values: &'a [(&'a str, &'a str)],
    /// Checks that are left out.
    without: &'a [&'a str],
    /// Further arguments.
    arguments: &'a [&'a str],
}

impl Contract {
    /// None, where it cannot be tried here.
    async fn new() -> Option<Self> {
        let tools = match tools().await {
            Ok(tools) => tools,
            Err(why) => {
                assert!(!is_full(), "the contract cannot be tried: {why}");
                eprintln!("skipped: the contract cannot be tried here: {why}");
                return None;
            }
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config::new(any, Auth::Keys);
        config.rate = NonZeroU32::MAX;
        let world = World::with(config).await;
        let key = world.key("default", "read,operate,admin").await;
        Some(Self {
            world,
            tools,
            key,
            work: TempDir::new().unwrap(),
        })
    }

    /// Runs a document; what is wrong where an answer is not as it says.
    async fn holds(&self, name: &str, document: &Path, run: Run<'_>) -> Result<(), String> {
        let mut config = String::from("[parameters]\n");
        for (parameter, value) in run.values {
            config.push_str(&format!("{parameter:?} = {value:?}\n"));
        }
        let settings = self.work.path().join(format!("{name}.toml"));
        std::fs::write(&settings, config).unwrap();
        let report = self.work.path().join(format!("{name}.json"));
        let (phases, examples) = match is_full() {
            true => ("examples,coverage,fuzzing", "60"),
            false => ("fuzzing", "3"),
        };
        let mut without = vec!["positive_data_acceptance"];
        without.extend(run.without);
        let mut st = Command::new(self.tools.join("st"));
        st.current_dir(self.work.path())
            .arg("--config-file")
            .arg(&settings)
            .arg("run")
            .arg(document)
            .args(["--url", &format!("http://{}", self.world.address)])
            .args(["--phases", phases, "--max-examples", examples])
            .args(["--exclude-checks", &without.join(",")])
            .args(["--generation-deterministic", "--no-shrink"])
            .args(["--request-timeout", "60"])
            .args(["--continue-on-failure", "--no-color", "--warnings", "off"])
            .args(["--output-sanitize", "false", "--output-truncate", "false"])
            .args(["--header", &format!("Authorization: Bearer {}", self.key)])
            .args(["--header", &format!("x-api-key: {}", self.key)])
            .args(["--header", &format!("anchor-api-key: {}", self.key)])
            .args(["--report", "json", "--report-json-path"])
            .arg(&report)
            .args(run.arguments);
        let ended = done(&mut st, RUN).await;
        let figures = std::fs::read(&report).unwrap_or_default();
        let figures: Value = serde_json::from_slice(&figures).unwrap_or_default();
        let (operations, cases) = (&figures["operations"], &figures["test_cases"]);
        println!(
            "{name}: {} operations, {} requests in {:.0} s, {} of them answered otherwise than said",
            operations["tested"],
            cases["generated"],
            figures["running_time"].as_f64().unwrap_or_default(),
            cases["with_failures"],
        );
        let said = ended.map_err(|said| format!("{name}: {said}"))?;
        let all = operations["tested"] == operations["selected"];
        let any = cases["generated"].as_u64() > Some(0);
        if !all || !any {
            return Err(format!("{name}: not all was tried\n{said}"));
        }
        let rates = figures["valid_rates"].as_object().into_iter().flatten();
        let phases = rates.filter_map(|(_, phases)| phases.as_object()).flatten();
        let accepted: u64 = phases.filter_map(|(_, it)| it["accepted"].as_u64()).sum();
        match accepted > 0 || !run.succeeds {
            true => Ok(()),
            false => Err(format!("{name}: nothing was carried out\n{figures:#}")),
        }
    }

    /// A batch of which something is failed.
    async fn failed_batch(&self, bucket: &str) -> String {
        self.world.fail("b", "timeout");
        let bearer = format!("Bearer {}", self.key);
        let bearer = [("authorization", bearer.as_str())];
        let body = serde_json::json!({
            "bucket": bucket,
            "pipeline": common::pipeline(),
            "documents": [{ "id": "a" }, { "id": "b" }],
        });
        let made = self.world.ask("POST", "/v1/batches", &bearer, body).await;
        let id = made.is(201)["batch"].as_str().unwrap().to_owned();
        let path = format!("/v1/batches/{id}");
        common::until("a batch that is over", || async {
            let view = self.world.ask("GET", &path, &bearer, Value::Null).await;
            (view.is(200)["status"] == "completed_with_failures").then_some(())
        })
        .await;
        id
    }
}

#[tokio::test]
async fn the_gateway_does_what_its_document_says() {
    let Some(contract) = Contract::new().await else {
        return;
    };
    let document = contract.work.path().join("openapi.json");
    let mut described = redrive_gateway::document();
    std::fs::write(&document, described.to_string()).unwrap();
    let mut validator = Command::new(contract.tools.join("openapi-spec-validator"));
    done(validator.arg(&document), RUN).await.unwrap();
    // Schemathesis writes JSON, and no lines of it.
    for path in described["paths"].as_object_mut().unwrap().values_mut() {
        let content = path.pointer_mut("/post/requestBody/content");
        if let Some(content) = content.and_then(Value::as_object_mut) {
            content.remove("application/x-ndjson");
        }
    }
    std::fs::write(&document, described.to_string()).unwrap();
    let batch = contract.failed_batch("docs").await;
    let run = Run {
        // Nobody waits for what the log does not have, and events do not end.
        succeeds: true,
        values: &[("query.min_seq", "0"), ("path.batch", &batch)],
        arguments: &["--exclude-path-regex", "/events$"],
        ..Run::default()
    };
    let held = contract.holds("redrive", &document, run).await;
    held.unwrap_or_else(|said| panic!("{said}"));
}

#[tokio::test]
async fn the_dialects_do_what_the_documents_of_their_services_say() {
    let Some(contract) = Contract::new().await else {
        return;
    };
    let mut wrong = Vec::new();
    for (name, bucket, path) in [
        ("mixpeek", "docs", "path.batch_id"),
        ("feather", "feather", "path.job_id"),
        ("anchor", "anchor", "path.batch_id"),
        ("spidra", "spidra", "path.batchId"),
    ] {
        let document = folder().join(format!("{name}.yaml"));
        let made_up = contract.holds(name, &document, Run::default()).await;
        let batch = contract.failed_batch(bucket).await;
        let run = Run {
            succeeds: true,
            values: &[(path, &batch), ("path.bucket_identifier", bucket)],
            ..Run::default()
        };
        let there = format!("{name}-there");
        let there = contract.holds(&there, &document, run).await;
        wrong.extend([made_up, there].into_iter().filter_map(Result::err));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
