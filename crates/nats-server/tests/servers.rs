//! Real servers, of both versions where both are there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(missing_docs, unreachable_pub)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, binaries, eventually};
use redrive_nats_server::testing::{TestServer, TestServerError, debian_binary, newest_binary};
use redrive_nats_server::{PINNED_VERSION, Server, ServerConfig, StartError, SyncInterval};

fn started(binary: &Path) -> TestServer {
    TestServer::start_with(binary).unwrap()
}

fn start_error(binary: &Path, change: impl FnOnce(&mut ServerConfig)) -> StartError {
    match TestServer::start_configured(binary, change).unwrap_err() {
        TestServerError::Start(error) => error,
        other => unreachable!("{other}"),
    }
}

fn is_process(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn the_server_that_is_found_starts_and_tells_its_version() {
    let server = TestServer::start().unwrap();
    assert!(server.is_running());
    assert!(server.version().starts_with("2."));
    assert!(Client::connect(&server.client_url()).pings());
}

#[test]
fn the_versions_are_those_of_the_binaries() {
    let server = started(&newest_binary().unwrap());
    assert_eq!(server.version(), PINNED_VERSION);
    if let Some(binary) = debian_binary() {
        assert!(started(&binary).version().starts_with("2.9."));
    }
}

#[test]
fn a_restart_keeps_the_port_and_the_data() {
    for binary in binaries() {
        let mut server = started(&binary);
        let (url, pid) = (server.client_url(), server.pid().unwrap());
        let mut client = Client::connect(&url);
        client.create_stream();
        client.publish();
        // The client stays connected: the port is in use to the last moment.
        server.restart().unwrap();
        assert_eq!(server.client_url(), url);
        assert_ne!(server.pid(), Some(pid));
        let mut client = Client::connect(&url);
        assert_eq!(client.messages(), 1);
        client.publish();

        server.kill().unwrap();
        assert_eq!(server.pid(), None);
        assert!(!server.is_running());
        server.restart().unwrap();
        assert_eq!(server.client_url(), url);
        assert_eq!(Client::connect(&url).messages(), 2);
    }
}

#[test]
fn servers_beside_each_other_share_nothing() {
    for binary in binaries() {
        let (one, two) = (started(&binary), started(&binary));
        assert_ne!(one.client_url(), two.client_url());
        assert_ne!(one.store_dir(), two.store_dir());
        Client::connect(&one.client_url()).create_stream();
        let mut other = Client::connect(&two.client_url());
        let reply = other.request("$JS.API.STREAM.INFO.T", "");
        assert_eq!(reply["error"]["code"], 404);
    }
}

#[test]
fn after_a_kill_a_new_server_serves_the_same_store() {
    for binary in binaries() {
        let mut first = started(&binary);
        let mut client = Client::connect(&first.client_url());
        client.create_stream();
        client.publish();
        first.kill().unwrap();
        let mut second = Server::start(ServerConfig::new(&binary, first.store())).unwrap();
        assert_eq!(Client::connect(&second.client_url()).messages(), 1);
        second.stop().unwrap();
        assert!(!second.store_dir().join("nats-server.pid").exists());
    }
}

#[test]
fn a_drop_ends_the_process_and_removes_the_store() {
    for binary in binaries() {
        let server = started(&binary);
        let (pid, store) = (server.pid().unwrap(), server.store().to_owned());
        drop(server);
        assert!(!is_process(pid));
        assert!(!store.exists());

        let store = tempfile::tempdir().unwrap();
        let server = Server::start(ServerConfig::new(&binary, store.path())).unwrap();
        let pid = server.pid().unwrap();
        drop(server);
        assert!(!is_process(pid));
        let log = fs::read_to_string(store.path().join("nats-server.log")).unwrap();
        assert!(log.contains("Server Exiting"), "{log}");
    }
}

#[test]
fn a_paused_server_answers_only_when_resumed_and_stops_even_when_paused() {
    for binary in binaries() {
        let mut server = started(&binary);
        let mut client = Client::connect(&server.client_url());
        server.pause().unwrap();
        client.set_timeout(Duration::from_millis(200));
        assert!(!client.pings());
        server.resume().unwrap();
        client.set_timeout(Duration::from_secs(10));
        assert!(client.pings());

        server.pause().unwrap();
        let began = Instant::now();
        server.stop().unwrap();
        assert!(began.elapsed() < Duration::from_secs(9));
        assert!(server.pause().is_err());
    }
}

#[test]
fn the_end_of_the_thread_that_started_a_server_is_not_the_servers_end() {
    let binary = newest_binary().unwrap();
    let server = thread::spawn(move || started(&binary)).join().unwrap();
    // A signal for the thread's end would be on its way by now.
    thread::sleep(Duration::from_millis(200));
    assert!(server.is_running());
    assert!(Client::connect(&server.client_url()).pings());
}

#[test]
fn an_early_end_shows_the_log() {
    for binary in binaries() {
        let began = Instant::now();
        let error = start_error(&binary, |config| {
            config.extra_config = Some("no_such_setting: 1".to_owned());
        });
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(matches!(error, StartError::Exited { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("exit status: 1"), "{text}");
        assert!(text.contains("no_such_setting"), "{text}");
    }
}

#[test]
fn a_taken_port_is_an_error_and_the_other_server_is_left_alone() {
    for binary in binaries() {
        let server = started(&binary);
        let error = start_error(&binary, |config| config.port = Some(server.port()));
        assert!(
            error.to_string().contains("address already in use"),
            "{error}"
        );
        assert!(Client::connect(&server.client_url()).pings());
    }
}

#[test]
fn a_server_that_never_gets_ready_is_ended_at_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("server");
    fs::write(
        &binary,
        "#!/bin/sh\necho still thinking >&2\nexec sleep 100\n",
    )
    .unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let error = start_error(&binary, |config| {
        config.ready_timeout = Duration::from_millis(500);
    });
    assert!(matches!(error, StartError::NotReady { .. }), "{error}");
    assert!(error.to_string().contains("still thinking"), "{error}");
    assert!(error.to_string().contains("has not opened its port"));
}

#[test]
fn without_jetstream_a_server_is_not_ready() {
    let error = start_error(&newest_binary().unwrap(), |config| {
        config.extra_config = Some("jetstream: false".to_owned());
        config.ready_timeout = Duration::from_secs(2);
    });
    assert!(
        error.to_string().contains("JetStream is not enabled"),
        "{error}"
    );
}

#[test]
fn a_binary_that_is_not_there_is_named() {
    let error = start_error(Path::new("/no/such/server"), |_| {});
    assert!(error.to_string().starts_with("/no/such/server could not"));
}

#[test]
fn the_settings_reach_the_server() {
    for binary in binaries() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let server = TestServer::start_configured(&binary, |config| {
            config.server_name = Some("a-name".to_owned());
            config.max_memory = Some(64 << 20);
            config.max_file = Some(256 << 20);
            config.max_payload = Some(2 << 20);
            config.host = "localhost".to_owned();
            config.log_file = Some(log.path().to_owned());
            config.extra_config = Some("max_connections: 3".to_owned());
        })
        .unwrap();
        assert!(server.client_url().starts_with("nats://localhost:"));
        assert!(Client::connect(&server.client_url()).pings());
        let log = fs::read_to_string(server.log_file()).unwrap();
        assert!(log.contains("a-name"), "{log}");
        assert!(log.contains("64.00 MB"), "{log}");
        assert!(log.contains("256.00 MB"), "{log}");
        let config = server.store_dir().join("nats-server.conf");
        assert!(
            fs::read_to_string(&config)
                .unwrap()
                .contains("max_connections: 3")
        );
        assert_eq!(
            fs::metadata(&config).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}

#[test]
fn syncing_always_works_where_the_server_can_and_is_refused_where_not() {
    for sync in [
        SyncInterval::Always,
        SyncInterval::Every(Duration::from_secs(1)),
    ] {
        let set = |config: &mut ServerConfig| config.sync_interval = sync;
        let server = TestServer::start_configured(&newest_binary().unwrap(), set).unwrap();
        let mut client = Client::connect(&server.client_url());
        client.create_stream();
        client.publish();
        if let Some(binary) = debian_binary() {
            let text = start_error(&binary, set).to_string();
            assert!(
                text.contains("it needs nats-server 2.10 or newer"),
                "{text}"
            );
        }
    }
}

#[test]
fn a_store_in_use_is_refused_and_its_server_left_alone() {
    let binary = newest_binary().unwrap();
    let server = started(&binary);
    let error = Server::start(ServerConfig::new(&binary, server.store())).unwrap_err();
    let pid = server.pid();
    assert!(
        matches!(error, StartError::StoreInUse { pid: of, .. } if of == pid),
        "{error}"
    );
    assert!(Client::connect(&server.client_url()).pings());
}

#[test]
fn a_server_that_ends_by_itself_is_noticed_and_can_be_restarted() {
    for binary in binaries() {
        let mut server = started(&binary);
        let pid = i32::try_from(server.pid().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        eventually("the end is noticed", || !server.is_running());
        assert!(server.pause().is_err());
        server.restart().unwrap();
        assert!(Client::connect(&server.client_url()).pings());
    }
}
