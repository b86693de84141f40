//! The examples of README.md and docs/*.md, run.
//!
//! In a block marked `console`, a line that begins with `$ ` is given to a shell in a folder with sample files; the lines
//! below it, up to the next such line, are what it prints: `...` stands for any lines, `[..]` for anything in a line.
//! Without such lines, what it prints does not matter. It is to exit with 0, or with the code in a last line `? 3`.
//!
//! In a block marked `sh`, a line that begins with `redrive ` is run, and is to exit with 0, or with 3 as some of the
//! samples fail. `redrive dev` goes on running for the lines after it, on a port of its own.
//!
//! In `docs/http.md` such a system runs beside all `console` blocks, where `localhost:7070` is its gateway.
//!
//! Samples: `docs/*.pdf` with a `pdftotext` that cannot read one of them, `notes/*.md`, `people.ndjson`, and the
//! repository's own `config/` and `examples/`. Pipelines in a `toml` block, and those of `config/pipelines` and `examples`,
//! are to be valid.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use redrive_domain::pipeline::Pipeline;
use support::{Home, Running, finish, free_port};

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../..").canonicalize().unwrap()
}

fn files_in(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|ext| ext == extension))
        .collect();
    files.sort();
    files
}

fn texts() -> Vec<PathBuf> {
    let mut texts = vec![repository().join("README.md")];
    texts.extend(files_in(&repository().join("docs"), "md"));
    texts.retain(|text| text.exists());
    texts
}

/// The fenced blocks: what they are marked with, the number of their first line, and their lines.
fn blocks(text: &Path) -> Vec<(String, usize, Vec<String>)> {
    let text = fs::read_to_string(text).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, Vec<String>)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(mark), None) => open = Some((mark.trim().to_owned(), number + 1, Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, _, lines))) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    blocks
}

/// A home with the sample files, and `redrive` on its path.
fn samples() -> Home {
    let home = Home::new();
    for name in ["a", "b", "broken"] {
        home.file(&format!("docs/{name}.pdf"), name);
        home.file(
            &format!("notes/{name}.md"),
            &format!("# {name}\n\nA note.\n"),
        );
    }
    home.file(
        "people.ndjson",
        "{\"name\": \"Ann\"}\n{\"name\": \"Bob\"}\n",
    );
    home.script(
        "bin/pdftotext",
        "#!/bin/sh\ncase $1 in *broken*) exit 1 ;; esac\ncat \"$1\"\n",
    );
    home.examples();
    for folder in ["config", "config/pipelines"] {
        for file in files_in(&repository().join(folder), "toml") {
            let name = file.file_name().unwrap().to_string_lossy();
            home.file(
                &format!("{folder}/{name}"),
                &fs::read_to_string(&file).unwrap(),
            );
        }
    }
    let program = Path::new(env!("CARGO_BIN_EXE_redrive"));
    std::os::unix::fs::symlink(program, home.work().join("bin/redrive")).unwrap();
    home
}

fn shell(home: &Home, line: &str) -> support::Ended {
    let mut shell = Command::new("/bin/sh");
    home.settle(&mut shell);
    let path = std::env::var("PATH").unwrap();
    shell.env(
        "PATH",
        format!("{}:{path}", home.work().join("bin").display()),
    );
    finish(shell.args(["-c", line]), None)
}

/// Whether a text is as in the example.
fn is_like(want: &[String], got: &[&str]) -> bool {
    match (want.split_first(), got.split_first()) {
        (None, None) => true,
        (Some((want, rest)), _) if want.trim() == "..." => {
            (0..=got.len()).any(|skipped| is_like(rest, &got[skipped..]))
        }
        (Some((want, wants)), Some((got, gots))) => line_is_like(want, got) && is_like(wants, gots),
        _ => false,
    }
}

fn line_is_like(want: &str, got: &str) -> bool {
    let (want, got) = (want.trim_end(), got.trim_end());
    let Some((start, rest)) = want.split_once("[..]") else {
        return want == got;
    };
    let Some(got) = got.strip_prefix(start) else {
        return false;
    };
    let ends = got.char_indices().map(|(at, _)| at).chain([got.len()]);
    ends.into_iter().any(|at| line_is_like(rest, &got[at..]))
}

/// Where a gateway answers that runs on this machine, as texts have it.
const GATEWAY: &str = "localhost:7070";

/// A system with a gateway, in the folder with the samples, where the text is about one; and where it answers.
fn gateway(home: &Home, text: &Path) -> Option<(Running, String)> {
    if !text.ends_with("docs/http.md") {
        return None;
    }
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_redrive"));
    home.settle(&mut command);
    let path = std::env::var("PATH").unwrap();
    let own = home.work().join("bin");
    command.env("PATH", format!("{}:{path}", own.display()));
    command.args(["dev", "--port", &free_port(), "--listen", &listen]);
    let mut running = home.launch("gateway", &mut command);
    running.wait_for("ready to answer requests");
    Some((running, listen))
}

