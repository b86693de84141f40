//! Keys on the command line, and a gateway that knows them at once: as processes, on a real broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use redrive_nats_server::testing::TestServer;
use support::{Ended, Home, Running, SOON, until};

const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// Where a gateway answers, as it says in its log.
fn address(gateway: &Running) -> String {
    until("it says where it answers", SOON, || {
        let log = gateway.log();
        let (_, rest) = log.split_once("http://")?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c))?;
        Some(rest[..end].to_owned())
    })
}

/// The status of an answer to one who shows this key.
fn status(address: &str, path: &str, key: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let head = format!("Host: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close");
    write!(stream, "GET {path} HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn keys(home: &Home, args: &[&str]) -> Ended {
    home.run(["keys"].iter().chain(args))
}

#[test]
fn a_key_is_made_listed_and_ended_and_gateways_know_it_without_a_restart() {
    let server = TestServer::start().unwrap();
    let home = Home::with_broker(&server.client_url());
    let mut coordinator = home.start("coordinator", ["coordinator"]);
    let _projector = home.start("projector", ["projector"]);
    let gateway = ["gateway", "--listen", "127.0.0.1:0", "--auth", "keys"];
    let gateway = home.start("gateway", gateway);
    let address = address(&gateway);
    let path = format!("/v1/batches/{NOBODY}");

    let made = keys(
        &home,
        &[
            "create",
            "ci",
            "--scope",
            "read,operate",
            "--expires",
            "90d",
        ],
    );
    let made = made
        .exits(0)
        .says("only time that it is shown")
        .says("keys revoke");
    // The key and nothing else, for `> ci.key`.
    let key = made.stdout.strip_suffix('\n').unwrap();
    assert!(
        key.starts_with("rdk_default_") && !key.contains('\n'),
        "{key}"
    );
    assert!(!made.stderr.contains(&key[50..]), "{}", made.stderr);
    let admin = keys(&home, &["-o", "json", "create", "ops", "--scope", "admin"]);
    let admin = admin.exits(0).json();
    assert_eq!(admin["scopes"], serde_json::json!(["admin"]));
    // At once, and what comes from elsewhere is not there.
    assert_eq!(status(&address, &path, key), 404);
    assert_eq!(status(&address, "/v1/keys", key), 403);
    assert_eq!(
        status(&address, "/v1/keys", admin["key"].as_str().unwrap()),
        200
    );
    assert_eq!(
        status(&address, &path, &key.replace("rdk_default", "rdk_other")),
        401
    );

    let listed = keys(&home, &["list", "-o", "json"]).exits(0);
    assert!(!listed.stdout.contains("sha256") && !listed.stdout.contains(&key[50..]));
    let listed = listed.json();
    let names = [&listed[0]["name"], &listed[1]["name"]];
    assert_eq!(names, ["ci", "ops"]);
    let id = listed[0]["id"].as_str().unwrap();
    let theirs = home.run(["keys", "list", "--namespace", "other"]).exits(0);
    theirs.says("has no keys");

    // Another coordinator knows them as well.
    coordinator.kill();
    let _coordinator = home.start("coordinator-2", ["coordinator"]);
    keys(&home, &["revoke", id]).exits(0).says("within seconds");
    until("the gateway refuses it", SOON, || {
        (status(&address, &path, key) == 401).then_some(())
    });
    keys(&home, &["revoke", id])
        .exits(0)
        .says("was revoked before");
    let table = keys(&home, &["list", "--all"]).exits(0).stdout;
    assert!(
        table.contains("revoked") && table.lines().count() == 3,
        "{table}"
    );
    assert_eq!(keys(&home, &["list"]).exits(0).stdout.lines().count(), 2);

    keys(&home, &["revoke", NOBODY]).exits(4);
    keys(&home, &["create", "a b", "--scope", "read"])
        .exits(2)
        .says("A-Z a-z 0-9");
    keys(&home, &["create", "a", "--scope", "write"])
        .exits(2)
        .says("read, operate or admin");
    keys(&home, &["create", "a"]).exits(2).says("--scope");
    keys(
        &home,
        &["create", "a", "--scope", "read", "--expires", "soon"],
    )
    .exits(2);
    assert!(!gateway.log().contains(&key[50..]), "no log has a secret");
}
