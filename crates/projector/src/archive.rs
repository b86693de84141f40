//! A batch that `redrive export` wrote into a file, asked with no broker.
//!
//! The file is read once from its beginning to its end, which checks it, and folded; what remains in memory is the state
//! of the batch and where each event stands in the file. What stands only in the events is read again from there.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use redrive_broker::Entry;
use redrive_domain::{
    command::Refusal,
    diagnosis::{Diagnosis, diagnose},
    event::Envelope,
    evolve::evolve,
    export::{Broken, Folded, Header, Item, LINE_BYTES, Reader, StoredEvent, Trailer},
    invariants::violations,
    query::{At, BatchView, Chapters, FailureRow, ListFailures, Page, TimelineRow},
    state::BatchState,
};

use crate::{
    answer::{Failed, limit},
    details::{Details, Source},
    rows,
};

/// Bytes of events that are kept for looking up documents and failures.
const CACHE_BYTES: usize = 64 << 20;
/// A page is as large here as on a broker as it comes.
const MESSAGE_BYTES: usize = 1 << 20;

/// Why a file cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{}: {broken}", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// Why.
        broken: Broken,
    },
    /// There is no batch in it, or not yet at that moment.
    #[error("{}: there is no batch in it{}", path.display(), .at.map_or_else(String::new, |at| format!(" at {at}: it was made later")))]
    Nothing {
        /// Which.
        path: PathBuf,
        /// At which moment; none for the end.
        at: Option<At>,
    },
    /// The question is not valid.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An event of it cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

/// What was found of a file by checking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Events that were folded.
    pub events: u64,
    /// All that does not hold; empty for a sound file.
    pub problems: Vec<String>,
}

/// An event's place in the file.
#[derive(Debug, Clone, Copy)]
struct Spot {
    seq: u64,
    offset: u64,
    bytes: usize,
}

/// The file as a log.
struct Lines {
    file: Mutex<File>,
    /// In ascending order of sequence.
    spots: Vec<Spot>,
}

impl Lines {
    fn read(&self, spot: Spot) -> Result<StoredEvent, String> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = vec![0; spot.bytes];
        file.seek(SeekFrom::Start(spot.offset))
            .and_then(|_| file.read_exact(&mut line))
            .map_err(|error| error.to_string())?;
        StoredEvent::read(&line).ok_or_else(|| "the file was changed meanwhile".to_owned())
    }
}

impl Source for Lines {
    fn epoch(&self) -> u64 {
        0
    }

    async fn get(&self, seq: u64) -> Result<Option<Entry>, String> {
        let Ok(place) = self.spots.binary_search_by_key(&seq, |spot| spot.seq) else {
            return Ok(None);
        };
        let event = self.spots.get(place).map(|spot| self.read(*spot));
        let entry = |event: StoredEvent| Entry {
            seq: event.seq,
            subject: event.subject,
            payload: event.payload.into(),
        };
        Ok(event.transpose()?.map(entry))
    }
}

/// See the module.
pub struct Archive {
    path: PathBuf,
    header: Header,
    trailer: Trailer,
    state: BatchState,
    details: Details<Lines>,
    /// Events up to the moment that was asked for.
    until: usize,
    unreadable: u64,
}