fn run_console(home: &Home, place: &str, lines: &[String]) {
    let mut examples: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines {
        match (line.strip_prefix("$ "), examples.last_mut()) {
            (Some(command), _) => examples.push((command.to_owned(), Vec::new())),
            (None, Some((_, output))) => output.push(line.clone()),
            (None, None) => panic!("{place}: the block does not begin with a command"),
        }
    }
    for (command, mut output) in examples {
        while output.last().is_some_and(|line| line.trim().is_empty()) {
            output.pop();
        }
        let code = output
            .last()
            .and_then(|line| line.strip_prefix("? "))
            .map(str::to_owned);
        if code.is_some() {
            output.pop();
        }
        let code: i32 = code.map_or(0, |code| code.trim().parse().unwrap());
        let ended = shell(home, &command);
        let printed = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, Some(code), "{place}: {command}\n{printed}");
        let got: Vec<&str> = printed.lines().collect();
        assert!(
            output.is_empty() || is_like(&output, &got),
            "{place}: {command}\nprints\n{printed}\nand not\n{}",
            output.join("\n")
        );
    }
}

fn run_shell(home: &Home, place: &str, lines: &[String]) {
    const URL: &str = "nats://127.0.0.1:4222";
    let mut dev: Option<(Running, String)> = None;
    for line in lines.iter().filter(|line| line.starts_with("redrive ")) {
        let words = line.split(" #").next().unwrap().trim();
        let verb = words.split_whitespace().nth(1).unwrap_or_default();
        match verb {
            "dev" => {
                let port = free_port();
                let mut running = home.start("dev", ["dev", "--port", &port]);
                running.wait_for("Ctrl-C ends it");
                dev = Some((running, URL.replace("4222", &port)));
            }
            // These run until they are stopped, or are tested by themselves.
            "coordinator" | "worker" | "projector" | "gateway" | "demo" => {}
            _ => {
                let url = dev.as_ref().map_or(URL, |(_, url)| url);
                let ended = shell(home, &words.replace(URL, url));
                assert!(
                    matches!(ended.code, Some(0 | 3)),
                    "{place}: {line}\nexits with {:?}\n{}{}",
                    ended.code,
                    ended.stdout,
                    ended.stderr
                );
            }
        }
    }
    if let Some((mut running, _)) = dev {
        running.interrupt();
        running.end().exits(0);
    }
}

#[test]
fn examples_do_what_they_say() {
    for text in texts() {
        let home = samples();
        let gateway = gateway(&home, &text);
        for (mark, number, mut lines) in blocks(&text) {
            let place = format!("{} line {number}", text.display());
            if let Some((_, address)) = &gateway {
                for line in &mut lines {
                    *line = line.replace(GATEWAY, address);
                }
            }
            match mark.as_str() {
                "console" => run_console(&home, &place, &lines),
                "sh" => run_shell(&home, &place, &lines),
                _ => {}
            }
        }
        if let Some((mut running, _)) = gateway {
            running.interrupt();
            running.end().exits(0);
        }
    }
}

#[test]
fn pipelines_are_valid() {
    let mut pipelines: Vec<(String, String)> = Vec::new();
    let folders = ["config/pipelines", "examples"].map(|folder| repository().join(folder));
    for file in folders.iter().flat_map(|folder| files_in(folder, "toml")) {
        pipelines.push((
            file.display().to_string(),
            fs::read_to_string(&file).unwrap(),
        ));
    }
    for text in texts() {
        for (mark, number, lines) in blocks(&text) {
            if mark == "toml" && lines.iter().any(|line| line.starts_with("[[tiers")) {
                pipelines.push((
                    format!("{} line {number}", text.display()),
                    lines.join("\n"),
                ));
            }
        }
    }
    for (place, pipeline) in pipelines {
        let value: serde_json::Value =
            toml::from_str(&pipeline).unwrap_or_else(|error| panic!("{place}: {error}"));
        Pipeline::from_value(&value).unwrap_or_else(|error| panic!("{place}: {error}"));
    }
}

#[test]
fn an_example_is_compared_loosely() {
    let like = |want: &str, got: &str| {
        let want: Vec<String> = want.lines().map(str::to_owned).collect();
        is_like(&want, &got.lines().collect::<Vec<_>>())
    };
    assert!(like("a\n...\nd", "a\nb\nc\nd") && like("...", "") && like("a[..]c", "abbc"));
    assert!(!like("a\n...\nd", "a\nb") && !like("a", "a\nb") && !like("a[..]c", "ab"));
    assert!(like("[..] of [..] done", "1 of 2 done") && !like("[..]x", "y"));
}
