//! A body of lines, each of them JSON (`application/x-ndjson`), of any length: no more of it is held than a line and what
//! came with its end.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use redrive_domain::document::Document;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    extract::{self, media_type},
    fill::fault_at,
    problem::{Problem, Step},
};

/// The longest line, in bytes: a document with all that it may have, however it is written.
const LINE: usize = 1 << 20;
/// How long, and for how many bytes, a client is heard out that is told of an error: one that is still writing may not
/// look for an answer before.
const HEARD_OUT: (Duration, usize) = (Duration::from_secs(3), 64 << 20);

/// Whether the body of a request is lines.
pub(crate) fn is_lines(headers: &axum::http::HeaderMap) -> bool {
    let essence = media_type(headers).unwrap_or_default().split(';').next();
    let essence = essence.unwrap_or_default().trim();
    [
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
    ]
    .iter()
    .any(|known| essence.eq_ignore_ascii_case(known))
}

/// The lines of a body that are not blank, with their numbers from 1.
pub(crate) struct Lines {
    body: BodyDataStream,
    /// What has come and was not given out.
    rest: BytesMut,
    /// How much of it has no end of a line.
    searched: usize,
    number: usize,
    ended: bool,
}

impl Lines {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body: body.into_data_stream(),
            rest: BytesMut::new(),
            searched: 0,
            number: 0,
            ended: false,
        }
    }

    /// The next line.
    ///
    /// # Errors
    /// Where it is too long, or the body breaks off. The body cannot be read any further then.
    pub(crate) async fn next(&mut self) -> Result<Option<(usize, Bytes)>, Problem> {
        loop {
            let found = self.rest.get(self.searched..).unwrap_or_default();
            let line = match found.iter().position(|byte| *byte == b'\n') {
                Some(place) => {
                    let mut line = self.rest.split_to(self.searched + place + 1);
                    line.truncate(line.len() - 1);
                    line
                }
                None if self.ended && self.rest.is_empty() => return Ok(None),
                None if self.ended => self.rest.split(),
                None => {
                    self.searched = self.rest.len();
                    if self.searched > LINE {
                        return Err(self.too_long());
                    }
                    self.read_on().await?;
                    continue;
                }
            };
            self.searched = 0;
            if line.len() > LINE {
                return Err(self.too_long());
            }
            self.number += 1;
            if !line.trim_ascii().is_empty() {
                return Ok(Some((self.number, line.freeze())));
            }
        }
    }

    fn too_long(&self) -> Problem {
        let number = self.number + 1;
        Problem::TooLarge {
            message: format!("line {number} has more than the {LINE} bytes that a line may have"),
        }
    }

    async fn read_on(&mut self) -> Result<(), Problem> {
        match self.body.next().await {
            Some(Ok(part)) => self.rest.extend_from_slice(&part),
            Some(Err(error)) => {
                tracing::debug!(%error, lines = self.number, "a body broke off");
                let number = self.number + 1;
                let message = format!(
                    "the body broke off in line {number}, or nothing of it came for a while"
                );
                return Err(Problem::invalid("body", "", message));
            }
            None => self.ended = true,
        }
        Ok(())
    }

    /// The next line, as what it is to be.
    ///
    /// # Errors
    /// Where it is not, with its number; see [`Lines::next`].
    async fn next_as<T: DeserializeOwned>(&mut self) -> Result<Option<(usize, T)>, Wrong> {
        let Some((number, line)) = self.next().await.map_err(Wrong::Body)? else {
            return Ok(None);
        };
        if let Err(problem) = extract::must_be_object(&line) {
            return Err(Wrong::Line(in_line(problem, number)));
        }
        match serde_json::from_slice(&line) {
            Ok(read) => Ok(Some((number, read))),
            // Slower, and it knows the place.
            Err(_) => match extract::read(&line) {
                Ok(read) => Ok(Some((number, read))),
                Err(problem) => Err(Wrong::Line(in_line(problem, number))),
            },
        }
    }

    /// The first line, as what it is to be.
    ///
    /// # Errors
    /// Where there is none, or it is something else.
    pub(crate) async fn head<T: DeserializeOwned>(&mut self) -> Result<(usize, T), Problem> {
        match self.next_as().await {
            Ok(Some(head)) => Ok(head),
            Ok(None) => Err(Problem::invalid(
                "body",
                "",
                "has no line: the first one is the batch",
            )),
            Err(Wrong::Body(problem) | Wrong::Line(problem)) => Err(problem),
        }
    }

    /// The next document.
    ///
    /// # Errors
    /// Where it is none, or out of bounds.
    pub(crate) async fn document(&mut self) -> Result<Option<Document>, Wrong> {
        let Some((number, document)) = self.next_as::<Document>().await? else {
            return Ok(None);
        };
        match document.validate() {
            Ok(()) => Ok(Some(document)),
            Err(error) => {
                let fault = fault_at(&[Step::Index(number)], &error);
                Err(Wrong::Line(Problem::Invalid(vec![fault])))
            }
        }
    }

    /// Reads on for a while without looking, so that a client that is still writing learns what is wrong.
    pub(crate) async fn hear_out(mut self) {
        let (long, most) = HEARD_OUT;
        let mut read = 0_usize;
        let reading = async {
            while let Some(Ok(part)) = self.body.next().await {
                read = read.saturating_add(part.len());
                if read > most {
                    return;
                }
            }
        };
        let _ = timeout(long, reading).await;
    }
}

