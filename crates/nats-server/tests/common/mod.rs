//! A client of a few lines, so that the tests need no NATS library.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use redrive_nats_server::testing::{debian_binary, newest_binary};
use serde_json::Value;

/// Both servers of the contract suite; the old one only where it is installed.
pub fn binaries() -> Vec<PathBuf> {
    let mut binaries = vec![newest_binary().unwrap()];
    match debian_binary() {
        Some(binary) => binaries.push(binary),
        None => eprintln!("no nats-server 2.9 is installed: only the newest is tested"),
    }
    binaries
}

/// Asks until it is so, at most for 20 s.
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "never so: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(url: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("nats://").unwrap()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut client = Self {
            reader: BufReader::new(stream),
        };
        assert!(client.line().unwrap().starts_with("INFO "));
        client.write("CONNECT {\"verbose\":false}\r\nSUB reply 1\r\n");
        client
    }

    pub fn set_timeout(&self, timeout: Duration) {
        let stream = self.reader.get_ref();
        stream.set_read_timeout(Some(timeout)).unwrap();
    }

    fn write(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        Ok(line)
    }

    /// Whether the server answers a PING.
    pub fn pings(&mut self) -> bool {
        self.write("PING\r\n");
        self.line().is_ok_and(|line| line == "PONG\r\n")
    }

    /// Sends a request and returns the JSON of its reply.
    pub fn request(&mut self, subject: &str, body: &str) -> Value {
        self.write(&format!("PUB {subject} reply {}\r\n{body}\r\n", body.len()));
        let head = self.line().unwrap();
        assert!(head.starts_with("MSG reply 1 "), "{head}");
        let length = head.trim().rsplit_once(' ').unwrap().1.parse().unwrap();
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).unwrap();
        self.line().unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    pub fn create_stream(&mut self) {
        let config = r#"{"name":"T","subjects":["t.>"],"storage":"file"}"#;
        let reply = self.request("$JS.API.STREAM.CREATE.T", config);
        assert_eq!(reply.get("error"), None);
    }

    pub fn publish(&mut self) {
        let reply = self.request("t.a", "some data");
        assert_eq!(reply.get("error"), None);
    }

    /// How many messages the stream holds.
    pub fn messages(&mut self) -> u64 {
        let reply = self.request("$JS.API.STREAM.INFO.T", "");
        reply["state"]["messages"].as_u64().unwrap()
    }
}
