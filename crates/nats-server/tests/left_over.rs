//! Servers whose owner is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(missing_docs, unreachable_pub, dead_code)]

mod common;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Client, binaries, eventually};
use redrive_nats_server::testing::newest_binary;
use redrive_nats_server::{Server, ServerConfig};

const STORE: &str = "REDRIVE_TEST_OWNER_STORE";
const BINARY: &str = "REDRIVE_TEST_OWNER_BINARY";

/// A store that a server has served, with a server on it that nobody owns.
fn unowned(binary: &Path, store: &Path) -> Child {
    let mut server = Server::start(ServerConfig::new(binary, store)).unwrap();
    let mut client = Client::connect(&server.client_url());
    client.create_stream();
    client.publish();
    server.stop().unwrap();
    let store = server.store_dir();
    let child = Command::new(binary)
        .arg("-c")
        .arg(store.join("nats-server.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    fs::write(store.join("nats-server.pid"), child.id().to_string()).unwrap();
    let ports = store.join("ports");
    eventually("the unowned server serves", || {
        fs::read_dir(&ports).unwrap().next().is_some()
    });
    child
}

#[test]
fn a_left_over_server_is_stopped_first() {
    for binary in binaries() {
        let store = tempfile::tempdir().unwrap();
        let mut old = unowned(&binary, store.path());
        let new = Server::start(ServerConfig::new(&binary, store.path())).unwrap();
        assert!(old.try_wait().unwrap().is_some());
        assert_eq!(Client::connect(&new.client_url()).messages(), 1);
    }
}

#[test]
fn a_left_over_server_is_found_through_another_name_of_the_store() {
    let binary = newest_binary().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let mut old = unowned(&binary, &store);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&store, &link).unwrap();
    let _new = Server::start(ServerConfig::new(&binary, &link)).unwrap();
    assert!(old.try_wait().unwrap().is_some());
}

#[test]
fn a_process_that_only_has_the_same_id_is_left_alone() {
    let binary = newest_binary().unwrap();
    let store = tempfile::tempdir().unwrap();
    let mut bystander = Command::new("sleep").arg("100").spawn().unwrap();
    let pid_file = store.path().join("nats-server.pid");
    for text in [bystander.id().to_string(), "0".into(), "no id".into()] {
        fs::write(&pid_file, text).unwrap();
        drop(Server::start(ServerConfig::new(&binary, store.path())).unwrap());
    }
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// No test: the process that [`a_server_dies_with_its_owner`] kills.
#[test]
#[ignore = "runs as a process of its own, inside of another test"]
fn owner() {
    let (Some(store), Some(binary)) = (env::var_os(STORE), env::var_os(BINARY)) else {
        return;
    };
    let store = PathBuf::from(store);
    let server = Server::start(ServerConfig::new(binary, &store)).unwrap();
    fs::write(store.join("url"), server.client_url()).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_dies_with_its_owner() {
    for binary in binaries() {
        let store = tempfile::tempdir().unwrap();
        let mut owner = Command::new(env::current_exe().unwrap())
            .args(["--exact", "owner", "--ignored"])
            .env(STORE, store.path())
            .env(BINARY, &binary)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let url = store.path().join("url");
        eventually("the owner's server is ready", || {
            fs::read_to_string(&url).is_ok_and(|url| !url.is_empty())
        });
        let pid = fs::read_to_string(store.path().join("nats-server.pid")).unwrap();
        let command_line = format!("/proc/{}/cmdline", pid.trim());
        assert!(!fs::read(&command_line).unwrap().is_empty());
        // Its own group, so that a Ctrl-C at the terminal is not for it.
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
        let group = stat.rsplit_once(") ").unwrap().1.split(' ').nth(2).unwrap();
        assert_eq!(group, pid.trim());

        owner.kill().unwrap();
        owner.wait().unwrap();
        eventually("the server is gone", || {
            fs::read(&command_line).map_or(true, |line| line.is_empty())
        });
        // The lock went with the owner.
        let server = Server::start(ServerConfig::new(&binary, store.path())).unwrap();
        assert!(Client::connect(&server.client_url()).pings());
    }
}
