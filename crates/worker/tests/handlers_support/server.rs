//! A server of HTTP/1.1 on loopback that answers each path with whatever bytes a test wants.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};

/// What a connection gets, and what becomes of it then.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These bytes, and the end.
    Whole(Vec<u8>),
    /// These bytes, and then nothing for ever.
    Stalled(Vec<u8>),
}

/// An answer in full.
pub fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut bytes = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str("connection: close\r\n\r\n");
    Answer::Whole([bytes.as_bytes(), body].concat())
}

pub struct Server {
    address: SocketAddr,
    /// All requests, with their bodies.
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves until the test is over.
    pub async fn start(respond: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (respond, seen) = (Arc::new(respond), requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (respond, seen) = (respond.clone(), seen.clone());
                tokio::spawn(async move { serve(stream, &*respond, &seen).await });
            }
        });
        Self { address, requests }
    }

    pub async fn always(answer: Answer) -> Self {
        Self::start(move |_| answer.clone()).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

type Respond = dyn Fn(&str) -> Answer + Send + Sync;

async fn serve(mut stream: TcpStream, respond: &Respond, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.to_ascii_lowercase();
    let length = length
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let answer = respond(head.split(' ').nth(1).unwrap());
    seen.lock()
        .await
        .push(head + &String::from_utf8(body).unwrap());
    let (Answer::Whole(bytes) | Answer::Stalled(bytes)) = &answer;
    if stream.write_all(bytes).await.is_ok() && matches!(answer, Answer::Stalled(_)) {
        // The other side hangs up some time.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}
