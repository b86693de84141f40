//! Credits on the command line and on the answered subjects, with everything real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{fs, time::Duration};

use redrive_broker::{
    Broker, Message,
    nats::{ConnectOptions, NatsBroker},
};
use redrive_nats_server::testing::TestServer;
use serde_json::{Value, json};
use support::{Home, SOON, count_lines};
use tokio::time::{Instant, sleep};

/// Fails where a file says so, and notes that it ran.
const PICKY: &str = r#"#!/bin/sh
echo x >> "ran-$1"
if [ -e "bad-$1" ]; then echo "bad $1" >&2; exit 65; fi
"#;

fn credits(home: &Home, args: &[&str]) -> Value {
    let args = [&["credits", "-o", "json"], args].concat();
    home.run(args).exits(0).json()
}

/// Reserved, settled, released and held in the last month.
fn books(view: &Value) -> [u64; 4] {
    ["reserved", "settled", "released", "held"]
        .map(|name| view["months"][0][name].as_u64().unwrap())
}

#[test]
fn a_retry_beyond_what_is_left_is_refused_whole_with_what_is_missing() {
    let home = Home::new();
    let _keeper = home.keep();
    home.script("picky.sh", PICKY);
    for n in 1..=3 {
        home.file(&format!("bad-{n}"), "");
    }
    let ran = |n: u32| count_lines(&home.work().join(format!("ran-{n}")));
    let run = [
        "run",
        "--exec",
        "./picky.sh {}",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
    ];

    let none = credits(&home, &[]);
    assert_eq!(
        (&none["limit"], &none["left"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(credits(&home, &["--set", "5"])["left"], 5);
    home.run(run)
        .exits(6)
        .says("it takes 6 credits")
        .says("5 of the namespace's 5 are left")
        .says("1 missing")
        .says("credits --set N")
        .says("go on:  redrive resume");
    assert_eq!(ran(4), 0, "nothing of it began");

    // With enough of them the same batch goes on; three of six fail, and get theirs back.
    credits(&home, &["--set", "8"]);
    home.run(["resume"]).exits(3);
    let before = credits(&home, &[]);
    assert_eq!((&before["left"], books(&before)), (&json!(5), [6, 3, 3, 0]));
    let status = home.run(["status"]).exits(0);
    assert!(
        status.stdout.contains("3 settled, 0 held, 3 released"),
        "{}",
        status.stdout
    );

    credits(&home, &["--set", "5"]);
    home.run(["retry", "--mode", "all", "--dry-run"])
        .exits(0)
        .says("it takes 3, and 2 are left")
        .says("1 missing");
    home.run(["retry", "--mode", "all"])
        .exits(6)
        .says("it takes 3 credits")
        .says("1 missing");
    assert_eq!(ran(1), 1, "nothing of it was executed");
    let status = home.run(["status", "-o", "json"]).exits(0).json();
    assert_eq!(
        (&status["counts"]["failed"], &status["retries"]),
        (&json!(3), &json!(0))
    );

    fs::remove_file(home.work().join("bad-1")).unwrap();
    credits(&home, &["--set", "6"]);
    home.run(["retry", "--mode", "all"])
        .exits(3)
        .says("reserved 3, and 0 of 6 are left");
    let after = credits(&home, &[]);
    assert_eq!((&after["left"], books(&after)), (&json!(2), [9, 4, 5, 0]));

    // As it was, by place and by time.
    let seq = before["as_of"].to_string();
    let then = credits(&home, &["--at", &seq]);
    assert_eq!(
        (&then["limit"], &then["months"]),
        (&json!(8), &before["months"])
    );
    assert_eq!(credits(&home, &["--at", "1"])["limit"], 5);
    assert_eq!(credits(&home, &["--at", "0"])["limit"], Value::Null);
    let past = credits(&home, &["--at", "2020-02-01T00:00:00Z"]);
    assert_eq!(
        (&past["month"], &past["limit"]),
        (&json!("2020-02"), &Value::Null)
    );
    home.run(["credits", "--at", "1000000"])
        .exits(2)
        .says("the log ends at");
    home.run(["replay", "--verify"])
        .exits(0)
        .says("byte for byte");

    // Without a limit nothing is counted any more.
    assert_eq!(credits(&home, &["--unlimited"])["left"], Value::Null);
    home.run(["retry", "--mode", "all"]).exits(3);
    assert_eq!(books(&credits(&home, &[])), [9, 4, 5, 0]);
    home.run(["credits", "--set", "5", "--unlimited"]).exits(2);
}

const BATCH: &str = "01980000-0000-7000-8000-00000000000c";

/// Asks, for as long as nobody is there to answer.
async fn ask(broker: &NatsBroker, subject: &str, body: &Value) -> Value {
    let end = Instant::now() + SOON;
    loop {
        let message = Message {
            subject: subject.to_owned(),
            payload: body.to_string().into(),
            trace: None,
        };
        match broker.request(message, Duration::from_secs(10)).await {
            Ok(answer) => return serde_json::from_slice(&answer).unwrap(),
            Err(error) => assert!(Instant::now() < end, "{subject}: {error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_on_the_subjects_for_each_namespace_and_over_a_new_leader() {
    let server = TestServer::start().unwrap();
    let broker = NatsBroker::connect(ConnectOptions::new(server.client_url()))
        .await
        .unwrap();
    broker.ensure().await.unwrap();
    let home = Home::with_broker(&server.client_url());
    let mut coordinator = home.start("coordinator", ["coordinator"]);
    let _projector = home.start("projector", ["projector"]);
    let asks = async |verb: &str, body: Value| {
        let subject = match verb {
            "set_credits" => "rd.req.default._._.set_credits".to_owned(),
            verb => format!("rd.req.default.docs.{BATCH}.{verb}"),
        };
        ask(&broker, &subject, &body).await
    };
    let set = asks("set_credits", json!({ "limit": 5 })).await;
    assert!(set["ok"]["seq"].as_u64().unwrap() > 0, "{set}");
    let left_out = asks("set_credits", json!({})).await;
    assert_eq!(left_out["error"]["code"], "invalid", "{left_out}");
    let subject = format!("rd.req.default._.{BATCH}.set_credits");
    let of_a_batch = ask(&broker, &subject, &json!({ "limit": 5 })).await;
    assert_eq!(of_a_batch["error"]["code"], "invalid", "{of_a_batch}");

    let pipeline = json!({
        "credits_per_document": 2,
        "tiers": [{ "jobs": [{ "handler": "nobody" }] }],
    });
    let documents = json!([{ "id": "a" }, { "id": "b" }, { "id": "c" }]);
    asks("create", json!({ "pipeline": pipeline })).await;
    asks("add_documents", json!({ "documents": documents })).await;
    let refused = asks("submit", json!({})).await;
    let error = &refused["error"];
    assert_eq!(error["code"], "credits_exhausted", "{refused}");
    let numbers = ["limit", "left", "takes", "missing"].map(|name| error[name].as_u64().unwrap());
    assert_eq!(numbers, [5, 5, 6, 1]);
    assert!(error["message"].as_str().unwrap().contains("1 missing"));

    asks("set_credits", json!({ "limit": 7 })).await;
    let taken = asks("submit", json!({})).await;
    assert_eq!(taken["ok"]["credits"]["takes"], 6, "{taken}");

    // Another leader knows what is held, and what is cancelled is given back.
    coordinator.kill();
    let _coordinator = home.start("coordinator-2", ["coordinator"]);
    let there = credits(&home, &[]);
    assert_eq!((&there["left"], books(&there)), (&json!(1), [6, 0, 0, 6]));
    let other = "01980000-0000-7000-8000-00000000000d";
    for (verb, body) in [
        (
            "create",
            json!({ "pipeline": { "tiers": [{ "jobs": [{ "handler": "nobody" }] }] } }),
        ),
        (
            "add_documents",
            json!({ "documents": [{ "id": "a" }, { "id": "b" }] }),
        ),
        ("submit", json!({})),
    ] {
        let mine = ask(
            &broker,
            &format!("rd.req.default.docs.{other}.{verb}"),
            &body,
        )
        .await;
        let theirs = ask(&broker, &format!("rd.req.else.docs.{other}.{verb}"), &body).await;
        assert!(theirs.get("ok").is_some(), "{theirs}");
        match verb {
            "submit" => assert_eq!(mine["error"]["missing"], 1, "{mine}"),
            _ => assert!(mine.get("ok").is_some(), "{mine}"),
        }
    }
    let cancelled = asks("cancel", json!({})).await;
    assert_eq!(cancelled["ok"]["status"], "cancelled", "{cancelled}");
    let there = credits(&home, &[]);
    assert_eq!((&there["left"], books(&there)), (&json!(7), [6, 0, 6, 0]));
    let said = ask(&broker, "rd.qry.else.credits", &json!({})).await;
    assert_eq!(said["ok"]["limit"], Value::Null, "{said}");
}
