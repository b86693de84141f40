//! Python packages for tests: those of a file with hashes, obtained by pip once, into the user's cache.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::finish_within;

/// How long pip may take, and another test that waits for it.
const BOUND: Duration = Duration::from_secs(180);

/// A folder with the packages of a requirements file, for `PYTHONPATH`.
///
/// # Panics
/// With one sentence, where they are not in the cache and cannot be downloaded.
#[track_caller]
pub fn packages(requirements: &Path) -> PathBuf {
    obtain(requirements).unwrap_or_else(|why| {
        panic!(
            "the Python packages of {} are needed for this test and cannot be obtained: {why}",
            requirements.display()
        )
    })
}

fn obtain(requirements: &Path) -> Result<PathBuf, String> {
    let text = fs::read_to_string(requirements).map_err(|error| error.to_string())?;
    let pins: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("=="))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let tag = python(&["-c", "import sys; print(sys.implementation.cache_tag)"])?;
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let root = cache
        .unwrap_or_else(env::temp_dir)
        .join("redrive")
        .join("python");
    let folder = root.join(format!("{}-{}", tag.trim(), pins.join("+")));
    let in_cache = |error: std::io::Error| format!("{}: {error}", root.display());
    if folder.exists() {
        return Ok(folder);
    }
    fs::create_dir_all(&root).map_err(in_cache)?;
    let lock = fs::File::create(root.join("lock")).map_err(in_cache)?;
    // Whoever holds it is bounded, and the kernel takes it from whoever is gone.
    lock.lock().map_err(in_cache)?;
    if folder.exists() {
        return Ok(folder);
    }
    // In the cache, since only within one file system is a rename atomic.
    let work = tempfile::Builder::new()
        .prefix(".download-")
        .tempdir_in(&root)
        .map_err(in_cache)?;
    let fresh = work.path().join("packages");
    let (fresh_text, requirements) = (fresh.display().to_string(), requirements.display());
    let options = "-m pip --no-input --disable-pip-version-check install --quiet --require-hashes --no-deps \
                   --only-binary=:all: --target";
    let requirements = requirements.to_string();
    let words = options.split_whitespace();
    let words: Vec<&str> = words
        .chain([fresh_text.as_str(), "-r", requirements.as_str()])
        .collect();
    python(&words)?;
    fs::rename(&fresh, &folder).map_err(in_cache)?;
    Ok(folder)
}

/// Runs Python in the environment of whoever runs the tests: pip knows its index, proxy and certificates from there.
fn python(args: &[&str]) -> Result<String, String> {
    let mut command = Command::new("python3");
    command
        .args(args)
        .env("PIP_REQUIRE_VIRTUALENV", "false")
        .current_dir(env::temp_dir())
        .stdin(Stdio::null());
    if let Err(error) = Command::new("python3").arg("-V").output() {
        return Err(format!("python3: {error}"));
    }
    let ended = finish_within(&mut command, None, BOUND);
    match ended.code {
        Some(0) => Ok(ended.stdout),
        _ => {
            let lines = ended.stderr.lines().map(str::trim);
            let said: Vec<&str> = lines.filter(|line| line.starts_with("ERROR")).collect();
            let last = ended.stderr.lines().next_back().unwrap_or("nothing");
            let said = if said.is_empty() {
                last.to_owned()
            } else {
                said.join("; ")
            };
            Err(format!("pip said: {said}"))
        }
    }
}
