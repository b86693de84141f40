//! The read model on disk, in sled: the one file that knows it.
//!
//! It is a cache of the log. Whatever is wrong with it (another format, another log, damage, a deleted folder) is
//! answered in one way: it is made anew from the log.
//!
//! One tree, six kinds of keys; `N` is a namespace (which holds no zero byte), `B` a batch id in 16 bytes:
//!
//! | key | value |
//! | --- | --- |
//! | `checkpoint` | [`Checkpoint`]: the format and how far the log was read |
//! | `h` N 0 B | [`Head`]: size and number of pieces of the batch's state |
//! | `p` N 0 B u32 | a piece of the batch's state, [`PIECE`] bytes of its canonical encoding |
//! | `n` N 0 | [`Ledger`]: the namespace's credits |
//! | `l` N 0 u64 | [`BatchSummary`], by the sequence of the batch's first event: the list, which reads no states |
//!
//! Numbers are big-endian, so that their order is that of the keys. sled splits a node at 16 entries and rewrites it
//! whole after 10 changes, and puts a node above 128 KiB in a file of its own: pieces of 4 KiB stay below that.
//!
//! A checkpoint is one sled batch, which is applied whole or not at all, also over a crash: data and the sequence they
//! belong to can never part. It is flushed to disk once, at its end; sled's own timed flushing is off. What a power cut
//! takes is read again from the log.

use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use redrive_domain::{
    credits::Ledgers,
    event,
    evolve::FOLD,
    ids::{BatchKey, Namespace},
    query::BatchSummary,
    state::BatchState,
    subject::Shard,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    folder::{generations, is_about_the_folder, take_lock, view_folder, wait_for},
    view::{Loaded, Mark, Saved, Snapshot},
};

/// Bytes of a state under one key.
const PIECE: usize = 4 * 1024;
/// Memory for sled's own page cache.
const CACHE_BYTES: u64 = 32 << 20;
const CHECKPOINT: &[u8] = b"checkpoint";

/// What is wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{0} is in use by another projector: give each its own data folder")]
    InUse(PathBuf),
    /// The folder cannot be used.
    #[error("the data folder {path} cannot be used")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it cannot be read, or is gone.
    #[error("the stored view is unusable: {0}")]
    Broken(String),
}

type Result<T, E = StoreError> = std::result::Result<T, E>;

fn broken(error: impl std::fmt::Display) -> StoreError {
    StoreError::Broken(error.to_string())
}

/// How far the log was read when this was written, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    format: String,
    seq: u64,
    print: u64,
}

/// A view is only ever continued by the version that began it: another one might fold an event differently, or be able
/// to read one that this had to skip.
fn format(shard: Shard) -> String {
    let (version, envelope) = (env!("CARGO_PKG_VERSION"), event::VERSION);
    format!("view 1, redrive {version}, envelope {envelope}, fold {FOLD}, shard {shard}")
}

/// Where a batch's state is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    last_seq: u64,
    bytes: u64,
    pieces: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    db: sled::Db,
    shard: Shard,
    /// Held while pieces of several keys are read (shared) or replaced (alone).
    whole: RwLock<()>,
    file: PathBuf,
    /// The ledgers as they were at the checkpoint that was there when it was opened.
    ledgers: Ledgers,
    identity: Option<u64>,
    _lock: File,
    _temporary: Option<tempfile::TempDir>,
}

/// A folder for the store.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Without one it is a temporary folder.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) shard: Shard,
}

impl Place {
    /// Opens what is there. A store that cannot be read or is of another format is removed first.
    pub(crate) fn open(&self) -> Result<(Store, Mark)> {
        self.open_folder(false)
    }

    /// Removes what is there and begins anew.
    pub(crate) fn begin_anew(&self) -> Result<Store> {
        self.open_folder(true).map(|(store, _)| store)
    }

