//! The folder that a store has to itself: its lock, and the folders of views in it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::store::StoreError;

/// How long to wait for another process to let go of the folder: one that is ending gets to write its checkpoint.
const LOCK_WAIT: Duration = Duration::from_secs(3);

type Result<T, E = StoreError> = std::result::Result<T, E>;

pub(crate) fn view_folder(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("view-{number}"))
}

/// The folders of views that are there, in ascending order. Nothing else in the folder is ever touched.
pub(crate) fn generations(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix("view-"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn take_lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let failed = |source| StoreError::Folder {
        path: path.clone(),
        source,
    };
    let options = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path);
    let file = options.map_err(failed)?;
    wait_for(folder, || match file.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    })?;
    Ok(file)
}

/// Tries until it is there or the time is over.
pub(crate) fn wait_for<T>(
    folder: &Path,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if begun.elapsed() >= LOCK_WAIT {
            return Err(StoreError::InUse(folder.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn is_about_the_folder(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::NotADirectory
    )
}
