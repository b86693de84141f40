//! Files, read only as far as is asked for and only where it is allowed.

use std::{
    fs::File,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use redrive_domain::failure::{Failure, FailureKind};
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use super::{Found, Settings, too_large};
use crate::handlers::params::misconfigured;

/// Reads a file without blocking anybody else.
pub(super) async fn read(path: PathBuf, settings: &Settings) -> Result<Found, Failure> {
    let (root, limit) = (settings.root.clone(), settings.max_bytes);
    let extension = path.extension().map(|e| e.to_string_lossy().into_owned());
    let reading = tokio::task::spawn_blocking(move || read_now(&path, root.as_deref(), limit));
    let body = reading
        .await
        .unwrap_or_else(|error| Err(Failure::new(FailureKind::CRASHED, error.to_string())))?;
    Ok(Found {
        media: None,
        extension,
        body,
    })
}

fn read_now(path: &Path, root: Option<&Path>, limit: u64) -> Result<Vec<u8>, Failure> {
    let file = match root {
        None => open(path).map_err(|error| failed(&error))?,
        Some(root) => open_within(root, path)?,
    };
    let meta = file.metadata().map_err(|error| failed(&error))?;
    if !meta.is_file() {
        let what = if meta.is_dir() {
            "is a directory"
        } else {
            "is not a regular file"
        };
        return Err(Failure::new(FailureKind::INVALID_DATA, what));
    }
    if meta.len() > limit {
        return Err(too_large(limit));
    }
    let mut body = Vec::new();
    // It may grow meanwhile.
    file.take(limit.saturating_add(1))
        .read_to_end(&mut body)
        .map_err(|error| failed(&error))?;
    if body.len() as u64 > limit {
        return Err(too_large(limit));
    }
    Ok(body)
}

/// Opens for reading. A pipe that nobody writes to must not hold us up.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

fn open(path: &Path) -> io::Result<File> {
    Ok(openat(CWD, path, FLAGS, Mode::empty())?.into())
}

/// Opens a file that is within a directory once all links are followed.
///
/// The path is resolved first, and then walked from the directory without following any link, so that nobody can swap
/// one in between.
fn open_within(root: &Path, path: &Path) -> Result<File, Failure> {
    let root = root.canonicalize().map_err(|error| {
        misconfigured(format!(
            "param \"root\": {} is not there: {error}",
            root.display()
        ))
    })?;
    let resolved = root
        .join(path)
        .canonicalize()
        .map_err(|error| failed(&error))?;
    let outside = || Failure::new(FailureKind::REJECTED, "is outside of the job's param root");
    let within = resolved.strip_prefix(&root).map_err(|_| outside())?;

    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let refused = |errno: Errno| match errno {
        Errno::LOOP => outside(),
        errno => failed(&errno.into()),
    };
    let mut at = openat(CWD, &root, directory, Mode::empty()).map_err(refused)?;
    let mut names = within.components().peekable();
    while let Some(name) = names.next() {
        let Component::Normal(name) = name else {
            return Err(outside());
        };
        let flags = match names.peek() {
            Some(_) => directory,
            None => FLAGS,
        };
        at = openat(&at, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(refused)?;
    }
    Ok(at.into())
}

fn failed(error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FailureKind::NOT_FOUND,
        io::ErrorKind::PermissionDenied => FailureKind::REJECTED,
        io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidFilename => FailureKind::INVALID_DATA,
        _ => match Errno::from_io_error(error) {
            Some(Errno::LOOP | Errno::NXIO) => FailureKind::INVALID_DATA,
            _ => FailureKind::UNAVAILABLE,
        },
    };
    Failure::new(kind, format!("cannot be read: {error}"))
}