/// What is wrong with a body of lines.
pub(crate) enum Wrong {
    /// It broke off, or cannot be read on.
    Body(Problem),
    /// One line is not what it is to be.
    Line(Problem),
}

/// The same problem, in a line.
pub(crate) fn in_line(problem: Problem, number: usize) -> Problem {
    match problem {
        Problem::Invalid(mut faults) => {
            for fault in &mut faults {
                let place = fault.loc.len().min(1);
                fault.loc.insert(place, Step::Index(number));
            }
            Problem::Invalid(faults)
        }
        problem => problem,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use tower_http::timeout::TimeoutBody;

    use super::*;

    fn body(parts: Vec<Vec<u8>>) -> Lines {
        let parts = parts
            .into_iter()
            .map(|part| Ok::<_, Infallible>(Bytes::from(part)));
        Lines::new(Body::from_stream(stream::iter(parts)))
    }

    async fn all(mut lines: Lines) -> Vec<(usize, String)> {
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next().await.unwrap() {
            all.push((number, String::from_utf8(line.to_vec()).unwrap()));
        }
        all
    }

    #[tokio::test]
    async fn lines_are_the_same_wherever_the_body_is_cut() {
        let text = b"one\n\n  \ntwo\r\n\nthree".to_vec();
        let want = [(1, "one"), (4, "two\r"), (6, "three")].map(|(n, line)| (n, line.to_owned()));
        for cut in 1..text.len() {
            let parts = text.chunks(cut).map(<[u8]>::to_vec).collect();
            assert_eq!(all(body(parts)).await, want);
        }
    }

    #[tokio::test]
    async fn a_line_is_bounded_and_what_is_held_of_a_body_with_it() {
        let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![b'x'; 1 << 16])));
        let mut lines = Lines::new(Body::from_stream(endless));
        let problem = lines.next().await.unwrap_err();
        assert!(matches!(problem, Problem::TooLarge { message } if message.contains("line 1 ")));
        assert!(lines.rest.len() <= LINE + (1 << 16));
        let mut long = vec![b'x'; LINE + 1];
        long.push(b'\n');
        let mut lines = body(vec![b"{}\n".to_vec(), long]);
        assert!(lines.next().await.unwrap().is_some());
        let problem = lines.next().await.unwrap_err();
        assert!(matches!(problem, Problem::TooLarge { message } if message.contains("line 2 ")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_which_nothing_more_comes_is_given_up() {
        let begun = stream::iter([Ok::<_, Infallible>(Bytes::from("{\"id\": \"a\"}\n"))]);
        let stalled = Body::from_stream(begun.chain(stream::pending()));
        let stalled = TimeoutBody::new(Duration::from_secs(30), stalled);
        let mut lines = Lines::new(Body::new(stalled));
        assert!(lines.next().await.unwrap().is_some());
        let problem = lines.next().await.unwrap_err();
        assert!(matches!(problem, Problem::Invalid(faults) if faults[0].msg.contains("line 2")));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_document_names_line_and_field() {
        let wrong = |line: &str| {
            let mut lines = body(vec![b"{\"id\": \"a\"}\n".to_vec(), line.into()]);
            async move {
                assert!(matches!(lines.document().await, Ok(Some(_))));
                let Err(Wrong::Line(Problem::Invalid(faults))) = lines.document().await else {
                    panic!("it is wrong");
                };
                serde_json::to_string(&faults[0].loc).unwrap() + faults[0].kind
            }
        };
        assert_eq!(wrong("{\"id\": 1}").await, r#"["body",2,"id"]type_error"#);
        assert_eq!(
            wrong("{\"id\": \"\"}").await,
            r#"["body",2,"id"]value_error"#
        );
        assert_eq!(wrong("{}").await, r#"["body",2,"id"]missing"#);
        assert_eq!(wrong("{\"id\": \"a\"").await, r#"["body",2]json_invalid"#);
        assert_eq!(
            wrong("{\"id\": \"a\", \"x\": 1}").await,
            r#"["body",2,"x"]extra_forbidden"#
        );
    }
}