impl Archive {
    /// Reads a file, checks that it is whole, and folds it up to a moment; to its end unless said. It blocks.
    ///
    /// # Errors
    /// Where it cannot be read, was cut short or changed, or has no batch at that moment.
    pub fn open(path: &Path, at: Option<At>) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Io {
            path: path.to_owned(),
            source,
        };
        let broken = |broken| ArchiveError::Broken {
            path: path.to_owned(),
            broken,
        };
        let mut from = BufReader::new(File::open(path).map_err(failed)?);
        let (mut reader, mut lines) = (Reader::default(), Vec::new());
        let (mut header, mut state, mut unreadable) = (None, None, 0);
        let mut until = None;
        let (mut offset, mut line) = (0, Vec::new());
        loop {
            line.clear();
            let most = LINE_BYTES as u64 + 1;
            let read = (&mut from).take(most).read_until(b'\n', &mut line);
            let read = read.map_err(failed)?;
            if read == 0 {
                break;
            }
            let text = line.strip_suffix(b"\n");
            if text.is_none() && line.len() > LINE_BYTES {
                let line = lines.len() as u64 + 2;
                let what = format!("it is longer than {LINE_BYTES} bytes");
                return Err(broken(Broken::Corrupted { line, what }));
            }
            let text = (text.unwrap_or(&line), text.is_some());
            match reader.line(text.0, text.1).map_err(broken)? {
                Item::Header => header = reader.header().cloned(),
                Item::Event(event) => {
                    let spot = Spot {
                        seq: event.seq,
                        offset,
                        bytes: text.0.len(),
                    };
                    match event.envelope() {
                        Ok(envelope) if until.is_none() && !is_past(at, &event, &envelope) => {
                            evolve(&mut state, event.seq, &envelope);
                        }
                        Ok(_) => until = until.or(Some(lines.len())),
                        Err(_) => unreadable += 1,
                    }
                    lines.push(spot);
                }
                Item::End => {}
            }
            offset += read as u64;
        }
        let (_, trailer) = reader.end().map_err(broken)?;
        let nothing = || ArchiveError::Nothing {
            path: path.to_owned(),
            at,
        };
        let source = Lines {
            file: Mutex::new(from.into_inner()),
            spots: lines,
        };
        Ok(Self {
            path: path.to_owned(),
            header: header.ok_or_else(nothing)?,
            trailer,
            state: state.ok_or_else(nothing)?,
            until: until.unwrap_or(source.spots.len()),
            details: Details::new(source, CACHE_BYTES),
            unreadable,
        })
    }

    /// What the file says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How it ends.
    #[must_use]
    pub fn trailer(&self) -> &Trailer {
        &self.trailer
    }

    /// Events that only a later version can read; they were passed over.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The batch as of the moment.
    #[must_use]
    pub fn state(&self) -> &BatchState {
        &self.state
    }

    /// How the batch was doing at the moment.
    #[must_use]
    pub fn status(&self) -> BatchView {
        BatchView::of(&self.state, self.state.last_at)
    }

    /// The units that were failed at the moment. Of the question, the batch and the moment mean nothing.
    ///
    /// # Errors
    /// Where the question is not valid, or an event cannot be read any more.
    pub async fn failures(&self, ask: &ListFailures) -> Result<Page<FailureRow>, ArchiveError> {
        let limit = limit(ask.limit)?;
        let as_of = self.state.last_seq;
        rows::failures(&self.details, MESSAGE_BYTES, &self.state, as_of, ask, limit)
            .await
            .map_err(|failed| self.not_told(failed))
    }

    /// What was wrong with the batch at the moment, and what there was to do about it. Time stands still there: what was
    /// waiting waits, however old the file is.
    ///
    /// # Errors
    /// Where an event cannot be read any more.
    pub async fn diagnosis(&self) -> Result<Diagnosis, ArchiveError> {
        let mut diagnosis = diagnose(&self.state, self.state.last_at);
        let as_of = self.state.last_seq;
        let sample = rows::first_failed(&self.details, MESSAGE_BYTES, &self.state, as_of).await;
        diagnosis.failed_documents_sample = sample.map_err(|failed| self.not_told(failed))?;
        Ok(diagnosis)
    }

    fn not_told(&self, failed: Failed) -> ArchiveError {
        match failed {
            Failed::Refused(refusal) => ArchiveError::Refused(refusal),
            Failed::Unavailable(why) => {
                ArchiveError::Unreadable(format!("{}: {why}", self.path.display()))
            }
        }
    }

    /// What happened up to the moment, line by line. It blocks.
    pub fn timeline(&self) -> impl Iterator<Item = Result<TimelineRow, ArchiveError>> + '_ {
        let mut spots = self.spots().iter().take(self.until);
        let mut chapters = Some(Chapters::default());
        let next = move || {
            for spot in spots.by_ref() {
                let read = self.event(*spot).map(|event| {
                    let (seq, envelope) = event?;
                    chapters.as_mut()?.take(seq, &envelope)
                });
                if let Some(over) = read.transpose() {
                    return Some(over);
                }
            }
            chapters.take().and_then(Chapters::rest).map(Ok)
        };
        std::iter::from_fn(next).flat_map(|chapter| match chapter {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }

    /// Folds all of it afresh, and checks that the state is sound and comes to what it came to for the program that wrote
    /// the file. It blocks.
    ///
    /// # Errors
    /// Where an event cannot be read any more.
    pub fn verify(&self) -> Result<Checked, ArchiveError> {
        let (mut state, mut events, mut problems) = (None, 0, Vec::new());
        for spot in self.spots() {
            let Some((seq, envelope)) = self.event(*spot)? else {
                continue;
            };
            evolve(&mut state, seq, &envelope);
            events += 1;
        }
        problems.extend(state.iter().flat_map(violations));
        if self.unreadable == 0 && self.trailer.left_out == 0 {
            let here = state.as_ref().map(Folded::of);
            if here != self.trailer.folded {
                let told = |folded: &Option<Folded>| match folded {
                    Some(folded) => serde_json::to_string(folded).unwrap_or_default(),
                    None => "nothing".to_owned(),
                };
                let (here, there) = (told(&here), told(&self.trailer.folded));
                problems.push(format!(
                    "it comes to {here}; for the program that wrote it, it came to {there}"
                ));
            }
        }
        Ok(Checked { events, problems })
    }

    fn spots(&self) -> &[Spot] {
        &self.details.source().spots
    }

    /// An event, unless only a later version can read it.
    fn event(&self, spot: Spot) -> Result<Option<(u64, Envelope)>, ArchiveError> {
        let read = self.details.source().read(spot);
        let event = read.map_err(|why| {
            ArchiveError::Unreadable(format!(
                "{}: event {}: {why}",
                self.path.display(),
                spot.seq
            ))
        })?;
        Ok(event.envelope().ok().map(|envelope| (event.seq, envelope)))
    }
}

/// Whether an event is after a moment.
fn is_past(at: Option<At>, event: &StoredEvent, envelope: &Envelope) -> bool {
    match at {
        None => false,
        Some(At::Seq(seq)) => event.seq > seq,
        Some(At::Time(time)) => envelope.at > time,
    }
}
