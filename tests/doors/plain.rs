//! A NATS client in a few lines.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use crate::support::SOON;
use serde_json::Value;

/// A NATS client in a few lines: what any language can do with a socket.
pub(crate) struct Plain {
    reader: BufReader<TcpStream>,
    asked: u32,
}

impl Plain {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut plain = Self {
            reader: BufReader::new(stream),
            asked: 0,
        };
        assert!(plain.line().starts_with("INFO "));
        plain.send("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n");
        plain
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    pub(crate) fn publish(&mut self, subject: &str, body: &str) {
        self.asked += 1;
        let inbox = format!("_INBOX.plain.{}", self.asked);
        let size = body.len();
        self.send(&format!(
            "SUB {inbox} {}\r\nPUB {subject} {inbox} {size}\r\n{body}\r\n",
            self.asked
        ));
    }

    /// The headers and the body of the next message.
    pub(crate) fn next(&mut self) -> (String, String) {
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split(' ').collect();
            let size = |n: usize| words[words.len() - n].parse::<usize>().unwrap();
            match words[0] {
                "PING" => self.send("PONG\r\n"),
                "MSG" => {
                    let body = self.bytes(size(1));
                    self.bytes(2);
                    return (String::new(), body);
                }
                "HMSG" => {
                    let (head, total) = (size(2), size(1));
                    let headers = self.bytes(head);
                    let body = self.bytes(total - head);
                    self.bytes(2);
                    return (headers, body);
                }
                other => assert_eq!(other, "PONG", "{line}"),
            }
        }
    }

    pub(crate) fn request(&mut self, subject: &str, body: &str) -> (String, String) {
        self.publish(subject, body);
        self.next()
    }

    /// The names in several answers to one request.
    pub(crate) fn requests(&mut self, subject: &str, answers: usize) -> Vec<String> {
        self.publish(subject, "");
        let read = (0..answers).map(|_| {
            let (_, body) = self.next();
            let body: Value = serde_json::from_str(&body).unwrap();
            body["name"].as_str().unwrap().to_owned()
        });
        read.collect()
    }
}