    fn open_folder(&self, anew: bool) -> Result<(Store, Mark)> {
        let (root, temporary) = match &self.data_dir {
            Some(path) => (path.clone(), None),
            None => {
                let dir = tempfile::Builder::new()
                    .prefix("redrive-projector-")
                    .tempdir()
                    .map_err(|source| StoreError::Folder {
                        path: std::env::temp_dir(),
                        source,
                    })?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        let folder = root.join(format!("shard-{}", self.shard));
        let failed = |source| StoreError::Folder {
            path: folder.clone(),
            source,
        };
        fs::create_dir_all(&folder).map_err(failed)?;
        let lock = take_lock(&folder)?;
        let generations = generations(&folder).map_err(failed)?;
        let newest = generations.last().map(|(number, _)| *number);
        if let (false, Some(number)) = (anew, newest) {
            let path = view_folder(&folder, number);
            match open_sled(&path).and_then(|db| {
                let mark = read_checkpoint(&db, self.shard)?;
                let ledgers = read_ledgers(&db)?;
                Ok((db, mark, ledgers))
            }) {
                Ok((db, mark, ledgers)) => {
                    let mut store = Store::new(db, self.shard, &path, lock, temporary);
                    store.ledgers = ledgers;
                    return Ok((store, mark));
                }
                Err(StoreError::Broken(reason)) => {
                    tracing::warn!(%reason, "the stored view is replaced: it is built anew from the log");
                }
                Err(error) => return Err(error),
            }
        }
        // A fresh folder each time: the last sled may still be closing, and would write into its own by name.
        for (_, old) in &generations {
            fs::remove_dir_all(old).map_err(failed)?;
        }
        let path = view_folder(&folder, newest.unwrap_or(0) + 1);
        let db = open_sled(&path)?;
        let store = Store::new(db, self.shard, &path, lock, temporary);
        Ok((store, Mark::default()))
    }
}

fn open_sled(path: &Path) -> Result<sled::Db> {
    wait_for(path, || {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        // sled panics on some kinds of damage.
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => Ok(Some(db)),
            Ok(Err(sled::Error::Io(e))) if e.to_string().contains("could not acquire lock") => {
                Ok(None)
            }
            Ok(Err(sled::Error::Io(source))) if is_about_the_folder(source.kind()) => {
                Err(StoreError::Folder {
                    path: path.to_owned(),
                    source,
                })
            }
            Ok(Err(error)) => Err(broken(error)),
            Err(_) => Err(broken("sled panicked while opening it")),
        }
    })
}

fn read_checkpoint(db: &sled::Db, shard: Shard) -> Result<Mark> {
    let read = catch_unwind(AssertUnwindSafe(|| db.get(CHECKPOINT)));
    let Some(bytes) = read.map_err(|_| broken("sled panicked"))?.map_err(broken)? else {
        // Nothing was ever written, or the checkpoint is lost; then the rest means nothing.
        return if db.is_empty() {
            Ok(Mark::default())
        } else {
            Err(broken("it has no checkpoint"))
        };
    };
    let checkpoint: Checkpoint = decode(&bytes)?;
    if checkpoint.format != format(shard) {
        return Err(broken(format!("it is of format {:?}", checkpoint.format)));
    }
    Ok(Mark {
        seq: checkpoint.seq,
        print: checkpoint.print,
    })
}

fn read_ledgers(db: &sled::Db) -> Result<Ledgers> {
    let read = |found: sled::Result<(sled::IVec, sled::IVec)>| {
        let (key, value) = found.map_err(broken)?;
        let namespace = key.get(1..key.len().saturating_sub(1)).unwrap_or_default();
        let namespace = std::str::from_utf8(namespace).map_err(broken)?;
        Ok((Namespace::new(namespace).map_err(broken)?, decode(&value)?))
    };
    // sled panics on some kinds of damage.
    let all = || db.scan_prefix(b"n").map(read).collect();
    catch_unwind(AssertUnwindSafe(all)).map_err(|_| broken("sled panicked"))?
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    rmp_serde::to_vec_named(value).map_err(broken)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    rmp_serde::from_slice(bytes).map_err(broken)
}

fn prefix(kind: u8, namespace: &Namespace) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(namespace.as_str().as_bytes());
    key.push(0);
    key
}

fn head_key(key: &BatchKey) -> Vec<u8> {
    let mut head = prefix(b'h', &key.namespace);
    head.extend_from_slice(key.batch.0.as_bytes());
    head
}

fn piece_key(key: &BatchKey, piece: u32) -> Vec<u8> {
    let mut place = prefix(b'p', &key.namespace);
    place.extend_from_slice(key.batch.0.as_bytes());
    place.extend_from_slice(&piece.to_be_bytes());
    place
}

fn list_key(namespace: &Namespace, created_seq: u64) -> Vec<u8> {
    let mut key = prefix(b'l', namespace);
    key.extend_from_slice(&created_seq.to_be_bytes());
    key
}

#[cfg(unix)]
fn identity(file: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(file).ok().map(|data| data.ino())
}

#[cfg(not(unix))]
fn identity(file: &Path) -> Option<u64> {
    fs::metadata(file).ok().map(|_| 0)
}

/// A checkpoint, made but not yet written.
pub(crate) struct Prepared {
    batch: sled::Batch,
    saved: Vec<Saved>,
}

impl Store {
    fn new(
        db: sled::Db,
        shard: Shard,
        path: &Path,
        lock: File,
        temporary: Option<tempfile::TempDir>,
    ) -> Self {
        let file = path.join("db");
        Self {
            db,
            shard,
            whole: RwLock::new(()),
            identity: identity(&file),
            file,
            ledgers: Ledgers::default(),
            _lock: lock,
            _temporary: temporary,
        }
    }

