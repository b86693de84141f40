//! Files for the demo: texts of a folder, and a few that are broken.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// Files that are taken at most.
const FILES: usize = 400;
/// Folders that are looked into at most.
const FOLDERS: usize = 2_000;
/// The largest file that is taken, in bytes.
const SIZE: u64 = 200 * 1024;
const ENDINGS: [&str; 12] = [
    "md", "txt", "rst", "adoc", "html", "rs", "py", "js", "ts", "go", "toml", "json",
];

/// Texts below a folder, in order of their paths.
pub(super) fn find(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let dir = dir.canonicalize().with_context(|| super::context(dir))?;
    let mut found = Vec::new();
    let mut folders = vec![dir.clone()];
    let mut looked = 0;
    while let Some(folder) = folders.pop() {
        looked += 1;
        if looked > FOLDERS {
            break;
        }
        for entry in super::read_dir(&folder)?.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if name.starts_with('.')
                || (kind.is_dir() && ["target", "node_modules"].contains(&name.as_str()))
            {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file()
                && is_text(&path)
                && entry.metadata().is_ok_and(|meta| meta.len() <= SIZE)
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found.truncate(FILES);
    Ok(found)
}

fn is_text(path: &Path) -> bool {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// Writes files that no retry will mend.
pub(super) fn write_broken(data: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let dir = data.join("broken");
    fs::create_dir_all(&dir).with_context(|| super::context(&dir))?;
    let files: [(&str, &[u8]); 4] = [
        (
            "latin-1-said-to-be-utf-8.txt",
            b"caf\xe9 au lait, na\xefve, \xfcber",
        ),
        (
            "cut-off.pdf",
            b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0",
        ),
        ("half-a-picture.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0"),
        ("zeros.txt", &[0; 512]),
    ];
    let mut paths = Vec::new();
    for (name, content) in files {
        let path = dir.join(name);
        fs::write(&path, content).with_context(|| super::context(&path))?;
        paths.push(path);
    }
    paths.push(dir.join("deleted-in-the-meantime.txt"));
    Ok(paths)
}
