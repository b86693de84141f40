//! A small web server on loopback. Some of its pages are busy at first (429 with Retry-After), some too slow at first,
//! some gone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const PAGES: usize = 36;
/// How often a page misbehaves before it answers: as often as the first round tries.
const MISBEHAVES: u32 = 2;

#[derive(Clone, Copy)]
enum Page {
    Good,
    Busy,
    Slow,
    Gone,
}

fn page(number: usize) -> Page {
    match number % 9 {
        2 => Page::Busy,
        5 => Page::Slow,
        7 => Page::Gone,
        _ => Page::Good,
    }
}

pub(super) struct Web {
    base: String,
    server: JoinHandle<()>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Web {
    pub(super) fn urls(&self) -> Vec<String> {
        (0..PAGES)
            .map(|number| format!("{}/page/{number}", self.base))
            .collect()
    }
}

pub(super) async fn serve() -> anyhow::Result<Web> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let asked: Arc<Mutex<BTreeMap<usize, u32>>> = Arc::default();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                // A client that went away is no concern of the server's.
                let _ = answer(stream, &asked).await;
            });
        }
    });
    Ok(Web { base, server })
}

async fn answer(mut stream: TcpStream, asked: &Mutex<BTreeMap<usize, u32>>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    let request = lines.next_line().await?.unwrap_or_default();
    while lines
        .next_line()
        .await?
        .is_some_and(|line| !line.is_empty())
    {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let number: Option<usize> = path
        .strip_prefix("/page/")
        .and_then(|number| number.parse().ok());
    let before = number.map_or(0, |number| {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asked.entry(number).or_default();
        *count += 1;
        *count - 1
    });
    let (status, headers, body) = match number
        .filter(|number| *number < PAGES)
        .map(|number| (number, page(number)))
    {
        Some((_, Page::Busy)) if before < MISBEHAVES => (
            "429 Too Many Requests",
            "retry-after: 1\r\n",
            "not so fast\n".to_owned(),
        ),
        None | Some((_, Page::Gone)) => ("404 Not Found", "", "there is no such page\n".to_owned()),
        Some((number, kind)) => {
            if matches!(kind, Page::Slow) && before < MISBEHAVES {
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            ("200 OK", "", html(number))
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n",
        body.len()
    );
    writer.write_all(head.as_bytes()).await?;
    writer.write_all(body.as_bytes()).await?;
    writer.shutdown().await
}

fn html(number: usize) -> String {
    const SUBJECTS: [&str; 6] = [
        "retry storms and how jitter calms them",
        "dead letters and who reads them",
        "exactly once, at least once, at most once",
        "checkpoints that lie",
        "rate limits as a kind of conversation",
        "why a timeout is a guess",
    ];
    let subject = SUBJECTS[number % SUBJECTS.len()];
    format!(
        "<!doctype html><html><head><title>Page {number}: {subject}</title></head><body><h1>{subject}</h1>\
         <p>Notes on {subject}. Documents fail; what matters is to know which, and to execute only those again.</p>\
         <h2>Part {number}</h2><p>More on {subject}, as seen by batch number {number}.</p></body></html>"
    )
}
