//! When a started server is ready, and what it says of itself.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::process::Child;

const POLL: Duration = Duration::from_millis(10);
const LOG_LINES: usize = 15;

/// A server that takes clients and serves JetStream.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) port: u16,
    pub(crate) version: String,
}

pub(crate) enum NotReady {
    Exited(String),
    TimedOut(String),
}

/// The greeting of a server, as far as it matters here.
#[derive(Deserialize)]
struct Info {
    version: String,
    #[serde(default)]
    jetstream: bool,
}

#[derive(Deserialize)]
struct Ports {
    #[serde(default)]
    nats: Vec<String>,
}

pub(crate) fn wait_ready(
    child: &Child,
    host: &str,
    ports_dir: &Path,
    bound: Duration,
) -> Result<Ready, NotReady> {
    let end = Instant::now() + bound;
    let mut missing = "it has not opened its port".to_owned();
    loop {
        if let Some(port) = chosen_port(ports_dir, child.id()) {
            let left = end.saturating_duration_since(Instant::now()).max(POLL);
            match greeting(host, port, left) {
                Ok(Info { version, jetstream }) => {
                    if jetstream {
                        return Ok(Ready { port, version });
                    }
                    missing = "JetStream is not enabled".to_owned();
                }
                Err(error) => missing = format!("port {port} gives no greeting: {error}"),
            }
        }
        // The pause between two looks ends at once when the child ends.
        if let Some(status) = child.wait_ended(POLL) {
            return Err(NotReady::Exited(status));
        }
        if Instant::now() >= end {
            return Err(NotReady::TimedOut(missing));
        }
    }
}

/// The port from the file that the server writes once it listens. Its name
/// starts with that of the binary, which need not be `nats-server`.
fn chosen_port(ports_dir: &Path, pid: u32) -> Option<u16> {
    let suffix = format!("_{pid}.ports");
    let entry = fs::read_dir(ports_dir).ok()?.flatten().find(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().ends_with(suffix.as_bytes())
    })?;
    // A file that is not yet complete fails to parse, and is read again.
    let ports: Ports = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
    let (_, port) = ports.nats.first()?.rsplit_once(':')?;
    port.parse().ok()
}

fn greeting(host: &str, port: u16, bound: Duration) -> io::Result<Info> {
    let mut error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (reachable(host), port).to_socket_addrs()? {
        let stream = match TcpStream::connect_timeout(&address, bound) {
            Ok(stream) => stream,
            Err(refused) => {
                error = refused;
                continue;
            }
        };
        stream.set_read_timeout(Some(bound))?;
        let mut line = String::new();
        // A greeting is some hundred bytes; whatever sends more is no server.
        BufReader::new(stream.take(64 * 1024)).read_line(&mut line)?;
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it is no NATS greeting");
        let json = line.strip_prefix("INFO ").ok_or_else(invalid)?;
        return serde_json::from_str(json).map_err(|_| invalid());
    }
    Err(error)
}

/// The address at which a server that listens on `host` can be reached.
pub(crate) fn reachable(host: &str) -> &str {
    match host {
        "0.0.0.0" => "127.0.0.1",
        "::" | "[::]" => "::1",
        other => other.trim_start_matches('[').trim_end_matches(']'),
    }
}

/// The last lines of what a log has held since `start`.
pub(crate) fn log_tail(log_file: &Path, start: u64) -> String {
    const BYTES: u64 = 16 * 1024;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log_file)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(BYTES))))?;
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
            lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
        }
        Err(error) => format!("{}: {error}", log_file.display()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_log_tail_leaves_out_what_an_earlier_run_said() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, "old\n").unwrap();
        let start = fs::metadata(&log).unwrap().len();
        let lines: Vec<String> = (0..40).map(|n| format!("new {n}")).collect();
        fs::write(&log, format!("old\n{}\n", lines.join("\n"))).unwrap();
        assert_eq!(log_tail(&log, start), lines[25..].join("\n"));
        fs::write(&log, "old\nonly\n").unwrap();
        assert_eq!(log_tail(&log, start), "only");
    }

    #[test]
    fn a_port_file_counts_only_when_complete_and_of_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("nats-server_11.ports", r#"{"nats":["nats://127.0.0.1:1"]}"#);
        assert_eq!(chosen_port(dir.path(), 1), None);
        write("other_1.ports", r#"{"nats":["nats://127.0"#);
        assert_eq!(chosen_port(dir.path(), 1), None);
        write("other_1.ports", r#"{"nats":["nats://[::1]:4222"]}"#);
        assert_eq!(chosen_port(dir.path(), 1), Some(4222));
    }
}
