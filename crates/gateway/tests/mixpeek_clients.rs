//! The calls that Mixpeek's manual prints, run as they are by a real Python.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod support;

use common::{World, pipeline};
use serde_json::{Value, json};
use support::{in_other_words, is_there, printed, python, run, serve};

const BATCHES: &str = "/v1/buckets/docs/batches";

/// What stands before a call whose answer is not looked at: what fails as HTTP fails the script.
const CHECKED: &str = "
import requests
def checked(ask):
    def asked(*args, **named):
        answer = ask(*args, **named)
        answer.raise_for_status()
        return answer
    return asked
requests.get, requests.post = checked(requests.get), checked(requests.post)
";

/// The calls of the page on diagnosing batches, as they stand there but for the address.
#[tokio::test]
async fn the_calls_of_the_manual_run_as_they_are() {
    if !is_there("python3").await {
        return;
    }
    let world = World::with(support::config("docs", pipeline())).await;
    let namespace = [("x-namespace", "your-namespace")];
    let ask = async |method: &str, path: &str, body: Value| {
        world.ask(method, path, &namespace, body).await.is(200)
    };
    let submit = async |pipeline: Value| {
        let body = json!({ "object_ids": ["a"], "pipeline": pipeline });
        let made = ask("POST", BATCHES, body).await;
        let id = made["batch_id"].as_str().unwrap().to_owned();
        ask("POST", &format!("{BATCHES}/{id}/submit"), Value::Null).await;
        id
    };
    let until = async |id: &str, wished: &dyn Fn(&Value) -> bool| {
        let path = format!("{BATCHES}/{id}");
        common::until("a batch is as wished", async || {
            Some(ask("GET", &path, Value::Null).await).filter(wished)
        })
        .await
    };
    // The first address is printed without being a template of Python's: its names are filled in by hand.
    let call = async |name: &str, id: &str, job: &str| {
        let base = ("https://api.mixpeek.com", world.url(""));
        let names = [
            ("bucket_id", "docs"),
            ("batch_id", id),
            ("tier_num", "0"),
            ("ray_job_id", job),
        ];
        let given: String = names
            .map(|(name, value)| format!("{name} = {value:?}\n"))
            .concat();
        let script = printed(name, (base.0, &base.1), &format!("{CHECKED}{given}"), "");
        let script = script.replace("/{bucket_id}/", "/docs/");
        let script = script.replace("/{batch_id}/", &format!("/{id}/"));
        run(python().await.args(["-c", &script])).await
    };
    let hangs = json!({ "handler": "hangs", "timeout": "10m" });

    // Out of memory: the tier is retried on a machine with a GPU.
    world.fail("a", "out_of_memory");
    let job = json!({ "handler": "work", "memory_bytes": 1 << 20, "backoff": { "base": "1ms", "max": "1ms" } });
    let id = submit(json!({ "name": "ocr", "tiers": [{ "jobs": [job] }] })).await;
    until(&id, &|batch| batch["status"] == "FAILED").await;
    let said = call("seed_002/diagnose.py", &id, "").await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "Status: FAILED",
            "Failure category: infrastructure",
            "Failed docs: 1"
        ]
    );
    assert!(
        lines[3].starts_with("  → ") && lines[3].contains("memory"),
        "{said}"
    );
    let path = format!("{BATCHES}/{id}/diagnose");
    let diagnostic = ask("GET", &path, Value::Null).await;
    assert_eq!(diagnostic["infrastructure_events"][0]["type"], "oom");
    assert_eq!(
        diagnostic["failed_documents_sample"][0]["error_kind"],
        "out_of_memory"
    );
    let tier = &diagnostic["per_tier"][0];
    assert_eq!(tier["submission_params"]["memory_bytes"], 1 << 20);
    assert_eq!(tier["resources"]["memory_bytes"], 1 << 20);
    assert!(tier["timing"]["duration_seconds"].is_number());

    serve(&world, "gpu", "work", true);
    call("seed_002/retry_tier.py", &id, "").await;
    let batch = until(&id, &|batch| batch["status"] == "COMPLETED").await;
    let params = &batch["tier_tasks"][0]["submission_params"];
    assert_eq!(
        (&params["requires_gpu"], &params["priority"]),
        (&json!(true), &json!(50))
    );

    // Stuck: it is looked for, what is executed twice is stopped, and the tier is cancelled.
    serve(&world, "cpu", "hangs", false);
    let id = submit(json!({ "name": "hangs", "tiers": [{ "jobs": [hangs] }] })).await;
    let path = format!("{BATCHES}/{id}/tiers/0/heal");
    let body = || json!({ "action": "detect_stuck", "idle_seconds": 1 });
    let found = common::until("it shows no sign of life", async || {
        let found = ask("POST", &path, body()).await;
        Some(found).filter(|found| !found["stuck"].as_array().unwrap().is_empty())
    });
    let found = in_other_words(&found.await);
    let expected = json!({
        "batch_id": id, "tier_num": 0, "action": "detect_stuck", "message": "1 pieces of work are stuck",
        "checked": 1, "duplicates": [],
        "stuck": [{
            "ray_job_id": format!("raysubmit_{id}_0_hangs"), "document_count": 1, "worker": "cpu-hangs",
            "reason": "no_sign_of_life", "since": "<time>", "last_activity_at": "<time>", "fixed": false,
        }],
    });
    assert_eq!(found, expected);
    let batch = until(&id, &|_| true).await;
    assert_eq!(batch["tier_tasks"][0]["status"], "IN_PROGRESS");
    call("seed_002/duplicates.py", &id, "").await;
    call("seed_002/stuck.py", &id, "").await;
    until(&id, &|batch| batch["tier_tasks"][0]["status"] == "CANCELED").await;

    // One job of two is cancelled: the batch completes without it.
    let jobs = json!([{ "handler": "work" }, hangs]);
    world.mend();
    let id = submit(json!({ "name": "two", "tiers": [{ "jobs": jobs }] })).await;
    let batch = until(&id, &|_| true).await;
    let jobs = &batch["tier_tasks"][0]["extractor_jobs"];
    let job = jobs[1]["ray_job_id"].as_str().unwrap();
    call("seed_002/cancel_job.py", &id, job).await;
    let batch = until(&id, &|batch| batch["status"] == "COMPLETED").await;
    let jobs = &batch["tier_tasks"][0]["extractor_jobs"];
    assert_eq!(
        (&jobs[0]["status"], &jobs[1]["status"]),
        (&json!("COMPLETED"), &json!("CANCELED"))
    );
}