    /// The ledgers as they were at the checkpoint that was there when it was opened.
    pub(crate) fn ledgers(&self) -> &Ledgers {
        &self.ledgers
    }

    /// Whether its file is still the one that was opened. A file deleted from under a process goes on working for it,
    /// and is gone afterwards.
    pub(crate) fn check(&self) -> Result<()> {
        // It may have been gone before its identity could be taken.
        if self.identity.is_some() && identity(&self.file) == self.identity {
            Ok(())
        } else {
            Err(broken(format!("{} was removed", self.file.display())))
        }
    }

    fn head(&self, key: &BatchKey) -> Result<Option<Head>> {
        let bytes = self.db.get(head_key(key)).map_err(broken)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    /// The state of a batch as of the last checkpoint that held it.
    pub(crate) fn load(&self, key: &BatchKey) -> Result<Option<Loaded>> {
        let _whole = self.whole.read().unwrap_or_else(PoisonError::into_inner);
        let Some(head) = self.head(key)? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(usize::try_from(head.bytes).unwrap_or(0).min(1 << 30));
        for piece in 0..head.pieces {
            let found = self.db.get(piece_key(key, piece)).map_err(broken)?;
            bytes.extend_from_slice(&found.ok_or_else(|| broken("a piece is missing"))?);
        }
        let state = BatchState::decode(&bytes).map_err(broken)?;
        if state.last_seq != head.last_seq || state.key != *key {
            return Err(broken("a state is not the one that its head names"));
        }
        Ok(Some(Loaded {
            state: state.into(),
            weight: bytes.len(),
        }))
    }

    /// The batches of a namespace, the last one first, from before a sequence.
    pub(crate) fn list(
        &self,
        namespace: &Namespace,
        before: u64,
    ) -> impl Iterator<Item = Result<(u64, BatchSummary)>> + use<> {
        let range = list_key(namespace, 0)..list_key(namespace, before);
        self.db.range(range).rev().map(|found| {
            let (key, value) = found.map_err(broken)?;
            let seq = key
                .last_chunk()
                .ok_or_else(|| broken("a key is too short"))?;
            Ok((u64::from_be_bytes(*seq), decode(&value)?))
        })
    }

    /// Makes the one batch of writes that a checkpoint is.
    pub(crate) fn prepare(&self, snapshot: &Snapshot) -> Result<Prepared> {
        let mut batch = sled::Batch::default();
        let mut saved = Vec::with_capacity(snapshot.states.len());
        for state in &snapshot.states {
            let bytes = state.encode().map_err(broken)?;
            let mut pieces = 0;
            for piece in bytes.chunks(PIECE) {
                batch.insert(piece_key(&state.key, pieces), piece);
                pieces += 1;
            }
            let before = self.head(&state.key)?.map_or(0, |head| head.pieces);
            for old in pieces..before {
                batch.remove(piece_key(&state.key, old));
            }
            let head = Head {
                last_seq: state.last_seq,
                bytes: bytes.len() as u64,
                pieces,
            };
            batch.insert(head_key(&state.key), encode(&head)?);
            let summary = encode(&BatchSummary::of(state))?;
            batch.insert(list_key(&state.key.namespace, state.created_seq), summary);
            saved.push(Saved {
                key: state.key.clone(),
                last_seq: state.last_seq,
                weight: bytes.len(),
            });
        }
        for (namespace, ledger) in snapshot.ledgers.iter() {
            batch.insert(prefix(b'n', namespace), encode(ledger)?);
        }
        let checkpoint = Checkpoint {
            format: format(self.shard),
            seq: snapshot.mark.seq,
            print: snapshot.mark.print,
        };
        batch.insert(CHECKPOINT, encode(&checkpoint)?);
        Ok(Prepared { batch, saved })
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, prepared: Prepared) -> Result<Vec<Saved>> {
        self.check()?;
        {
            let _whole = self.whole.write().unwrap_or_else(PoisonError::into_inner);
            self.db.apply_batch(prepared.batch).map_err(broken)?;
        }
        self.db.flush().map_err(broken)?;
        Ok(prepared.saved)
    }

    #[cfg(test)]
    pub(crate) fn mark(&self) -> Result<Mark> {
        read_checkpoint(&self.db, self.shard)
    }

    #[cfg(test)]
    pub(crate) fn pretend_another_format(&self) {
        let checkpoint = Checkpoint {
            format: "view 0".into(),
            seq: 7,
            print: 7,
        };
        let bytes = encode(&checkpoint).unwrap_or_default();
        self.db.insert(CHECKPOINT, bytes).ok();
    }

    #[cfg(test)]
    pub(crate) fn keys(&self) -> usize {
        self.db.len()
    }

    #[cfg(test)]
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}
