//! The rules that no compiler holds: which crate may use which, and what may stand in a file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Dependencies point inwards: a crate may use only those of a lower level, its tests also those beside it.
const LEVELS: [(&str, u8); 9] = [
    ("redrive-domain", 0),
    ("redrive-broker", 1),
    ("redrive-coordinator", 2),
    ("redrive-worker", 2),
    ("redrive-projector", 2),
    ("redrive-client", 2),
    ("redrive-gateway", 3),
    ("redrive-simulation", 3),
    ("redrive", 4),
];

/// Starts servers and knows nothing else of the project. Only the binary uses it, and the tests of any crate.
const SERVERS: &str = "redrive-nats-server";

/// A library that one crate hides from the others.
const HIDDEN: [(&str, &str); 2] = [
    ("async-nats", "redrive-broker"),
    ("sled", "redrive-projector"),
];

const LONGEST: usize = 500;

/// Longer files, each with the reason why it stays whole.
const LONG: &[(&str, &str)] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The output of a command that is run at the root.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn string(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

struct Package {
    name: String,
    manifest: PathBuf,
    /// The name of each and whether only tests have it.
    dependencies: Vec<(String, bool)>,
}

/// The crates of the workspace.
fn packages() -> Vec<Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let args = [
        "metadata",
        "--format-version=1",
        "--no-deps",
        "--offline",
        "--locked",
    ];
    let metadata: Value = serde_json::from_str(&run(&cargo, &args)).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| Package {
            name: string(package, "name"),
            manifest: string(package, "manifest_path").into(),
            dependencies: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| (string(it, "name"), it["kind"] == "dev"))
                .collect(),
        })
        .collect()
}

/// Each tracked file that is text, with its path from the root. Outside of a git checkout there is none.
fn texts() -> Vec<(String, String)> {
    if !root().join(".git").exists() {
        return Vec::new();
    }
    run("git", &["-c", "safe.directory=*", "ls-files", "-z"])
        .split_terminator('\0')
        .filter_map(|path| Some((path.to_owned(), fs::read_to_string(root().join(path)).ok()?)))
        .collect()
}

/// The tracked Rust files of the crates' `src`.
fn sources() -> impl Iterator<Item = (String, String)> {
    texts().into_iter().filter(|(path, _)| {
        path.starts_with("crates/") && path.contains("/src/") && path.ends_with(".rs")
    })
}

/// Fails with all that was found, and with what to do about it.
#[track_caller]
fn expect_none(found: &[String], advice: &str) {
    assert!(found.is_empty(), "{advice}\n  {}", found.join("\n  "));
}

