//! A NATS client that sends whatever it is told to, and hears what the server thinks of it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use serde_json::json;

use crate::support::SOON;

/// A connection of a user's.
pub(crate) struct Raw {
    reader: BufReader<TcpStream>,
    subscriptions: u32,
}

/// What came up to the end of a round trip.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// What the server did not allow.
    pub(crate) refused: Vec<String>,
    /// The bodies of messages.
    pub(crate) bodies: Vec<String>,
}

impl Raw {
    pub(crate) fn connect(port: u16, user: &str, password: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut raw = Self {
            reader: BufReader::new(stream),
            subscriptions: 0,
        };
        assert!(raw.line().starts_with("INFO "));
        let hello = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "user": user, "pass": password,
        });
        raw.send(&format!("CONNECT {hello}\r\n"));
        assert!(raw.round_trip().refused.is_empty());
        raw
    }

    fn send(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.reader.read_line(&mut line).unwrap(), 0, "hung up");
        line.trim_end().to_owned()
    }

    /// All that the server has to say of what it was sent before.
    fn round_trip(&mut self) -> Heard {
        self.send("PING\r\n");
        let mut heard = Heard::default();
        while self.take(&mut heard) {}
        heard
    }

    /// Takes what comes; `false` where that ends a round trip.
    fn take(&mut self, heard: &mut Heard) -> bool {
        let line = self.line();
        let words: Vec<&str> = line.split(' ').collect();
        let size = |n: usize| words[words.len() - n].parse::<usize>().unwrap();
        match words[0] {
            "PONG" => return false,
            "PING" => self.send("PONG\r\n"),
            "-ERR" => {
                assert!(line.contains("Permissions Violation"), "{line}");
                heard.refused.push(line);
            }
            "MSG" | "HMSG" => {
                let head = if words[0] == "HMSG" { size(2) } else { 0 };
                let mut bytes = vec![0; size(1) + 2];
                self.reader.read_exact(&mut bytes).unwrap();
                let body = String::from_utf8_lossy(&bytes[head..]);
                heard.bodies.push(body.trim_end().to_owned());
            }
            other => assert_eq!(other, "INFO", "{line}"),
        }
        true
    }

    /// Publishes, and has answers sent to `reply` where that is not empty.
    pub(crate) fn publish(&mut self, subject: &str, reply: &str, body: &str) -> Heard {
        let size = body.len();
        self.send(&format!("PUB {subject} {reply} {size}\r\n{body}\r\n"));
        self.round_trip()
    }

    pub(crate) fn subscribe(&mut self, subject: &str) -> Heard {
        self.subscriptions += 1;
        self.send(&format!("SUB {subject} {}\r\n", self.subscriptions));
        self.round_trip()
    }

    /// Asks, with an inbox below `prefix`, and waits for the answer.
    pub(crate) fn request(&mut self, prefix: &str, subject: &str, body: &str) -> String {
        let inbox = format!("{prefix}.raw{}", self.subscriptions);
        let mut heard = self.subscribe(&inbox);
        let size = body.len();
        self.send(&format!("PUB {subject} {inbox} {size}\r\n{body}\r\n"));
        while heard.bodies.is_empty() {
            self.take(&mut heard);
            assert!(heard.refused.is_empty(), "{subject}: {heard:?}");
        }
        heard.bodies.remove(0)
    }
}
