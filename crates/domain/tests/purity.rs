//! The domain stays pure: nothing that it is built from can wait, and so nothing of it can.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::process::Command;

#[test]
fn decide_and_evolve_are_pure_and_depend_on_nothing_that_could_wait() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let tree = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "-p",
            "redrive-domain",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&tree.stdout);
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(
        names.contains(&"roaring"),
        "this is no dependency tree: {text}"
    );
    for banned in [
        "tokio",
        "async-nats",
        "futures",
        "async-std",
        "smol",
        "sled",
        "reqwest",
        "rand",
    ] {
        assert!(
            !names.contains(&banned),
            "the domain depends on {banned}:\n{text}"
        );
    }
}