/// The lines of the texts that are so, as `path:line: text`.
fn lines(
    texts: impl IntoIterator<Item = (String, String)>,
    is_so: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in texts {
        for (number, line) in (1..).zip(text.lines()) {
            if is_so(line) {
                found.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    found
}

#[test]
fn dependencies_point_inwards() {
    let levels = BTreeMap::from(LEVELS);
    let mut found = Vec::new();
    for package in packages() {
        let level = levels.get(package.name.as_str());
        if level.is_none() && package.name != SERVERS {
            found.push(format!("{} has no level", package.name));
        }
        for (dependency, for_tests) in &package.dependencies {
            let allowed = if dependency == SERVERS {
                package.name == "redrive" || (*for_tests && package.name != "redrive-domain")
            } else if let Some(lower) = levels.get(dependency.as_str()) {
                level.is_some_and(|level| lower < level || *for_tests && lower == level)
            } else {
                true
            };
            if !allowed {
                found.push(format!("{} depends on {dependency}", package.name));
            }
        }
    }
    expect_none(
        &found,
        "Dependencies go from a higher level to a lower one. Move what is needed to a crate further in, or give a new \
         crate its level in LEVELS of tests/rules.rs:",
    );
}

#[test]
fn each_library_stays_behind_its_crate() {
    let mut found = Vec::new();
    for package in packages() {
        for (dependency, _) in &package.dependencies {
            if HIDDEN
                .iter()
                .any(|(hidden, owner)| hidden == dependency && *owner != package.name)
            {
                found.push(format!("{} depends on {dependency}", package.name));
            }
        }
    }
    expect_none(
        &found,
        "Only redrive-broker knows async-nats, and only redrive-projector knows sled. Use what these crates offer, or \
         extend it:",
    );
}

#[test]
fn sled_stays_in_one_file() {
    let users: Vec<String> = sources()
        .filter(|(path, _)| !path.ends_with("/store.rs"))
        .filter(|(_, text)| text.contains("sled::") || text.contains("use sled"))
        .map(|(path, _)| path)
        .collect();
    expect_none(
        &users,
        "The projector's store.rs is the one file that uses sled. Go through its Store, or extend that:",
    );
}

#[test]
fn crates_share_the_settings_of_the_workspace() {
    let mut found = Vec::new();
    for package in packages() {
        let text = fs::read_to_string(&package.manifest).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let shares = |table: &str, key: Option<&str>| {
            let value = manifest.get(table);
            let value = key.map_or(value, |key| value?.get(key));
            value.and_then(|it| it.get("workspace")) == Some(&true.into())
        };
        if !shares("lints", None) {
            found.push(format!("{}: lints", package.name));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !shares("package", Some(key)) {
                found.push(format!("{}: {key}", package.name));
            }
        }
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in manifest
                .get(table)
                .and_then(|it| it.as_table())
                .into_iter()
                .flatten()
            {
                let itself = *name == package.name && value.get("path").is_some();
                if value.get("workspace") != Some(&true.into()) && !itself {
                    found.push(format!("{}: {table}.{name}", package.name));
                }
            }
        }
    }
    expect_none(
        &found,
        "Set these once, in the Cargo.toml of the workspace, and say `.workspace = true` in the crate:",
    );
}

#[test]
fn files_stay_short() {
    let lengths: BTreeMap<String, usize> = sources()
        .map(|(path, text)| (path, text.lines().count()))
        .collect();
    let known = |path: &str| LONG.iter().any(|(long, _)| *long == path);
    let mut found: Vec<String> = lengths
        .iter()
        .filter(|(path, length)| **length > LONGEST && !known(path))
        .map(|(path, length)| format!("{path} has {length} lines, more than {LONGEST}"))
        .collect();
    if !lengths.is_empty() {
        let short = |path: &str| lengths.get(path).is_none_or(|length| *length <= LONGEST);
        let done = LONG.iter().filter(|(path, _)| short(path));
        found.extend(done.map(|(path, _)| format!("{path} is short now: take it from LONG")));
    }
    expect_none(
        &found,
        "Split a long file by what changes together, its tests first. If it is better whole, give the reason in LONG of \
         tests/rules.rs:",
    );
}

/// A table that names what is not there is worse than none.
#[test]
fn what_the_features_name_is_there() {
    let table = fs::read_to_string(root().join("docs/features.md")).unwrap();
    let texts: Vec<String> = run("git", &["ls-files", "*.rs"])
        .lines()
        .filter_map(|path| fs::read_to_string(root().join(path)).ok())
        .collect();
    let is_path = |name: &str| name.contains('/') && !name.contains(' ');
    let is_test = |name: &str| {
        name.matches('_').count() > 3 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let found: Vec<String> = table
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|name| name.rsplit("::").next().unwrap_or_default())
        .filter(|name| {
            let is_there = || {
                let within = root().join("crates").join(name);
                root().join(name).exists() || within.exists()
            };
            let is_defined = || {
                let definition = format!("fn {name}(");
                texts.iter().any(|text| text.contains(&definition))
            };
            (is_path(name) && !is_there()) || (is_test(name) && !is_defined())
        })
        .map(str::to_owned)
        .collect();
    expect_none(&found, "docs/features.md names what is not there:");
}

#[test]
fn metrics_are_named_in_one_place() {
    let elsewhere = sources().filter(|(path, _)| !path.ends_with("/metrics.rs"));
    let found = lines(elsewhere, |line| {
        let name = line.split_once("\"redrive_").map(|(_, rest)| rest);
        let name = name.and_then(|rest| rest.split('"').next());
        let suffixes = ["_total", "_seconds", "_bytes", "_ratio"];
        let kinds = ["counter!(\"", "gauge!(\"", "histogram!(\""];
        name.is_some_and(|name| suffixes.iter().any(|suffix| name.ends_with(suffix)))
            || kinds.iter().any(|kind| line.contains(kind))
    });
    expect_none(
        &found,
        "Give a metric's name a constant in the metrics.rs of its crate, where all of them are found:",
    );
}

#[test]
fn files_name_no_machine_and_no_registry() {
    // In parts, since this file is checked as well.
    let folders = [
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["/ho", "me/"],
        ["/Us", "ers/"],
    ]
    .map(|it| it.concat());
    let hosts = [
        ["crates", ".io"],
        ["pypi", ".org"],
        ["python", "hosted.org"],
        ["npmjs", ".org"],
        ["npmjs", ".com"],
        ["deb.debian", ".org"],
        ["proxy.golang", ".org"],
    ]
    .map(|it| it.concat());
    let begins_a_path = |before: &str| {
        let last = before.chars().next_back();
        last.is_none_or(|c| !c.is_alphanumeric() && !"._-/}]".contains(c))
    };
    let texts = texts().into_iter().filter(|(path, _)| path != "Cargo.lock");
    let found = lines(texts, |line| {
        hosts.iter().any(|host| line.contains(host.as_str()))
            || folders.iter().any(|folder| {
                line.match_indices(folder.as_str())
                    .any(|(at, _)| begins_a_path(&line[..at]))
            })
    });
    expect_none(
        &found,
        "A path of one machine means nothing on the next, and package clients know their own registry. Write relative \
         paths, and the names of packages:",
    );
}
